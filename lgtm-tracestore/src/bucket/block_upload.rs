//! Writes a block into the bucket: traces in, objects out, `meta.json` last.

use lgtm_core::codec::Allowance;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TenantId, TimestampNs};
use lgtm_core::storage::{Bucket, ExpectedObject, FolderUpload};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};

use super::settings::BucketSettings;
use crate::block::{
    BlockMeta, DATA, META, NoFeed, ROW_GROUP_INDEX, RowGroupIndex, TraceFeed, TraceSource,
    block_range, bloom_name,
};
use crate::block_id::BlockId;
use crate::bloom::{BloomBuilder, BloomShape};
use crate::schema::{BlockVersion, BlockWriter, BlockWriterSettings, WrittenBlock};
use crate::skip::{SKIP_FILE, SkipBuilder, SkipOrigin};
use crate::trace::{DedicatedColumns, Trace, TraceId};

/// Bytes that are handed to the upload at a time, about; and traces after which the pool is left to others.
const PART_BYTES: usize = 1 << 20;
const TRACES_A_STEP: usize = 256;

/// Writes blocks into a bucket.
#[derive(Debug, Clone)]
pub struct BlockUpload {
    bucket: Bucket,
    executor: Executor,
    settings: BucketSettings,
}

/// What a block is, beside what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSpec {
    /// Its name.
    pub id: BlockId,
    /// The format of its data; `None`: as the settings say.
    pub format: Option<String>,
    /// Attributes that get columns of their own.
    pub dedicated: DedicatedColumns,
    /// 0 for blocks cut from a head, else one more than the highest input.
    pub compaction_level: u32,
    /// 1 when each span is in one block only, 0 when replicas of it are in others.
    pub replication_factor: u32,
    /// About how many bytes its data will have, where that is known: they go up in two parts then, as far as twice the bucket's `upload_memory` lets.
    pub expected_bytes: Option<u64>,
}

impl BlockSpec {
    /// Of a block cut from a head.
    pub fn cut(id: BlockId, dedicated: DedicatedColumns) -> Self {
        Self {
            id,
            format: None,
            dedicated,
            compaction_level: 0,
            replication_factor: 1,
            expected_bytes: None,
        }
    }
}

/// A block under way: it goes to the compute pool and comes back.
#[derive(Debug)]
struct Writing<S> {
    source: S,
    /// Nothing comes behind what the source has.
    is_last: bool,
    writer: Option<BlockWriter<Vec<u8>>>,
    ids: Vec<TraceId>,
    trace: Vec<u8>,
    /// `None`: there is to be no side file.
    skip: Option<SkipWriting>,
}

/// The side file under way.
#[derive(Debug)]
struct SkipWriting {
    builder: SkipBuilder,
    /// Bytes that it may have for each byte of data.
    share: f64,
    groups: usize,
    bytes: u64,
}

/// What a step brought.
enum Step {
    /// Bytes of the data.
    Part(Vec<u8>),
    /// The same, and the source has ended for now.
    Drained(Vec<u8>),
    /// The last bytes of it, what was written, and the side file.
    Last(Vec<u8>, WrittenBlock, Option<Vec<u8>>),
}

impl BlockUpload {
    /// Writes into `bucket`.
    pub fn new(bucket: Bucket, executor: Executor, settings: BucketSettings) -> Self {
        Self {
            bucket,
            executor,
            settings,
        }
    }

    /// Writes the traces of a source as a block; attributes in `dedicated` get columns of their own. Copies of a span in a trace become one. Gives the block's meta; `None` when there was no trace, and
    /// nothing is written then.
    ///
    /// Memory holds a row group, the ids, and what is on its way.
    ///
    /// # Errors
    /// Those of the source; as [`Bucket`]. What was written is taken away again; with `Timeout` for `meta.json` the block may stand all the same.
    /// Dropped half way, it leaves a folder without `meta.json`, which no reader takes for a block.
    pub async fn write(
        &self,
        tenant: &TenantId,
        id: BlockId,
        dedicated: &DedicatedColumns,
        source: impl TraceSource,
    ) -> Result<Option<BlockMeta>> {
        let spec = BlockSpec::cut(id, dedicated.clone());
        self.write_fed(tenant, &spec, source, &mut NoFeed).await
    }

    /// The same of a source that is fed while it is read.
    ///
    /// # Errors
    /// As [`BlockUpload::write`]; those of the feed; `InvalidInput` for a format that is not written.
    pub async fn write_fed<S: TraceSource>(
        &self,
        tenant: &TenantId,
        spec: &BlockSpec,
        source: S,
        feed: &mut impl TraceFeed<S>,
    ) -> Result<Option<BlockMeta>> {
        let folder = format!("{tenant}/{}", spec.id);
        let mut upload = FolderUpload::new(self.bucket.clone(), folder);
        if let Some(bytes) = spec.expected_bytes {
            let memory = ByteSize::bytes(2 * self.bucket.upload_memory().as_u64());
            let expected = ExpectedObject {
                bytes,
                parts: 2,
                memory,
            };
            upload.expect(DATA, expected);
        }
        let mut settings = self.settings.writer()?;
        if let Some(format) = &spec.format {
            settings.version = BlockVersion::of_name(format)?;
        }
        settings.dedicated = spec.dedicated.clone();
        let written = self.write_into(&mut upload, (tenant, spec), settings, (source, feed));
        match written.await {
            Ok(meta) => Ok(meta),
            Err(e) => {
                upload.abort().await;
                Err(e)
            }
        }
    }

    async fn write_into<S: TraceSource>(
        &self,
        upload: &mut FolderUpload,
        (tenant, spec): (&TenantId, &BlockSpec),
        settings: BlockWriterSettings,
        (source, feed): (S, &mut impl TraceFeed<S>),
    ) -> Result<Option<BlockMeta>> {
        let executor = self.executor.in_line(tenant.as_str());
        let mut writing = Writing {
            source,
            is_last: false,
            writer: Some(BlockWriter::new(Vec::new(), settings.clone())?),
            ids: Vec::new(),
            trace: Vec::new(),
            skip: SkipWriting::new(self.settings.side_file_max_percent),
        };
        let written = loop {
            let job = move |cancel: &CancelToken| {
                let step = writing.step(cancel)?;
                Ok::<_, Error>((writing, step))
            };
            let step;
            (writing, step) = executor.run(job, &CancelToken::new()).await?;
            match step {
                Step::Part(bytes) if bytes.is_empty() => {}
                Step::Part(bytes) => upload.write(DATA, &bytes).await?,
                Step::Drained(bytes) => {
                    if !bytes.is_empty() {
                        upload.write(DATA, &bytes).await?;
                    }
                    writing.is_last = !feed.refill(&mut writing.source).await?;
                }
                Step::Last(_, written, _) if written.traces == 0 => return Ok(None),
                Step::Last(bytes, written, skip) => {
                    upload.write(DATA, &bytes).await?;
                    upload.finish(DATA).await?;
                    if let Some(file) = skip {
                        // It is in memory, and so goes up in one request.
                        let expected = ExpectedObject {
                            bytes: file.len() as u64,
                            parts: 1,
                            memory: ByteSize::bytes(4 * file.len() as u64),
                        };
                        upload.expect(SKIP_FILE, expected);
                        upload.write(SKIP_FILE, &file).await?;
                        upload.finish(SKIP_FILE).await?;
                    }
                    break written;
                }
            }
        };
        let bloom_shards = self.write_bloom(upload, &executor, writing.ids).await?;
        let index = RowGroupIndex::new(written.row_group_last_ids.clone()).encode()?;
        upload.write(ROW_GROUP_INDEX, &index).await?;
        upload.finish(ROW_GROUP_INDEX).await?;
        let meta = meta(tenant, spec, &written, &settings, bloom_shards);
        upload.publish(META, meta.encode()?).await?;
        Ok(Some(meta))
    }

    async fn write_bloom(
        &self,
        upload: &mut FolderUpload,
        executor: &Executor,
        ids: Vec<TraceId>,
    ) -> Result<u32> {
        let shape = BloomShape::for_traces(ids.len() as u64, self.settings.bloom());
        let job = move |_: &CancelToken| {
            let mut builder = BloomBuilder::new(shape);
            ids.iter().for_each(|id| builder.insert(*id));
            Ok::<_, Error>(builder)
        };
        let builder = executor.run(job, &CancelToken::new()).await?;
        let mut file = Vec::new();
        for shard in 0..shape.shards {
            file.clear();
            builder.encode_shard(shard, &mut file);
            let name = bloom_name(shard);
            upload.write(&name, &file).await?;
            upload.finish(&name).await?;
        }
        Ok(shape.shards)
    }
}

impl<S: TraceSource> Writing<S> {
    /// Goes on until there is a part to be sent, or for a while.
    fn step(&mut self, cancel: &CancelToken) -> Result<Step> {
        let Some(mut writer) = self.writer.take() else {
            return Err(Error::Internal("a block that is finished goes on".into()));
        };
        for _ in 0..TRACES_A_STEP {
            cancel.check("the writing of a block")?;
            self.trace.clear();
            let Some(id) = self.source.next_trace(&mut self.trace)? else {
                if self.is_last {
                    let (bytes, written) = writer.finish()?;
                    let skip = self.skip.take().map(|skip| skip.finish(&written));
                    return Ok(Step::Last(bytes, written, skip.transpose()?.flatten()));
                }
                let part = std::mem::take(writer.sink_mut());
                self.writer = Some(writer);
                return Ok(Step::Drained(part));
            };
            self.ids.push(id);
            append(&mut writer, self.skip.as_mut(), id, &self.trace)?;
            if writer.sink_mut().len() >= PART_BYTES {
                break;
            }
        }
        let part = std::mem::take(writer.sink_mut());
        self.writer = Some(writer);
        Ok(Step::Part(part))
    }
}

/// Appends a trace whose parts stand one after the other.
fn append(
    writer: &mut BlockWriter<Vec<u8>>,
    skip: Option<&mut SkipWriting>,
    id: TraceId,
    bytes: &[u8],
) -> Result<()> {
    // What was taken in was bounded then.
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(0, &mut grow);
    let trace = Trace::decode(bytes, &mut allowance).map_err(Error::from)?;
    let mut trace = trace.without_copies();
    trace.rebatch();
    writer.append(id, &trace)?;
    if let Some(skip) = skip {
        skip.builder.add(&trace);
        skip.look_at(
            writer.written().row_group_last_ids.len(),
            writer.bytes_written(),
        );
    }
    Ok(())
}

impl SkipWriting {
    fn new(max_percent: f64) -> Option<Self> {
        (max_percent > 0.0).then(|| Self {
            builder: SkipBuilder::default(),
            share: max_percent / 100.0,
            groups: 0,
            bytes: 0,
        })
    }

    /// Ends a row group where the writer has, which then has so many, in so many bytes.
    fn look_at(&mut self, groups: usize, bytes: u64) {
        if groups > self.groups {
            let of_group = bytes.saturating_sub(self.bytes) as f64;
            // The rest is for names and their values.
            self.builder
                .end_group((of_group * self.share * 0.7) as usize);
            (self.groups, self.bytes) = (groups, bytes);
        }
    }

    fn finish(mut self, written: &WrittenBlock) -> Result<Option<Vec<u8>>> {
        self.look_at(written.row_group_last_ids.len(), written.size_bytes);
        let origin = SkipOrigin {
            size_bytes: written.size_bytes,
            footer_size_bytes: written.footer_size_bytes,
            traces: written.traces,
        };
        let max_bytes = (written.size_bytes as f64 * self.share) as usize;
        self.builder.finish(origin, max_bytes)
    }
}

fn meta(
    tenant: &TenantId,
    spec: &BlockSpec,
    written: &WrittenBlock,
    settings: &BlockWriterSettings,
    bloom_shards: u32,
) -> BlockMeta {
    let time = |ns: u64| TimestampNs::new(i64::try_from(ns).unwrap_or(i64::MAX));
    let (start, end) = block_range(
        time(written.start_ns),
        time(written.end_ns.max(written.start_ns)),
    );
    BlockMeta {
        format: settings.version.as_str().to_owned(),
        block_id: spec.id,
        tenant_id: tenant.as_str().to_owned(),
        start,
        end,
        trace_count: written.traces,
        size_bytes: written.size_bytes,
        compaction_level: spec.compaction_level,
        index_page_size: 0,
        row_group_count: written.row_group_last_ids.len() as u32,
        bloom_shards,
        footer_size_bytes: written.footer_size_bytes,
        dedicated_columns: settings.dedicated.clone(),
        replication_factor: spec.replication_factor,
    }
}
