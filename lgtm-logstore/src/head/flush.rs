//! Finished chunks on their way into the object store.
//!
//! [`Heads::begin_flush`] marks the chunks that go, [`Heads::load`] makes each what a writer takes. When the index that names them is
//! listed, [`Heads::give`] begins a new generation and lets go of them: queries that begin from then on find them in the store, and for
//! those that began before they stay. What does not get there stays too, in memory and in the log, and goes with the next flush.

use std::sync::Arc;

use lgtm_core::exec::CancelToken;
use lgtm_core::model::Labels;
use lgtm_core::wal::{BlobPlace, ChunkState};
use lgtm_core::{Error, ErrorKind, Result};

use super::head::Head;
use super::head_chunk::{BLOB_TAG, ChunkBytes, FinishReason, HeadChunk};
use super::heads::Heads;
use super::stream::{ChunkTools, MemStream};
use crate::chunk::{FinishedChunk, StreamChunk};

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
            for (_, stream) in head.streams() {
                let mut state = stream.lock();
                for chunk in &mut state.finished {
                    if chunk.state == ChunkState::HELD {
                        chunk.state = ChunkState::FLUSHING;
                        leaving.push(LeavingChunk {
                            head: Arc::clone(&head),
                            stream: Arc::clone(&stream),
                            id: chunk.id,
                            reason: chunk.reason,
                        });
                    }
                }
            }
        }
        leaving
    }

    /// A chunk as a writer takes it; `None` when it cannot be read for good: its bytes are set aside, counted and logged.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses, `Internal` when a compression fails: it may be tried again.
    pub async fn load(&self, leaving: &LeavingChunk) -> Result<Option<StreamChunk>> {
        let (leaving, parts) = (leaving.clone(), Arc::clone(&self.parts));
        let executor = self.executor.in_line(leaving.head.tenant.as_str());
        let job = move |_: &CancelToken| parts.with_tools(|tools| leaving.load(tools));
        executor.run(job, &CancelToken::new()).await
    }

    /// Lets go of chunks that an index names which queries of this process know. Costs a look at each.
    pub fn give(&self, chunks: Vec<LeavingChunk>) {
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

    /// Drops the chunks that stayed for readers which are gone.
    pub(super) fn drop_moved(&self) {
        let oldest = self.parts.generations.oldest();
        let mut freed = Vec::new();
        let mut moved = self.moved.lock();
        moved.retain(|chunk| chunk.take_out(|c| c.state.is_past(oldest), &mut freed));
        drop(moved);
        self.parts.files.release(&freed);
    }
}

impl LeavingChunk {
    fn load(&self, tools: &mut ChunkTools) -> Result<Option<StreamChunk>> {
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
        Ok(Some(StreamChunk {
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
        }))
    }
}
