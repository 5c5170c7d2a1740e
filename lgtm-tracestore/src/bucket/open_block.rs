//! One block of the bucket, to be read.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::{CancelToken, Executor, check_wanted};
use lgtm_core::model::TenantId;
use lgtm_core::storage::{BackendKind, Bucket, ObjectFile, ReadAt, ReadPlan};
use lgtm_core::{Error, ErrorKind, Result};
use tokio::sync::OnceCell;

use super::block_caches::{BlockCaches, kept};
use crate::block::{BlockMeta, DATA, TraceSource, bloom_name};
use crate::bloom::{BloomShard, shard_of};
use crate::scan::{BlockColumns, GroupScan, ScanBlock, ScanStep};
use crate::schema::{
    BlockFile, BlockVersion, ColumnMemory, FetchedRanges, LookupStep, RowPlan, RowReader,
    TraceLookup,
};
use crate::select::{FetchStats, SpanBatch};
use crate::skip::{SKIP_FILE, SkipIndex, SkipOrigin};
use crate::trace::TraceId;

/// Ranges that lie closer together are read as one: a request costs more than some bytes too many.
const GAP_BYTES: u64 = 64 << 10;
/// The same where one trace is looked for: its pages lie all over its row group. On a disk of our own a read costs little beside the bytes.
const LOOKUP_GAP_BYTES: u64 = 4 << 20;
const LOCAL_LOOKUP_GAP_BYTES: u64 = 64 << 10;
/// Reads of one block at a time.
const CONCURRENCY: usize = 4;

/// What is said where columns take more memory than they may.
const MEMORY_HINT: &str = "max_trace_memory";

/// A block of the bucket. What was read of its footer and filters stays with it.
#[derive(Debug)]
pub struct OpenBlock {
    tenant: TenantId,
    meta: BlockMeta,
    version: BlockVersion,
    bucket: Bucket,
    executor: Executor,
    data: Arc<dyn ReadAt>,
    memory: Arc<ColumnMemory>,
    /// Where decoded columns are kept.
    columns: Option<Arc<BlockColumns>>,
    /// The same, through a cache of pages.
    paged: Arc<dyn ReadAt>,
    caches: BlockCaches,
    /// Something of it was damaged: what caches have of it may be so.
    is_suspect: AtomicBool,
    max_trace_bytes: usize,
    footer: OnceCell<Arc<BlockFile>>,
    scan_block: OnceCell<Arc<ScanBlock>>,
    blooms: Vec<OnceCell<Bytes>>,
}

impl OpenBlock {
    /// A block by its meta. Reads nothing yet.
    ///
    /// # Errors
    /// `InvalidInput` for a format that is not known.
    pub fn new(
        bucket: Bucket,
        executor: Executor,
        tenant: &TenantId,
        meta: BlockMeta,
        max_trace_bytes: usize,
    ) -> Result<Self> {
        let version = BlockVersion::of_name(&meta.format)?;
        let path = format!("{tenant}/{}/{DATA}", meta.block_id);
        let data: Arc<dyn ReadAt> = Arc::new(ObjectFile::new(&bucket, &path, meta.size_bytes)?);
        // 0 stands for what old blocks have.
        let shards = if meta.bloom_shards == 0 {
            10
        } else {
            meta.bloom_shards
        };
        Ok(Self {
            tenant: tenant.clone(),
            version,
            bucket,
            executor: executor.in_line(tenant.as_str()),
            memory: Arc::default(),
            columns: None,
            paged: Arc::clone(&data),
            data,
            caches: BlockCaches::default(),
            is_suspect: AtomicBool::new(false),
            max_trace_bytes,
            footer: OnceCell::new(),
            scan_block: OnceCell::new(),
            blooms: (0..shards.min(1000)).map(|_| OnceCell::new()).collect(),
            meta,
        })
    }

    /// Shares the memory of columns with other blocks.
    #[must_use]
    pub(super) fn reusing(mut self, memory: Arc<ColumnMemory>) -> Self {
        self.memory = memory;
        self
    }

    /// Keeps decoded columns there.
    #[must_use]
    pub(super) fn sharing(mut self, columns: Arc<BlockColumns>) -> Self {
        self.columns = Some(columns);
        self
    }

    /// The same, with caches of what is read of it. Once something of it turned out damaged it is read past them.
    #[must_use]
    pub fn caches(mut self, caches: &BlockCaches) -> Self {
        self.paged = caches.over(Arc::clone(&self.data));
        self.caches = caches.clone();
        self
    }

    /// What it is.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Whether its bloom filter lets the id through; `false` is certain. One read of a shard, the first time.
    ///
    /// # Errors
    /// As [`Bucket`]; `Corrupt` for a filter that is none.
    pub async fn may_contain(&self, id: TraceId) -> Result<bool> {
        let shard = shard_of(id, self.meta.bloom_shards);
        let Some(file) = self.bloom(shard).await? else {
            return Ok(true);
        };
        let path = || self.bloom_path(shard);
        let filter = BloomShard::open(&file).map_err(|e| Error::corrupt(path(), e))?;
        Ok(filter.may_contain(id))
    }

    /// A shard of the bloom filter; `None` for one beyond those that there can be. One read, the first time.
    pub(super) async fn bloom(&self, shard: u32) -> Result<Option<Bytes>> {
        let Some(cell) = self.blooms.get(shard as usize) else {
            return Ok(None);
        };
        let path = self.bloom_path(shard);
        let file = cell.get_or_try_init(|| {
            let is_good = |file: &[u8]| BloomShard::open(file).is_ok();
            let blooms = self.caches.blooms.as_ref();
            kept(blooms, &path, is_good, || self.bucket.get(&path))
        });
        let file = file.await?;
        Ok(Some(file.clone()))
    }

    fn bloom_path(&self, shard: u32) -> String {
        let name = bloom_name(shard);
        format!("{}/{}/{name}", self.tenant, self.meta.block_id)
    }

    /// The footer; one read, the first time.
    ///
    /// # Errors
    /// As [`Bucket`]; `Corrupt` for a footer that is none.
    pub async fn file(&self) -> Result<Arc<BlockFile>> {
        let file = self.footer.get_or_try_init(|| async {
            let meta = &self.meta;
            let range = BlockFile::footer_range(meta.size_bytes, meta.footer_size_bytes);
            let range = range.map_err(|e| self.corrupt(e))?;
            let key = format!("{}:{}:{}", self.place(), range.start, range.end);
            let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let footers = self.caches.footers.as_ref().filter(|_| !self.is_suspect());
            let is_good = |bytes: &[u8]| bytes.len() == wanted;
            let read = || self.data.read(range.clone());
            let bytes = kept(footers, &key, is_good, read).await?;
            let (max, size) = (self.max_trace_bytes, meta.size_bytes);
            let job = move |_: &CancelToken| {
                let mut grow = |_| check_wanted("the reading of a block");
                let decoded = BlockFile::decode(&bytes, size, &mut Allowance::new(max, &mut grow));
                Ok::<_, Error>(decoded)
            };
            let decoded = self.executor.run(job, &CancelToken::new()).await?;
            Ok::<_, Error>(Arc::new(decoded.map_err(|e| self.failed(e))?))
        });
        file.await.cloned()
    }

    /// The trace of an id, as the protobuf message `Trace`; `None` when the block has not got it. At most four rounds of reads, and none but that of the
    /// bloom filter's shard for most blocks that have not got it.
    ///
    /// # Errors
    /// As [`Bucket`]; `Corrupt` for a damaged block; `LimitExceeded` for a trace that takes more memory than it may.
    pub async fn find(&self, id: TraceId) -> Result<Option<Vec<u8>>> {
        match self.may_contain(id).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            // The filter only saves reads.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                tracing::warn!(tenant = %self.tenant, block = %self.meta.block_id, error = %e, "a bloom filter cannot be read; the block is looked into instead");
            }
            Err(e) => return Err(e),
        }
        let file = self.file().await?;
        let mut fetched = FetchedRanges::default();
        let dedicated = self.meta.dedicated_columns.clone();
        let lookup = TraceLookup::new(file, self.version, dedicated, id, None);
        let mut lookup = lookup.reusing(Arc::clone(&self.memory));
        if let Some(columns) = &self.columns {
            let columns: Arc<BlockColumns> = Arc::clone(columns);
            lookup = lookup.sharing(columns);
        }
        let gap_bytes = match self.bucket.kind() {
            BackendKind::File | BackendKind::Memory => LOCAL_LOOKUP_GAP_BYTES,
            _ => LOOKUP_GAP_BYTES,
        };
        let mut fetched_bytes = 0;
        loop {
            let (source, max) = (fetched.clone(), self.max_trace_bytes);
            let is_quick = lookup.is_quick(fetched_bytes);
            let job = move |_: &CancelToken| {
                let mut grow = |_| check_wanted("the reading of a block");
                let mut allowance = Allowance::new(max, &mut grow);
                let step = lookup.step(&source, &mut allowance);
                Ok::<_, Error>((lookup, step))
            };
            let wanted = CancelToken::new();
            let step;
            (lookup, step) = match is_quick {
                true => job(&wanted)?,
                false => self.executor.run(job, &wanted).await?,
            };
            match step.map_err(|e| self.failed(e))? {
                LookupStep::Found(trace) => return Ok(Some(trace)),
                LookupStep::Absent => return Ok(None),
                LookupStep::Read(ranges) => {
                    (_, fetched_bytes) = self.fetch(ranges, gap_bytes, &mut fetched).await?;
                }
            }
        }
    }

    /// Reads all traces of a row group.
    ///
    /// # Errors
    /// As [`Bucket`]; `Corrupt` for a damaged block; `LimitExceeded` when the row group takes more memory than it may.
    pub async fn row_group(&self, number: usize, max_bytes: usize) -> Result<BlockTraces> {
        let file = self.file().await?;
        let plan = RowPlan::row_group(&file, number);
        let mut fetched = FetchedRanges::default();
        self.fetch(plan.ranges(), GAP_BYTES, &mut fetched).await?;
        let (version, dedicated) = (self.version, self.meta.dedicated_columns.clone());
        let job = move |_: &CancelToken| {
            let mut grow = |_| check_wanted("the reading of a block");
            let mut allowance = Allowance::new(max_bytes, &mut grow);
            let reader =
                RowReader::open(&file, &plan, version, &dedicated, &fetched, &mut allowance);
            Ok::<_, Error>(reader)
        };
        let reader = self.executor.run(job, &CancelToken::new()).await?;
        Ok(BlockTraces {
            reader: reader.map_err(|e| self.failed(e))?,
            max_bytes: self.max_trace_bytes,
            place: self.place(),
        })
    }

    /// What scans of the block share: its footer and its list of columns.
    ///
    /// # Errors
    /// As [`OpenBlock::file`].
    pub async fn scan_block(&self) -> Result<Arc<ScanBlock>> {
        let block = self.scan_block.get_or_try_init(|| async {
            let file = self.file().await?;
            let dedicated = self.meta.dedicated_columns.clone();
            Ok::<_, Error>(Arc::new(ScanBlock::new(file, self.version, dedicated)))
        });
        block.await.cloned()
    }

    /// Reads the side file; `None` where there is none that can be used.
    ///
    /// # Errors
    /// As [`Bucket`], but for a file that is not there.
    pub(super) async fn read_skip_index(&self) -> Result<Option<SkipIndex>> {
        let path = format!("{}/{}/{SKIP_FILE}", self.tenant, self.meta.block_id);
        let file = match self.bucket.get(&path).await {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let job = move |_: &CancelToken| Ok::<_, Error>(SkipIndex::decode(file));
        let of_block = SkipOrigin {
            size_bytes: self.meta.size_bytes,
            footer_size_bytes: self.meta.footer_size_bytes,
            traces: self.meta.trace_count,
        };
        Ok(match self.executor.run(job, &CancelToken::new()).await? {
            Ok(index) if index.origin() == of_block => Some(index),
            Ok(_) => {
                tracing::warn!(
                    path,
                    "a side file was made from another block; the block is read without it"
                );
                None
            }
            Err(e) => {
                tracing::warn!(path, error = %e, "a side file cannot be read; the block is read without it");
                None
            }
        })
    }

    /// Goes through a row group by its columns: the batch, `None` where nothing passes, and what it cost. Columns are decoded on the compute pool.
    ///
    /// # Errors
    /// As [`Bucket`]; `Corrupt` for a damaged row group; `LimitExceeded` when its columns take more memory than they may.
    pub async fn scan(&self, scan: GroupScan) -> Result<(Option<SpanBatch>, FetchStats)> {
        let mut scan = scan.reusing(Arc::clone(&self.memory));
        if let Some(columns) = self.columns.as_ref().filter(|_| !self.is_suspect()) {
            scan = scan.sharing(Arc::clone(columns));
        }
        let mut fetched = FetchedRanges::default();
        let mut stats = FetchStats::default();
        loop {
            let (source, max) = (fetched.clone(), self.max_trace_bytes);
            let job = move |_: &CancelToken| {
                let mut grow = |_| check_wanted("the reading of a block");
                let mut allowance = Allowance::new(max, &mut grow).hint(MEMORY_HINT);
                let step = scan.step(&source, &mut allowance);
                Ok::<_, Error>((scan, step))
            };
            let step;
            (scan, step) = self.executor.run(job, &CancelToken::new()).await?;
            match step.map_err(|e| self.failed(e))? {
                ScanStep::Read(ranges) => {
                    let (reads, bytes) = self.fetch(ranges, GAP_BYTES, &mut fetched).await?;
                    stats.backend_reads += reads;
                    stats.backend_bytes += bytes;
                    stats.inspected_bytes += bytes;
                }
                ScanStep::Done(batch) => {
                    (stats.inspected_traces, stats.inspected_spans) = scan.inspected();
                    return Ok((batch, stats));
                }
            }
        }
    }

    /// Reads ranges; how many reads that took, about, and how many bytes were wanted.
    async fn fetch(
        &self,
        mut ranges: Vec<Range<u64>>,
        max_gap_bytes: u64,
        into: &mut FetchedRanges,
    ) -> Result<(u64, u64)> {
        ranges.retain(|r| !r.is_empty());
        ranges.sort_by_key(|r| r.start);
        let plan = ReadPlan {
            max_gap_bytes,
            concurrency: CONCURRENCY,
            ..ReadPlan::default()
        };
        let data = match self.is_suspect() {
            true => &self.data,
            false => &self.paged,
        };
        let read = data.read_many(&ranges, &plan).await?;
        for (range, bytes) in ranges.iter().zip(read) {
            into.insert(range.start, bytes);
        }
        let gaps = ranges.windows(2);
        let gaps = gaps.filter(|pair| pair[1].start > pair[0].end.saturating_add(max_gap_bytes));
        let reads = gaps.count() as u64 + u64::from(!ranges.is_empty());
        Ok((reads, ranges.iter().map(|r| r.end - r.start).sum()))
    }

    /// What an answer says that lacks it.
    pub fn missing(&self, e: &Error) -> String {
        format!(
            "block {} is missing from the answer: {e}",
            self.meta.block_id
        )
    }

    fn place(&self) -> String {
        format!("{}/{}/{DATA}", self.tenant, self.meta.block_id)
    }

    fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed)
    }

    fn corrupt(&self, e: lgtm_core::DecodeError) -> Error {
        self.is_suspect.store(true, Ordering::Relaxed);
        Error::corrupt(self.place(), e)
    }

    fn failed(&self, e: DecodeFail) -> Error {
        match e {
            DecodeFail::Broken(e) => self.corrupt(e),
            DecodeFail::Refused(e) => e,
        }
    }
}

/// As [`BlockTraces::next_trace`].
impl TraceSource for BlockTraces {
    fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>> {
        BlockTraces::next_trace(self, out)
    }
}

/// The traces of a row group, one after the other.
#[derive(Debug)]
pub struct BlockTraces {
    reader: RowReader,
    max_bytes: usize,
    place: String,
}

impl BlockTraces {
    /// The next trace: gives its id and appends it to `out` as the protobuf message `Trace`. `None` at the end. To be called on the compute pool.
    ///
    /// # Errors
    /// `Corrupt` for columns that do not belong together; `LimitExceeded` for a trace that takes more memory than it may.
    pub fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>> {
        let mut grow = |_| check_wanted("the reading of a block");
        let mut allowance = Allowance::new(self.max_bytes, &mut grow);
        let next = self.reader.next(out, &mut allowance);
        next.map_err(|e| match e {
            DecodeFail::Broken(e) => Error::corrupt(self.place.clone(), e),
            DecodeFail::Refused(e) => e,
        })
    }
}
