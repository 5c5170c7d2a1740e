//! Joins index files in the bucket, and takes what is over out of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{CancelToken, Executor, in_place};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampMs, TimestampNs};
use lgtm_core::service::{CompactionProgress, Service};
use lgtm_core::storage::{Bucket, PutOutcome, claim};
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::chunk_merging::MergedFiles;
use super::compaction_counts::CompactionCounts;
use super::compactor_settings::CompactorSettings;
use super::delete_requests::DeleteRequests;
use super::deletion::{DeleteRound, Deletions, DueDeletes};
use super::expiry::Surveys;
use super::ingester::CHUNKS_FORMAT;
use super::side_compactor::SideCompactor;
use super::table_progress::TableProgress;
use crate::bucket::{BucketChunks, BucketSettings, ChunkRewriter};
use crate::compact::{
    ChunkEdits, CompactionMark, MergeSettings, MergeSource, TableAge, TableFile, merge,
};
use crate::index::{IndexFileName, IndexReader, IndexReaderSettings, IndexUnpacker, IndexVersion};
use crate::limits::Limits;
use crate::schema::{IndexTable, SchemaPeriods, SchemaSettings};

/// Decides whether a job is this process' own, by its key.
pub type OwnsJob = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A round that is over in this time is never cut short, however small `deletion_delay` is.
const SHORT_ROUND: Duration = Duration::from_secs(5);

/// Collects the parts of a [`Compactor`].
pub struct CompactorBuilder {
    bucket: Bucket,
    executor: Executor,
    clock: Arc<dyn Clock>,
    schema: SchemaSettings,
    folder: Option<PathBuf>,
    side_bucket: Option<Bucket>,
    limits: Overrides<Limits>,
    deletes: Option<Arc<DeleteRequests>>,
    chunks: Option<Arc<BucketChunks>>,
    instance: String,
    owns: Option<OwnsJob>,
    registry: Option<Registry>,
    settings: CompactorSettings,
}

impl std::fmt::Debug for CompactorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactorBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl CompactorBuilder {
    /// Sets the place of side files, [`DataKind::LogSkip`](lgtm_core::storage::DataKind): those of a day are joined, too, and deleted when the
    /// index files of their day are gone. Without it they are left as they are.
    #[must_use]
    pub fn side_files(mut self, bucket: Bucket) -> Self {
        self.side_bucket = Some(bucket);
        self
    }

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

    /// Sets the limits of tenants: how long their entries are kept. Without it that is for ever.
    #[must_use]
    pub fn limits(mut self, limits: Overrides<Limits>) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what tenants want deleted: chunks are written anew without it. Without it nothing is deleted but hidden.
    #[must_use]
    pub fn deletes(mut self, deletes: Arc<DeleteRequests>) -> Self {
        self.deletes = Some(deletes);
        self
    }

    /// Readers of the bucket in the same process, which know at once what was written.
    #[must_use]
    pub fn chunks(mut self, chunks: Arc<BucketChunks>) -> Self {
        self.chunks = Some(chunks);
        self
    }

    /// Sets a local folder for what takes much room; it is made with the first round. Its files have no names once they are open. Without it all is in memory.
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

    /// Sets whether this process does the work, where there are several that might: it is asked before each round, and in it before each table, for
    /// [`Compactor::JOB`]. Without it this one does.
    #[must_use]
    pub fn owns(mut self, owns: OwnsJob) -> Self {
        self.owns = Some(owns);
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
        let rewriter = self.rewriter()?;
        let settings = &self.settings;
        let compactor = Arc::new(Compactor {
            deletions: self.deletes.map(Deletions::new),
            rewriter,
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
            side: self.side_bucket.map(SideCompactor::new),
            instance: self.instance,
            owns: self.owns,
            settings: self.settings,
            limits: self.limits,
            settled: Mutex::default(),
            surveys: Surveys::default(),
            merged_files: MergedFiles::default(),
            working: tokio::sync::Mutex::default(),
            round_began_ms: AtomicU64::new(0),
            last_ns: AtomicI64::new(i64::MIN),
            is_claimed: AtomicBool::new(false),
            counts: CompactionCounts::default(),
            tables: TableProgress::default(),
        });
        if let Some(registry) = &self.registry {
            compactor.register_metrics(registry);
        }
        Ok(compactor)
    }
}

impl CompactorBuilder {
    /// What writes chunks anew, with readers of its own if the process has none.
    fn rewriter(&self) -> Result<ChunkRewriter> {
        let (bucket, executor) = (self.bucket.clone(), self.executor.clone());
        let clock = Arc::clone(&self.clock);
        let writer = self.settings.writer.clone();
        if let Some(chunks) = &self.chunks {
            let chunks = Arc::clone(chunks);
            return ChunkRewriter::new(bucket, executor, clock, chunks, &self.instance, writer);
        }
        // Each chunk is read once.
        let settings = BucketSettings {
            chunk_cache_size: ByteSize::bytes(0),
            ..BucketSettings::default()
        };
        let mut chunks = BucketChunks::builder(bucket.clone(), executor.clone())
            .settings(settings)
            .schema(self.schema.clone())
            .clock(Arc::clone(&clock));
        if let Some(side) = &self.side_bucket {
            chunks = chunks.side_files(side.clone());
        }
        let chunks = chunks.build()?;
        let own = ChunkRewriter::new(bucket, executor, clock, chunks, &self.instance, writer)?;
        Ok(own.unlisted())
    }
}

/// Joins index files: those of several tenants that ingesters write become one a tenant and day, so that a query opens few. Takes chunks out of
/// them whose entries are all older than they are kept, writes those anew that have entries which are to be deleted, and deletes the old ones a while
/// later.
///
/// New files are put first; the old ones go `delete_delay` later, by a mark that survives the process ([`CompactionMark`]). So it may be
/// stopped at any point, and several may run at once: nothing is lost, at worst something is done twice.
pub struct Compactor {
    pub(super) bucket: Bucket,
    pub(super) executor: Executor,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) periods: SchemaPeriods,
    unpacker: IndexUnpacker,
    folder: Option<PathBuf>,
    /// Where side files are joined, too.
    pub(super) side: Option<SideCompactor>,
    pub(super) instance: String,
    owns: Option<OwnsJob>,
    pub(super) settings: CompactorSettings,
    pub(super) limits: Overrides<Limits>,
    pub(super) deletions: Option<Deletions>,
    pub(super) rewriter: ChunkRewriter,
    /// What is known of files that were looked through for what is over.
    pub(super) surveys: Surveys,
    /// What is known of files that were looked through for small chunks.
    pub(super) merged_files: MergedFiles,
    /// Tables of past days that were in order, and when that was, on the clock that never goes back.
    settled: Mutex<BTreeMap<i64, Duration>>,
    /// Held by the round that is under way: what it has written and not yet named in an index belongs to it alone.
    working: tokio::sync::Mutex<()>,
    /// When that round looked for marks, on the clock that never goes back, milliseconds.
    round_began_ms: AtomicU64,
    /// The time in the name that was given last.
    last_ns: AtomicI64,
    /// Whether the bucket is known to be ours.
    is_claimed: AtomicBool,
    counts: CompactionCounts,
    pub(super) tables: TableProgress,
}

impl std::fmt::Debug for Compactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compactor")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What is to be done in a table.
struct TableWork<'a> {
    /// Files that others hold the contents of already.
    superseded: &'a BTreeSet<String>,
    due: &'a DueDeletes,
    deletes: &'a mut DeleteRound,
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
            side_bucket: None,
            limits: Overrides::fixed(Limits::default()),
            deletes: None,
            chunks: None,
            instance: "compactor".into(),
            owns: None,
            registry: None,
            settings: CompactorSettings::default(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> &CompactionCounts {
        &self.counts
    }

    /// How far it is with each tenant's index files, and with its requests to delete.
    pub fn progress(&self) -> &Arc<CompactionProgress> {
        self.tables.progress()
    }

    /// When the oldest index file of several tenants was written that is not joined, seconds.
    pub(super) fn oldest_shared_s(&self) -> Option<i64> {
        self.tables.oldest_shared_s()
    }

    /// One round: deletes what is superseded for long enough, joins what has grown. Costs a listing of the tables that may have changed. One that is
    /// called during another begins after it. It leaves the other tables to the next round after a quarter of `deletion_delay`: what it
    /// knows of the bucket is old by then.
    ///
    /// # Errors
    /// The first error of any table; the others are compacted all the same. What failed is tried again in the next round.
    pub async fn compact(&self, cancel: &CancelToken) -> Result<()> {
        if !self.is_owner() {
            // Another instance works, and counts.
            return Ok(());
        }
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

    /// The key of all its work. One of several compactors does all of it, as in Loki: a request to delete is done when all tables are, and what is deleted
    /// later must not be joined again meanwhile, so that one alone must know how far the work is. Index files are small beside the chunks that they
    /// name, and one process joins those of terabytes a day.
    pub const JOB: &str = "logs";

    /// Whether the work is this process' own now.
    fn is_owner(&self) -> bool {
        self.owns.as_ref().is_none_or(|owns| owns(Self::JOB))
    }

    async fn round(&self, cancel: &CancelToken) -> Result<()> {
        let _only = self.working.lock().await;
        if !self.is_owner() {
            return Ok(());
        }
        self.round_began_ms
            .store(self.monotonic_ms(), Ordering::Relaxed);
        if !self.is_claimed.load(Ordering::Acquire) {
            claim(&self.bucket, CHUNKS_FORMAT).await?;
            self.make_folder()?;
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
        if let Err(e) = self.delete_leaving(cancel).await {
            tracing::warn!(error = %e, "chunks that left the index cannot be deleted; it is tried again");
            failed.get_or_insert(e);
        }
        let none = BTreeSet::new();
        let tables = self.tables().await?;
        let days: BTreeSet<i64> = tables.iter().map(|t| t.day).collect();
        let due = self.due_deletes().await.unwrap_or_else(|e| {
            tracing::warn!(error = %e, "delete requests cannot be listed; it is tried again");
            failed.get_or_insert(e);
            DueDeletes::new()
        });
        let mut deletes = DeleteRound::default();
        let tables = match due.is_empty() {
            true => self.unsettled(tables),
            // Any of them may name chunks of the requests' times.
            false => tables,
        };
        let long = (self.settings.deletion_delay / 4).max(SHORT_ROUND);
        for table in tables {
            cancel.check("compaction")?;
            if !self.is_owner() {
                tracing::info!("another compactor does the work from now on");
                deletes.table_failed(&due);
                break;
            }
            if self.round_age() > long {
                tracing::warn!(
                    ?long,
                    "a round of compaction takes longer than a quarter of deletion_delay; the other tables are left to the next one"
                );
                deletes.table_failed(&due);
                break;
            }
            let superseded = superseded.get(&table.day).unwrap_or(&none);
            let mut todo = TableWork {
                superseded,
                due: &due,
                deletes: &mut deletes,
            };
            if let Err(e) = self.compact_table(&table, &mut todo, cancel).await {
                todo.deletes.table_failed(&due);
                self.tables.failed(table.day, &e);
                tracing::warn!(table = table.folder, error = %e, "index files of a table cannot be joined; it is tried again");
                failed.get_or_insert(e);
            }
        }
        if let Err(e) = self.end_deletes(&due, deletes).await {
            failed.get_or_insert(e);
        }
        let open = self.open_deletes();
        self.tables.round_ended(&days, &open, self.clock.now_ms());
        if let Some(side) = &self.side
            && let Err(e) = self.compact_side_objects(side, &days, cancel).await
        {
            failed.get_or_insert(e);
        }
        failed.map_or(Ok(()), Err)
    }

    fn make_folder(&self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        in_place(|| std::fs::create_dir_all(folder)).map_err(|e| {
            Error::Unavailable(format!(
                "the compactor's folder {} cannot be made: {e}",
                folder.display()
            ))
        })
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

    /// All tables.
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
        Ok(tables)
    }

    /// The tables that may have to be joined, the newest first.
    fn unsettled(&self, mut tables: Vec<IndexTable>) -> Vec<IndexTable> {
        let now = self.clock.monotonic();
        let settled = self.settled.lock();
        tables.retain(|t| {
            let seen = settled.get(&t.day);
            seen.is_none_or(|at| now.saturating_sub(*at) >= self.settings.full_interval)
        });
        tables.sort_by_key(|t| std::cmp::Reverse(t.day));
        tables
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

    /// The index files of a table.
    pub(super) async fn files(&self, table: &IndexTable) -> Result<Vec<TableFile>> {
        let mut objects = self.bucket.list(&table.folder);
        let mut out = Vec::new();
        while let Some(object) = objects.try_next().await? {
            let Some((tenant, name)) = in_table(table, &object.path) else {
                continue;
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
        todo: &mut TableWork<'_>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let settle = i64::try_from(self.settings.settle_after.as_millis()).unwrap_or(i64::MAX);
        let is_over = self.clock.now_ms() >= table.range_ms().end.saturating_add(settle);
        let mut files = self.files(table).await?;
        self.tables.found(table.day, &files, todo.superseded);
        files.retain(|f| !todo.superseded.contains(&f.path));
        let age = match is_over || self.has_unjoined(&files, todo.due) {
            true => TableAge::Settled,
            false => TableAge::Growing,
        };
        if let Some(joined) = self.join_table(table, &files, age, cancel).await? {
            if todo.due.is_empty() {
                return Ok(());
            }
            files = self.files(table).await?;
            let is_old = |path: &String| joined.contains(path) || todo.superseded.contains(path);
            files.retain(|f| !is_old(&f.path));
        }
        if self.expire_table(table, &files, cancel).await? {
            todo.deletes.table_failed(todo.due);
            return Ok(());
        }
        let (due, deletes) = (todo.due, &mut *todo.deletes);
        let is_written = self
            .delete_in_table(table, &files, due, deletes, cancel)
            .await?;
        if is_written || (is_over && self.merge_in_table(table, &files, due, cancel).await?) {
            return Ok(());
        }
        if is_over {
            let now = self.clock.monotonic();
            self.settled.lock().insert(table.day, now);
        }
        Ok(())
    }

    pub(super) async fn open(&self, path: &str) -> Result<Arc<IndexReader>> {
        let packed = self.bucket.get(path).await?;
        let (file, _) = self.unpacker.unpacked(path, packed).await?;
        let reader = IndexReader::open(file, IndexReaderSettings::default()).await?;
        Ok(Arc::new(reader))
    }

    /// Writes a new file of what `edits` leave of the sources, unless it would be empty.
    pub(super) async fn write(
        &self,
        table: &IndexTable,
        tenant: &TenantId,
        sources: Vec<MergeSource>,
        edits: Option<&dyn ChunkEdits>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let version = IndexVersion::new(table.schema.index_version())?;
        let settings = MergeSettings {
            max_packed_bytes: self.settings.max_packed_size.as_usize(),
            max_postings_bytes: self.settings.max_postings_memory.as_usize(),
            folder: self.folder.clone(),
        };
        let Some(new) = merge(sources, version, &settings, edits, &self.executor, cancel).await?
        else {
            return Ok(());
        };
        let packed = Bytes::from(new.packed);
        self.check_age()?;
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
        self.tables.wrote(table.day, tenant);
        self.counts.files_written.fetch_add(1, Ordering::Relaxed);
        self.counts
            .bytes_written
            .fetch_add(packed.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long ago the round under way looked for marks.
    fn round_age(&self) -> Duration {
        let began_ms = self.round_began_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.monotonic_ms().saturating_sub(began_ms))
    }

    /// Whether the files that a round knows may still be joined: another compactor may have written them anew since, without chunks that it deletes
    /// `deletion_delay` later, and no index may name those again.
    ///
    /// # Errors
    /// `Unavailable` after half of that time.
    fn check_age(&self) -> Result<()> {
        let most = (self.settings.deletion_delay / 2).max(2 * SHORT_ROUND);
        let age = self.round_age();
        if age > most {
            return Err(Error::Unavailable(format!(
                "the round of compaction took {age:?} until it could write an index file, and {most:?} (half of deletion_delay) are allowed; the next one begins anew"
            )));
        }
        Ok(())
    }

    /// Puts an object under a name that none has had: a name that came again could be that of an object which is to be deleted.
    pub(super) async fn put_new(
        &self,
        name: impl Fn(TimestampNs) -> String,
        bytes: &Bytes,
    ) -> Result<()> {
        loop {
            let path = name(self.next_ns());
            let put = self.bucket.put_if_absent(&path, bytes.clone()).await?;
            if put == PutOutcome::Created {
                return Ok(());
            }
        }
    }

    /// The time, seconds.
    pub(super) fn now_s(&self) -> i64 {
        self.clock.now_ms().to_seconds()
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

/// Whose a file in a table is, if it is one tenant's, and its name.
pub(super) fn in_table<'p>(
    table: &IndexTable,
    path: &'p str,
) -> Option<(Option<TenantId>, &'p str)> {
    let inside = path.strip_prefix(&table.folder)?.trim_start_matches('/');
    match inside.split_once('/') {
        None => Some((None, inside)),
        Some((tenant, name)) => Some((Some(TenantId::new(tenant).ok()?), name)),
    }
}

/// Whether an error says that a file itself is damaged.
pub(super) fn is_damage(e: &Error) -> bool {
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
pub(super) mod tests;
