//! What several ingesters tell, as one answer.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Exemplar, Labels, Metadata};

use super::clients::MetricMetadata;
use crate::head::{
    HeadStats, HistogramCardinality, LabelCardinality, LabelNamesCardinality,
    LabelValuesCardinality, SeriesExemplars,
};
use crate::select::LabelBatches;

/// Each entry once.
pub(super) fn metadata(all: &mut MetricMetadata, more: MetricMetadata) {
    let mut by_name: BTreeMap<String, Vec<Metadata>> = std::mem::take(all).into_iter().collect();
    for (name, entries) in more {
        let known = by_name.entry(name).or_default();
        for entry in entries {
            if !known.contains(&entry) {
                known.push(entry);
            }
        }
    }
    all.extend(by_name);
}

/// Each exemplar once, those of a series in time order.
pub(super) fn exemplars(all: &mut SeriesExemplars, more: SeriesExemplars) {
    let mut by_series: BTreeMap<Labels, Vec<Exemplar>> = std::mem::take(all).into_iter().collect();
    for (labels, exemplars) in more {
        let known = by_series.entry(labels).or_default();
        for exemplar in exemplars {
            if !known.contains(&exemplar) {
                known.push(exemplar);
            }
        }
        known.sort_by_key(|e| e.t_ms);
    }
    all.extend(by_series);
}

/// Counts by text, most first, those of as many in the order of their texts; at most `limit`.
fn counts(
    all: &mut Vec<(String, u64)>,
    more: Vec<(String, u64)>,
    limit: usize,
    join: impl Fn(u64, u64) -> u64,
) {
    let mut by_text: BTreeMap<String, u64> = std::mem::take(all).into_iter().collect();
    for (text, count) in more {
        let known = by_text.entry(text).or_default();
        *known = join(*known, count);
    }
    all.extend(by_text);
    // Stable: those of equal counts stay in order.
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.truncate(limit);
}

fn sum(a: u64, b: u64) -> u64 {
    a + b
}

pub(super) fn label_names(
    all: &mut LabelNamesCardinality,
    more: LabelNamesCardinality,
    limit: usize,
) {
    all.values_total = all.values_total.max(more.values_total);
    all.names_total = all.names_total.max(more.names_total);
    counts(&mut all.names, more.names, limit, u64::max);
}

pub(super) fn label_values(
    all: &mut LabelValuesCardinality,
    more: LabelValuesCardinality,
    limit: usize,
) {
    all.series_total += more.series_total;
    for label in more.labels {
        match all.labels.iter_mut().find(|l| l.name == label.name) {
            Some(known) => {
                known.values_total = known.values_total.max(label.values_total);
                known.series_total += label.series_total;
                counts(&mut known.values, label.values, limit, sum);
            }
            None => all.labels.push(label),
        }
    }
    let rank = |l: &LabelCardinality| (std::cmp::Reverse(l.series_total), l.name.clone());
    all.labels.sort_by_key(rank);
}

pub(super) fn histograms(all: &mut Vec<HistogramCardinality>, more: Vec<HistogramCardinality>) {
    for next in more {
        match all.binary_search_by(|known| known.metric.cmp(&next.metric)) {
            Ok(at) => {
                let known = &mut all[at];
                known.series += next.series;
                known.buckets += next.buckets;
                known.min_buckets = known.min_buckets.min(next.min_buckets);
                known.max_buckets = known.max_buckets.max(next.max_buckets);
            }
            Err(at) => all.insert(at, next),
        }
    }
}

pub(super) fn head_stats(all: &mut HeadStats, more: HeadStats, limit: usize) {
    let earlier = [all.min_ms, more.min_ms].into_iter().flatten().min();
    (all.min_ms, all.max_ms) = (earlier, all.max_ms.max(more.max_ms));
    all.series += more.series;
    all.chunks += more.chunks;
    all.label_pairs = all.label_pairs.max(more.label_pairs);
    counts(&mut all.series_by_metric, more.series_by_metric, limit, sum);
    counts(
        &mut all.values_by_name,
        more.values_by_name,
        limit,
        u64::max,
    );
    counts(&mut all.bytes_by_name, more.bytes_by_name, limit, sum);
    counts(&mut all.series_by_pair, more.series_by_pair, limit, sum);
}

/// One stream after the other.
pub(super) fn label_batches(mut all: Vec<Box<dyn LabelBatches>>) -> Box<dyn LabelBatches> {
    if all.len() == 1
        && let Some(one) = all.pop()
    {
        return one;
    }
    Box::new(LabelBatchesInTurn(all))
}

#[derive(Debug)]
struct LabelBatchesInTurn(Vec<Box<dyn LabelBatches>>);

#[async_trait]
impl LabelBatches for LabelBatchesInTurn {
    async fn next_batch(&mut self) -> Result<Option<Vec<Labels>>> {
        while let Some(last) = self.0.last_mut() {
            if let Some(batch) = last.next_batch().await? {
                return Ok(Some(batch));
            }
            self.0.pop();
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::{MetricType, TimestampMs};

    use super::*;

    fn pairs(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect()
    }

    #[test]
    fn what_replicas_tell_alike_stands_once() {
        let entry = |metric_type| Metadata {
            metric_type,
            ..Metadata::default()
        };
        let (counter, gauge) = (entry(MetricType::Counter), entry(MetricType::Gauge));
        let mut all = vec![("a".to_owned(), vec![counter.clone()])];
        let more = vec![
            ("a".to_owned(), vec![counter.clone(), gauge.clone()]),
            ("b".to_owned(), vec![gauge.clone()]),
        ];
        metadata(&mut all, more);
        let wanted = [
            ("a".to_owned(), vec![counter, gauge.clone()]),
            ("b".to_owned(), vec![gauge]),
        ];
        assert_eq!(all, wanted);

        let labels = |job| Labels::from_pairs([("job", job)]).unwrap();
        let at = |t_ms| Exemplar {
            labels: labels("x"),
            value: 1.0,
            t_ms,
        };
        let mut all = vec![(
            labels("b"),
            vec![at(TimestampMs::new(1)), at(TimestampMs::new(3))],
        )];
        let more = vec![
            (labels("a"), vec![at(TimestampMs::new(9))]),
            (
                labels("b"),
                vec![at(TimestampMs::new(2)), at(TimestampMs::new(3))],
            ),
        ];
        exemplars(&mut all, more);
        let wanted = [
            (labels("a"), vec![at(TimestampMs::new(9))]),
            (
                labels("b"),
                vec![
                    at(TimestampMs::new(1)),
                    at(TimestampMs::new(2)),
                    at(TimestampMs::new(3)),
                ],
            ),
        ];
        assert_eq!(all, wanted);
    }

    #[test]
    fn counts_of_series_add_up_and_the_most_come_first() {
        let label = |name: &str, values: &[(&str, u64)]| LabelCardinality {
            name: name.to_owned(),
            values_total: values.len() as u64,
            series_total: values.iter().map(|v| v.1).sum(),
            values: pairs(values),
        };
        let mut all = LabelValuesCardinality {
            series_total: 5,
            labels: vec![label("job", &[("a", 3), ("b", 2)])],
        };
        let more = LabelValuesCardinality {
            series_total: 9,
            labels: vec![
                label("pod", &[("x", 6)]),
                label("job", &[("c", 4), ("b", 3)]),
            ],
        };
        label_values(&mut all, more, 2);
        assert_eq!(all.series_total, 14);
        let [job, pod] = &all.labels[..] else {
            panic!("{all:?}")
        };
        assert_eq!((job.name.as_str(), job.series_total), ("job", 12));
        assert_eq!(job.values, pairs(&[("b", 5), ("c", 4)]));
        assert_eq!(pod.series_total, 6);

        let mut all = LabelNamesCardinality {
            values_total: 7,
            names_total: 2,
            names: pairs(&[("job", 5), ("pod", 2)]),
        };
        let more = LabelNamesCardinality {
            values_total: 9,
            names_total: 2,
            names: pairs(&[("pod", 6), ("job", 3)]),
        };
        label_names(&mut all, more, 20);
        assert_eq!(all.names, pairs(&[("pod", 6), ("job", 5)]));
        assert_eq!((all.values_total, all.names_total), (9, 2));
    }

    #[test]
    fn histograms_and_heads_are_taken_together() {
        let of = |metric: &str, series, min_buckets, max_buckets| HistogramCardinality {
            metric: metric.to_owned(),
            series,
            buckets: series * max_buckets,
            min_buckets,
            max_buckets,
        };
        let mut all = vec![of("b", 2, 4, 8)];
        histograms(&mut all, vec![of("a", 1, 1, 1), of("b", 1, 2, 5)]);
        let both = HistogramCardinality {
            buckets: 21,
            ..of("b", 3, 2, 8)
        };
        assert_eq!(all, [of("a", 1, 1, 1), both]);

        let mut empty = HeadStats::default();
        let held = HeadStats {
            series: 3,
            min_ms: Some(TimestampMs::new(-5)),
            max_ms: Some(TimestampMs::new(7)),
            series_by_metric: pairs(&[("up", 3)]),
            ..HeadStats::default()
        };
        head_stats(&mut empty, held.clone(), 10);
        assert_eq!((empty.min_ms, empty.max_ms), (held.min_ms, held.max_ms));
        head_stats(&mut empty, held, 10);
        assert_eq!(
            (empty.series, &empty.series_by_metric),
            (6, &pairs(&[("up", 6)]))
        );
    }

    #[tokio::test]
    async fn streams_are_read_in_turn() {
        #[derive(Debug)]
        struct One(Option<&'static str>);

        #[async_trait]
        impl LabelBatches for One {
            async fn next_batch(&mut self) -> Result<Option<Vec<Labels>>> {
                let job = self.0.take();
                Ok(job.map(|job| vec![Labels::from_pairs([("job", job)]).unwrap()]))
            }
        }
        for count in 0..3 {
            let all = ["a", "b"].into_iter().take(count);
            let mut all = label_batches(all.map(|j| Box::new(One(Some(j))) as _).collect());
            let mut seen = 0;
            while let Some(batch) = all.next_batch().await.unwrap() {
                seen += batch.len();
            }
            assert_eq!(seen, count);
        }
    }
}
