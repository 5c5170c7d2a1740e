//! JSON as Prometheus prints it: sample values are strings, times are seconds with three decimals or none.

use std::fmt::Write;

use lgtm_core::go::json::push_quoted;
use lgtm_core::go::{push_float, push_plain_float, push_whole};
use lgtm_core::model::{FloatHistogram, Labels, TimestampMs};

use crate::promql::{Point, QueryStats, buckets};

pub(super) fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_quoted(out, name);
        out.push(':');
        push_quoted(out, value);
    }
    out.push('}');
}

/// A list of JSON strings.
pub(super) fn strings<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let mut out = String::from("[");
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_quoted(&mut out, item.as_ref());
    }
    out.push(']');
    out
}

/// Milliseconds as seconds.
pub(super) fn push_time(out: &mut String, t_ms: TimestampMs) {
    let (seconds, ms) = (
        (t_ms.get() / 1000).unsigned_abs(),
        (t_ms.get() % 1000).unsigned_abs(),
    );
    if t_ms < 0 {
        out.push('-');
    }
    push_whole(out, seconds);
    if ms != 0 {
        let _ = write!(out, ".{ms:03}");
    }
}

/// The point that a scalar is.
pub(super) fn push_scalar_point(out: &mut String, p: &Point<f64>) {
    out.push('[');
    push_time(out, p.t_ms);
    out.push_str(",\"");
    push_plain_float(out, p.value);
    out.push_str("\"]");
}

pub(super) fn push_float_point(out: &mut String, p: &Point<f64>) {
    out.push('[');
    push_time(out, p.t_ms);
    out.push_str(",\"");
    push_float(out, p.value);
    out.push_str("\"]");
}

pub(super) fn push_histogram_point(out: &mut String, p: &Point<FloatHistogram>) {
    out.push('[');
    push_time(out, p.t_ms);
    out.push_str(",{\"count\":\"");
    push_float(out, p.value.count);
    out.push_str("\",\"sum\":\"");
    push_float(out, p.value.sum);
    out.push('"');
    let mut first = true;
    buckets(&p.value, |rule, lower, upper, count| {
        out.push_str(if first { ",\"buckets\":[" } else { "," });
        first = false;
        let _ = write!(out, "[{rule},\"");
        push_float(out, lower);
        out.push_str("\",\"");
        push_float(out, upper);
        out.push_str("\",\"");
        push_float(out, count);
        out.push_str("\"]");
    });
    if !first {
        out.push(']');
    }
    out.push_str("}]");
}

/// The `stats` of a query's answer; `all` adds what Prometheus does not tell.
pub(super) fn push_stats(out: &mut String, stats: &QueryStats, all: bool) {
    let seconds = stats.elapsed.as_secs_f64();
    let _ = write!(
        out,
        "{{\"timings\":{{\"evalTotalTime\":{seconds},\"execTotalTime\":{seconds}}},\"samples\":{{\"totalQueryableSamples\":{},\"peakSamples\":{}}}",
        stats.samples_read, stats.peak_samples
    );
    if all {
        let f = &stats.fetched;
        let _ = write!(
            out,
            ",\"memory\":{{\"peakBytes\":{}}},\"fetched\":{{\"series\":{},\"chunks\":{},\"chunkBytes\":{}}}",
            stats.peak_bytes, f.series, f.chunks, f.chunk_bytes
        );
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_prometheus_does() {
        let float = |v| {
            let mut s = String::new();
            push_float(&mut s, v);
            s
        };
        for (v, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e-7, "1.25e-07"),
            (1e-6, "0.000001"),
            (-1e-100, "-1e-100"),
            (1.5e300, "1.5e+300"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float(v), text);
        }
        for (v, text) in [
            (1e21, "1000000000000000000000"),
            (1e-7, "0.0000001"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut s = String::new();
            push_scalar_point(
                &mut s,
                &Point {
                    t_ms: TimestampMs::EPOCH,
                    value: v,
                },
            );
            assert_eq!(s, format!("[0,\"{text}\"]"));
        }
        let time = |t| {
            let mut s = String::new();
            push_time(&mut s, t);
            s
        };
        assert_eq!(
            (
                time(TimestampMs::new(1000)),
                time(TimestampMs::new(1005)),
                time(TimestampMs::new(-1500))
            ),
            ("1".into(), "1.005".into(), "-1.500".into())
        );
    }

    #[test]
    fn a_zero_bucket_is_printed_if_it_counts_something() {
        for (zero_count, buckets) in [(2.0, true), (0.0, false), (-2.0, false), (f64::NAN, false)] {
            let value = FloatHistogram {
                zero_count,
                zero_threshold: 0.5,
                ..FloatHistogram::default()
            };
            let mut s = String::new();
            push_histogram_point(
                &mut s,
                &Point {
                    t_ms: TimestampMs::EPOCH,
                    value,
                },
            );
            assert_eq!(s.contains("[3,\"-0.5\",\"0.5\",\"2\"]"), buckets, "{s}");
            assert_eq!(s.contains("buckets"), buckets, "{s}");
        }
    }
}
