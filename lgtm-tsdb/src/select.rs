//! The one question that any holder of metrics answers: which series match, and their samples in a time range.
//!
//! [`Select`] hands out series in label order, in bounded batches, with their chunks still encoded. [`MergedSeries`] joins the
//! answers of several holders; [`samples`] decodes the chunks of one series into one run of samples, each time once.

use std::cmp::Ordering;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::model::{Labels, MatchOp, Matcher, TenantId, TextSet, TimeRange};
use lgtm_core::{Error, Result};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::chunk::{self, Encoding, SampleTime, SampleValue};

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

/// What is asked for.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// All must pass.
    pub matchers: Vec<Matcher>,
    /// Times of interest; chunks may reach outside.
    pub range: TimeRange,
    /// Bounds of the whole query, shared by all its selects.
    pub budget: Arc<QueryBudget>,
    /// What the series are wanted for. A holder may use it to bring less or to bring it sooner, never to bring anything else.
    pub hints: SelectHints,
    /// The part of the series that is wanted; all if there is none. Every holder honours it, before it loads chunks.
    pub shard: Option<SeriesShard>,
}

impl SelectRequest {
    /// A request without hints. A matcher `__query_shard__="i_of_n"` becomes its shard.
    ///
    /// # Errors
    /// `InvalidInput` for a matcher of that name that is no single shard.
    pub fn new(
        mut matchers: Vec<Matcher>,
        range: TimeRange,
        budget: Arc<QueryBudget>,
    ) -> Result<Self> {
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
            budget,
            hints: SelectHints::default(),
            shard,
        })
    }

    /// The same request with hints.
    #[must_use]
    pub fn hints(self, hints: SelectHints) -> Self {
        Self { hints, ..self }
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
    /// Where the selector, or the range function around it, stands in the query, bytes.
    pub pos: usize,
}

/// An encoded chunk of a series.
#[derive(Debug, Clone)]
pub struct SeriesChunk {
    /// Time of the first sample.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    /// Encoding of `data`.
    pub encoding: Encoding,
    /// The chunk as the block format has it, without length and checksum.
    pub data: Bytes,
}

/// Chunks of one series. A few stand in place: most series have one chunk, or one on each side of a block's end.
pub type ChunkList = SmallVec<[SeriesChunk; 2]>;

/// A series and its chunks that overlap the range asked for, in no particular order.
#[derive(Debug, Clone)]
pub struct SeriesChunks {
    /// Labels of the series.
    pub labels: Labels,
    /// Chunks; they may overlap in time.
    pub chunks: ChunkList,
}

/// Batches of series in label order.
#[async_trait]
pub trait SeriesBatches: std::fmt::Debug + Send {
    /// The next batch; `None` at the end. Not cancel-safe: drop the whole stream instead.
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>>;
}

/// A holder of metrics.
#[async_trait]
pub trait Select: std::fmt::Debug + Send + Sync + 'static {
    /// The series that match, with their chunks.
    ///
    /// # Errors
    /// `LimitExceeded` when the budget is spent, `Unavailable` and `Corrupt` from storage.
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>>;

    /// The label sets that match and have data in the range, in order.
    async fn series(&self, tenant: &TenantId, request: &SelectRequest) -> Result<Vec<Labels>>;

    /// Names of the labels of the series that match.
    async fn label_names(&self, tenant: &TenantId, request: &SelectRequest) -> Result<TextSet>;

    /// Values of one label of the series that match.
    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<TextSet>;
}

/// How much one query may fetch, counted over all its selects. Zero means no limit.
#[derive(Debug, Default)]
pub struct QueryBudget {
    /// Bound on series.
    pub max_series: u64,
    /// Bound on chunks.
    pub max_chunks: u64,
    /// Bound on chunk bytes.
    pub max_chunk_bytes: u64,
    used: Mutex<QueryUse>,
}

/// What a query has fetched.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct QueryUse {
    /// Series.
    pub series: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of chunks.
    pub chunk_bytes: u64,
}

impl QueryBudget {
    /// A budget with these bounds.
    pub fn new(max_series: u64, max_chunks: u64, max_chunk_bytes: u64) -> Self {
        Self {
            max_series,
            max_chunks,
            max_chunk_bytes,
            used: Mutex::default(),
        }
    }

    /// What has been used so far.
    pub fn used(&self) -> QueryUse {
        *self.used.lock()
    }

    /// Counts fetched data.
    ///
    /// # Errors
    /// `LimitExceeded` naming the setting and the bound.
    pub fn spend(&self, series: u64, chunks: u64, chunk_bytes: u64) -> Result<()> {
        let used = {
            let mut u = self.used.lock();
            u.series += series;
            u.chunks += chunks;
            u.chunk_bytes += chunk_bytes;
            *u
        };
        let check = |used: u64, max: u64, what: &str, id: &str, setting: &str| {
            if max > 0 && used > max {
                return Err(Error::LimitExceeded(format!(
                    "the query exceeded the maximum number of {what} (limit: {max} {what}) (err-mimir-{id}). Consider reducing the time range and/or number of series selected by the query. One way to reduce the number of selected series is to add more label matchers to the query. Otherwise, to adjust the related per-tenant limit, configure {setting}"
                )));
            }
            Ok(())
        };
        check(
            used.series,
            self.max_series,
            "series",
            "max-series-per-query",
            "max_fetched_series_per_query",
        )?;
        check(
            used.chunks,
            self.max_chunks,
            "chunks",
            "max-chunks-per-query",
            "max_fetched_chunks_per_query",
        )?;
        let bytes = "max_fetched_chunk_bytes_per_query";
        check(
            used.chunk_bytes,
            self.max_chunk_bytes,
            "chunk bytes",
            "max-chunks-bytes-per-query",
            bytes,
        )
    }
}

/// Batches that are in memory already.
#[derive(Debug, Default)]
pub struct ReadyBatches(std::vec::IntoIter<Vec<SeriesChunks>>);

impl ReadyBatches {
    /// Hands out `batches` one by one.
    pub fn new(batches: Vec<Vec<SeriesChunks>>) -> Self {
        Self(batches.into_iter())
    }
}

#[async_trait]
impl SeriesBatches for ReadyBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        Ok(self.0.next())
    }
}

/// One holder's answer, with the batch that is being handed out.
#[derive(Debug)]
struct Source {
    rest: Box<dyn SeriesBatches>,
    batch: std::iter::Peekable<std::vec::IntoIter<SeriesChunks>>,
}

/// Joins several answers: series in label order, the chunks of equal label sets together.
#[derive(Debug)]
pub struct MergedSeries {
    sources: Vec<Source>,
    batch_size: usize,
    /// Sources whose next series is the least; kept for its memory.
    equal: Vec<usize>,
}

impl MergedSeries {
    /// Joins `answers`; batches have at most `batch_size` series.
    pub fn new(answers: Vec<Box<dyn SeriesBatches>>, batch_size: usize) -> Self {
        let source = |rest| Source {
            rest,
            batch: Vec::new().into_iter().peekable(),
        };
        Self {
            sources: answers.into_iter().map(source).collect(),
            batch_size: batch_size.max(1),
            equal: Vec::new(),
        }
    }

    /// Makes every source hold a series or be gone.
    async fn fill(&mut self) -> Result<()> {
        let mut i = 0;
        while i < self.sources.len() {
            let source = &mut self.sources[i];
            if source.batch.peek().is_some() {
                i += 1;
                continue;
            }
            match source.rest.next_batch().await? {
                Some(batch) => source.batch = batch.into_iter().peekable(),
                None => drop(self.sources.remove(i)),
            }
        }
        Ok(())
    }

    /// Takes the least series out of all sources, which [`MergedSeries::fill`] has filled.
    fn take_least(&mut self) -> Option<SeriesChunks> {
        let mut least: Option<&Labels> = None;
        self.equal.clear();
        for (i, source) in self.sources.iter_mut().enumerate() {
            let Some(next) = source.batch.peek() else {
                continue;
            };
            match least.map_or(Ordering::Less, |l| next.labels.cmp(l)) {
                Ordering::Greater => continue,
                Ordering::Equal => {}
                Ordering::Less => {
                    self.equal.clear();
                    least = Some(&next.labels);
                }
            }
            self.equal.push(i);
        }
        let mut out: Option<SeriesChunks> = None;
        for &i in &self.equal {
            let series = self.sources[i].batch.next()?;
            match &mut out {
                None => out = Some(series),
                Some(o) => o.chunks.extend(series.chunks),
            }
        }
        out
    }
}

#[async_trait]
impl SeriesBatches for MergedSeries {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let mut out = Vec::new();
        while out.len() < self.batch_size {
            self.fill().await?;
            if self.sources.len() == 1 && out.is_empty() {
                return Ok(Some(self.sources[0].batch.by_ref().collect()));
            }
            match self.take_least() {
                Some(series) => out.push(series),
                None => break,
            }
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

/// The samples of `chunks` inside `range`, in time order, each time once.
///
/// Where chunks overlap and hold different samples for one time, a float is kept before a histogram, and of two of a kind the
/// one from the chunk that stands later in `chunks`; replicas hold equal samples, so that it rarely matters.
///
/// # Errors
/// A chunk that does not follow its format.
pub fn samples(
    chunks: &[SeriesChunk],
    range: TimeRange,
) -> Result<Vec<(i64, SampleValue)>, lgtm_core::DecodeError> {
    collect(chunks, range, |at| at.t_ms, |t_ms| *t_ms)
}

/// The [`samples`] with since when they count.
///
/// # Errors
/// A chunk that does not follow its format.
pub fn started_samples(
    chunks: &[SeriesChunk],
    range: TimeRange,
) -> Result<Vec<(SampleTime, SampleValue)>, lgtm_core::DecodeError> {
    collect(chunks, range, |at| at, |at| at.t_ms)
}

/// Samples with what `keep` takes of their times; `t_ms` is the time in that.
fn collect<T>(
    chunks: &[SeriesChunk],
    range: TimeRange,
    keep: impl Fn(SampleTime) -> T,
    t_ms_of: impl Fn(&T) -> i64,
) -> Result<Vec<(T, SampleValue)>, lgtm_core::DecodeError> {
    let mut order: Vec<&SeriesChunk> = chunks
        .iter()
        .filter(|c| c.min_ms < range.max_ms && c.max_ms >= range.min_ms)
        .collect();
    order.sort_by_key(|c| (c.min_ms, c.max_ms));
    // Equal chunks of replicas need no second decoding.
    order.dedup_by(|a, b| {
        a.min_ms == b.min_ms && a.max_ms == b.max_ms && a.encoding == b.encoding && a.data == b.data
    });
    let mut out: Vec<(T, SampleValue)> = Vec::new();
    let mut overlapped = false;
    let mut newest = i64::MIN;
    for c in &order {
        overlapped |= !out.is_empty() && c.min_ms <= newest;
        newest = newest.max(c.max_ms);
        let mut samples = chunk::iter(c.encoding, &c.data)?;
        while let Some(sample) = samples.next() {
            let (t_ms, value) = sample?;
            let start_ms = samples.start_ms();
            if range.contains(t_ms) {
                out.push((keep(SampleTime { t_ms, start_ms }), value));
            }
        }
    }
    if overlapped {
        let is_histogram = |v: &SampleValue| !matches!(v, SampleValue::Float(_));
        out.reverse();
        out.sort_by_key(|(at, v)| (t_ms_of(at), is_histogram(v)));
        out.dedup_by_key(|s| t_ms_of(&s.0));
    }
    Ok(out)
}
