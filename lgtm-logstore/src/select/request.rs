//! What is asked for: plain data, which can be sent.

use std::sync::Arc;

use lgtm_core::model::{Labels, Matcher, TimeRange, TimeRangeNs};
use lgtm_core::{Error, Result};

use super::end::FetchStats;
use crate::limits::{Horizons, Limits};

/// One of `count` disjoint parts of all streams: those whose [`Labels::stable_hash`], which is Loki's fingerprint, leaves `index` when
/// divided by `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamShard {
    /// From 0.
    index: u64,
    /// At least 1.
    count: u64,
}

impl StreamShard {
    /// Which part it is, from 0 on, and of how many.
    pub fn parts(self) -> (u64, u64) {
        (self.index, self.count)
    }

    /// Part `index` (from 0) of `count`.
    ///
    /// # Errors
    /// `InvalidInput` when there is no such part.
    pub fn new(index: u32, count: u32) -> Result<Self> {
        if index >= count {
            return Err(Error::InvalidInput(format!(
                "shard {index} of {count}, must be from 0 to the count less one"
            )));
        }
        Ok(Self {
            index: u64::from(index),
            count: u64::from(count),
        })
    }

    /// Whether a stream is in the shard. Costs one pass over the bytes of its labels.
    pub fn contains(self, labels: &Labels) -> bool {
        labels.stable_hash() % self.count == self.index
    }
}

/// In which order blocks come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectOrder {
    /// Stream after stream, in the order of their labels; the blocks of each from the oldest on.
    Streams,
    /// By time over all streams, from the oldest entry on.
    OldestFirst,
    /// By time over all streams, from the newest entry on.
    NewestFirst,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// All must pass.
    pub matchers: Vec<Matcher>,
    /// Times of the entries; nothing outside of it is brought.
    pub range: TimeRangeNs,
    /// In which order.
    pub order: SelectOrder,
    /// The part of the streams that is wanted; all if there is none. Every holder honours it, before it loads chunks.
    pub shard: Option<StreamShard>,
    /// What the entries are wanted for. A holder may use it to bring less or to bring it sooner, never to bring anything else.
    pub hints: SelectHints,
    /// Times before which entries are not kept any more, where there are any. Every holder honours them: they are in no answer.
    pub horizons: Option<Arc<Horizons>>,
    /// What one holder may bring; one that has more refuses.
    pub bounds: FetchBounds,
    /// Of a list, how many entries are wanted: the first ones in order; 0: all. Blocks take no notice.
    pub limit: usize,
    /// Whether several holders may have the same entries, as replicas do, and an ingester for a while what is in the object store already. Volumes come
    /// with their [spans](crate::select::VolumeSpan) then, by which they can be counted once.
    pub may_repeat: bool,
    /// Holders of recent data that have gone for good, each by a name of its own. Who answers for the object store has looked for what they wrote
    /// last before it answers; the others take no notice.
    pub departed: Vec<String>,
}

impl SelectRequest {
    /// A request stream by stream, without hints and bounds.
    pub fn new(matchers: Vec<Matcher>, range: TimeRangeNs) -> Self {
        Self {
            matchers,
            range,
            order: SelectOrder::Streams,
            shard: None,
            hints: SelectHints::default(),
            horizons: None,
            bounds: FetchBounds::default(),
            limit: 0,
            may_repeat: false,
            departed: Vec::new(),
        }
    }

    /// The same request in another order.
    #[must_use]
    pub fn order(self, order: SelectOrder) -> Self {
        Self { order, ..self }
    }

    /// The same request for a part of the streams.
    #[must_use]
    pub fn shard(self, shard: Option<StreamShard>) -> Self {
        Self { shard, ..self }
    }

    /// The same request with hints.
    #[must_use]
    pub fn hints(self, hints: SelectHints) -> Self {
        Self { hints, ..self }
    }

    /// The same request with bounds.
    #[must_use]
    pub fn bounds(self, bounds: FetchBounds) -> Self {
        Self { bounds, ..self }
    }

    /// The same request for the first `limit` entries of a list; 0: all.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The same request after these holders of recent data have gone.
    #[must_use]
    pub fn after(self, departed: Vec<String>) -> Self {
        Self { departed, ..self }
    }

    /// The times of a stream that are wanted: the range, from the stream's horizon on. Costs a look-up per matcher of the rules.
    pub fn range_of(&self, labels: &Labels) -> TimeRangeNs {
        match &self.horizons {
            None => self.range,
            Some(horizons) => TimeRangeNs {
                min_ns: self.range.min_ns.max(horizons.of_stream(labels)),
                ..self.range
            },
        }
    }

    /// Whether a stream is asked for. Costs a look-up per matcher.
    pub fn takes(&self, labels: &Labels) -> bool {
        self.shard.is_none_or(|s| s.contains(labels))
            && self
                .matchers
                .iter()
                .all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
    }
}

/// What entries are wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectHints {
    /// Bytes that each line of interest holds, in no order. A holder may leave out entries whose line lacks one of them.
    pub line_needles: Vec<Vec<u8>>,
    /// Lists of bytes: each line of interest holds one of each list. A holder may leave out entries whose line lacks all of a list.
    pub line_choices: Vec<Vec<Vec<u8>>>,
    /// Labels, with their values, that each entry of interest has, of its stream or as structured metadata. A holder may leave out entries whose stream
    /// lacks such a label (with whatever value) while their metadata lack the value.
    pub metadata_needles: Vec<(String, String)>,
    /// Labels, with their values, that each entry of interest has or that are parsed from its line. A holder may leave out entries whose stream lacks
    /// such a label, whose metadata lack the value, and whose line has no backslash and does not hold the value.
    pub field_needles: Vec<(String, String)>,
    /// Whether nobody looks at structured metadata: a holder may leave them out of the blocks.
    pub without_metadata: bool,
    /// Entries after which the reader may stop, where it is known; 0: it reads all. Tells how far it pays to read ahead.
    pub entries: usize,
}

/// The most that may be fetched. Zero means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchBounds {
    /// Streams.
    pub max_streams: u64,
    /// Chunks.
    pub max_chunks: u64,
    /// Bytes of compressed chunks.
    pub max_chunk_bytes: u64,
}

impl FetchBounds {
    /// What a tenant's limits allow.
    pub fn of(limits: &Limits) -> Self {
        Self {
            max_chunks: limits.max_chunks_per_query,
            ..Self::default()
        }
    }

    /// Whether so much may have been fetched.
    ///
    /// # Errors
    /// `LimitExceeded` naming what there was too much of and the bound.
    pub fn check(&self, fetched: &FetchStats) -> Result<()> {
        for (used, max, what) in [
            (fetched.streams, self.max_streams, "streams"),
            (fetched.chunks_referenced, self.max_chunks, "chunks"),
            (
                fetched.compressed_bytes,
                self.max_chunk_bytes,
                "bytes of chunks",
            ),
        ] {
            if max > 0 && used > max {
                return Err(Error::LimitExceeded(format!(
                    "the query reads {used} {what}, the bound is {max}: use more label matchers or a shorter time range"
                )));
            }
        }
        Ok(())
    }
}

/// Whole milliseconds around a range.
pub(crate) fn milliseconds_around(range: TimeRangeNs) -> TimeRange {
    TimeRange {
        min_ms: range.min_ns.to_ms(),
        max_ms: range.max_ns.to_ms_up(),
    }
}
