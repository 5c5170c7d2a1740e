//! Writes a block into the bucket: traces in, objects out, `meta.json` last.

use lgtm_core::codec::Allowance;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{TenantId, TimestampNs};
use lgtm_core::storage::{Bucket, FolderUpload};
use lgtm_core::{Error, Result};

use super::settings::BucketSettings;
use crate::block::{
    BlockMeta, DATA, META, ROW_GROUP_INDEX, RowGroupIndex, TraceSource, block_range, bloom_name,
};
use crate::block_id::BlockId;
use crate::bloom::{BloomBuilder, BloomShape};
use crate::schema::{BlockWriter, BlockWriterSettings, WrittenBlock};
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

/// A block under way: it goes to the compute pool and comes back.
#[derive(Debug)]
struct Writing<S> {
    source: S,
    writer: Option<BlockWriter<Vec<u8>>>,
    ids: Vec<TraceId>,
    trace: Vec<u8>,
}

/// What a step brought.
enum Step {
    /// Bytes of the data.
    Part(Vec<u8>),
    /// The last bytes of it, and what was written.
    Last(Vec<u8>, WrittenBlock),
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
        let folder = format!("{tenant}/{id}");
        let mut upload = FolderUpload::new(self.bucket.clone(), folder);
        let mut settings = self.settings.writer()?;
        settings.dedicated = dedicated.clone();
        let written = self.write_into(&mut upload, (tenant, id), settings, source);
        match written.await {
            Ok(meta) => Ok(meta),
            Err(e) => {
                upload.abort().await;
                Err(e)
            }
        }
    }

    async fn write_into(
        &self,
        upload: &mut FolderUpload,
        (tenant, id): (&TenantId, BlockId),
        settings: BlockWriterSettings,
        source: impl TraceSource,
    ) -> Result<Option<BlockMeta>> {
        let executor = self.executor.in_line(tenant.as_str());
        let mut writing = Writing {
            source,
            writer: Some(BlockWriter::new(Vec::new(), settings.clone())?),
            ids: Vec::new(),
            trace: Vec::new(),
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
                Step::Last(_, written) if written.traces == 0 => return Ok(None),
                Step::Last(bytes, written) => {
                    upload.write(DATA, &bytes).await?;
                    upload.finish(DATA).await?;
                    break written;
                }
            }
        };
        let bloom_shards = self.write_bloom(upload, &executor, writing.ids).await?;
        let index = RowGroupIndex::new(written.row_group_last_ids.clone()).encode()?;
        upload.write(ROW_GROUP_INDEX, &index).await?;
        upload.finish(ROW_GROUP_INDEX).await?;
        let meta = meta(tenant, id, &written, &settings, bloom_shards);
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
                let (bytes, written) = writer.finish()?;
                return Ok(Step::Last(bytes, written));
            };
            self.ids.push(id);
            append(&mut writer, id, &self.trace)?;
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
fn append(writer: &mut BlockWriter<Vec<u8>>, id: TraceId, bytes: &[u8]) -> Result<()> {
    // What was taken in was bounded then.
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(0, &mut grow);
    let trace = Trace::decode(bytes, &mut allowance).map_err(Error::from)?;
    let mut trace = trace.without_copies();
    trace.rebatch();
    writer.append(id, &trace)
}

fn meta(
    tenant: &TenantId,
    id: BlockId,
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
        block_id: id,
        tenant_id: tenant.as_str().to_owned(),
        start,
        end,
        trace_count: written.traces,
        size_bytes: written.size_bytes,
        compaction_level: 0,
        index_page_size: 0,
        row_group_count: written.row_group_last_ids.len() as u32,
        bloom_shards,
        footer_size_bytes: written.footer_size_bytes,
        dedicated_columns: settings.dedicated.clone(),
        replication_factor: 1,
    }
}
