//! The entries of a log query, as they are found.

use bytes::Bytes;
use hashbrown::HashMap;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TimestampNs};

use super::log_query::LogBounds;
use crate::logql::answer::{AnswerEntry, AnswerStream};
use crate::logql::pipeline::{
    EntryLabels, FieldSource, Flow, Passed, Pipeline, PipelineScratch, StreamLabels,
};
use crate::logql::query_error::Result;
use crate::logql::usage::Charge;
use crate::select::EntryBatch;

/// The labels of an answer's stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct StreamKey {
    stream: Labels,
    metadata: Labels,
    parsed: Labels,
}

impl StreamKey {
    fn of(stream: &StreamLabels, labels: &EntryLabels) -> Self {
        if labels.are_the_stream_s() {
            return Self {
                stream: stream.labels().clone(),
                metadata: Labels::empty(),
                parsed: Labels::empty(),
            };
        }
        let only =
            |wanted: Option<FieldSource>| labels.to_labels(stream, |_, source| source != wanted);
        Self {
            stream: only(None),
            metadata: only(Some(FieldSource::Metadata)),
            parsed: only(Some(FieldSource::Parsed)),
        }
    }

    fn size_bytes(&self) -> u64 {
        let all = [&self.stream, &self.metadata, &self.parsed];
        all.iter().map(|l| l.size_bytes() as u64 + 64).sum()
    }
}

/// An entry that was found.
#[derive(Debug)]
struct FoundEntry {
    t_ns: TimestampNs,
    /// Its place among entries of its time: that in the block.
    place: u32,
    /// Its labels, as a place in the list.
    key: u32,
    /// The stream that it came in, as a place in the list.
    origin: u32,
    line: Bytes,
}

/// Entries that were found, the best `limit` of them, and their labels.
#[derive(Debug)]
pub(super) struct EntryList {
    bounds: LogBounds,
    keys: Vec<StreamKey>,
    places: HashMap<StreamKey, u32>,
    /// Streams as they are stored: entries of one time stand in their order, whatever becomes of their labels.
    origins: Vec<Labels>,
    origin_places: HashMap<Labels, u32>,
    entries: Vec<FoundEntry>,
    pub(super) passed: u64,
    charge: Charge,
}

impl EntryList {
    pub(super) fn new(bounds: LogBounds, charge: Charge) -> Self {
        Self {
            bounds,
            keys: Vec::new(),
            places: HashMap::new(),
            origins: Vec::new(),
            origin_places: HashMap::new(),
            entries: Vec::new(),
            passed: 0,
            charge,
        }
    }

    /// The entries of a batch that pass a pipeline. What is worse than `worst_ns` is not wanted any more.
    pub(super) fn fill(
        &mut self,
        batch: EntryBatch,
        pipeline: &Pipeline,
        worst_ns: Option<TimestampNs>,
        scratch: &mut PipelineScratch,
        cancel: &CancelToken,
    ) -> Result<()> {
        let newest_first = self.bounds.newest_first;
        let mut worst_ns = worst_ns;
        for stream_block in batch.blocks {
            let stream = StreamLabels::new(&stream_block.labels);
            let block = &stream_block.block;
            let origin = self.origin(&stream_block.labels)?;
            let mut last: Option<(Vec<u8>, u32)> = None;
            let mut id = Vec::new();
            let mut sink = |passed: Passed<'_>| {
                let is_worse = |worst: TimestampNs| {
                    if newest_first {
                        passed.t_ns < worst
                    } else {
                        passed.t_ns > worst
                    }
                };
                if worst_ns.is_some_and(is_worse) {
                    return Ok(Flow::Stop);
                }
                self.passed += 1;
                id.clear();
                passed.labels.key(|_| false, &mut id);
                let key = match &last {
                    Some((known, key)) if *known == id => *key,
                    _ => {
                        let key = self.key(StreamKey::of(passed.stream, passed.labels))?;
                        last = Some((id.clone(), key));
                        key
                    }
                };
                self.charge.grow(passed.line.len() as u64 + ENTRY_BYTES)?;
                self.entries.push(FoundEntry {
                    t_ns: passed.t_ns,
                    place: passed.entry as u32,
                    key,
                    origin,
                    line: Bytes::copy_from_slice(passed.line),
                });
                if let Some(worst) = self.prune() {
                    worst_ns = Some(worst);
                }
                Ok(Flow::Continue)
            };
            pipeline.run(&stream, block, newest_first, scratch, cancel, &mut sink)?;
        }
        Ok(())
    }

    fn key(&mut self, key: StreamKey) -> Result<u32> {
        if let Some(known) = self.places.get(&key) {
            return Ok(*known);
        }
        self.charge.grow(key.size_bytes())?;
        let place = self.keys.len() as u32;
        self.keys.push(key.clone());
        self.places.insert(key, place);
        Ok(place)
    }

    /// Forgets what can no longer be among the best, now and then; the time of the worst that can, if so many are there.
    fn prune(&mut self) -> Option<TimestampNs> {
        let limit = self.bounds.limit;
        // An interval chooses among all.
        if self.bounds.interval_ns > 0 || self.entries.len() < 2 * limit + 256 {
            return None;
        }
        self.sort();
        self.truncate(limit);
        self.entries.last().map(|e| e.t_ns)
    }

    fn truncate(&mut self, len: usize) {
        let gone = self.entries.iter().skip(len);
        self.charge
            .shrink(gone.map(|e| e.line.len() as u64 + ENTRY_BYTES).sum());
        self.entries.truncate(len);
    }

    /// The place of a stream among the origins.
    fn origin(&mut self, labels: &Labels) -> Result<u32> {
        if let Some(place) = self.origin_places.get(labels) {
            return Ok(*place);
        }
        self.charge.grow(labels.size_bytes() as u64 + 128)?;
        let place = self.origins.len() as u32;
        self.origins.push(labels.clone());
        self.origin_places.insert(labels.clone(), place);
        Ok(place)
    }

    /// By time; entries of one time by their streams, those of a stream as they came.
    fn sort(&mut self) {
        let origins = &self.origins;
        let newest_first = self.bounds.newest_first;
        self.entries.sort_by(|a, b| {
            let order = a.t_ns.cmp(&b.t_ns);
            let order = order.then_with(|| {
                let labels = |e: &FoundEntry| &origins[e.origin as usize];
                labels(a).cmp(labels(b))
            });
            let order = order.then_with(|| a.place.cmp(&b.place));
            if newest_first { order.reverse() } else { order }
        });
    }

    /// Takes over what another has found.
    pub(super) fn join(&mut self, other: Self) -> Result<()> {
        self.passed += other.passed;
        let mut places = Vec::with_capacity(other.keys.len());
        for key in other.keys {
            places.push(self.key(key)?);
        }
        let mut origins = Vec::with_capacity(other.origins.len());
        for labels in &other.origins {
            origins.push(self.origin(labels)?);
        }
        self.entries
            .extend(other.entries.into_iter().map(|e| FoundEntry {
                key: places[e.key as usize],
                origin: origins[e.origin as usize],
                ..e
            }));
        self.charge.join(other.charge);
        self.sort();
        if self.bounds.interval_ns == 0 {
            self.truncate(self.bounds.limit);
        }
        Ok(())
    }

    /// Time of the worst entry, if there are as many as wanted.
    pub(super) fn worst_ns(&self) -> Option<TimestampNs> {
        let full = self.bounds.interval_ns == 0 && self.entries.len() >= self.bounds.limit;
        full.then(|| self.entries.last().map(|e| e.t_ns)).flatten()
    }

    /// Whether entries that come behind a horizon could still change the answer.
    pub(super) fn is_settled(&self, horizon_ns: TimestampNs) -> bool {
        let final_count = self.entries.iter().take_while(|e| {
            if self.bounds.newest_first {
                e.t_ns >= horizon_ns
            } else {
                e.t_ns < horizon_ns
            }
        });
        match self.bounds.interval_ns {
            0 => final_count.count() >= self.bounds.limit,
            _ => {
                let times = final_count.map(|e| e.t_ns);
                spaced(times, self.bounds).count() >= self.bounds.limit
            }
        }
    }

    /// The answer: streams in the order of their labels.
    pub(super) fn finish(mut self) -> (Vec<AnswerStream>, Charge) {
        self.sort();
        if self.bounds.interval_ns > 0 {
            let mut last = None;
            let bounds = self.bounds;
            self.entries.retain(|e| keeps(&mut last, e.t_ns, bounds));
        }
        self.entries.truncate(self.bounds.limit);
        let keys = self.keys.into_iter();
        let mut streams: Vec<AnswerStream> = keys
            .map(|key| AnswerStream {
                stream: key.stream,
                metadata: key.metadata,
                parsed: key.parsed,
                entries: Vec::new(),
            })
            .collect();
        for e in self.entries {
            streams[e.key as usize].entries.push(AnswerEntry {
                t_ns: e.t_ns,
                line: e.line,
            });
        }
        streams.retain(|s| !s.entries.is_empty());
        AnswerStream::sort(&mut streams);
        (streams, self.charge)
    }
}

/// What an entry takes beside its line.
const ENTRY_BYTES: u64 = size_of::<FoundEntry>() as u64 + 16;

/// Whether an entry is far enough from the last one that was kept.
fn keeps(last: &mut Option<TimestampNs>, t_ns: TimestampNs, bounds: LogBounds) -> bool {
    let distance = |last: TimestampNs| last.abs_diff(t_ns);
    if last.is_some_and(|l| distance(l) < bounds.interval_ns.unsigned_abs()) {
        return false;
    }
    *last = Some(t_ns);
    true
}

fn spaced(
    times: impl Iterator<Item = TimestampNs>,
    bounds: LogBounds,
) -> impl Iterator<Item = TimestampNs> {
    let mut last = None;
    times.filter(move |t| keeps(&mut last, *t, bounds))
}
