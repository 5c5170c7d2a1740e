//! Warnings and infos: what a query noticed on its way, with the place in its text.

use std::collections::BTreeMap;

use lgtm_core::go::{format_short, format_two_digits, quote};
use lgtm_core::model::TimestampMs;

use super::error::line_and_column;

/// How grave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    Warning,
    Info,
}

/// What was noticed about a metric or an expression. The texts are those of Prometheus 3.14.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Note {
    InvalidQuantile(f64),
    InvalidRatio {
        given: f64,
        capped: f64,
    },
    BadBucketLabel {
        metric: String,
        label: String,
    },
    MixedFloatsHistograms {
        metric: String,
    },
    MixedFloatsHistogramsInAggregation,
    MixedClassicNative {
        metric: String,
    },
    NotCounter {
        metric: String,
    },
    NotGauge {
        metric: String,
    },
    MixedExponentialCustom {
        metric: String,
    },
    IncompatibleBucketLayout {
        op: &'static str,
    },
    SortInRangeQuery,
    HintCollision(Operation),
    StartTimeOverlap {
        metric: String,
    },
    PossibleNonCounter {
        metric: String,
    },
    IncompatibleTypes {
        lhs: &'static str,
        op: &'static str,
        rhs: &'static str,
    },
    IgnoredInAggregation {
        aggregation: &'static str,
    },
    IgnoredInMixedRange {
        metric: String,
    },
    QuantileNanResult {
        metric: String,
    },
    QuantileNanSkew {
        metric: String,
    },
    FractionNans {
        metric: String,
    },
    BoundsReconciled(Operation),
    ForcedMonotonicity {
        metric: String,
        forced: Forced,
    },
}

/// What was done to histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// How much of classic buckets had to be raised so that they ascend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Forced {
    pub(crate) min_bucket: f64,
    pub(crate) max_bucket: f64,
    pub(crate) max_diff: f64,
    pub(crate) first_ms: TimestampMs,
    pub(crate) last_ms: TimestampMs,
    pub(crate) samples: u64,
}

impl Forced {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.min_bucket = self.min_bucket.min(other.min_bucket);
        self.max_bucket = self.max_bucket.max(other.max_bucket);
        self.max_diff = self.max_diff.max(other.max_diff);
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.samples += other.samples;
    }
}

fn for_metric(text: &str, metric: &str) -> String {
    match metric {
        "" => text.to_owned(),
        metric => format!("{text} for metric name {}", quote(metric)),
    }
}

impl Note {
    pub(crate) fn level(&self) -> Level {
        match self {
            Self::PossibleNonCounter { .. }
            | Self::IncompatibleTypes { .. }
            | Self::IgnoredInAggregation { .. }
            | Self::IgnoredInMixedRange { .. }
            | Self::QuantileNanResult { .. }
            | Self::QuantileNanSkew { .. }
            | Self::FractionNans { .. }
            | Self::BoundsReconciled(_)
            | Self::ForcedMonotonicity { .. } => Level::Info,
            _ => Level::Warning,
        }
    }

    /// The text by which equal notes are one.
    fn text(&self) -> String {
        match self {
            Self::InvalidQuantile(q) => {
                format!(
                    "quantile value should be between 0 and 1, got {}",
                    format_short(*q)
                )
            }
            Self::InvalidRatio { given, capped } => format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                format_short(*given),
                format_short(*capped)
            ),
            Self::BadBucketLabel { metric, label } => for_metric(
                &format!(
                    "bucket label \"le\" is missing or has a malformed value of {}",
                    quote(label)
                ),
                metric,
            ),
            Self::MixedFloatsHistograms { metric } => format!(
                "encountered a mix of histograms and floats for metric name {}",
                quote(metric)
            ),
            Self::MixedFloatsHistogramsInAggregation => {
                "encountered a mix of histograms and floats for aggregation".into()
            }
            Self::MixedClassicNative { metric } => for_metric(
                "vector contains a mix of classic and native histograms",
                metric,
            ),
            Self::NotCounter { metric } => {
                format!(
                    "this native histogram metric is not a counter: {}",
                    quote(metric)
                )
            }
            Self::NotGauge { metric } => {
                format!(
                    "this native histogram metric is not a gauge: {}",
                    quote(metric)
                )
            }
            Self::MixedExponentialCustom { metric } => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                quote(metric)
            ),
            Self::IncompatibleBucketLayout { op } => {
                format!("incompatible bucket layout encountered for binary operator {op}")
            }
            Self::SortInRangeQuery => {
                "sort is ineffective for range queries since results are always ordered by labels"
                    .into()
            }
            Self::HintCollision(op) => {
                format!("conflicting counter resets during histogram {}", op.name())
            }
            Self::StartTimeOverlap { metric } => format!(
                "sample has start time that overlaps with previous sample timestamp for metric {}",
                quote(metric)
            ),
            Self::PossibleNonCounter { metric } => format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quote(metric)
            ),
            Self::IncompatibleTypes { lhs, op, rhs } => format!(
                "incompatible sample types encountered for binary operator {}: {lhs} {op} {rhs}",
                quote(op)
            ),
            Self::IgnoredInAggregation { aggregation } => {
                format!("ignored histogram in {aggregation} aggregation")
            }
            Self::IgnoredInMixedRange { metric } => format!(
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                quote(metric)
            ),
            Self::QuantileNanResult { metric } => for_metric(
                "input to histogram_quantile has NaN observations, result is NaN",
                metric,
            ),
            Self::QuantileNanSkew { metric } => for_metric(
                "input to histogram_quantile has NaN observations, result is skewed higher",
                metric,
            ),
            Self::FractionNans { metric } => for_metric(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions",
                metric,
            ),
            Self::BoundsReconciled(op) => {
                format!(
                    "mismatched custom buckets were reconciled during {}",
                    op.name()
                )
            }
            Self::ForcedMonotonicity { metric, .. } => for_metric(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
                metric,
            ),
        }
    }

    /// What follows the text of a note that sums up many.
    fn details(&self) -> String {
        let Self::ForcedMonotonicity { forced: f, .. } = self else {
            return String::new();
        };
        format!(
            ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
            format_short(f.min_bucket),
            format_short(f.max_bucket),
            format_two_digits(f.max_diff),
            f.samples,
            rfc3339(f.first_ms),
            rfc3339(f.last_ms)
        )
    }
}

/// Whole seconds, UTC.
fn rfc3339(t_ms: TimestampMs) -> String {
    let seconds = t_ms.get() / 1000;
    let date = super::functions::Date::of_seconds(seconds);
    let of_day = seconds.rem_euclid(86_400);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year,
        date.month,
        date.day,
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Notes, each once, with the place of the first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Annotations(BTreeMap<(Level, String), (Note, usize)>);

impl Annotations {
    /// Adds a note about the expression that begins at byte `at` of the query.
    pub(crate) fn add(&mut self, note: Note, at: usize) {
        let key = (note.level(), note.text());
        match self.0.get_mut(&key) {
            None => drop(self.0.insert(key, (note, at))),
            Some((Note::ForcedMonotonicity { forced, .. }, _)) => {
                if let Note::ForcedMonotonicity { forced: more, .. } = &note {
                    forced.merge(more);
                }
            }
            Some(_) => {}
        }
    }

    /// Takes over the notes of `other`.
    pub(crate) fn merge(&mut self, other: Self) {
        for (note, at) in other.0.into_values() {
            self.add(note, at);
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The texts of one level, with line and column in `query`; at most `most`, then a line that says how many were left out.
    pub(crate) fn texts(&self, level: Level, query: &str, most: usize) -> Vec<String> {
        let word = match level {
            Level::Warning => "warning",
            Level::Info => "info",
        };
        let all = self.0.iter().filter(|((l, _), _)| *l == level);
        let total = all.clone().count();
        let mut out: Vec<String> = all
            .take(most)
            .map(|((_, text), (note, at))| {
                let (line, column) = line_and_column(query, *at).unwrap_or((1, 1));
                format!("PromQL {word}: {text}{} ({line}:{column})", note.details())
            })
            .collect();
        if total > most {
            out.push(format!("{} more {word} annotations omitted", total - most));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_notes_are_one_and_places_are_told() {
        let mut a = Annotations::default();
        a.add(Note::InvalidQuantile(1.5), 5);
        a.add(Note::InvalidQuantile(1.5), 9);
        a.add(Note::SortInRangeQuery, 0);
        let texts = a.texts(Level::Warning, "abc\ndef", 10);
        assert_eq!(
            texts[0],
            "PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:2)"
        );
        assert_eq!(texts.len(), 2);
        assert_eq!(
            a.texts(Level::Warning, "", 1)[1],
            "1 more warning annotations omitted"
        );
        assert!(a.texts(Level::Info, "", 10).is_empty());
    }

    #[test]
    fn forced_monotonicity_is_summed_up() {
        let mut a = Annotations::default();
        for (at, t) in [(1, 1000), (1, 5000)] {
            let forced = Forced {
                min_bucket: 0.5,
                max_bucket: 2.0,
                max_diff: 0.25,
                first_ms: TimestampMs::new(t),
                last_ms: TimestampMs::new(t),
                samples: 1,
            };
            a.add(
                Note::ForcedMonotonicity {
                    metric: String::new(),
                    forced,
                },
                at,
            );
        }
        let text = &a.texts(Level::Info, "x", 10)[0];
        assert!(
            text.ends_with(
                "from buckets 0.5 to 2, with a max diff of 0.25, over 2 samples from 1970-01-01T00:00:01Z to 1970-01-01T00:00:05Z (1:2)"
            ),
            "{text}"
        );
    }
}
