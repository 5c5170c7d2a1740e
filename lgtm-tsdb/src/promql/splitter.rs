//! PromQL's [`Splitter`]: what the query-frontend needs to know of the language.

use std::collections::BTreeMap;
use std::sync::Arc;

use lgtm_core::codec::{self, Reader};
use lgtm_core::frontend::{ShardPlan, Splitter, StepRange};
use lgtm_core::limits::AnswerMemory;
use lgtm_core::model::{FloatHistogram, Labels, TimestampMs};
use lgtm_core::{DecodeError, Error, Result};

use super::answer::{FloatPoints, Point, QueryStats, Series};
use super::long_range::split_long_ranges;
use super::query::Query;
use super::settle::{is_final_before, settle};
use super::shard::{ShardedQuery, shard_query};
use crate::chunk::{self, Encoding, SampleValue};

/// What a query gave: a matrix, a vector as one with a point a series, or a scalar as one point without labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FrontendAnswer {
    /// Series, sorted by labels unless an instant query sorted them.
    pub series: Vec<Series>,
    /// Warnings: the answer may not be what was meant, or not be whole.
    pub warnings: Vec<String>,
    /// Things worth knowing.
    pub infos: Vec<String>,
    /// The value of a query that is a string; there are no series then.
    pub string: Option<String>,
    /// What was computed for it: nothing for what came from the cache.
    pub stats: QueryStats,
    /// Counts what it takes for the process; nothing for what came from the cache.
    pub memory: AnswerMemory,
}

/// What a float takes in the cache: a value of many digits, whose time costs next to nothing.
const POINT_BYTES: usize = 8;

/// What a native histogram takes there.
const HISTOGRAM_BYTES: usize = 64;

/// How PromQL is cut and joined.
#[derive(Debug, Clone)]
pub struct PromqlSplitter {
    /// Ranges of instant queries that are longer are cut at this; 0 is not at all. Milliseconds.
    pub long_range_ms: i64,
    /// Points that a joined answer may have.
    pub max_points: u64,
    /// Answers that take more bytes are not kept, as memcached keeps none above its largest item. Estimated from labels and points,
    /// before they are encoded.
    pub max_stored_bytes: u64,
    /// Whether queries may be evaluated in parts that are joined. Not where the engine drops names at the end of a query, since each part
    /// would have an end of its own.
    pub cuts_by_series: bool,
    /// What changes the meaning of a query beside its text: a word for each switch of the engine that is not at its default.
    pub engine_switches: String,
}

impl Splitter for PromqlSplitter {
    type Request = Query;
    type Answer = Arc<FrontendAnswer>;

    fn times(&self, query: &Query) -> StepRange {
        query.steps
    }

    fn steps(&self, query: &Query) -> Option<StepRange> {
        query.is_range().then_some(query.steps)
    }

    fn settled(&self, query: Query) -> Query {
        let mut expr = (*query.expr).clone();
        settle(&mut expr, query.steps);
        query.with_expr(expr)
    }

    fn with_steps(&self, query: &Query, steps: StepRange) -> Query {
        Query {
            steps,
            ..query.clone()
        }
    }

    fn key(&self, query: &Query) -> String {
        let lookback = query
            .options
            .lookback_ms
            .map_or(String::new(), |ms| ms.to_string());
        format!("{};{lookback};{}", query.expr, self.engine_switches)
    }

    fn is_cacheable(&self, query: &Query, fresh_ms: TimestampMs) -> bool {
        is_final_before(&query.expr, fresh_ms)
    }

    fn is_storable(&self, answer: &Arc<FrontendAnswer>) -> bool {
        // Annotations are not kept, and a warning may mean that the answer is a part only.
        let size = |s: &Series| {
            let labels = s.labels.iter().map(|(n, v)| n.len() + v.len());
            labels.sum::<usize>()
                + POINT_BYTES * s.floats.len()
                + HISTOGRAM_BYTES * s.histograms.len()
        };
        let bytes = answer.series.iter().map(size).sum::<usize>() as u64;
        answer.warnings.is_empty() && answer.infos.is_empty() && bytes <= self.max_stored_bytes
    }

    fn extract(&self, answer: &Arc<FrontendAnswer>, steps: StepRange) -> Arc<FrontendAnswer> {
        let series = answer.series.iter().map(|s| Series {
            labels: s.labels.clone(),
            floats: between(&s.floats, steps).into(),
            histograms: between(&s.histograms, steps).into(),
        });
        Arc::new(FrontendAnswer {
            series: series.filter(|s| !s.is_empty()).collect(),
            warnings: answer.warnings.clone(),
            infos: answer.infos.clone(),
            memory: answer.memory.clone(),
            ..FrontendAnswer::default()
        })
    }

    fn merge(&self, parts: Vec<Arc<FrontendAnswer>>) -> Result<Arc<FrontendAnswer>> {
        if let [_] = parts[..] {
            return Ok(parts.into_iter().next().unwrap_or_default());
        }
        let mut joined: BTreeMap<Labels, Series> = BTreeMap::new();
        let mut whole = FrontendAnswer::default();
        let mut points = 0u64;
        for part in parts {
            let part = Arc::unwrap_or_clone(part);
            for mut next in part.series {
                points += next.len() as u64;
                if points > self.max_points {
                    return Err(Error::LimitExceeded(format!(
                        "query processing would load too many samples into memory: more than {} (max_samples)",
                        self.max_points
                    )));
                }
                let series = joined.entry(next.labels.clone()).or_insert_with(|| Series {
                    labels: next.labels.clone(),
                    ..Series::default()
                });
                series.floats.append(&mut next.floats);
                series.histograms.append(&mut next.histograms);
            }
            whole.stats = whole.stats.plus(part.stats);
            whole.memory.join(&part.memory);
            push_new(&mut whole.warnings, part.warnings);
            push_new(&mut whole.infos, part.infos);
        }
        whole.series = joined.into_values().collect();
        Ok(Arc::new(whole))
    }

    fn encode(&self, answer: &Arc<FrontendAnswer>) -> Vec<u8> {
        let mut out = Vec::new();
        codec::put_uvarint(&mut out, answer.series.len() as u64);
        for series in &answer.series {
            codec::put_uvarint(&mut out, series.labels.len() as u64);
            for (name, value) in series.labels.iter() {
                codec::put_bytes(&mut out, name.as_bytes());
                codec::put_bytes(&mut out, value.as_bytes());
            }
            let floats = series
                .floats
                .iter()
                .map(|p| (p.t_ms, SampleValue::Float(p.value)));
            put_chunks(&mut out, floats);
            let histograms = series.histograms.iter();
            put_chunks(
                &mut out,
                histograms.map(|p| {
                    (
                        p.t_ms,
                        SampleValue::FloatHistogram(Box::new(p.value.clone())),
                    )
                }),
            );
        }
        out
    }

    fn decode(&self, bytes: &[u8]) -> Result<Arc<FrontendAnswer>, DecodeError> {
        let mut reader = Reader::new("cached answer", bytes);
        let count = reader.length()?;
        let mut series = Vec::with_capacity(count.min(reader.remaining()).min(1 << 16));
        for _ in 0..count {
            let labels = read_labels(&mut reader)?;
            let (mut floats, mut histograms) = (FloatPoints::new(), Vec::new());
            for _ in 0..2 {
                read_chunks(&mut reader, self.max_points, &mut floats, &mut histograms)?;
            }
            series.push(Series {
                labels,
                floats,
                histograms,
            });
        }
        if !reader.is_empty() {
            return Err(reader.error("bytes are left over"));
        }
        Ok(Arc::new(FrontendAnswer {
            series,
            ..FrontendAnswer::default()
        }))
    }

    /// Not if a shard warned: where one left a mixture of floats and histograms out, others may have gone on.
    fn can_join(&self, legs: &[Vec<Arc<FrontendAnswer>>]) -> bool {
        legs.iter()
            .flatten()
            .all(|answer| answer.warnings.is_empty())
    }

    fn shard(&self, query: &Query, shards: u32) -> Option<ShardPlan<Query>> {
        if !self.cuts_by_series {
            return None;
        }
        let by_time = if query.is_range() {
            None
        } else {
            split_long_ranges(&query.expr, self.long_range_ms)
        };
        let ShardedQuery { outer, legs } = by_time.or_else(|| shard_query(&query.expr, shards))?;
        let part = |expr| query.with_expr(expr);
        let legs = legs
            .into_iter()
            .map(|leg| leg.into_iter().map(part).collect());
        Some(ShardPlan {
            legs: legs.collect(),
            outer: part(outer),
        })
    }
}

/// The points whose times lie in the range, which are sorted.
fn between<T>(points: &[Point<T>], steps: StepRange) -> &[Point<T>] {
    let from = points.partition_point(|p| p.t_ms < steps.start_ms);
    let to = points.partition_point(|p| p.t_ms <= steps.end_ms);
    points.get(from..to).unwrap_or_default()
}

fn push_new(all: &mut Vec<String>, more: Vec<String>) {
    for text in more {
        if !all.contains(&text) {
            all.push(text);
        }
    }
}

fn put_chunks(out: &mut Vec<u8>, samples: impl Iterator<Item = (TimestampMs, SampleValue)>) {
    let chunks = chunk::encode_run(samples);
    codec::put_uvarint(out, chunks.len() as u64);
    for c in chunks {
        out.push(c.encoding as u8);
        codec::put_bytes(out, &c.data);
    }
}

fn read_labels(reader: &mut Reader<'_>) -> Result<Labels, DecodeError> {
    let count = reader.length()?;
    let mut pairs = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        pairs.push((reader.str()?, reader.str()?));
    }
    Labels::from_sorted(pairs).map_err(|e| reader.error(e.to_string()))
}

fn read_chunks(
    reader: &mut Reader<'_>,
    max_points: u64,
    floats: &mut FloatPoints,
    histograms: &mut Vec<Point<FloatHistogram>>,
) -> Result<(), DecodeError> {
    for _ in 0..reader.length()? {
        let encoding = Encoding::try_from(reader.u8()?)?;
        for sample in chunk::iter(encoding, reader.bytes()?)? {
            match sample? {
                (t_ms, SampleValue::Float(value)) => floats.push(Point { t_ms, value }),
                (t_ms, SampleValue::FloatHistogram(h)) => {
                    histograms.push(Point { t_ms, value: *h })
                }
                (_, SampleValue::Histogram(_)) => {
                    return Err(reader.error("an answer has no integer histograms"));
                }
            }
            if (floats.len() + histograms.len()) as u64 > max_points {
                return Err(reader.error(format!("more than {max_points} points")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
