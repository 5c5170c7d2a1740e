//! Makes new blocks of several, streaming: windows of the inputs go in, parts of uploads come out.

use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use lgtm_core::exec::{CancelToken, Executor, TaskGroup, TaskHandle};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::TenantId;
use lgtm_core::storage::Bucket;
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};

use super::block_input::BlockInput;
use super::plan::{CompactionJob, CompactionStage};
use super::series_merge::{MergedSeriesChunks, SeriesMerge, SeriesWindow};
use super::shards::{ShardSymbols, shard_of};
use super::symbol_merge::SymbolMerge;
use crate::block::{
    BlockMeta, BlockWriter, BlockWriterSettings, ExpectedBlock, MetaInput, ThanosMeta,
};
use crate::block_id::BlockId;
use crate::chunk::Chunk;
use crate::index::IndexEncoderSettings;

/// Blocks that are opened at the same time.
const OPEN_CONCURRENCY: usize = 8;
/// Series that are merged in one job of the pool: some milliseconds.
const FILL_SERIES: usize = 1024;
/// A window of a block is not less and not more, so that reads pay and memory is for something.
const MIN_WINDOW_BYTES: u64 = 64 << 10;
const MAX_WINDOW_BYTES: u64 = 4 << 20;
/// Bounds of a merge.
#[derive(Debug, Clone)]
pub struct MergeSettings {
    /// Memory for what is read of the inputs and not yet written. Of each input two windows are in it.
    pub max_read_memory: ByteSize,
    /// Memory for the symbols of the new block, and four bytes for each of those of the inputs.
    pub max_symbols_memory: ByteSize,
    /// Memory for the postings of the new blocks; beyond it they go to `folder`.
    pub max_postings_memory: ByteSize,
    /// A local folder for what takes more, made where there is none. Its files have no names once they are open.
    pub folder: Option<PathBuf>,
}

/// Why blocks could not be merged.
#[derive(Debug)]
pub struct MergeError {
    /// The block in which the fault was found, if it was in one.
    pub input: Option<BlockId>,
    /// The fault.
    pub error: Error,
}

impl From<Error> for MergeError {
    fn from(error: Error) -> Self {
        Self { input: None, error }
    }
}

/// About how many bytes of chunks and index each of `count` blocks has that are made of these, and `count`.
fn expected(inputs: &[BlockInput], count: usize) -> ((u64, u64), usize) {
    let count = count.max(1);
    let sizes = inputs.iter().map(BlockInput::sizes);
    let (chunks, index) = sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    ((chunks / count as u64, index / count as u64), count)
}

/// What a merge has made.
#[derive(Debug, Default)]
pub struct MergeReport {
    /// The new blocks, which are in the bucket: one, of a split one for each shard that has series; none when nothing was left.
    pub blocks: Vec<BlockMeta>,
    /// Chunks that were taken as they were.
    pub passed_chunks: u64,
    /// Chunks that were equal to another.
    pub dropped_chunks: u64,
    /// Chunks that overlapped others and were encoded anew.
    pub decoded_chunks: u64,
}

/// Makes new blocks of several in one bucket. See [`BlockMerge::run`].
#[derive(Debug)]
pub struct BlockMerge {
    bucket: Bucket,
    executor: Executor,
    settings: MergeSettings,
}

/// What a merge makes: for whom, of what, into how many shards (of a split).
#[derive(Debug, Clone, Copy)]
pub struct MergeTask<'a> {
    /// Whose blocks they are.
    pub tenant: &'a TenantId,
    /// The blocks.
    pub job: &'a CompactionJob,
    /// Shards that a split makes.
    pub shard_count: u32,
}

impl BlockMerge {
    /// Reads from and writes to `bucket`; `executor` computes.
    pub fn new(bucket: Bucket, executor: Executor, settings: MergeSettings) -> Self {
        let executor = executor.in_line("metrics-compactor");
        Self {
            bucket,
            executor,
            settings,
        }
    }

    /// Makes the new blocks of a job. They appear whole, and when all series were read; the old ones stay.
    ///
    /// Memory is what the settings say, four bytes a series and input, and the parts of uploads under way, for which all new blocks together have the
    /// bucket's `upload_memory` (but two of the least parts that S3 takes for each). Of a series all chunks are in memory at once.
    ///
    /// # Errors
    /// With the input that is damaged; `LimitExceeded` naming a setting; those of the store; `Cancelled`. Nothing new is left then, but for
    /// whole blocks of some shards when the last step of a split fails.
    pub async fn run(
        &self,
        task: MergeTask<'_>,
        new_id: &(dyn Fn() -> BlockId + Sync),
        cancel: &CancelToken,
    ) -> Result<MergeReport, MergeError> {
        if let Some(folder) = self.settings.folder.clone() {
            let make = move || {
                std::fs::create_dir_all(&folder)
                    .map_err(|e| Error::Unavailable(format!("folder {}: {e}", folder.display())))
            };
            self.executor.run_blocking(make).await?;
        }
        let mut inputs = self.open(task).await?;
        let symbols = self.merge_symbols(task, &mut inputs, cancel).await?;
        let outputs = self.outputs(task, &mut inputs, symbols, new_id, cancel);
        let outputs = outputs.await?;
        let feeds = Feeds::new(self.executor.task_group(), inputs);
        let mut state = MergeState {
            merge: SeriesMerge::new(task.job.inputs.len()),
            outputs,
            series: MergedSeriesChunks::default(),
        };
        if let Err(e) = self.merge_series(task, feeds, &mut state, cancel).await {
            state.outputs.abort().await;
            return Err(e);
        }
        let counts = state.merge.counts();
        Ok(MergeReport {
            blocks: state.outputs.finish(task.job).await?,
            passed_chunks: counts.passed,
            dropped_chunks: counts.dropped,
            decoded_chunks: counts.decoded,
        })
    }

    async fn open(&self, task: MergeTask<'_>) -> Result<Vec<BlockInput>, MergeError> {
        let inputs = &task.job.inputs;
        let share = self.settings.max_read_memory.as_u64() / (2 * inputs.len().max(1)) as u64;
        let window_bytes = share.clamp(MIN_WINDOW_BYTES, MAX_WINDOW_BYTES);
        let open = inputs.clone().into_iter().map(|meta| async move {
            let opened = BlockInput::open(&self.bucket, task.tenant, &meta, window_bytes).await;
            opened.map_err(|error| MergeError {
                input: Some(meta.ulid),
                error,
            })
        });
        let opened = futures::stream::iter(open).buffered(OPEN_CONCURRENCY);
        opened.try_collect().await
    }

    /// The symbols of all inputs, and to each input where its own are among them.
    async fn merge_symbols(
        &self,
        task: MergeTask<'_>,
        inputs: &mut [BlockInput],
        cancel: &CancelToken,
    ) -> Result<SymbolTable, MergeError> {
        let max_bytes = self.settings.max_symbols_memory.as_u64();
        let mut merge = SymbolMerge::new(inputs.len(), max_bytes)?;
        let mut streams: Vec<_> = inputs.iter().map(BlockInput::symbol_stream).collect();
        loop {
            cancel.check("compaction")?;
            let mut is_fed = false;
            while let Some(n) = merge.starved() {
                let piece = inputs[n].next_symbols(&mut streams[n]).await;
                merge.feed(n, piece.map_err(|e| in_input(task, n, e))?);
                is_fed = true;
            }
            if !is_fed {
                break;
            }
            let advance = move |_: &CancelToken| merge.advance().map(|()| merge);
            merge = self.executor.run(advance, cancel).await?;
        }
        let (symbols, maps) = merge.finish();
        for (input, map) in inputs.iter_mut().zip(maps) {
            input.map_symbols(map);
        }
        Ok(symbols)
    }

    /// The writers of the new blocks.
    async fn outputs(
        &self,
        task: MergeTask<'_>,
        inputs: &mut [BlockInput],
        symbols: SymbolTable,
        new_id: &(dyn Fn() -> BlockId + Sync),
        cancel: &CancelToken,
    ) -> Result<Outputs, MergeError> {
        if task.job.stage == CompactionStage::Merge {
            let shard = task.job.shard.clone();
            let output = Output {
                writer: self.writer(task, new_id(), symbols, expected(inputs, 1))?,
                shard,
                map: None,
            };
            return Ok(Outputs {
                symbols: None,
                outputs: vec![Some(output)],
            });
        }
        let symbols = Arc::new(symbols);
        let mut used = ShardSymbols::new(task.shard_count, &symbols);
        for (n, input) in inputs.iter_mut().enumerate() {
            loop {
                cancel.check("compaction")?;
                let labels = input.next_labels().await;
                let Some(window) = labels.map_err(|e| in_input(task, n, e))? else {
                    break;
                };
                let table = Arc::clone(&symbols);
                let note = move |_: &CancelToken| {
                    used.note(&window, &table);
                    Ok::<_, Error>(used)
                };
                used = self.executor.run(note, cancel).await?;
            }
            input.rewind();
        }
        let table = Arc::clone(&symbols);
        let tables = move |_: &CancelToken| used.tables(&table);
        let tables = self.executor.run(tables, cancel).await?;
        let writers = tables.iter().flatten().count();
        let mut outputs = Vec::with_capacity(tables.len());
        for (n, table) in tables.into_iter().enumerate() {
            outputs.push(match table {
                Some(table) => Some(Output {
                    writer: self.writer(
                        task,
                        new_id(),
                        table.symbols,
                        expected(inputs, writers),
                    )?,
                    shard: format!("{}_of_{}", n + 1, task.shard_count),
                    map: Some(table.map),
                }),
                None => None,
            });
        }
        Ok(Outputs {
            symbols: Some(symbols),
            outputs,
        })
    }

    /// One of `count` writers.
    fn writer(
        &self,
        task: MergeTask<'_>,
        id: BlockId,
        symbols: SymbolTable,
        ((chunk_bytes, index_bytes), count): ((u64, u64), usize),
    ) -> Result<BlockWriter> {
        let memory = self.bucket.upload_memory().as_u64() / count as u64;
        let mut settings = BlockWriterSettings {
            index: IndexEncoderSettings {
                max_postings_memory_bytes: self.settings.max_postings_memory.as_usize() / count,
                scratch_dir: self.settings.folder.clone(),
            },
            expected: Some(ExpectedBlock {
                chunk_bytes,
                index_bytes,
                memory: ByteSize::bytes(memory),
            }),
            ..BlockWriterSettings::default()
        };
        settings.flush_bytes /= count;
        BlockWriter::new(self.bucket.clone(), task.tenant, id, symbols, settings)
    }

    async fn merge_series(
        &self,
        task: MergeTask<'_>,
        mut feeds: Feeds,
        state: &mut MergeState,
        cancel: &CancelToken,
    ) -> Result<(), MergeError> {
        loop {
            cancel.check("compaction")?;
            let starved: Vec<usize> = state.merge.starved().collect();
            for n in starved {
                let window = feeds.next(n).await.map_err(|e| in_input(task, n, e))?;
                state.merge.feed(n, window);
            }
            let mut moved = std::mem::replace(state, MergeState::empty());
            let fill = move |_: &CancelToken| {
                let filled = moved.fill();
                Ok::<_, Error>((moved, filled))
            };
            // It is not cancelled, since the writers would go with it; it is short.
            let (moved, filled) = self.executor.run(fill, &CancelToken::new()).await?;
            *state = moved;
            match filled {
                Ok(Filled::Some) => state.outputs.flush().await?,
                Ok(Filled::All) => return Ok(()),
                Err((Some(n), e)) => return Err(in_input(task, n, e)),
                Err((None, e)) => return Err(e.into()),
            }
        }
    }
}

fn in_input(task: MergeTask<'_>, number: usize, error: Error) -> MergeError {
    MergeError {
        input: task.job.inputs.get(number).map(|m| m.ulid),
        error,
    }
}

/// Windows of all inputs, each read while the one before is worked on.
struct Feeds {
    inputs: Vec<Feed>,
    /// Ends what is still read when this is dropped.
    tasks: TaskGroup,
}

type ReadWindow = (BlockInput, Result<Option<SeriesWindow>>);

enum Feed {
    Reading(TaskHandle<ReadWindow>),
    End,
}

impl Feeds {
    fn new(tasks: TaskGroup, inputs: Vec<BlockInput>) -> Self {
        let mut feeds = Self {
            inputs: Vec::with_capacity(inputs.len()),
            tasks,
        };
        for input in inputs {
            let reading = feeds.read(input);
            feeds.inputs.push(reading);
        }
        feeds
    }

    fn read(&self, mut input: BlockInput) -> Feed {
        let read = async move {
            let window = input.next_window().await;
            (input, window)
        };
        Feed::Reading(self.tasks.spawn("block-window", read))
    }

    /// The next window of an input.
    async fn next(&mut self, number: usize) -> Result<Option<SeriesWindow>> {
        let reading = std::mem::replace(&mut self.inputs[number], Feed::End);
        let Feed::Reading(reading) = reading else {
            return Ok(None);
        };
        let (input, window) = reading.await?;
        let window = window?;
        if window.is_some() {
            self.inputs[number] = self.read(input);
        }
        Ok(window)
    }
}

/// What goes to the pool and comes back.
struct MergeState {
    merge: SeriesMerge,
    outputs: Outputs,
    series: MergedSeriesChunks,
}

/// How far a job came.
enum Filled {
    /// There is more to be fed, sent or merged.
    Some,
    /// All series are in the writers.
    All,
}

impl MergeState {
    fn empty() -> Self {
        Self {
            merge: SeriesMerge::new(0),
            outputs: Outputs {
                symbols: None,
                outputs: Vec::new(),
            },
            series: MergedSeriesChunks::default(),
        }
    }

    /// Merges some series; an error with the number of its input, if it is of one.
    fn fill(&mut self) -> Result<Filled, (Option<usize>, Error)> {
        for _ in 0..FILL_SERIES {
            let next = self.merge.next_series(&mut self.series);
            let is_there = next.map_err(|(n, e)| {
                let place = format!("chunks of input {n}");
                (Some(n), Error::corrupt(place, e))
            })?;
            if !is_there {
                let is_end = self.merge.starved().next().is_none();
                return Ok(if is_end { Filled::All } else { Filled::Some });
            }
            let wants_flush = self.outputs.add(&self.series).map_err(|e| (None, e))?;
            if wants_flush {
                break;
            }
        }
        Ok(Filled::Some)
    }
}

/// A new block.
struct Output {
    writer: BlockWriter,
    shard: String,
    /// Where the symbols of all shards are in this one's table; `None`: where they are.
    map: Option<Vec<u32>>,
}

/// The new blocks.
struct Outputs {
    /// Of all shards; `None` where series are not split.
    symbols: Option<Arc<SymbolTable>>,
    /// By shard.
    outputs: Vec<Option<Output>>,
}

impl Outputs {
    /// Adds a series to the block that it belongs to; whether that wants to be flushed.
    fn add(&mut self, series: &MergedSeriesChunks) -> Result<bool> {
        if series.chunks.is_empty() {
            return Ok(false);
        }
        let shard = match &self.symbols {
            Some(symbols) => shard_of(&series.labels, symbols, self.outputs.len() as u32),
            None => 0,
        };
        let Some(Some(output)) = self.outputs.get_mut(shard) else {
            return Err(Error::Internal(format!("shard {shard} has no block")));
        };
        let chunks: Vec<_> = series.chunks.iter().map(Chunk::borrowed).collect();
        match &output.map {
            Some(map) => {
                let mapped = series.labels.iter();
                let mapped = mapped.map(|&(n, v)| (map[n as usize], map[v as usize]));
                let mapped: Vec<_> = mapped.collect();
                output.writer.add_series(&mapped, &chunks)?;
            }
            None => output.writer.add_series(&series.labels, &chunks)?,
        }
        Ok(output.writer.wants_flush())
    }

    async fn flush(&mut self) -> Result<()> {
        for output in self.outputs.iter_mut().flatten() {
            if output.writer.wants_flush() {
                output.writer.flush_pending().await?;
            }
        }
        Ok(())
    }

    async fn abort(self) {
        for output in self.outputs.into_iter().flatten() {
            output.writer.abort().await;
        }
    }

    /// Completes all blocks; one without samples is none.
    async fn finish(self, job: &CompactionJob) -> Result<Vec<BlockMeta>> {
        let (range, compaction) = (job.time_range(), job.compaction());
        let mut made = Vec::new();
        let mut outputs = self.outputs.into_iter().flatten();
        while let Some(output) = outputs.next() {
            let mut labels = job.external_labels();
            if !output.shard.is_empty() {
                labels.insert(ThanosMeta::SHARD_LABEL.to_owned(), output.shard);
            }
            let input = MetaInput {
                min_ms: range.min_ms,
                max_ms: range.max_ms,
                level: compaction.level,
                sources: compaction.sources.clone(),
                parents: compaction.parents.clone(),
                hints: compaction.hints.clone(),
                thanos: Some(ThanosMeta::new("compactor", labels)),
            };
            match output.writer.finish(input).await {
                Ok(meta) => made.extend(meta),
                Err(e) => {
                    for rest in outputs {
                        rest.writer.abort().await;
                    }
                    return Err(e);
                }
            }
        }
        Ok(made)
    }
}
