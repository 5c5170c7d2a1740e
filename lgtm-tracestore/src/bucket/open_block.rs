//! One block of the bucket, to be read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, ObjectFile, ReadAt, ReadPlan};
use lgtm_core::{Error, ErrorKind, Result};
use tokio::sync::OnceCell;

use crate::block::{BlockMeta, DATA, bloom_name};
use crate::bloom::{BloomShard, shard_of};
use crate::schema::{
    BlockFile, BlockVersion, FetchedRanges, LookupStep, RowPlan, RowReader, TraceLookup,
};
use crate::trace::TraceId;

/// Ranges that lie closer together are read as one: a request costs more than some bytes too many.
const GAP_BYTES: u64 = 64 << 10;
/// Reads of one block at a time.
const CONCURRENCY: usize = 4;

/// A block of the bucket. What was read of its footer and filters stays with it.
#[derive(Debug)]
pub struct OpenBlock {
    tenant: TenantId,
    meta: BlockMeta,
    version: BlockVersion,
    bucket: Bucket,
    executor: Executor,
    data: Arc<dyn ReadAt>,
    max_trace_bytes: usize,
    footer: OnceCell<Arc<BlockFile>>,
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
        let data = ObjectFile::new(&bucket, &path, meta.size_bytes)?;
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
            data: Arc::new(data),
            max_trace_bytes,
            footer: OnceCell::new(),
            blooms: (0..shards.min(1000)).map(|_| OnceCell::new()).collect(),
            meta,
        })
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
        let Some(cell) = self.blooms.get(shard as usize) else {
            return Ok(true);
        };
        let path = format!(
            "{}/{}/{}",
            self.tenant,
            self.meta.block_id,
            bloom_name(shard)
        );
        let file = cell.get_or_try_init(|| self.bucket.get(&path)).await?;
        let filter = BloomShard::open(file).map_err(|e| Error::corrupt(path, e))?;
        Ok(filter.may_contain(id))
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
            let bytes = self.data.read(range.clone()).await?;
            let (max, size) = (self.max_trace_bytes, meta.size_bytes);
            let job = move |_: &CancelToken| {
                let mut grow = |_| Ok(());
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
        let mut steps = 0;
        // The machine borrows the footer, so that it begins anew with what was fetched; each step is small beside a read.
        loop {
            let job = {
                let (file, version) = (Arc::clone(&file), self.version);
                let (dedicated, max) = (self.meta.dedicated_columns.clone(), self.max_trace_bytes);
                let fetched = fetched.clone();
                move |_: &CancelToken| {
                    let mut lookup = TraceLookup::new(&file, version, &dedicated, id, None);
                    let mut grow = |_| Ok(());
                    let mut allowance = Allowance::new(max, &mut grow);
                    let mut step = lookup.step(&fetched, &mut allowance);
                    for _ in 0..steps {
                        if !matches!(step, Ok(LookupStep::Read(_))) {
                            break;
                        }
                        step = lookup.step(&fetched, &mut allowance);
                    }
                    Ok::<_, Error>(step)
                }
            };
            let step = self.executor.run(job, &CancelToken::new()).await?;
            match step.map_err(|e| self.failed(e))? {
                LookupStep::Found(trace) => return Ok(Some(trace)),
                LookupStep::Absent => return Ok(None),
                LookupStep::Read(ranges) => self.fetch(ranges, &mut fetched).await?,
            }
            steps += 1;
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
        self.fetch(plan.ranges(), &mut fetched).await?;
        let (version, dedicated) = (self.version, self.meta.dedicated_columns.clone());
        let job = move |_: &CancelToken| {
            let mut grow = |_| Ok(());
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

    async fn fetch(&self, mut ranges: Vec<Range<u64>>, into: &mut FetchedRanges) -> Result<()> {
        ranges.retain(|r| !r.is_empty());
        ranges.sort_by_key(|r| r.start);
        let plan = ReadPlan {
            max_gap_bytes: GAP_BYTES,
            concurrency: CONCURRENCY,
            ..ReadPlan::default()
        };
        let read = self.data.read_many(&ranges, &plan).await?;
        for (range, bytes) in ranges.iter().zip(read) {
            into.insert(range.start, bytes);
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("{}/{}/{DATA}", self.tenant, self.meta.block_id)
    }

    fn corrupt(&self, e: lgtm_core::DecodeError) -> Error {
        Error::corrupt(self.place(), e)
    }

    fn failed(&self, e: DecodeFail) -> Error {
        match e {
            DecodeFail::Broken(e) => self.corrupt(e),
            DecodeFail::Refused(e) => e,
        }
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
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(self.max_bytes, &mut grow);
        let next = self.reader.next(out, &mut allowance);
        next.map_err(|e| match e {
            DecodeFail::Broken(e) => Error::corrupt(self.place.clone(), e),
            DecodeFail::Refused(e) => e,
        })
    }
}
