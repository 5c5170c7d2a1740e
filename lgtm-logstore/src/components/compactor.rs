//! Joins index files in the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TenantId, TextSet, TimestampMs, TimestampNs};
use lgtm_core::service::Service;
use lgtm_core::storage::{Bucket, PutOutcome, claim};
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::ingester::CHUNKS_FORMAT;
use crate::compact::{
    CompactRules, CompactionMark, MergeSettings, MergeSource, TableAge, TableFile, TablePlan,
    merge, plan,
};
use crate::index::{
    IndexFileName, IndexReader, IndexReaderSettings, IndexUnpacker, IndexVersion, TENANT_LABEL,
};
use crate::schema::{IndexTable, SchemaPeriods, SchemaSettings};

/// How index files are joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactorSettings {
    /// How often tables are looked at. Default 10m, Loki's.
    #[serde(with = "lgtm_core::units::duration")]
    pub compaction_interval: Duration,
    /// Files by which a table grows before they are joined, while its day lasts. Default 4: an hour of one ingester; each join writes a file a
    /// tenant anew, each file more is one that queries of the day open.
    pub min_files: usize,
    /// How long after its end a day still counts as lasting. Default 2h: until then ingesters have written what they held of it.
    #[serde(with = "lgtm_core::units::duration")]
    pub settle_after: Duration,
    /// How long joined files stay beside the new one. Default 15m: three times the interval in which readers list tables anew, so that none
    /// looks for a file that is gone.
    #[serde(with = "lgtm_core::units::duration")]
    pub delete_delay: Duration,
    /// How often tables of past days that were found in order are listed again. Default 1h: late data reach them now and then.
    #[serde(with = "lgtm_core::units::duration")]
    pub full_interval: Duration,
    /// Files that are joined at once; the others follow in the next round. Default 64.
    pub max_files: usize,
    /// Bytes of files, as they are stored, that are joined at once. Default 128MiB. Unpacked they take three to four times that, in memory or,
    /// where there is a local folder, there.
    pub max_input_size: ByteSize,
    /// Bytes of a new file, as it is stored; it is kept in memory until it is put. Default 512MiB: a tenant's day of some hundred million
    /// chunks.
    pub max_packed_size: ByteSize,
    /// Bytes that one index file may unpack to. Default 2GiB.
    pub max_index_file_size: ByteSize,
    /// Packed size from which on files are unpacked to the local folder, if there is one. Default 2MiB.
    pub local_index_file_size: ByteSize,
    /// Memory for the postings of a new file. Default 256MiB; beyond it they go to the local folder.
    pub max_postings_memory: ByteSize,
}

impl Default for CompactorSettings {
    fn default() -> Self {
        Self {
            compaction_interval: Duration::from_secs(600),
            min_files: 4,
            settle_after: Duration::from_secs(2 * 3600),
            delete_delay: Duration::from_secs(15 * 60),
            full_interval: Duration::from_secs(3600),
            max_files: 64,
            max_input_size: ByteSize::mib(128),
            max_packed_size: ByteSize::mib(512),
            max_index_file_size: ByteSize::mib(2048),
            local_index_file_size: ByteSize::mib(2),
            max_postings_memory: ByteSize::mib(256),
        }
    }
}

impl CompactorSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.compaction_interval < Duration::from_secs(1) {
            faults.push(format!(
                "compaction_interval {:?} is less than 1s",
                self.compaction_interval
            ));
        }
        if self.min_files == 0 {
            faults.push("min_files is 0".to_owned());
        }
        if self.max_files < 2 {
            faults.push(format!("max_files {} is less than 2", self.max_files));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }
}

/// Collects the parts of a [`Compactor`].
#[derive(Debug)]
pub struct CompactorBuilder {
    bucket: Bucket,
    executor: Executor,
    clock: Arc<dyn Clock>,
    schema: SchemaSettings,
    folder: Option<PathBuf>,
    instance: String,
    registry: Option<Registry>,
    settings: CompactorSettings,
}

impl CompactorBuilder {
    /// Sets the settings.
    #[must_use]
    pub fn settings(mut self, settings: CompactorSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the schema periods of the bucket. Default: `v13` from 1970 on.
    #[must_use]
    pub fn schema(mut self, schema: SchemaSettings) -> Self {
        self.schema = schema;
        self
    }

    /// Sets an existing local folder for what takes much room. Its files have no names once they are open. Without it all is in memory.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets the name of this process among others that compact the bucket: letters, digits, `-`, `_` and `.`. Default `compactor`.
    #[must_use]
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = instance.into();
        self
    }

    /// Has `registry` tell what was joined and deleted.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds, an instance that is no part of a name.
    pub fn build(self) -> Result<Arc<Compactor>> {
        self.settings.validate()?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.instance.is_empty() || !self.instance.chars().all(is_part) {
            return Err(Error::InvalidInput(format!(
                "instance {:?} must be letters, digits, '-', '_' and '.'",
                self.instance
            )));
        }
        let settings = &self.settings;
        let compactor = Arc::new(Compactor {
            periods: SchemaPeriods::new(&self.schema)?,
            unpacker: IndexUnpacker::new(
                self.executor.clone(),
                self.folder.clone(),
                settings.max_index_file_size.as_u64(),
                settings.local_index_file_size.as_u64(),
            ),
            bucket: self.bucket,
            executor: self.executor,
            clock: self.clock,
            folder: self.folder,
            instance: self.instance,
            settings: self.settings,
            settled: Mutex::default(),
            last_ns: AtomicI64::new(i64::MIN),
            is_claimed: AtomicBool::new(false),
            counts: CompactionCounts::default(),
        });
        if let Some(registry) = &self.registry {
            compactor.register_metrics(registry);
        }
        Ok(compactor)
    }
}

/// What a compactor has done.
#[derive(Debug, Default)]
pub struct CompactionCounts {
    /// Rounds that went through.
    pub rounds: AtomicU64,
    /// Rounds in which something failed.
    pub failed_rounds: AtomicU64,
    /// Tables joined.
    pub tables: AtomicU64,
    /// New files written.
    pub files_written: AtomicU64,
    /// Bytes of these, as they are stored.
    pub bytes_written: AtomicU64,
    /// Superseded files deleted.
    pub files_deleted: AtomicU64,
    /// Index files that could not be read, each as often as it was tried; they stay where they are.
    pub damaged: AtomicU64,
    /// When the last round went through, milliseconds; 0 before.
    pub last_success_ms: AtomicI64,
}

/// Joins index files: those of several tenants that ingesters write become one a tenant and day, so that a query opens few.
///
/// New files are put first; the old ones go `delete_delay` later, by a mark that survives the process ([`CompactionMark`]). So it may be
/// stopped at any point, and several may run at once: nothing is lost, at worst something is done twice.
#[derive(Debug)]
pub struct Compactor {
    bucket: Bucket,
    executor: Executor,
    clock: Arc<dyn Clock>,
    periods: SchemaPeriods,
    unpacker: IndexUnpacker,
    folder: Option<PathBuf>,
    instance: String,
    settings: CompactorSettings,
    /// Tables of past days that were in order, and when that was, on the clock that never goes back.
    settled: Mutex<BTreeMap<i64, Duration>>,
    /// The time in the name that was given last.
    last_ns: AtomicI64,
    /// Whether the bucket is known to be ours.
    is_claimed: AtomicBool,
    counts: CompactionCounts,
}

/// A mark as it lies in the bucket.
struct StoredMark {
    path: String,
    mark: CompactionMark,
}

impl Compactor {
    /// Begins a builder: joins the index files in `bucket`; `executor` unpacks and packs.
    pub fn builder(bucket: Bucket, executor: Executor) -> CompactorBuilder {
        CompactorBuilder {
            bucket,
            executor,
            clock: Arc::new(SystemClock::new()),
            schema: SchemaSettings::default(),
            folder: None,
            instance: "compactor".into(),
            registry: None,
            settings: CompactorSettings::default(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> &CompactionCounts {
        &self.counts
    }

    /// One round: deletes what is superseded for long enough, joins what has grown. Costs a listing of the tables that may have changed.
    ///
    /// # Errors
    /// The first error of any table; the others are compacted all the same. What failed is tried again in the next round.
    pub async fn compact(&self, cancel: &CancelToken) -> Result<()> {
        let done = self.round(cancel).await;
        match &done {
            Ok(()) => {
                self.counts.rounds.fetch_add(1, Ordering::Relaxed);
                let now_ms = self.clock.now_ms().get();
                self.counts.last_success_ms.store(now_ms, Ordering::Relaxed);
            }
            Err(_) => {
                self.counts.failed_rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
        done
    }

    async fn round(&self, cancel: &CancelToken) -> Result<()> {
        if !self.is_claimed.load(Ordering::Acquire) {
            claim(&self.bucket, CHUNKS_FORMAT).await?;
            self.is_claimed.store(true, Ordering::Release);
        }
        let mut failed = None;
        let mut superseded: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        for stored in self.marks().await? {
            cancel.check("compaction")?;
            let day = stored.mark.day;
            match self.delete_superseded(&stored).await {
                Ok(true) => drop(self.settled.lock().remove(&day)),
                Ok(false) => superseded
                    .entry(day)
                    .or_default()
                    .extend(stored.mark.superseded),
                Err(e) => {
                    // They may be there still.
                    let known = superseded.entry(day).or_default();
                    known.extend(stored.mark.superseded);
                    failed.get_or_insert(e);
                }
            }
        }
        let none = BTreeSet::new();
        for table in self.tables().await? {
            cancel.check("compaction")?;
            let superseded = superseded.get(&table.day).unwrap_or(&none);
            if let Err(e) = self.compact_table(&table, superseded, cancel).await {
                tracing::warn!(table = table.folder, error = %e, "index files of a table cannot be joined; it is tried again");
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The marks in the bucket. One that cannot be read is passed over: its files are joined again.
    async fn marks(&self) -> Result<Vec<StoredMark>> {
        let mut out = Vec::new();
        for object in self.bucket.list_sorted(CompactionMark::FOLDER).await? {
            let bytes = match self.bucket.get(&object.path).await {
                Ok(bytes) => bytes,
                // Another has just removed it.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            match CompactionMark::decode(&bytes) {
                Ok(mark) => out.push(StoredMark {
                    path: object.path,
                    mark,
                }),
                Err(e) => {
                    tracing::warn!(mark = object.path, error = %e, "compaction mark cannot be read");
                }
            }
        }
        Ok(out)
    }

    /// Deletes the files of a mark, and then the mark, if it is time. Whether it was.
    async fn delete_superseded(&self, stored: &StoredMark) -> Result<bool> {
        let mark = &stored.mark;
        let delay = i64::try_from(self.settings.delete_delay.as_millis()).unwrap_or(i64::MAX);
        if self.clock.now_ms() < mark.written_ms.saturating_add(delay) {
            return Ok(false);
        }
        let folder = self.periods.table_of_day(mark.day).folder + "/";
        // A mark that somebody has tampered with must not reach anything else.
        let files = mark.superseded.iter().filter(|p| p.starts_with(&folder));
        let files: Vec<&str> = files.map(String::as_str).collect();
        self.bucket.delete_all(&files).await?;
        self.bucket.delete(&stored.path).await?;
        let count = files.len() as u64;
        self.counts
            .files_deleted
            .fetch_add(count, Ordering::Relaxed);
        Ok(true)
    }

    /// The tables that may have to be joined, the newest first.
    async fn tables(&self) -> Result<Vec<IndexTable>> {
        let mut folders = BTreeSet::new();
        folders.extend(self.periods.iter().map(|p| &*p.index_folder));
        let mut tables = Vec::new();
        for folder in folders {
            let listing = self
                .bucket
                .list_with_delimiter(folder.trim_end_matches('/'))
                .await?;
            tables.extend(listing.folders.iter().filter_map(|f| self.table_of(f)));
        }
        let now = self.clock.monotonic();
        let settled = self.settled.lock();
        tables.retain(|t| {
            let seen = settled.get(&t.day);
            seen.is_none_or(|at| now.saturating_sub(*at) >= self.settings.full_interval)
        });
        tables.sort_by_key(|t| std::cmp::Reverse(t.day));
        Ok(tables)
    }

    /// The table of a folder.
    fn table_of(&self, folder: &str) -> Option<IndexTable> {
        let folder = folder.trim_end_matches('/');
        let stem = folder.trim_end_matches(|c: char| c.is_ascii_digit());
        let table = self
            .periods
            .table_of_day(folder[stem.len()..].parse().ok()?);
        (table.folder == folder).then_some(table)
    }

    async fn files(&self, table: &IndexTable) -> Result<Vec<TableFile>> {
        let mut objects = self.bucket.list(&table.folder);
        let mut out = Vec::new();
        while let Some(object) = objects.try_next().await? {
            let Some(inside) = object.path.strip_prefix(&table.folder) else {
                continue;
            };
            let (tenant, name) = match inside.trim_start_matches('/').split_once('/') {
                None => (None, inside.trim_start_matches('/')),
                Some((tenant, name)) => match TenantId::new(tenant) {
                    Ok(tenant) => (Some(tenant), name),
                    Err(_) => continue,
                },
            };
            let Ok(name) = name.parse::<IndexFileName>() else {
                continue;
            };
            // A compactor's file has no label that tells tenants apart.
            if tenant.is_some() || matches!(name, IndexFileName::Uploaded { .. }) {
                out.push(TableFile {
                    path: object.path,
                    tenant,
                    size_bytes: object.size_bytes,
                });
            }
        }
        out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(out)
    }

    async fn compact_table(
        &self,
        table: &IndexTable,
        superseded: &BTreeSet<String>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let settle = i64::try_from(self.settings.settle_after.as_millis()).unwrap_or(i64::MAX);
        let age = if self.clock.now_ms() >= table.range_ms().end.saturating_add(settle) {
            TableAge::Settled
        } else {
            TableAge::Growing
        };
        let rules = CompactRules {
            min_files: self.settings.min_files,
            max_files: self.settings.max_files,
            max_bytes: self.settings.max_input_size.as_u64(),
        };
        let files = self.files(table).await?;
        let Some(plan) = plan(&files, superseded, age, &rules) else {
            if age == TableAge::Settled {
                let now = self.clock.monotonic();
                self.settled.lock().insert(table.day, now);
            }
            return Ok(());
        };
        let joined = self.join_readable(table, &plan, cancel).await?;
        if joined.is_empty() {
            return Ok(());
        }
        let count = joined.len();
        let mark = CompactionMark::new(self.clock.now_ms(), table.day, joined);
        let bytes = Bytes::from(mark.encode()?);
        let name = |created_ns| mark.path(&self.instance, created_ns);
        self.put_new(name, &bytes).await?;
        self.counts.tables.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            table = table.folder,
            files = count,
            "index files of a table joined"
        );
        Ok(())
    }

    /// [`Compactor::join`] without the files that turn out to be damaged: they stay where they are.
    async fn join_readable(
        &self,
        table: &IndexTable,
        plan: &TablePlan,
        cancel: &CancelToken,
    ) -> Result<Vec<String>> {
        let mut plan = plan.clone();
        loop {
            let error = match self.join(table, plan.clone(), cancel).await {
                Err(e) if is_damage(&e) => e,
                joined => return joined,
            };
            let text = error.to_string();
            let is_sound = |path: &String| !text.contains(path.as_str());
            let count = |plan: &TablePlan| {
                plan.shared.len() + plan.own.values().map(Vec::len).sum::<usize>()
            };
            let before = count(&plan);
            plan.shared.retain(is_sound);
            plan.own
                .values_mut()
                .for_each(|files| files.retain(is_sound));
            if count(&plan) == before {
                return Err(error);
            }
            self.counts.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                error = text,
                "index file cannot be read; it is not joined with others"
            );
        }
    }

    /// Writes the new files of a plan. Gives the files whose contents they have.
    async fn join(
        &self,
        table: &IndexTable,
        mut plan: TablePlan,
        cancel: &CancelToken,
    ) -> Result<Vec<String>> {
        let mut shared = Vec::new();
        let mut joined = Vec::new();
        let mut tenants = TextSet::new();
        for path in std::mem::take(&mut plan.shared) {
            let reader = self.open(&path).await?;
            tenants = tenants.union(reader.label_values(TENANT_LABEL).await?);
            shared.push(reader);
            joined.push(path);
        }
        let mut all: BTreeSet<TenantId> = BTreeSet::new();
        for tenant in tenants.iter() {
            // One that is none cannot have come through a door; its file stays as it is.
            all.insert(TenantId::new(tenant)?);
        }
        let in_shared = all.clone();
        all.extend(plan.own.keys().cloned());
        for tenant in all {
            cancel.check("compaction")?;
            let own = plan.own.remove(&tenant).unwrap_or_default();
            if own.len() < 2 && !in_shared.contains(&tenant) {
                continue;
            }
            let mut sources = Vec::new();
            let mut taken = Vec::new();
            for path in own {
                let reader = self.open(&path).await?;
                let references = reader.postings_all().await?;
                sources.push(MergeSource { reader, references });
                taken.push(path);
            }
            for reader in &shared {
                let references = reader.postings(TENANT_LABEL, tenant.as_str()).await?;
                if !references.is_empty() {
                    let reader = Arc::clone(reader);
                    sources.push(MergeSource { reader, references });
                }
            }
            if sources.len() > 1 || taken.is_empty() {
                self.write(table, &tenant, sources, cancel).await?;
                joined.append(&mut taken);
            }
        }
        Ok(joined)
    }

    async fn open(&self, path: &str) -> Result<Arc<IndexReader>> {
        let packed = self.bucket.get(path).await?;
        let (file, _) = self.unpacker.unpacked(path, packed).await?;
        let reader = IndexReader::open(file, IndexReaderSettings::default()).await?;
        Ok(Arc::new(reader))
    }

    /// Writes a new file, unless it would be empty.
    async fn write(
        &self,
        table: &IndexTable,
        tenant: &TenantId,
        sources: Vec<MergeSource>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let version = IndexVersion::new(table.schema.index_version())?;
        let settings = MergeSettings {
            max_packed_bytes: self.settings.max_packed_size.as_usize(),
            max_postings_bytes: self.settings.max_postings_memory.as_usize(),
            folder: self.folder.clone(),
        };
        let Some(new) = merge(sources, version, &settings, &self.executor, cancel).await? else {
            return Ok(());
        };
        let packed = Bytes::from(new.packed);
        let name = |created_ns| {
            let name = IndexFileName::Compacted {
                created_ns,
                min_ms: new.stats.min_ms.max(TimestampMs::EPOCH),
                max_ms: new.stats.max_ms.max(TimestampMs::EPOCH),
                checksum: new.stats.checksum,
            };
            format!("{}/{tenant}/{name}", table.folder)
        };
        self.put_new(name, &packed).await?;
        self.counts.files_written.fetch_add(1, Ordering::Relaxed);
        self.counts
            .bytes_written
            .fetch_add(packed.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Puts an object under a name that none has had: a name that came again could be that of an object which is to be deleted.
    async fn put_new(&self, name: impl Fn(TimestampNs) -> String, bytes: &Bytes) -> Result<()> {
        loop {
            let path = name(self.next_ns());
            let put = self.bucket.put_if_absent(&path, bytes.clone()).await?;
            if put == PutOutcome::Created {
                return Ok(());
            }
        }
    }

    /// The time, nanoseconds, that no name of this process bears yet.
    fn next_ns(&self) -> TimestampNs {
        let now_ns = self.clock.now_ms().to_ns().get();
        let next = |last: i64| Some(now_ns.max(last.saturating_add(1)));
        let order = Ordering::Relaxed;
        let last = self.last_ns.fetch_update(order, order, next);
        TimestampNs::new(now_ns.max(last.unwrap_or(now_ns).saturating_add(1)))
    }
}

/// Whether an error says that a file itself is damaged.
fn is_damage(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::InvalidInput)
}

#[async_trait]
impl Service for Compactor {
    fn name(&self) -> &str {
        "logs-compactor"
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        while !stop.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(self.settings.compaction_interval) => {
                    if let Err(e) = self.compact(&stop).await && !stop.is_cancelled() {
                        tracing::warn!(error = %e, "index files cannot be joined; it is tried again");
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
