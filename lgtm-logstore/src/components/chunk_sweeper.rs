//! Deletes chunks that left the index a while ago.
//!
//! A list says which chunks may have left it. Each is looked for in all index files of the days that it touches, superseded ones too, and only
//! those that none names are deleted: so a list may name too much, be there twice, or be of a process that ended before it wrote the index.
//!
//! A chunk's key follows from its content. So one that left may come again: an ingester that was killed writes it once more, or a client sends it
//! once more. Its object is younger than the list then, and the index file that names it may not be there yet: it is put on a new list.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;

use futures::{StreamExt, TryStreamExt, stream};
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{TenantId, TimestampMs, TimestampNs};
use lgtm_core::{ErrorKind, Result};

use super::compactor::Compactor;
use crate::bucket::object_name;
use crate::chunk::ChunkKey;
use crate::compact::{LeavingChunks, TableFile, chunk_key};
use crate::index::{SeriesFilter, TENANT_LABEL};

/// Series of a file that are read together.
const BATCH_SERIES: usize = 1024;
/// Lists that are looked after together: their chunks take some 10 MiB.
const LISTS: usize = 16;
/// Chunks that are looked for at the same time.
const LOOKS: usize = 16;

impl Compactor {
    /// Deletes the chunks of lists that are old enough, but those that an index file names.
    ///
    /// # Errors
    /// Those of the store, and of an index file that cannot be read: nobody knows what it names, so that nothing is deleted.
    pub(super) async fn delete_leaving(&self, cancel: &CancelToken) -> Result<()> {
        let lists = self.bucket.list_sorted(LeavingChunks::FOLDER).await?;
        let count = lists.len() as u64;
        self.counts().leaving_lists.store(count, Ordering::Relaxed);
        let delay = i64::try_from(self.settings.deletion_delay.as_nanos()).unwrap_or(i64::MAX);
        let due_ns = self.clock.now_ms().to_ns().saturating_sub(delay);
        let is_due = |path: &&str| created_ns(path).is_none_or(|t| t <= due_ns);
        let paths = lists.iter().map(|l| l.path.as_str());
        let due: Vec<&str> = paths.filter(is_due).collect();
        let written: HashMap<&str, TimestampMs> =
            lists.iter().map(|l| (&*l.path, l.modified_ms)).collect();
        for some in due.chunks(LISTS) {
            cancel.check("compaction")?;
            let mut chunks: BTreeMap<ChunkKey, TimestampMs> = BTreeMap::new();
            let mut read = Vec::new();
            for path in some {
                let bytes = match self.bucket.get(path).await {
                    Ok(bytes) => bytes,
                    // Another has just removed it.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => return Err(e),
                };
                match LeavingChunks::decode(&bytes) {
                    Ok(list) => {
                        let listed_ms = written.get(path).copied().unwrap_or(TimestampMs::MIN);
                        for chunk in list.chunks() {
                            let last_ms = chunks.entry(chunk).or_insert(listed_ms);
                            *last_ms = listed_ms.max(*last_ms);
                        }
                        read.push(*path);
                    }
                    Err(e) => {
                        self.counts().damaged.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(list = path, error = %e, "list of leaving chunks cannot be read; its chunks stay");
                    }
                }
            }
            self.delete_unnamed(chunks, cancel).await?;
            self.bucket.delete_all(&read).await?;
        }
        Ok(())
    }

    /// Deletes chunks that no index file names and that are older than their lists, which were written at these times by the store's clock.
    async fn delete_unnamed(
        &self,
        mut chunks: BTreeMap<ChunkKey, TimestampMs>,
        cancel: &CancelToken,
    ) -> Result<()> {
        // A list that somebody has tampered with must not reach anything else.
        chunks.retain(|c, _| TenantId::new(&c.tenant).is_ok());
        let mut by_day: BTreeMap<i64, BTreeMap<&str, HashSet<ChunkPlace>>> = BTreeMap::new();
        for chunk in chunks.keys() {
            for table in self.periods.tables(chunk.from_ms, chunk.through_ms) {
                let tenants = by_day.entry(table.day).or_default();
                let places = tenants.entry(&chunk.tenant).or_default();
                places.insert(ChunkPlace::of(chunk));
            }
        }
        let mut named = BTreeSet::new();
        for (day, tenants) in &by_day {
            let table = self.periods.table_of_day(*day);
            for file in self.files(&table).await? {
                cancel.check("compaction")?;
                self.named_by(&file, tenants, &mut named).await?;
            }
        }
        chunks.retain(|c, _| !named.contains(c));
        let (gone, again) = self.gone_and_again(chunks).await?;
        for some in again.chunks(LeavingChunks::MOST) {
            self.put_leaving(some).await?;
        }
        let paths: Vec<&str> = gone.iter().map(|(_, path)| path.as_str()).collect();
        self.bucket.delete_all(&paths).await?;
        let deleted = &self.counts().chunks_deleted;
        deleted.fetch_add(paths.len() as u64, Ordering::Relaxed);
        if let Some(side) = &self.side {
            side.note_gone(gone.iter().map(|(key, _)| key.clone()));
        }
        if !paths.is_empty() {
            tracing::info!(
                chunks = paths.len(),
                named = named.len(),
                "chunks that left the index deleted"
            );
        }
        Ok(())
    }

    /// Those of some chunks that are there and older than their lists, with their objects, and those that were written after them. Costs a
    /// request a chunk.
    ///
    /// # Errors
    /// Those of the store.
    async fn gone_and_again(
        &self,
        chunks: BTreeMap<ChunkKey, TimestampMs>,
    ) -> Result<(Vec<(ChunkKey, String)>, Vec<ChunkKey>)> {
        let (mut gone, mut again) = (Vec::new(), Vec::new());
        let looks = chunks.into_iter().map(|(key, listed_ms)| async move {
            let path = object_name(&self.bucket, &self.periods, &key);
            let found = match self.bucket.head(&path).await {
                Ok(object) => Some(object.modified_ms > listed_ms),
                Err(e) if e.kind() == ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            };
            Ok((key, path, found))
        });
        let mut looks = stream::iter(looks).buffer_unordered(LOOKS);
        while let Some((key, path, found)) = looks.try_next().await? {
            match found {
                Some(true) => again.push(key),
                Some(false) => gone.push((key, path)),
                None => {}
            }
        }
        Ok((gone, again))
    }

    /// Notes which of some chunks, by tenant, a file names.
    async fn named_by(
        &self,
        file: &TableFile,
        tenants: &BTreeMap<&str, HashSet<ChunkPlace>>,
        named: &mut BTreeSet<ChunkKey>,
    ) -> Result<()> {
        if let Some(tenant) = &file.tenant
            && !tenants.contains_key(tenant.as_str())
        {
            return Ok(());
        }
        let reader = self.open(&file.path).await?;
        for (tenant, places) in tenants {
            let references = match &file.tenant {
                Some(own) if own.as_str() == *tenant => reader.postings_all().await?,
                Some(_) => continue,
                None => reader.postings(TENANT_LABEL, tenant).await?,
            };
            for batch in references.chunks(BATCH_SERIES) {
                tokio::task::yield_now().await;
                let entries = reader.series_entries(batch, &SeriesFilter::ALL).await?;
                for entry in entries.iter() {
                    for chunk in entry.chunks {
                        let key = chunk_key(tenant, entry.fingerprint, chunk);
                        if places.contains(&ChunkPlace::of(&key)) {
                            named.insert(key);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// A chunk of a tenant that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ChunkPlace(u64, i64, i64, u32);

impl ChunkPlace {
    fn of(key: &ChunkKey) -> Self {
        let (from, through) = (key.from_ms.get(), key.through_ms.get());
        Self(key.fingerprint, from, through, key.checksum)
    }
}

/// When a list was written, by its name.
fn created_ns(path: &str) -> Option<TimestampNs> {
    let name = path.rsplit('/').next()?;
    let time = name.split('-').next()?.parse().ok()?;
    Some(TimestampNs::new(time))
}
