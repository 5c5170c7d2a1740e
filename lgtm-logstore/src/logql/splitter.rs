//! LogQL's [`Splitter`]: what the query-frontend needs to know of the language.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use lgtm_core::codec::{self, Reader};
use lgtm_core::frontend::{ShardPlan, Splitter, StepRange, SweepRange, SweepStep};
use lgtm_core::model::{Labels, TimestampMs, TimestampNs};
use lgtm_core::{DecodeError, Error, Result};

use super::answer::{Answer, AnswerStream, Point, QueryStats, QueryValue, Series};
use super::ast::{
    Expr, LabelFormat, LogExpr, MetricExpr, RangeAggregation, Stage, VectorAggregation, VectorOp,
};
use super::query::{Direction, MaxSeries, Query, QueryOptions, QueryRange, QueryTime};
use super::shard::{CutQuery, cut_by_series, cut_by_time};

/// How LogQL is cut and joined.
///
/// Metric queries over a range are cut into steps, log queries into pieces of time that are asked until there are enough entries. An
/// answer in pieces is the whole answer: same series, same order, also of entries of one time. Only sums of unwrapped values may differ
/// in their last bits.
#[derive(Debug, Clone)]
pub struct LogqlSplitter {
    /// Ranges of instant queries that are longer are cut at this; 0 is not at all. Nanoseconds.
    pub long_range_ns: i64,
    /// Answers that take more bytes are not kept, as memcached keeps none above its largest item. Estimated from labels and points,
    /// before they are encoded.
    pub max_stored_bytes: u64,
    /// What changes the meaning of a query beside its text: a word for each switch of the engine that is not at its default.
    pub engine_switches: String,
}

impl Splitter for LogqlSplitter {
    type Request = Query;
    type Answer = Arc<Answer>;

    fn times(&self, query: &Query) -> StepRange {
        match query.time {
            QueryTime::Instant(t_ns) => StepRange::instant(t_ns.to_ms()),
            QueryTime::Range(r) => StepRange {
                start_ms: r.start_ns.to_ms(),
                end_ms: r.end_ns.to_ms(),
                step_ms: r.step_ms,
            },
        }
    }

    /// Not of series that may bear equal labels: nobody could tell which goes on in the next piece.
    fn steps(&self, query: &Query) -> Option<StepRange> {
        match &*query.expr {
            Expr::Metric(metric) if query.is_range() && !may_repeat_labels(metric) => {
                Some(self.times(query))
            }
            _ => None,
        }
    }

    fn with_steps(&self, query: &Query, steps: StepRange) -> Query {
        let QueryTime::Range(range) = query.time else {
            return query.clone();
        };
        query.with_range(QueryRange {
            start_ns: steps.start_ms.to_ns(),
            end_ns: steps.end_ms.to_ns(),
            step_ms: steps.step_ms,
            ..range
        })
    }

    fn key(&self, query: &Query) -> String {
        let epoch = &query.options.epoch;
        let divider = if epoch.is_empty() { "" } else { ";" };
        format!("{};{}{divider}{epoch}", query.expr, self.engine_switches)
    }

    /// Not if it looks ahead, or prints the time at which it is asked.
    fn is_cacheable(&self, query: &Query, _: TimestampMs) -> bool {
        match &*query.expr {
            Expr::Log(log) => !knows_now(log),
            Expr::Metric(metric) => {
                let mut all = true;
                each_range(metric, &mut |r| {
                    all &= r.offset_ns >= 0 && !knows_now(&r.log);
                });
                all
            }
        }
    }

    fn is_storable(&self, answer: &Arc<Answer>) -> bool {
        answer.warnings.is_empty() && answer.value.size_bytes() <= self.max_stored_bytes
    }

    fn extract(&self, answer: &Arc<Answer>, steps: StepRange) -> Arc<Answer> {
        let between = |points: &[Point]| {
            let from = points.partition_point(|p| p.t_ms < steps.start_ms);
            let to = points.partition_point(|p| p.t_ms <= steps.end_ms);
            points.get(from..to).map_or(Vec::new(), <[_]>::to_vec)
        };
        let series = matrix(&answer.value).iter().map(|s| Series {
            labels: s.labels.clone(),
            points: between(&s.points),
        });
        Arc::new(Answer {
            value: QueryValue::Matrix(series.filter(|s| !s.points.is_empty()).collect()),
            warnings: answer.warnings.clone(),
            stats: QueryStats::default(),
            memory: answer.memory.clone(),
        })
    }

    fn merge(&self, parts: Vec<Arc<Answer>>) -> Result<Arc<Answer>> {
        if let [_] = parts[..] {
            return Ok(parts.into_iter().next().unwrap_or_default());
        }
        let mut whole = Answer::default();
        let (mut streams, mut series) = (Streams::default(), BTreeMap::<Labels, Series>::new());
        let mut is_log = false;
        for part in parts {
            let part = Arc::unwrap_or_clone(part);
            whole.stats = whole.stats.plus(part.stats);
            whole.memory.join(&part.memory);
            lgtm_core::model::merge_warnings(&mut whole.warnings, part.warnings);
            match part.value {
                QueryValue::Streams(more) => {
                    is_log = true;
                    more.into_iter().for_each(|s| streams.add(s));
                }
                QueryValue::Matrix(more) => {
                    for mut next in more {
                        match series.get_mut(&next.labels) {
                            Some(known) => known.points.append(&mut next.points),
                            None => {
                                series.insert(next.labels.clone(), next);
                            }
                        }
                    }
                }
                QueryValue::Vector(_) | QueryValue::Scalar(_) => {
                    return Err(Error::Internal(
                        "an answer at one time came as a part of a range".into(),
                    ));
                }
            }
        }
        whole.value = if is_log {
            QueryValue::Streams(streams.finish())
        } else {
            QueryValue::Matrix(series.into_values().collect())
        };
        Ok(Arc::new(whole))
    }

    fn encode(&self, answer: &Arc<Answer>) -> Vec<u8> {
        let series = matrix(&answer.value);
        let mut out = Vec::new();
        codec::put_uvarint(&mut out, series.len() as u64);
        for s in series {
            codec::put_uvarint(&mut out, s.labels.len() as u64);
            for (name, value) in s.labels.iter() {
                codec::put_bytes(&mut out, name.as_bytes());
                codec::put_bytes(&mut out, value.as_bytes());
            }
            codec::put_uvarint(&mut out, s.points.len() as u64);
            let mut before = TimestampMs::EPOCH;
            for p in &s.points {
                codec::put_svarint(&mut out, p.t_ms.wrapping_since(before));
                out.extend_from_slice(&p.value.to_bits().to_le_bytes());
                before = p.t_ms;
            }
        }
        out
    }

    fn decode(&self, bytes: &[u8]) -> Result<Arc<Answer>, DecodeError> {
        /// What a point takes at least.
        const POINT_BYTES: usize = 9;
        let mut reader = Reader::new("cached answer", bytes);
        let count = reader.length()?;
        let mut series = Vec::with_capacity(count.min(reader.remaining()).min(1 << 16));
        for _ in 0..count {
            let pairs = reader.length()?;
            let mut labels = Vec::with_capacity(pairs.min(64));
            for _ in 0..pairs {
                labels.push((reader.str()?, reader.str()?));
            }
            let labels = Labels::from_sorted_keeping_empty(labels)
                .map_err(|e| reader.error(e.to_string()))?;
            let count = reader.length()?;
            let mut points = Vec::with_capacity(count.min(reader.remaining() / POINT_BYTES));
            let mut t_ms = TimestampMs::EPOCH;
            for _ in 0..count {
                t_ms = t_ms.wrapping_add(reader.svarint()?);
                let value = f64::from_bits(reader.u64_le()?);
                points.push(Point { t_ms, value });
            }
            series.push(Series { labels, points });
        }
        if !reader.is_empty() {
            return Err(reader.error("bytes are left over"));
        }
        Ok(Arc::new(Answer {
            value: QueryValue::Matrix(series),
            ..Answer::default()
        }))
    }

    fn shard(&self, query: &Query, shards: u32) -> Option<ShardPlan<Query>> {
        // What is a part of the streams already stays so.
        let (Expr::Metric(metric), None) = (&*query.expr, query.options.shard) else {
            return None;
        };
        let by_time = match query.time {
            QueryTime::Range(_) => None,
            QueryTime::Instant(t_ns) => cut_by_time(metric, self.long_range_ns, t_ns),
        };
        let CutQuery { outer, legs } = by_time.or_else(|| cut_by_series(metric, shards))?;
        let part = |(expr, shard)| {
            query.with_metric(expr).with_options(QueryOptions {
                shard,
                max_series: MaxSeries::Any,
                ..query.options.clone()
            })
        };
        let legs = legs
            .into_iter()
            .map(|leg| leg.into_iter().map(part).collect());
        Some(ShardPlan {
            legs: legs.collect(),
            outer: query.with_metric(outer),
        })
    }

    fn sweep(&self, query: &Query) -> Option<SweepRange> {
        match query.time {
            QueryTime::Range(r) if query.is_log() => Some(SweepRange {
                start_ns: r.start_ns,
                end_ns: r.end_ns,
                newest_first: r.direction == Direction::Backward,
            }),
            _ => None,
        }
    }

    fn with_sweep(&self, query: &Query, range: SweepRange) -> Query {
        let QueryTime::Range(whole) = query.time else {
            return query.clone();
        };
        query.with_range(QueryRange {
            start_ns: range.start_ns,
            end_ns: range.end_ns,
            ..whole
        })
    }

    /// Entries that are `interval` apart from the last one found are asked for, and as many as are still wanted.
    fn sweep_part(
        &self,
        query: &Query,
        mut part: SweepRange,
        found: &[Arc<Answer>],
    ) -> SweepStep<Query> {
        let QueryTime::Range(whole) = query.time else {
            return SweepStep::Ask(query.clone());
        };
        let entries =
            |a: &Arc<Answer>| -> usize { streams(&a.value).iter().map(|s| s.entries.len()).sum() };
        let known = found.iter().map(entries).sum();
        let Some(limit) = whole.limit.checked_sub(known).filter(|l| *l > 0) else {
            return SweepStep::Enough;
        };
        if whole.interval_ns > 0 {
            let all = found.iter().flat_map(|a| streams(&a.value));
            let times = all.flat_map(|s| &s.entries).map(|e| e.t_ns);
            if part.newest_first {
                if let Some(last) = times.min() {
                    let end_ns = last.saturating_sub(whole.interval_ns).saturating_add(1);
                    part.end_ns = part.end_ns.min(end_ns);
                }
            } else if let Some(last) = times.max() {
                part.start_ns = part.start_ns.max(last.saturating_add(whole.interval_ns));
            }
        }
        match part.is_empty() {
            true => SweepStep::Skip,
            false => SweepStep::Ask(query.with_range(QueryRange {
                start_ns: part.start_ns,
                end_ns: part.end_ns,
                limit,
                ..whole
            })),
        }
    }

    fn reads_ahead(&self, query: &Query) -> bool {
        let spaced = matches!(query.time, QueryTime::Range(r) if r.interval_ns > 0);
        !spaced && !query.options.one_piece_at_a_time
    }

    /// The first entries, unless the cut would go through entries of one time in several streams: their order is not in the answer.
    fn narrowed(&self, answer: Arc<Answer>, query: &Query) -> Option<Arc<Answer>> {
        let QueryTime::Range(range) = query.time else {
            return None;
        };
        let newest_first = range.direction == Direction::Backward;
        let mut times: Vec<TimestampNs> = streams(&answer.value)
            .iter()
            .flat_map(|s| s.entries.iter().map(|e| e.t_ns))
            .collect();
        if times.len() <= range.limit {
            return Some(answer);
        }
        times.sort_unstable();
        if newest_first {
            times.reverse();
        }
        let (last, next) = (times[range.limit - 1], times[range.limit]);
        let mut answer = Arc::unwrap_or_clone(answer);
        let QueryValue::Streams(all) = &mut answer.value else {
            return None;
        };
        let has_last = |s: &&AnswerStream| s.entries.iter().any(|e| e.t_ns == last);
        if last == next && all.iter().filter(has_last).count() > 1 {
            return None;
        }
        // Of the time of the cut so many, which are the first of their stream.
        let mut of_last = times[..range.limit].iter().filter(|t| **t == last).count();
        for stream in all.iter_mut() {
            stream.entries.retain(|e| {
                let before = if newest_first {
                    e.t_ns > last
                } else {
                    e.t_ns < last
                };
                let is_kept = before || (e.t_ns == last && of_last > 0);
                of_last -= usize::from(is_kept && e.t_ns == last);
                is_kept
            });
        }
        all.retain(|s| !s.entries.is_empty());
        Some(Arc::new(answer))
    }

    fn is_nothing(&self, answer: &Arc<Answer>) -> bool {
        matches!(&answer.value, QueryValue::Streams(s) if s.is_empty())
    }

    fn nothing(&self, query: &Query) -> Option<Arc<Answer>> {
        query.is_log().then(Arc::default)
    }
}

/// Streams of several answers, by their labels.
#[derive(Debug, Default)]
struct Streams {
    places: HashMap<(Labels, Labels, Labels), usize>,
    all: Vec<AnswerStream>,
}

impl Streams {
    fn add(&mut self, mut stream: AnswerStream) {
        let key = (
            stream.stream.clone(),
            stream.metadata.clone(),
            stream.parsed.clone(),
        );
        match self.places.entry(key) {
            Entry::Occupied(place) => {
                let known = &mut self.all[*place.get()];
                known.entries.append(&mut stream.entries);
            }
            Entry::Vacant(free) => {
                free.insert(self.all.len());
                self.all.push(stream);
            }
        }
    }

    fn finish(mut self) -> Vec<AnswerStream> {
        AnswerStream::sort(&mut self.all);
        self.all
    }
}

fn matrix(value: &QueryValue) -> &[Series] {
    match value {
        QueryValue::Matrix(series) => series,
        _ => &[],
    }
}

fn streams(value: &QueryValue) -> &[AnswerStream] {
    match value {
        QueryValue::Streams(streams) => streams,
        _ => &[],
    }
}

/// Calls `visit` with all range aggregations of an expression.
pub(crate) fn each_range(expr: &MetricExpr, visit: &mut dyn FnMut(&RangeAggregation)) {
    match expr {
        MetricExpr::Literal(_) | MetricExpr::Vector(_) | MetricExpr::Leg(_) => {}
        MetricExpr::Range(range) => visit(range),
        MetricExpr::Aggregation(a) => each_range(&a.expr, visit),
        MetricExpr::LabelReplace(l) => each_range(&l.expr, visit),
        MetricExpr::Binary(b) => {
            each_range(&b.left, visit);
            each_range(&b.right, visit);
        }
    }
}

/// Whether a template may print the time at which the query is asked.
fn knows_now(log: &LogExpr) -> bool {
    log.stages.iter().any(|stage| match stage {
        Stage::LineFormat(template) => template.contains("now"),
        Stage::LabelFormat(formats) => formats.iter().any(|f| match f {
            LabelFormat::Template { template, .. } => template.contains("now"),
            LabelFormat::Rename { .. } => false,
        }),
        _ => false,
    })
}

/// Whether two series of an answer may have equal labels: `label_replace` leaves them so.
fn may_repeat_labels(expr: &MetricExpr) -> bool {
    match expr {
        MetricExpr::Literal(_)
        | MetricExpr::Vector(_)
        | MetricExpr::Range(_)
        | MetricExpr::Leg(_) => false,
        MetricExpr::Aggregation(a) => keeps_labels(a) && may_repeat_labels(&a.expr),
        MetricExpr::Binary(b) => may_repeat_labels(&b.left) || may_repeat_labels(&b.right),
        MetricExpr::LabelReplace(_) => true,
    }
}

fn keeps_labels(a: &VectorAggregation) -> bool {
    matches!(
        a.op,
        VectorOp::TopK
            | VectorOp::BottomK
            | VectorOp::ApproxTopK
            | VectorOp::Sort
            | VectorOp::SortDesc
    )
}

#[cfg(test)]
mod tests;
