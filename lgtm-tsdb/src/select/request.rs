//! What is asked for: plain data, which can be sent.

use lgtm_core::model::{Labels, MatchOp, Matcher, TimeRange};
use lgtm_core::{Error, Result};

use super::end::FetchStats;
use crate::block_id::BlockId;
use crate::limits::Limits;

/// Selects the series of one shard, as `i_of_n` from 1. It stands among the matchers of a query and is no label: [`SelectRequest::new`]
/// makes a [`SeriesShard`] of it. Name and form are Mimir's.
pub const QUERY_SHARD_LABEL: &str = "__query_shard__";

/// One of `count` disjoint parts of all series: those whose [`Labels::stable_hash`] leaves `index` when divided by `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesShard {
    /// From 0.
    index: u64,
    /// At least 1.
    count: u64,
}

impl SeriesShard {
    /// Reads `i_of_n`, where `i` is 1 to `n`.
    ///
    /// # Errors
    /// `InvalidInput` naming the text.
    pub fn parse(text: &str) -> Result<Self> {
        let parts = text
            .split_once("_of_")
            .and_then(|(i, n)| Some((i.parse::<u32>().ok()?, n.parse::<u32>().ok()?)));
        match parts {
            Some((i, n)) if (1..=n).contains(&i) => Ok(Self {
                index: u64::from(i) - 1,
                count: u64::from(n),
            }),
            _ => Err(Error::InvalidInput(format!(
                "{QUERY_SHARD_LABEL} is {text:?}, must be i_of_n with i from 1 to n, as in 1_of_16"
            ))),
        }
    }

    /// Whether a series is in the shard. Costs one pass over the bytes of its labels.
    pub fn contains(self, labels: &Labels) -> bool {
        labels.stable_hash() % self.count == self.index
    }
}

/// As [`SeriesShard::parse`] reads it.
impl std::fmt::Display for SeriesShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_of_{}", self.index + 1, self.count)
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// All must pass.
    pub matchers: Vec<Matcher>,
    /// Times of interest; chunks may reach outside.
    pub range: TimeRange,
    /// What the series are wanted for. A holder may use it to bring less or to bring it sooner, never to bring anything else.
    pub hints: SelectHints,
    /// The labels that are looked at; all if there is no list. Then a holder may leave out the others and bring series in any order, so
    /// that different series look alike: who joins the answers of several holders asks them for [`SelectRequest::whole_labels`].
    pub labels: Option<Vec<String>>,
    /// The part of the series that is wanted; all if there is none. Every holder honours it, before it loads chunks.
    pub shard: Option<SeriesShard>,
    /// The blocks that are wanted, of those that a holder of blocks would read; all if there is no list. Who holds recent data takes no notice.
    /// For a question that is asked again elsewhere, about what the first answer did not cover.
    pub blocks: Option<Vec<BlockId>>,
    /// Holders of recent data that have gone for good. Who reads blocks looks once for each of them which blocks there are before it answers, as the last
    /// ones that they wrote may not be known. Who holds recent data takes no notice.
    pub departed: Vec<String>,
    /// What one holder may bring; one that has more refuses. The query counts for itself what all of them brought.
    pub bounds: FetchBounds,
    /// Of a list, how many entries are wanted: the first ones in order; 0: all. Streams of series take no notice.
    pub limit: usize,
}

impl SelectRequest {
    /// A request without hints and bounds. A matcher `__query_shard__="i_of_n"` becomes its shard.
    ///
    /// # Errors
    /// `InvalidInput` for a matcher of that name that is no single shard.
    pub fn new(mut matchers: Vec<Matcher>, range: TimeRange) -> Result<Self> {
        let mut shard = None;
        let is_shard = |m: &Matcher| m.name() == QUERY_SHARD_LABEL;
        if matchers.iter().any(is_shard) {
            for m in matchers.iter().filter(|m| is_shard(m)) {
                if m.op() != MatchOp::Equal || shard.is_some() {
                    return Err(Error::InvalidInput(format!(
                        "{m}: {QUERY_SHARD_LABEL} takes one =, as in {QUERY_SHARD_LABEL}=\"1_of_16\""
                    )));
                }
                shard = Some(SeriesShard::parse(m.value())?);
            }
            matchers.retain(|m| !is_shard(m));
        }
        Ok(Self {
            matchers,
            range,
            hints: SelectHints::default(),
            labels: None,
            shard,
            blocks: None,
            departed: Vec::new(),
            bounds: FetchBounds::default(),
            limit: 0,
        })
    }

    /// The same request with hints.
    #[must_use]
    pub fn hints(self, hints: SelectHints) -> Self {
        Self { hints, ..self }
    }

    /// The same request of which these labels are looked at, or with `None` all.
    #[must_use]
    pub fn looking_at(self, labels: Option<Vec<String>>) -> Self {
        Self { labels, ..self }
    }

    /// The same request for series with all their labels, in label order.
    #[must_use]
    pub fn whole_labels(&self) -> Self {
        self.clone().looking_at(None)
    }

    /// The same request to holders of blocks, for these alone.
    #[must_use]
    pub fn of_blocks(self, blocks: Vec<BlockId>) -> Self {
        Self {
            blocks: Some(blocks),
            ..self
        }
    }

    /// The same request after these holders of recent data have gone.
    #[must_use]
    pub fn after(self, departed: Vec<String>) -> Self {
        Self { departed, ..self }
    }

    /// Whether a block is wanted.
    pub fn wants_block(&self, id: BlockId) -> bool {
        self.blocks.as_ref().is_none_or(|ids| ids.contains(&id))
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

    /// Whether every series is wanted.
    pub fn takes_all(&self) -> bool {
        self.matchers.is_empty() && self.shard.is_none()
    }

    /// Whether a series is in the shard that is asked for. Says nothing of the matchers.
    pub fn takes(&self, labels: &Labels) -> bool {
        self.shard.is_none_or(|s| s.contains(labels))
    }
}

/// What series are wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectHints {
    /// Distance of the steps at which they are looked at, milliseconds; 0 for a single one.
    pub step_ms: i64,
    /// Length of the range that a function looks at, milliseconds; 0 for an instant.
    pub range_ms: i64,
    /// The function or aggregation that stands right around the selector, or nothing.
    pub function: String,
    /// Labels that the innermost aggregation keeps (or, with `without`, leaves out).
    pub grouping: Vec<String>,
    /// Whether `grouping` is left out rather than kept.
    pub without: bool,
}

/// The most that may be fetched. Zero means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchBounds {
    /// Series.
    pub max_series: u64,
    /// Chunks.
    pub max_chunks: u64,
    /// Bytes of chunks.
    pub max_chunk_bytes: u64,
    /// Bytes of the entries of a list, or of the labels of the series of a stream, at one holder.
    pub max_list_bytes: u64,
}

impl FetchBounds {
    /// What the limits of a tenant allow one query.
    pub fn of(limits: &Limits) -> Self {
        Self {
            max_series: limits.max_fetched_series_per_query,
            max_chunks: limits.max_fetched_chunks_per_query,
            max_chunk_bytes: limits.max_fetched_chunk_bytes_per_query,
            max_list_bytes: limits.max_label_query_bytes,
        }
    }

    /// Whether so much may have been fetched.
    ///
    /// # Errors
    /// `LimitExceeded` naming the setting and the bound.
    pub fn check(&self, fetched: &FetchStats) -> Result<()> {
        let check = |used: u64, max: u64, what: &str, setting: &str| {
            if max > 0 && used > max {
                return Err(Error::LimitExceeded(format!(
                    "the query exceeded the maximum number of {what} (limit: {max} {what}). Consider reducing the time range and/or number of series selected by the query. One way to reduce the number of selected series is to add more label matchers to the query. Otherwise, to adjust the related per-tenant limit, configure {setting}"
                )));
            }
            Ok(())
        };
        check(
            fetched.series,
            self.max_series,
            "series",
            "max_fetched_series_per_query",
        )?;
        check(
            fetched.chunks,
            self.max_chunks,
            "chunks",
            "max_fetched_chunks_per_query",
        )?;
        check(
            fetched.chunk_bytes,
            self.max_chunk_bytes,
            "chunk bytes",
            "max_fetched_chunk_bytes_per_query",
        )
    }

    /// Whether a holder may go on with a list whose entries take so many bytes.
    ///
    /// # Errors
    /// `LimitExceeded` naming the setting and the bound.
    pub fn check_list(&self, bytes: u64) -> Result<()> {
        if self.max_list_bytes > 0 && bytes > self.max_list_bytes {
            return Err(Error::LimitExceeded(format!(
                "the names and values of the labels that the request selects take more than {} bytes. Consider a shorter time range, more label matchers or a limit; to adjust the per-tenant limit, configure max_label_query_bytes",
                self.max_list_bytes
            )));
        }
        Ok(())
    }
}
