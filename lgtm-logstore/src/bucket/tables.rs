//! Which index files there are.
//!
//! Loki keeps a folder a day, the *table*: files of several tenants stand in it, those of one tenant, which compaction makes, in the tenant's
//! folder there. The list comes from listings done at start and from time to time, and from the writer of the same process, which adds what it
//! has just uploaded. No query lists anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt};
use lgtm_core::model::{TenantId, TimeRangeNs};
use lgtm_core::storage::{Bucket, ObjectInfo};
use lgtm_core::{Error, Result};
use parking_lot::RwLock;

use super::index_file::IndexFile;
use crate::index::IndexFileName;
use crate::schema::{DAY_MS, SchemaPeriods};

const DAY_NS: i64 = DAY_MS * 1_000_000;

/// A table's part: the files of one tenant, or, without one, those of several.
type TablePart = (i64, Option<TenantId>);

/// The list of index files.
#[derive(Debug)]
pub(super) struct Tables {
    bucket: Bucket,
    periods: SchemaPeriods,
    max_files: usize,
    concurrency: usize,
    parts: RwLock<BTreeMap<TablePart, BTreeMap<String, Arc<IndexFile>>>>,
}

impl Tables {
    pub(super) fn new(
        bucket: Bucket,
        periods: SchemaPeriods,
        max_files: usize,
        concurrency: usize,
    ) -> Self {
        Self {
            bucket,
            periods,
            max_files,
            concurrency,
            parts: RwLock::default(),
        }
    }

    pub(super) fn periods(&self) -> &SchemaPeriods {
        &self.periods
    }

    /// The files that may name chunks of a tenant with entries in a range.
    pub(super) fn files(&self, tenant: &TenantId, range: TimeRangeNs) -> Vec<Arc<IndexFile>> {
        if range.is_empty() {
            return Vec::new();
        }
        let first = range.min_ns.get().div_euclid(DAY_NS);
        let last = range.max_ns.saturating_sub(1).get().div_euclid(DAY_NS);
        let parts = self.parts.read();
        let mut out = Vec::new();
        // Days without any table cost nothing, however long the range.
        let mut next = first;
        while let Some(((day, _), _)) = parts.range((next, None)..).next()
            && *day <= last
        {
            for part in [(*day, None), (*day, Some(tenant.clone()))] {
                out.extend(
                    parts
                        .get(&part)
                        .into_iter()
                        .flat_map(|f| f.values().cloned()),
                );
            }
            next = day + 1;
        }
        out
    }

    /// All files.
    pub(super) fn all(&self) -> Vec<Arc<IndexFile>> {
        let parts = self.parts.read();
        parts.values().flat_map(|f| f.values().cloned()).collect()
    }

    /// Number of files.
    pub(super) fn len(&self) -> usize {
        self.parts.read().values().map(BTreeMap::len).sum()
    }

    /// Adds a file that has just been uploaded.
    pub(super) fn add(&self, file: Arc<IndexFile>) {
        let part = (file.day, file.tenant.clone());
        let mut parts = self.parts.write();
        parts
            .entry(part)
            .or_default()
            .insert(file.path.clone(), file);
    }

    /// The days whose tables lack an object that is on the list.
    pub(super) fn outdated(&self) -> Vec<i64> {
        let gone = |f: &Arc<IndexFile>| f.is_gone.load(Ordering::Relaxed);
        let parts = self.parts.read();
        let mut days: Vec<i64> = parts
            .iter()
            .filter(|(_, files)| files.values().any(gone))
            .map(|((day, _), _)| *day)
            .collect();
        days.dedup();
        days
    }

    /// Lists all tables. Gives the files that are on the list no more.
    ///
    /// # Errors
    /// The first error of the store; `LimitExceeded` for more files than may be known. The list stays as it is then.
    pub(super) async fn sync_all(&self) -> Result<Vec<Arc<IndexFile>>> {
        let before = self.all();
        let mut folders: BTreeSet<&str> = BTreeSet::new();
        folders.extend(self.periods.iter().map(|p| &*p.index_folder));
        let mut found = Vec::new();
        for folder in folders {
            if folder.is_empty() {
                // What else is in the bucket, the chunks above all, must not be listed.
                let top = self.bucket.list_with_delimiter("").await?;
                let mut tables = top.folders;
                tables.retain(|f| self.table_of(f).is_some());
                found.append(&mut self.list_many(tables).await?);
            } else {
                let folder = folder.trim_end_matches('/').to_owned();
                found.append(&mut self.list(folder).await?);
            }
        }
        self.replace(before, found).await
    }

    /// Lists the tables of some days. Gives the files that are on the list no more.
    ///
    /// # Errors
    /// As [`Tables::sync_all`].
    pub(super) async fn sync_days(&self, days: &BTreeSet<i64>) -> Result<Vec<Arc<IndexFile>>> {
        let mut before = self.all();
        before.retain(|f| days.contains(&f.day));
        let folders = days
            .iter()
            .map(|day| self.periods.table_of_day(*day).folder);
        let found = self.list_many(folders.collect()).await?;
        self.replace(before, found).await
    }

    /// The index files below some folders.
    async fn list_many(&self, folders: Vec<String>) -> Result<Vec<IndexFile>> {
        let listed = folders.into_iter().map(|f| self.list(f));
        let mut listed = futures::stream::iter(listed).buffer_unordered(self.concurrency);
        let mut found = Vec::new();
        while let Some(mut some) = listed.try_next().await? {
            found.append(&mut some);
        }
        Ok(found)
    }

    /// The index files below a folder.
    async fn list(&self, folder: String) -> Result<Vec<IndexFile>> {
        let mut objects = self.bucket.list(&folder);
        let mut out = Vec::new();
        while let Some(object) = objects.try_next().await? {
            out.extend(self.file_of(object));
            if out.len() > self.max_files {
                return Err(self.too_many());
            }
        }
        Ok(out)
    }

    fn too_many(&self) -> Error {
        Error::LimitExceeded(format!(
            "more than {} index files, the bound is max_index_files",
            self.max_files
        ))
    }

    /// The index file that an object is, if it is one.
    fn file_of(&self, object: ObjectInfo) -> Option<IndexFile> {
        let (folder, name) = object.path.rsplit_once('/')?;
        let name: IndexFileName = name.parse().ok()?;
        let (day, tenant) = match self.table_of(folder) {
            Some(day) => (day, None),
            None => {
                let (table, tenant) = folder.rsplit_once('/')?;
                (self.table_of(table)?, Some(TenantId::new(tenant).ok()?))
            }
        };
        // A compactor's file has no label that tells tenants apart.
        let is_in_place = tenant.is_some() || matches!(name, IndexFileName::Uploaded { .. });
        is_in_place.then(|| IndexFile::new(object.path, day, tenant))
    }

    /// The day of a table's folder.
    fn table_of(&self, folder: &str) -> Option<i64> {
        let digits = folder.len() - folder.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let day: i64 = folder[folder.len() - digits..].parse().ok()?;
        (self.periods.table_of_day(day).folder == folder).then_some(day)
    }

    /// Puts what was found in the place of what was known before the listing began.
    async fn replace(
        &self,
        before: Vec<Arc<IndexFile>>,
        found: Vec<IndexFile>,
    ) -> Result<Vec<Arc<IndexFile>>> {
        let known: BTreeSet<&str> = before.iter().map(|f| f.path.as_str()).collect();
        let listed: BTreeSet<String> = found.iter().map(|f| f.path.clone()).collect();
        let mut fresh: Vec<_> = found.into_iter().collect();
        fresh.retain(|f| !known.contains(f.path.as_str()));
        let mut gone = Vec::new();
        for file in before {
            if listed.contains(&file.path) {
                file.forgive();
                file.is_gone.store(false, Ordering::Relaxed);
            } else if !file.is_own || !self.bucket.exists(&file.path).await? {
                // A listing may be older than what this process wrote: there the object decides.
                gone.push(file);
            }
        }
        let mut parts = self.parts.write();
        let count: usize = parts.values().map(BTreeMap::len).sum();
        if count + fresh.len() > self.max_files + gone.len() {
            return Err(self.too_many());
        }
        for file in fresh {
            let part = (file.day, file.tenant.clone());
            // One that was written meanwhile is open already.
            parts
                .entry(part)
                .or_default()
                .entry(file.path.clone())
                .or_insert_with(|| Arc::new(file));
        }
        for file in &gone {
            let part = (file.day, file.tenant.clone());
            if let Some(files) = parts.get_mut(&part) {
                files.remove(&file.path);
                if files.is_empty() {
                    parts.remove(&part);
                }
            }
        }
        Ok(gone)
    }
}
