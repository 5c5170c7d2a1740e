//! Finished chunks on their way into the object store.
//!
//! [`Heads::begin_flush`] marks the chunks that go, [`Heads::load_some`] makes of them what a writer takes. When the index that names them is
//! listed, [`Heads::give`] begins a new generation and lets go of them: queries that begin from then on find them in the store, and for
//! those that began before they stay; with `retain_flushed` for all, a while longer. What does not get there stays too, in memory and in the log, and goes with the next flush.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TenantId};
use lgtm_core::wal::{BlobPlace, ChunkState};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::head::Head;
use super::head_chunk::{BLOB_TAG, ChunkBytes, FinishReason, HeadChunk};
use super::heads::Heads;
use super::stream::{ChunkTools, MemStream, StreamState};
use crate::chunk::{FinishedChunk, StreamChunk};
use crate::skip::MadeSkip;

/// How much of the heads goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushScope {
    /// Chunks that are finished: full, too old, or of a stream that got nothing for long.
    Complete,
    /// Everything, the open chunks too.
    All,
}

/// A finished chunk of a head that is on its way into the object store.
#[derive(Debug, Clone)]
pub struct LeavingChunk {
    head: Arc<Head>,
    stream: Arc<MemStream>,
    id: u64,
    reason: FinishReason,
}

impl LeavingChunk {
    /// Why it was finished, in the words that Loki counts flushed chunks by.
    pub fn reason(&self) -> &'static str {
        self.reason.id()
    }

    fn set_state(&self, from: ChunkState, to: ChunkState) {
        let mut state = self.stream.lock();
        if let Some(chunk) = state.finished.iter_mut().find(|c| c.id == self.id)
            && chunk.state == from
        {
            chunk.state = to;
            if to.is_moved() {
                // It is in the store with it.
                chunk.beside = None;
            }
        }
    }

    /// Takes it out of its head, when it `may` go. Gives its place in the chunk files, and whether it is still there.
    fn take_out(&self, may: impl FnOnce(&HeadChunk) -> bool, freed: &mut Vec<BlobPlace>) -> bool {
        let mut state = self.stream.lock();
        let Some(at) = state.finished.iter().position(|c| c.id == self.id) else {
            return false;
        };
        if !may(&state.finished[at]) {
            return true;
        }
        if let ChunkBytes::File(place) = state.finished.remove(at).bytes {
            freed.push(place);
        }
        false
    }
}

/// Chunks that are let go of at a time: some milliseconds of work. More than come between two rounds of maintenance.
const MAX_DROPPED: usize = 20_000;

/// Chunks that one flush has marked. Those that were not [put](Leaving::put) when it is dropped go with the next one.
#[derive(Debug)]
pub struct Leaving {
    chunks: Vec<LeavingChunk>,
    are_put: Vec<bool>,
}

impl Leaving {
    fn new(chunks: Vec<LeavingChunk>) -> Self {
        Self {
            are_put: vec![false; chunks.len()],
            chunks,
        }
    }

    /// The chunks.
    pub fn chunks(&self) -> &[LeavingChunk] {
        &self.chunks
    }

    /// Notes that the store has the chunk of a number, and hands it over: it is to be [given up](Heads::give) once an index names it.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn put(&mut self, number: usize) -> LeavingChunk {
        self.are_put[number] = true;
        self.chunks[number].clone()
    }
}

/// The chunks of a flush, with their numbers, for several who take them one after the other.
#[derive(Debug)]
pub struct LeavingQueue(Mutex<VecDeque<(usize, LeavingChunk)>>);

impl LeavingQueue {
    /// All chunks of a flush.
    pub fn new(leaving: &Leaving) -> Self {
        let chunks = leaving.chunks.iter().cloned().enumerate();
        Self(Mutex::new(chunks.collect()))
    }

    /// Whose the next chunk is.
    fn tenant(&self) -> Option<TenantId> {
        let queue = self.0.lock();
        queue.front().map(|(_, chunk)| chunk.head.tenant.clone())
    }

    /// Takes the next chunk, if it is the tenant's.
    fn next_of(&self, tenant: &TenantId) -> Option<(usize, LeavingChunk)> {
        let mut queue = self.0.lock();
        let is_own = queue.front().is_some_and(|(_, c)| c.head.tenant == *tenant);
        if is_own { queue.pop_front() } else { None }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        for (chunk, is_put) in self.chunks.iter().zip(&self.are_put) {
            if !is_put {
                chunk.set_state(ChunkState::FLUSHING, ChunkState::HELD);
            }
        }
    }
}

impl Heads {
    /// Marks all finished chunks that no flush has marked yet. Costs a look at every stream.
    ///
    /// # Errors
    /// `Unavailable` when the compute pool is gone.
    pub async fn begin_flush(self: &Arc<Self>) -> Result<Leaving> {
        let heads = Arc::clone(self);
        let job = move |_: &CancelToken| Ok::<_, Error>(Leaving::new(heads.mark_leaving()));
        // Dropped meanwhile, what it brings is dropped too, and the chunks stay.
        self.executor.run(job, &CancelToken::new()).await
    }

    fn mark_leaving(&self) -> Vec<LeavingChunk> {
        let mut leaving = Vec::new();
        for head in self.all() {
            let mut of_head = Vec::new();
            for (_, stream) in head.streams() {
                let mut state = stream.lock();
                let StreamState {
                    labels, finished, ..
                } = &mut *state;
                for chunk in finished {
                    if chunk.state == ChunkState::HELD {
                        chunk.state = ChunkState::FLUSHING;
                        let leaving = LeavingChunk {
                            head: Arc::clone(&head),
                            stream: Arc::clone(&stream),
                            id: chunk.id,
                            reason: chunk.reason,
                        };
                        of_head.push((labels.clone(), leaving));
                    }
                }
            }
            // Streams that have labels in common stand together: small chunks that share what stands beside them should be alike, and be asked for
            // by the same queries.
            of_head.sort_by(|a, b| a.0.cmp(&b.0));
            leaving.extend(of_head.into_iter().map(|(_, chunk)| chunk));
        }
        leaving
    }

    /// Takes chunks of one tenant from a queue, about `max_bytes` of them, and makes of each what `pack` makes, with what stands beside it if that
    /// was made already; all in one job of the compute pool. `None` for a chunk that cannot be read for good: its bytes are set aside, counted and
    /// logged. Nothing when the queue is empty.
    ///
    /// # Errors
    /// `Unavailable` when the compute pool is gone. Of a chunk: `Unavailable` when the disk refuses, `Internal` when a compression fails, and those of
    /// `pack`: it may be tried again.
    pub async fn load_some<T: Send + 'static>(
        &self,
        queue: &Arc<LeavingQueue>,
        max_bytes: usize,
        pack: impl Fn(StreamChunk, Option<MadeSkip>) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<(usize, Result<Option<T>>)>> {
        while let Some(tenant) = queue.tenant() {
            let executor = self.executor.in_line(tenant.as_str());
            let (queue, parts, pack) = (Arc::clone(queue), Arc::clone(&self.parts), pack.clone());
            let job = move |_: &CancelToken| {
                let (mut out, mut bytes) = (Vec::new(), 0);
                parts.with_tools(|tools| {
                    while bytes < max_bytes
                        && let Some((number, leaving)) = queue.next_of(&tenant)
                    {
                        let loaded = leaving.load(tools).and_then(|loaded| {
                            let packed = loaded.map(|(chunk, beside)| {
                                bytes += chunk.chunk.bytes.len();
                                pack(chunk, beside)
                            });
                            packed.transpose()
                        });
                        out.push((number, loaded));
                    }
                });
                Ok::<_, Error>(out)
            };
            let some = executor.run(job, &CancelToken::new()).await?;
            // Others may have taken the tenant's last ones meanwhile.
            if !some.is_empty() {
                return Ok(some);
            }
        }
        Ok(Vec::new())
    }

    /// Lets go of chunks that an index names which queries of this process know. Costs a look at each.
    pub fn give(&self, chunks: Vec<LeavingChunk>) {
        if !self.settings.retain_flushed.is_zero() {
            let stays = (self.clock.monotonic(), self.parts.generations.enter());
            self.retained.lock().push_back(stays);
        }
        let (generation, oldest) = self.parts.generations.advance();
        if oldest == generation {
            let mut freed = Vec::new();
            for chunk in &chunks {
                chunk.take_out(|_| true, &mut freed);
            }
            self.parts.files.release(&freed);
            return;
        }
        for chunk in &chunks {
            chunk.set_state(ChunkState::FLUSHING, ChunkState::moved(generation));
        }
        self.moved.lock().extend(chunks);
    }

    /// Drops the chunks that stayed for readers which are gone, and for as long as `retain_flushed` says.
    pub(super) fn drop_moved(&self) {
        let now = self.clock.monotonic();
        let is_over = |since: Duration| now.saturating_sub(since) >= self.settings.retain_flushed;
        {
            let mut retained = self.retained.lock();
            while retained.front().is_some_and(|(since, _)| is_over(*since)) {
                retained.pop_front();
            }
        }
        let oldest = self.parts.generations.oldest();
        let mut freed = Vec::new();
        let mut moved = self.moved.lock();
        // In the order in which they moved: behind the first that stays there is nothing to do.
        for _ in 0..MAX_DROPPED {
            let Some(first) = moved.front() else {
                break;
            };
            if first.take_out(|c| c.state.is_past(oldest), &mut freed) {
                break;
            }
            moved.pop_front();
        }
        drop(moved);
        self.parts.files.release(&freed);
    }
}

impl LeavingChunk {
    fn load(&self, tools: &mut ChunkTools) -> Result<Option<(StreamChunk, Option<MadeSkip>)>> {
        let parts = &self.head.parts;
        // It may wait to be put together; open blocks are left as they are.
        self.stream.tidy(u64::MAX, parts, tools)?;
        let (labels, chunk) = {
            // Index before stream, as everywhere.
            let index = self.head.index.read();
            let state = self.stream.lock();
            let Some(chunk) = state.finished.iter().find(|c| c.id == self.id) else {
                return Ok(None);
            };
            (
                Labels::from_sorted(index.pairs(&state.labels))?,
                chunk.clone(),
            )
        };
        let bytes = match &chunk.bytes {
            ChunkBytes::Memory(bytes) => bytes.clone(),
            ChunkBytes::File(place) => match parts.files.read(*place, BLOB_TAG) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == ErrorKind::Unavailable => return Err(e),
                Err(e) => {
                    if parts.files.set_aside(*place) {
                        let (min_ns, max_ns) = (chunk.min_ns, chunk.max_ns);
                        tracing::error!(tenant = %self.head.tenant, stream = %labels, %min_ns, %max_ns, error = %e, "finished chunk cannot be read; it is set aside and does not get into the object store");
                    }
                    return Ok(None);
                }
            },
            ChunkBytes::Builder(_) => {
                let what = format!("chunk of {labels} is not put together after it was");
                return Err(Error::Internal(what));
            }
        };
        let beside = chunk.beside.map(|b| b.skip.clone());
        let chunk = StreamChunk {
            tenant: self.head.tenant.clone(),
            fingerprint: self.stream.fingerprint,
            labels,
            chunk: FinishedChunk {
                bytes: bytes.into(),
                min_ns: chunk.min_ns,
                max_ns: chunk.max_ns,
                entry_count: chunk.entry_count,
                uncompressed_bytes: chunk.uncompressed_bytes,
            },
        };
        Ok(Some((chunk, beside)))
    }
}
