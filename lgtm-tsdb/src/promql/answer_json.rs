//! Answers as the query API writes them, for whoever hands them on: `serde_json::to_string(&answer)`.
//!
//! Values are strings and times are seconds, as Prometheus has it. The HTTP door prints the same text in pieces and faster.

use lgtm_core::go::{push_float, push_plain_float};
use lgtm_core::model::{BucketSpan, FloatHistogram};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::answer::{Answer, Point, QueryValue, Series};
use super::histogram::upper_bound;

/// A time in seconds: a whole number where it is one.
struct Seconds(i64);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            to.serialize_i64(self.0 / 1000)
        } else {
            to.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

/// A number in a string.
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        push_float(&mut text, self.0);
        to.serialize_str(&text)
    }
}

impl Serialize for Point<f64> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (Seconds(self.t_ms.get()), Number(self.value)).serialize(to)
    }
}

impl Serialize for Point<String> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (Seconds(self.t_ms.get()), &self.value).serialize(to)
    }
}

impl Serialize for Point<FloatHistogram> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (Seconds(self.t_ms.get()), Buckets(&self.value)).serialize(to)
    }
}

struct Buckets<'a>(&'a FloatHistogram);

impl Serialize for Buckets<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = Vec::new();
        buckets(self.0, |rule, lower, upper, count| {
            list.push((rule, Number(lower), Number(upper), Number(count)));
        });
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("count", &Number(self.0.count))?;
        map.serialize_entry("sum", &Number(self.0.sum))?;
        if !list.is_empty() {
            map.serialize_entry("buckets", &list)?;
        }
        map.end()
    }
}

/// A series with one point, as vectors have it.
struct Sample<'a>(&'a Series);

impl Serialize for Sample<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("metric", &self.0.labels)?;
        if let Some(point) = self.0.floats.first() {
            map.serialize_entry("value", point)?;
        } else if let Some(point) = self.0.histograms.first() {
            map.serialize_entry("histogram", point)?;
        }
        map.end()
    }
}

/// With all its points, as a matrix has it.
impl Serialize for Series {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("metric", &self.labels)?;
        if !self.floats.is_empty() {
            map.serialize_entry("values", &self.floats[..])?;
        }
        if !self.histograms.is_empty() {
            map.serialize_entry("histograms", &self.histograms)?;
        }
        map.end()
    }
}

/// The API's `data`.
impl Serialize for QueryValue {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(2))?;
        match self {
            Self::Vector(all) => {
                map.serialize_entry("resultType", "vector")?;
                map.serialize_entry("result", &all.iter().map(Sample).collect::<Vec<_>>())?;
            }
            Self::Matrix(all) => {
                map.serialize_entry("resultType", "matrix")?;
                map.serialize_entry("result", all)?;
            }
            Self::Scalar(point) => {
                let mut text = String::new();
                push_plain_float(&mut text, point.value);
                map.serialize_entry("resultType", "scalar")?;
                map.serialize_entry("result", &(Seconds(point.t_ms.get()), text))?;
            }
            Self::Text(point) => {
                map.serialize_entry("resultType", "string")?;
                map.serialize_entry("result", point)?;
            }
        }
        map.end()
    }
}

/// The whole body of the API's answer.
impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("status", "success")?;
        map.serialize_entry("data", &self.value)?;
        for (name, list) in [("warnings", &self.warnings), ("infos", &self.infos)] {
            if !list.is_empty() {
                map.serialize_entry(name, list)?;
            }
        }
        map.end()
    }
}

/// The buckets that are not empty, from the lowest to the highest: rule (0 open left, 1 open right, 3 closed), bounds, count. A bucket
/// that reaches into the zero bucket ends where that begins.
pub(crate) fn buckets(h: &FloatHistogram, mut sink: impl FnMut(u8, f64, f64, f64)) {
    let list = |spans: &[BucketSpan], counts: &[f64]| {
        let mut next = 0i64;
        let mut out = Vec::new();
        let mut counts = counts.iter();
        for s in spans {
            next += i64::from(s.offset);
            for _ in 0..s.length {
                if let Some(c) = counts.next() {
                    out.push((next, *c));
                }
                next += 1;
            }
        }
        out
    };
    let bound = |i: i64| upper_bound(h, i32::try_from(i).unwrap_or(i32::MAX));
    for (i, count) in list(&h.negative_spans, &h.negative_counts)
        .into_iter()
        .rev()
    {
        if count != 0.0 {
            let upper = (-bound(i - 1)).min(-h.zero_threshold);
            sink(1, -bound(i), upper, count);
        }
    }
    // Neither a negative count nor none: what is left of a histogram divided by 0 has no buckets.
    if h.zero_count > 0.0 {
        sink(3, -h.zero_threshold, h.zero_threshold, h.zero_count);
    }
    for (i, count) in list(&h.positive_spans, &h.positive_counts) {
        if count != 0.0 {
            let lower = if h.uses_custom_buckets() {
                bound(i - 1)
            } else {
                bound(i - 1).max(h.zero_threshold)
            };
            sink(0, lower, bound(i), count);
        }
    }
}
