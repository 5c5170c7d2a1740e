//! Series as answers tell them, as JSON and as protobuf.

use std::fmt::Write;

use lgtm_core::codec::protobuf::{put_message, put_varint_field};
use lgtm_core::exec::is_abandoned;

use super::json::{Members, push_search_metrics};
use super::protobuf::{put_attributes, put_double, put_number, put_search_metrics, put_text};
use crate::components::{Answered, QueryEnd};
use crate::traceql::{IntervalGrid, MetricsAnswer, Series};

/// `PartialStatus`
const PARTIAL: u64 = 1;

/// Which of the two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsKind {
    Range,
    Instant,
}

/// Series that are to be told.
#[derive(Debug)]
pub(super) struct MetricsText {
    kind: MetricsKind,
    pub(super) answer: MetricsAnswer,
    pub(super) end: QueryEnd,
}

impl MetricsText {
    pub(super) fn new(kind: MetricsKind, answered: Answered<MetricsAnswer>) -> Self {
        Self {
            kind,
            answer: answered.value,
            end: answered.end,
        }
    }

    /// Leaves out spans that stand for others: those of the whole answer are others than those of its parts.
    pub(super) fn without_exemplars(mut self) -> Self {
        for series in &mut self.answer.series {
            series.exemplars.clear();
        }
        self
    }

    /// Values that may have to be told.
    pub(super) fn cell_count(&self) -> usize {
        let series = self.answer.series.iter();
        series.map(|s| s.values.len() + s.labels.len()).sum()
    }

    /// What the answer lacks, and why; empty when it is whole.
    pub(super) fn message(&self) -> String {
        let cut = self.answer.partial.iter();
        let all: Vec<&str> = cut.chain(&self.end.warnings).map(String::as_str).collect();
        all.join("; ")
    }

    pub(super) fn json(&self) -> String {
        let mut out = String::new();
        let mut members = Members::open(&mut out);
        let wanted = self.answer.series.iter().take_while(|_| !is_abandoned());
        members.list("series", wanted, |out, series| match self.kind {
            MetricsKind::Range => push_range(out, series, &self.answer.grid),
            MetricsKind::Instant => push_instant(out, series, &self.answer.grid),
        });
        push_search_metrics(members.name("metrics"), &self.end);
        let message = self.message();
        if !message.is_empty() {
            members.text("status", "PARTIAL");
            members.text("message", &message);
        }
        members.close();
        out
    }

    /// Field `series` of `QueryRangeResponse` or `QueryInstantResponse`.
    pub(super) fn put_series(&self, out: &mut Vec<u8>, series: &Series) {
        put_message(out, 1, |out| {
            put_attributes(out, 1, &series.labels);
            let points = series.points(&self.answer.grid);
            match self.kind {
                MetricsKind::Instant => {
                    let value = points.last().map_or(0.0, |(_, value)| value);
                    put_double(out, 2, value);
                }
                MetricsKind::Range => {
                    for (ns, value) in points {
                        put_message(out, 2, |out| {
                            put_double(out, 1, value);
                            put_number(out, 2, ns / 1_000_000);
                        });
                    }
                    for exemplar in &series.exemplars {
                        put_message(out, 4, |out| {
                            put_attributes(out, 1, &exemplar.labels);
                            put_double(out, 2, exemplar.value);
                            put_number(out, 3, exemplar.start_ns / 1_000_000);
                        });
                    }
                }
            }
        });
    }

    /// What stands in every message.
    pub(super) fn put_metrics(&self, out: &mut Vec<u8>) {
        put_search_metrics(out, 2, &self.end);
    }

    /// What stands in the last one.
    pub(super) fn put_status(&self, out: &mut Vec<u8>) {
        let message = self.message();
        if !message.is_empty() {
            put_varint_field(out, 3, PARTIAL);
            put_text(out, 4, &message);
        }
    }
}

fn push_range(out: &mut String, series: &Series, grid: &IntervalGrid) {
    let mut members = Members::open(out);
    members.attributes("labels", &series.labels);
    members.list("samples", series.points(grid), |out, (ns, value)| {
        let mut members = Members::open(out);
        let _ = write!(members.name("timestampMs"), "\"{}\"", ns / 1_000_000);
        members.double("value", value);
        members.close();
    });
    if !series.exemplars.is_empty() {
        members.list("exemplars", &series.exemplars, |out, exemplar| {
            let mut members = Members::open(out);
            members.attributes("labels", &exemplar.labels);
            members.double("value", exemplar.value);
            members.long("timestampMs", exemplar.start_ns / 1_000_000);
            members.close();
        });
    }
    members.close();
}

fn push_instant(out: &mut String, series: &Series, grid: &IntervalGrid) {
    let mut members = Members::open(out);
    members.attributes("labels", &series.labels);
    let value = series.points(grid).last();
    members.double("value", value.map_or(0.0, |(_, value)| value));
    members.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traceql::AnswerValue;

    fn text(kind: MetricsKind, values: Vec<f64>) -> MetricsText {
        let answer = MetricsAnswer {
            grid: IntervalGrid {
                after_ns: 0,
                step_ns: 1_000_000_000,
                len: values.len(),
            },
            series: vec![Series {
                labels: vec![("__name__".into(), AnswerValue::Text("rate".into()))],
                values,
                exemplars: Vec::new(),
            }],
            partial: None,
        };
        let end = QueryEnd {
            warnings: vec!["a hole".into()],
            ..QueryEnd::default()
        };
        MetricsText::new(kind, Answered { value: answer, end })
    }

    #[test]
    fn points_that_are_no_numbers_and_values_of_zero_are_left_out() {
        let labels = r#""labels":[{"key":"__name__","value":{"stringValue":"rate"}}]"#;
        let tail = r#""metrics":{},"status":"PARTIAL","message":"a hole"}"#;
        let range = text(MetricsKind::Range, vec![0.0, f64::NAN, 1.5]);
        assert_eq!(
            range.json(),
            format!(
                r#"{{"series":[{{{labels},"samples":[{{"timestampMs":"1000"}},{{"timestampMs":"3000","value":1.5}}]}}],{tail}"#
            )
        );
        let instant = text(MetricsKind::Instant, vec![278.0]);
        assert_eq!(
            instant.json(),
            format!(r#"{{"series":[{{{labels},"value":278}}],{tail}"#)
        );
        let mut bytes = Vec::new();
        instant.put_series(&mut bytes, &instant.answer.series[0]);
        assert!(bytes.ends_with(&[0x11, 0, 0, 0, 0, 0, 0x60, 0x71, 0x40]));
    }
}
