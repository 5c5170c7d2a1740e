//! The answers to the legs of a cut query, to be read like any holder of metrics while its outer part is evaluated.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::frontend::StepRange;
use lgtm_core::model::{LabelBuilder, Labels, TenantId, TextSet, TimestampMs, stale_nan};
use lgtm_core::{Error, Result};

use super::answer::Series;
use super::shard::LEG_LABEL;
use super::splitter::FrontendAnswer;
use crate::chunk::{Chunk, SampleValue, encode_run};
use crate::select::{
    Listed, QUERY_SHARD_LABEL, Select, SelectEnd, SelectRequest, SeriesBatches, SeriesChunks,
};

/// Series handed out at a time.
const BATCH_SERIES: usize = 512;

/// Answers as series: `__embedded__{__leg__="0"}` selects those of the first leg.
///
/// A series has a sample at each step that its answer has, and a stale marker at the step after one that has none, so that no lookback
/// carries a value on. Of a leg with several answers each series has a label that tells which. The outer query must be evaluated at the
/// same steps, and selects nothing else. Memory: the answers, as chunks.
#[derive(Debug)]
pub struct EmbeddedLegs {
    /// Per leg its series in label order.
    legs: Vec<Arc<[SeriesChunks]>>,
}

impl EmbeddedLegs {
    /// The answers of each leg, in the order of its queries, which were asked at `steps`.
    ///
    /// # Errors
    /// `InvalidInput` when an answer's labels are none.
    pub fn new(steps: StepRange, legs: &[Vec<Arc<FrontendAnswer>>]) -> Result<Self> {
        let legs = legs.iter().map(|answers| {
            let mut all = Vec::new();
            for (n, answer) in answers.iter().enumerate() {
                for series in &answer.series {
                    let labels = if answers.len() > 1 {
                        let mut labels = LabelBuilder::from_labels(&series.labels);
                        labels.set(QUERY_SHARD_LABEL, &n.to_string()).build()?
                    } else {
                        series.labels.clone()
                    };
                    all.push(SeriesChunks {
                        labels,
                        chunks: chunks(series, steps).into(),
                    });
                }
            }
            all.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(all.into())
        });
        Ok(Self {
            legs: legs.collect::<Result<_>>()?,
        })
    }

    fn leg(&self, request: &SelectRequest) -> Result<Arc<[SeriesChunks]>> {
        let leg = request.matchers.iter().find(|m| m.name() == LEG_LABEL);
        let leg = leg.and_then(|m| self.legs.get(m.value().parse::<usize>().ok()?));
        leg.cloned().ok_or_else(|| {
            Error::Internal(format!(
                "the outer part of a query selects {:?}, which is none of its {} legs",
                request.matchers,
                self.legs.len()
            ))
        })
    }
}

fn chunks(series: &Series, steps: StepRange) -> Vec<Chunk> {
    let floats = series
        .floats
        .iter()
        .map(|p| (p.t_ms, SampleValue::Float(p.value)));
    let histograms = series.histograms.iter();
    let histograms = histograms.map(|p| {
        (
            p.t_ms,
            SampleValue::FloatHistogram(Box::new(p.value.clone())),
        )
    });
    let mut samples: Vec<(TimestampMs, SampleValue)> = floats.chain(histograms).collect();
    samples.sort_by_key(|(t_ms, _)| *t_ms);
    let mut marked = Vec::with_capacity(samples.len());
    let mut rest = samples.into_iter().peekable();
    while let Some((t_ms, value)) = rest.next() {
        marked.push((t_ms, value));
        let after = t_ms.saturating_add(steps.step_ms.max(1));
        let is_step = after <= steps.end_ms;
        if is_step && rest.peek().is_none_or(|(next, _)| *next > after) {
            marked.push((after, SampleValue::Float(stale_nan())));
        }
    }
    encode_run(marked)
}

#[derive(Debug)]
struct Batches {
    series: Arc<[SeriesChunks]>,
    next: usize,
}

#[async_trait]
impl SeriesBatches for Batches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        let end = self.series.len().min(self.next + BATCH_SERIES);
        let batch = self.series[self.next..end].to_vec();
        self.next = end;
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn end(&mut self) -> SelectEnd {
        // What the legs lacked stands in their answers.
        SelectEnd::default()
    }
}

#[async_trait]
impl Select for EmbeddedLegs {
    async fn select(
        &self,
        _: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        let series = self.leg(request)?;
        Ok(Box::new(Batches { series, next: 0 }))
    }

    async fn series(&self, _: &TenantId, request: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        let leg = self.leg(request)?;
        let labels = leg.iter().map(|s| s.labels.clone()).collect();
        Ok(Listed::first(labels, request.limit))
    }

    async fn label_names(&self, _: &TenantId, request: &SelectRequest) -> Result<Listed<TextSet>> {
        let leg = self.leg(request)?;
        let names = leg.iter().flat_map(|s| s.labels.iter().map(|(n, _)| n));
        Ok(Listed::first(names.collect(), request.limit))
    }

    async fn label_values(
        &self,
        _: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let leg = self.leg(request)?;
        let values = leg.iter().filter_map(|s| s.labels.get(name));
        Ok(Listed::first(values.collect(), request.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::Point;
    use crate::select::samples;
    use lgtm_core::model::{Matcher, TimeRange, is_stale_nan};

    fn answer(label: &str, times_ms: &[i64]) -> Arc<FrontendAnswer> {
        let floats = times_ms.iter().map(|t| Point {
            t_ms: TimestampMs::new(*t),
            value: *t as f64,
        });
        Arc::new(FrontendAnswer {
            series: vec![Series {
                labels: Labels::from_pairs([("a", label)]).unwrap(),
                floats: floats.collect(),
                histograms: Vec::new(),
            }],
            ..FrontendAnswer::default()
        })
    }

    #[tokio::test]
    async fn answers_are_read_as_series_that_end_where_they_have_gaps() {
        let steps = StepRange {
            start_ms: TimestampMs::EPOCH,
            end_ms: TimestampMs::new(65),
            step_ms: 10,
        };
        let parts = [
            vec![answer("same", &[0, 10, 30, 60]), answer("same", &[20])],
            vec![answer("alone", &[0])],
        ];
        let legs = EmbeddedLegs::new(steps, &parts).unwrap();
        let tenant = TenantId::new("t").unwrap();
        let select = |leg: &str| {
            let matchers = vec![Matcher::equal(LEG_LABEL, leg)];
            SelectRequest::new(matchers, TimeRange::inclusive(0, 100)).unwrap()
        };
        let mut batches = legs.select(&tenant, &select("0")).await.unwrap();
        let series = batches.next_batch().await.unwrap().unwrap();
        assert!(batches.next_batch().await.unwrap().is_none());
        let labels: Vec<String> = series.iter().map(|s| s.labels.to_string()).collect();
        assert_eq!(
            labels,
            [
                r#"{__query_shard__="0", a="same"}"#,
                r#"{__query_shard__="1", a="same"}"#
            ]
        );
        let read = |s: &SeriesChunks| -> Vec<(i64, bool)> {
            let all = samples(&s.chunks, TimeRange::inclusive(0, 100)).unwrap();
            let stale = |v: &SampleValue| matches!(v, SampleValue::Float(v) if is_stale_nan(*v));
            all.iter().map(|(t, v)| (t.get(), stale(v))).collect()
        };
        let wanted = [
            (0, false),
            (10, false),
            (20, true),
            (30, false),
            (40, true),
            (60, false),
        ];
        assert_eq!(read(&series[0]), wanted);
        assert_eq!(read(&series[1]), [(20, false), (30, true)]);
        let alone = legs.series(&tenant, &select("1")).await.unwrap();
        assert_eq!(alone.items[0].to_string(), r#"{a="alone"}"#);
        assert!(legs.select(&tenant, &select("2")).await.is_err());
    }
}
