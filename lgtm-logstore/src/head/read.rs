//! The heads as a holder of logs.
//!
//! A select takes a snapshot: of each stream that matches, what is not compressed yet is copied, compressed blocks and finished chunks are
//! shared. Then pieces of it are decoded batch by batch, in the order asked for. Pieces of a stream that overlap in time are decoded together
//! and made disjoint, so that each entry comes once.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{
    LabelArena, Labels, Listed, Matcher, TenantId, TextSet, TimeRangeNs, TimestampNs,
};
use lgtm_core::wal::Snapshot;

use super::batches::HeadBatches;
use super::head::Head;
use super::heads::Heads;
use super::pieces::{Piece, StreamPieces};
use super::stream::{MemStream, StreamState};
use crate::select::{
    EntryBatches, FetchStats, Select, SelectRequest, StreamVolume, VolumeSpan, added,
    milliseconds_around,
};

/// Answers selects from the heads of a process.
#[derive(Debug, Clone)]
pub struct HeadSelect {
    heads: Arc<Heads>,
}

impl HeadSelect {
    /// A holder of what `heads` have.
    pub fn new(heads: Arc<Heads>) -> Self {
        Self { heads }
    }

    /// Runs a job over the head of a tenant on the compute pool; nothing when it has no head.
    async fn on_head<T: Send + Default + 'static>(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
        job: impl FnOnce(&Head, &SelectRequest, &CancelToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.heads.check_open()?;
        let Some(head) = self.heads.get(tenant) else {
            return Ok(T::default());
        };
        let request = request.clone();
        let job = move |cancel: &CancelToken| job(&head, &request, cancel);
        let executor = self.heads.executor.in_line(tenant.as_str());
        executor.run(job, &CancelToken::new()).await
    }

    /// The label sets that match and have entries in the range, in order.
    async fn matching(&self, tenant: &TenantId, request: &SelectRequest) -> Result<Vec<Labels>> {
        self.on_head(tenant, request, |head, request, cancel| {
            let mut out = Vec::new();
            for_each_match(head, request, cancel, &mut |labels, stream| {
                let times = stream.lock().range();
                let range = request.range_of(&labels);
                let overlaps = |(min, max): (TimestampNs, TimestampNs)| {
                    min < range.max_ns && range.min_ns <= max
                };
                if times.is_some_and(overlaps) {
                    out.push(labels);
                }
                Ok(())
            })?;
            out.sort();
            Ok(out)
        })
        .await
    }
}

impl HeadSelect {
    /// The volumes of the streams that match, in the order of their labels. What the object store has counts there only, but for what is
    /// [retained](super::HeadSettings::retain_flushed).
    ///
    /// # Errors
    /// As [`Select::series`].
    pub async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        let reader = self.heads.snapshot();
        let volumes = self
            .on_head(tenant, request, move |head, request, cancel| {
                let mut out = Vec::new();
                for_each_match(head, request, cancel, &mut |labels, stream| {
                    let range = request.range_of(&labels);
                    let volume = volume(&stream.lock(), labels, range, &reader, request.may_repeat);
                    out.extend(volume);
                    Ok(())
                })?;
                out.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
                Ok(out)
            })
            .await?;
        Ok(Listed::whole(volumes))
    }
}

/// What a stream has in a range and the store has not; `None`: nothing.
fn volume(
    state: &StreamState,
    labels: Labels,
    range: TimeRangeNs,
    reader: &Snapshot,
    may_repeat: bool,
) -> Option<StreamVolume> {
    let mut volume = StreamVolume::of(labels);
    let mut spans = Vec::new();
    let mut add = |(min_ns, max_ns): (TimestampNs, TimestampNs), bytes, entries| {
        if min_ns < range.max_ns && range.min_ns <= max_ns {
            volume.add_chunk(
                (range.min_ns, range.max_ns),
                (min_ns, max_ns),
                bytes,
                entries,
            );
            if may_repeat {
                spans.push(VolumeSpan::of_chunk(
                    milliseconds_around(range),
                    (min_ns.to_ms(), max_ns.to_ms_up()),
                    bytes,
                    entries,
                ));
            }
        }
    };
    for chunk in state.finished.iter().filter(|c| reader.sees(c.state)) {
        let times = (chunk.min_ns, chunk.max_ns);
        add(times, chunk.uncompressed_bytes, chunk.entry_count);
    }
    for open in [&state.open, &state.late].into_iter().flatten() {
        if let Some(times) = open.time_range() {
            add(times, open.uncompressed_bytes(), open.entry_count());
        }
    }
    volume.take_spans(added(spans));
    (volume.chunks > 0).then_some(volume)
}

/// Streams looked at before it is asked whether anybody still waits.
const STREAMS_A_STEP: usize = 256;

/// Calls `take` with each stream that matches, in no order. The index is held for a portion of the streams at a time.
fn for_each_match(
    head: &Head,
    request: &SelectRequest,
    cancel: &CancelToken,
    take: &mut dyn FnMut(Labels, Arc<MemStream>) -> Result<()>,
) -> Result<()> {
    let (ids, others) = {
        let index = head.index.read();
        let (ids, others) = index.narrow(&request.matchers);
        (ids.unwrap_or_else(|| index.all().to_vec()), others)
    };
    let mut arena = LabelArena::default();
    for some in ids.chunks(STREAMS_A_STEP) {
        cancel.check("the select of a head")?;
        let mut found = Vec::with_capacity(some.len());
        {
            let index = head.index.read();
            for stream in some.iter().filter_map(|id| head.stream(*id)) {
                let state = stream.lock();
                let passes = |m: &&Matcher| {
                    let mut pairs = index.pairs(&state.labels);
                    let value = pairs.find(|(name, _)| *name == m.name());
                    m.matches(value.map_or("", |(_, value)| value))
                };
                // All of many streams may be in the object store by now.
                if state.is_gone || state.is_empty() || !others.iter().all(passes) {
                    continue;
                }
                let labels = index.labels(&state.labels, &mut arena);
                drop(state);
                found.push((labels, stream));
            }
        }
        for (labels, stream) in found {
            // An id that was found may mean another stream by now.
            if request.takes(&labels) {
                take(labels, stream)?;
            }
        }
    }
    Ok(())
}

/// What is snapshot of the streams that match.
#[derive(Debug, Default)]
struct Found {
    streams: Vec<StreamPieces>,
    stats: FetchStats,
}

fn snapshot(
    head: &Head,
    request: &SelectRequest,
    cancel: &CancelToken,
    sees: &dyn Fn(&super::head_chunk::HeadChunk) -> bool,
) -> Result<Found> {
    let mut found = Found::default();
    for_each_match(head, request, cancel, &mut |labels, stream| {
        let range = request.range_of(&labels);
        let mut pieces: Vec<Piece> = Vec::new();
        {
            let state = stream.lock();
            for chunk in (state.finished.iter()).filter(|c| sees(c)) {
                if chunk.overlaps(range.min_ns, range.max_ns) {
                    found.stats.chunks_referenced += 1;
                    Piece::of_chunk(chunk, range, &mut pieces)?;
                }
            }
            for open in [&state.open, &state.late].into_iter().flatten() {
                Piece::of_builder(open, range, &mut pieces)?;
            }
        }
        if !pieces.is_empty() {
            found.stats.streams += 1;
            found.streams.push(StreamPieces { labels, pieces });
        }
        request.bounds.check(&found.stats)
    })?;
    found.streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(found)
}

#[async_trait]
impl Select for HeadSelect {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        // What a flush moves from now on stays for this reader.
        let reader = Arc::new(self.heads.snapshot());
        let seen = Arc::clone(&reader);
        let found = self
            .on_head(tenant, request, move |head, request, cancel| {
                snapshot(head, request, cancel, &|chunk| seen.sees(chunk.state))
            })
            .await?;
        let Found { streams, stats } = found;
        let heads = &self.heads;
        let executor = heads.executor.in_line(tenant.as_str());
        let batches = HeadBatches::new(
            (Arc::clone(&heads.parts), executor),
            tenant.clone(),
            request,
            (streams, stats),
            reader,
        );
        Ok(Box::new(batches))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        let labels = self.matching(tenant, request).await?;
        Ok(Listed::first(labels, request.limit))
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let labels = self.matching(tenant, request).await?;
        let names = labels.iter().flat_map(|l| l.iter().map(|(name, _)| name));
        Ok(Listed::first(TextSet::from_iter(names), request.limit))
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let labels = self.matching(tenant, request).await?;
        let values = labels.iter().filter_map(|l| l.get(name));
        Ok(Listed::first(TextSet::from_iter(values), request.limit))
    }
}
