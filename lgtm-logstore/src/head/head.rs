//! The head of one tenant: everything that is not in the object store yet.
//!
//! Streams are found by the hash of their canonical labels ([`RefCache`]), and by their labels ([`MemPostings`]). What a push adds goes into the
//! open chunk of each stream, then as one record into the log; the caller answers its sender after the log's commit.
//!
//! Entries are in memory before their record is in the log. A checkpoint, which cuts the log first and walks memory afterwards, therefore
//! misses nothing; and since entries are numbered in their stream, replay knows which of those behind the cut the checkpoint has already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use lgtm_core::Result;
use lgtm_core::exec::in_place;
use lgtm_core::limits::GlobalLimits;
use lgtm_core::model::{Labels, METRIC_NAME, TenantId, TimestampNs};
use lgtm_core::postings::{MemPostings, RefCache, SeriesId};
use lgtm_core::wal::{BlobFiles, Generations};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::capacity::HeadCapacity;
use super::open_chunk::{OpenChunk, SideParts};
use super::stream::{ChunkTools, MemStream, SyncRule};
use crate::chunk::{ChunkBuilder, ChunkFormat, ChunkSettings};
use crate::limits::{Limits, PushRule};
use crate::schema::SchemaPeriods;
use crate::wire::StreamLabels;

/// What all heads of a process share.
#[derive(Debug)]
pub(super) struct HeadParts {
    pub(super) files: BlobFiles,
    pub(super) chunk_settings: Arc<ChunkSettings>,
    pub(super) schema: SchemaPeriods,
    pub(super) sync: SyncRule,
    pub(super) capacity: HeadCapacity,
    pub(super) generations: Arc<Generations>,
    pub(super) chunk_ids: AtomicU64,
    /// No stream that was forgotten had numbered an entry as high as this.
    pub(super) sequence_floor: AtomicU64,
    /// Kept from job to job.
    pub(super) tools: Mutex<Vec<ChunkTools>>,
    /// How side files are made beside chunks, if they are.
    pub(super) sides: Option<SideParts>,
    /// What of the limits for all ingesters together this one may take; all without it.
    pub(super) global: Option<Arc<dyn GlobalLimits>>,
    /// While the log is read back nothing is made beside chunks: that would make a start slower, and many of them are in the log only.
    pub(super) is_replaying: AtomicBool,
}

impl HeadParts {
    /// An empty chunk in the format of the period that `t_ns` is in.
    pub(super) fn new_chunk(&self, t_ns: TimestampNs) -> OpenChunk {
        let schema = self.schema.at(t_ns.to_ms()).schema;
        let format = ChunkFormat::new(schema.chunk_version());
        let format = format.expect("schemas name versions that there are");
        let builder = ChunkBuilder::new(format, Arc::clone(&self.chunk_settings));
        match self.side_parts() {
            Some(sides) if !self.is_replaying.load(Ordering::Relaxed) => {
                OpenChunk::beside(builder, &sides.settings)
            }
            _ => OpenChunk::alone(builder),
        }
    }

    /// How side files are made.
    pub(super) fn side_parts(&self) -> Option<&SideParts> {
        let sides = self.sides.as_ref();
        sides.filter(|s| s.settings.max_size_percent > 0)
    }

    /// Runs `job` with what making chunks needs.
    pub(super) fn with_tools<T>(&self, job: impl FnOnce(&mut ChunkTools) -> T) -> T {
        let kept = self.tools.lock().pop();
        let mut tools = kept.unwrap_or_else(|| ChunkTools::new(&self.chunk_settings));
        let done = job(&mut tools);
        self.tools.lock().push(tools);
        done
    }

    pub(super) fn next_chunk_id(&self) -> u64 {
        self.chunk_ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// Whether the bounds of tenant and process count for a new stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bounds<'a> {
    /// They do.
    Kept(&'a Limits),
    /// They do not: in a replay, where each stream was taken once.
    Passed,
}

/// Why a stream was not made.
pub(super) type Refusal = (PushRule, String);

/// The streams of a head by their ids.
type StreamSlots = Vec<Option<Arc<MemStream>>>;

/// The head of one tenant.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) tenant: TenantId,
    pub(super) parts: Arc<HeadParts>,
    /// Held for reading from the moment that entries go into memory until their record is in the log's buffer. Who takes it for writing
    /// knows that the log has, or will write before anything later, all that memory has.
    gate: RwLock<()>,
    refs: RwLock<RefCache>,
    pub(super) index: RwLock<MemPostings>,
    streams: RwLock<StreamSlots>,
    /// Entries taken since the head was made.
    pub(super) appended: AtomicU64,
    /// Seconds on the host's clock when something was last appended.
    pub(super) touched_s: AtomicU32,
}

impl Head {
    pub(super) fn new(tenant: TenantId, parts: Arc<HeadParts>, seed: u64) -> Self {
        Self {
            tenant,
            parts,
            gate: RwLock::default(),
            refs: RwLock::new(RefCache::new(seed)),
            index: RwLock::default(),
            streams: RwLock::default(),
            appended: AtomicU64::new(0),
            touched_s: AtomicU32::new(0),
        }
    }

    /// Held while entries go into memory and their record into the log's buffer.
    pub(super) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        let gate = self.gate.try_read();
        gate.unwrap_or_else(|| in_place(|| self.gate.read()))
    }

    /// Waits until all entries that are in memory now have their record in the log's buffer.
    pub(super) fn settle(&self) {
        match self.gate.try_write() {
            Some(_) => {}
            None => in_place(|| drop(self.gate.write())),
        }
    }

    /// The stream with an id, while it is not forgotten.
    pub(super) fn stream(&self, id: SeriesId) -> Option<Arc<MemStream>> {
        self.streams.read().get(id as usize).cloned().flatten()
    }

    /// All streams with their ids.
    pub(super) fn streams(&self) -> Vec<(SeriesId, Arc<MemStream>)> {
        let streams = self.streams.read();
        let numbered = streams.iter().enumerate();
        numbered
            .filter_map(|(n, s)| Some((n as SeriesId, s.clone()?)))
            .collect()
    }

    /// The stream of labels in canonical form, if it is known. `guess` is looked at first; gives the id.
    pub(super) fn find(&self, canonical: &[u8], guess: SeriesId) -> Option<SeriesId> {
        let refs = self.refs.read();
        refs.find(refs.key(canonical), guess)
    }

    /// The stream of labels, made if need be.
    ///
    /// # Errors
    /// `Err(refusal)` inside `Ok` when a limit forbids another stream; `LimitExceeded` when symbols or ids run out; `InvalidInput` for labels
    /// of which one stands twice.
    pub(super) fn get_or_create(
        &self,
        labels: StreamLabels<'_>,
        bounds: Bounds<'_>,
    ) -> Result<Result<(SeriesId, Arc<MemStream>), Refusal>> {
        let index = self.index.try_write();
        let mut index = index.unwrap_or_else(|| in_place(|| self.index.write()));
        let (key, known) = {
            let refs = self.refs.read();
            let key = refs.key(labels.as_bytes());
            (key, refs.find(key, 0))
        };
        if let Some(stream) = known.and_then(|id| Some((id, self.stream(id)?))) {
            return Ok(Ok(stream));
        }
        if let Bounds::Kept(limits) = bounds {
            let count = index.series_count() as u64;
            let global = limits.max_global_streams_per_user;
            let max = match &self.parts.global {
                Some(all) if global > 0 => {
                    all.local(global, limits.ingestion_tenant_shard_size).max(1)
                }
                _ => global,
            };
            if max > 0 && count >= max {
                return Ok(Err((PushRule::StreamLimit, String::new())));
            }
            if let Err(refusal) = self.parts.capacity.check_streams(count) {
                return Ok(Err(refusal));
            }
        }
        // The name that metrics have is not part of a stream's fingerprint.
        let hashed = labels.iter().filter(|(name, _)| *name != METRIC_NAME);
        let fingerprint = Labels::from_sorted(hashed)?.stable_hash();
        let (id, symbols) = index.add(labels.iter())?;
        let sequence = self.parts.sequence_floor.load(Ordering::Acquire);
        let stream = Arc::new(MemStream::new(symbols, fingerprint, sequence));
        let mut streams = self.streams.write();
        if streams.len() <= id as usize {
            streams.resize(id as usize + 1, None);
        }
        streams[id as usize] = Some(Arc::clone(&stream));
        drop(streams);
        self.refs.write().insert(key, id);
        self.parts.capacity.stream_made();
        Ok(Ok((id, stream)))
    }

    /// Number of streams.
    pub(super) fn stream_count(&self) -> usize {
        self.index.read().series_count()
    }

    /// Forgets streams that hold nothing and were not written to since `before_s`. Gives how many.
    pub(super) fn forget_idle(&self, before_s: u32) -> usize {
        let idle: Vec<SeriesId> = (self.streams().iter())
            .filter(|(_, stream)| {
                let state = stream.lock();
                state.is_empty() && state.touched_s < before_s
            })
            .map(|(id, _)| *id)
            .collect();
        if idle.is_empty() {
            return 0;
        }
        let mut index = self.index.write();
        let mut refs = self.refs.write();
        let mut streams = self.streams.write();
        let (mut dead, mut labels_of) = (Vec::new(), hashbrown::HashMap::new());
        for id in idle {
            let Some(stream) = streams.get(id as usize).cloned().flatten() else {
                continue;
            };
            let mut state = stream.lock();
            if !state.is_empty() || state.touched_s >= before_s {
                continue;
            }
            state.is_gone = true;
            // A stream of the same labels that comes later numbers its entries on from here, so that nobody takes them for these.
            (self.parts.sequence_floor).fetch_max(state.sequence, Ordering::AcqRel);
            labels_of.insert(id, std::mem::take(&mut state.labels));
            refs.remove(id);
            streams[id as usize] = None;
            dead.push(id);
        }
        index.remove(&dead, &labels_of);
        drop(refs);
        (self.parts.capacity).streams_forgotten(dead.len() as u64);
        if index.symbols_are_mostly_garbage() {
            match index.rebuild_symbols() {
                Ok(moved) => {
                    for stream in streams.iter().flatten() {
                        let mut state = stream.lock();
                        state.labels.iter_mut().for_each(|s| *s = moved[&*s]);
                    }
                }
                // Fewer symbols than before cannot need more space.
                Err(e) => {
                    tracing::error!(tenant = %self.tenant, error = %e, "symbols cannot be interned anew");
                }
            }
        }
        dead.len()
    }

    /// Heap bytes of index and stream lookup, nearly.
    pub(super) fn index_bytes(&self) -> usize {
        let slots = self.streams.read().capacity() * size_of::<usize>();
        self.index.read().heap_bytes() + self.refs.read().heap_bytes() + slots
    }
}
