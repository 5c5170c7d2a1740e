//! The answer to a query as JSON, made in pieces: a large one is printed while it is sent, so that it never stands in memory as text.

use std::fmt::Write;

use axum::body::{Body, Bytes};
use futures::stream;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::go::json::push_quoted;
use lgtm_core::{Error, Result};

use super::json::{
    push_float_point, push_histogram_point, push_labels, push_scalar_point, push_stats, push_time,
    strings,
};
use super::query::TRUNCATED;
use crate::promql::{Answer, Point, QueryValue, Series};

/// What one job prints, about, but for a label of which one value is longer.
const PIECE_BYTES: usize = 256 << 10;
/// What is printed where it is asked for: points and labels, as many as take a fraction of a millisecond.
const INLINE: usize = 1000;

/// An answer that is being printed.
pub(super) struct AnswerText {
    answer: Answer,
    /// Series that are printed; the limit leaves out the others.
    most: usize,
    /// What stands behind the list.
    tail: String,
    place: Place,
}

/// Where printing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    /// Before a series.
    Series(usize),
    /// Before a float of a series.
    Float(usize, usize),
    /// Before a histogram of a series.
    Histogram(usize, usize),
    End,
}

impl AnswerText {
    /// Prints at most `limit` series, all if it is 0. `stats`: whether statistics are asked for, and which.
    pub(super) fn new(answer: Answer, limit: usize, stats: Option<&str>) -> Self {
        let most = if limit == 0 { usize::MAX } else { limit };
        let is_cut = match &answer.value {
            QueryValue::Vector(all) | QueryValue::Matrix(all) => all.len() > most,
            QueryValue::Scalar(_) | QueryValue::Text(_) => false,
        };
        let mut tail = String::new();
        if let Some(stats) = stats {
            tail.push_str(",\"stats\":");
            push_stats(&mut tail, &answer.stats, stats == "all");
        }
        tail.push('}');
        let mut warnings = answer.warnings.clone();
        if is_cut {
            warnings.push(TRUNCATED.into());
        }
        for (key, list) in [("warnings", &warnings), ("infos", &answer.infos)] {
            if !list.is_empty() {
                let _ = write!(tail, ",\"{key}\":{}", strings(list));
            }
        }
        tail.push('}');
        Self {
            answer,
            most,
            tail,
            place: Place::Begin,
        }
    }

    /// Whether printing it takes longer than a thread of the runtime should be held.
    fn is_large(&self) -> bool {
        let of =
            |s: &Series| 1 + s.labels.size_bytes() / 64 + s.floats.len() + 100 * s.histograms.len();
        match &self.answer.value {
            QueryValue::Vector(all) | QueryValue::Matrix(all) => {
                let mut cost = 0;
                all.iter().any(|s| {
                    cost += of(s);
                    cost > INLINE
                })
            }
            QueryValue::Scalar(_) => false,
            QueryValue::Text(point) => point.value.len() > PIECE_BYTES,
        }
    }

    /// The text as a body: whole if it is small, else piece by piece in the compute pool as the client takes it.
    pub(super) fn into_body(mut self, executor: Executor) -> Body {
        let is_large = self.is_large();
        printed(is_large, executor, move |out| self.print(out))
    }

    /// Prints the next piece; whether there is more.
    fn print(&mut self, out: &mut String) -> bool {
        while out.len() < PIECE_BYTES && self.place != Place::End {
            self.place = self.step(out);
        }
        self.place != Place::End
    }

    /// Prints what stands at a place; the next place.
    fn step(&self, out: &mut String) -> Place {
        let (all, is_matrix) = match &self.answer.value {
            QueryValue::Vector(all) => (all, false),
            QueryValue::Matrix(all) => (all, true),
            QueryValue::Scalar(p) => {
                out.push_str(
                    "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":",
                );
                push_scalar_point(out, p);
                return self.end(out);
            }
            QueryValue::Text(p) => {
                out.push_str(
                    "{\"status\":\"success\",\"data\":{\"resultType\":\"string\",\"result\":[",
                );
                push_time(out, p.t_ms);
                out.push(',');
                push_quoted(out, &p.value);
                out.push(']');
                return self.end(out);
            }
        };
        match self.place {
            Place::Begin => {
                let kind = if is_matrix { "matrix" } else { "vector" };
                let _ = write!(
                    out,
                    "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":["
                );
                Place::Series(0)
            }
            Place::Series(n) => match all.get(n).filter(|_| n < self.most) {
                None => {
                    out.push(']');
                    self.end(out)
                }
                Some(series) => {
                    out.push_str(if n > 0 {
                        ",{\"metric\":"
                    } else {
                        "{\"metric\":"
                    });
                    push_labels(out, &series.labels);
                    if is_matrix {
                        Place::Float(n, 0)
                    } else {
                        push_value(out, series);
                        Place::Series(n + 1)
                    }
                }
            },
            Place::Float(n, at) => {
                match points(out, "values", &all[n].floats, at, push_float_point) {
                    Some(next) => Place::Float(n, next),
                    None => Place::Histogram(n, 0),
                }
            }
            Place::Histogram(n, at) => {
                let all = &all[n].histograms;
                match points(out, "histograms", all, at, push_histogram_point) {
                    Some(next) => Place::Histogram(n, next),
                    None => {
                        out.push('}');
                        Place::Series(n + 1)
                    }
                }
            }
            Place::End => Place::End,
        }
    }

    fn end(&self, out: &mut String) -> Place {
        out.push_str(&self.tail);
        Place::End
    }
}

/// A text that `print` makes piece by piece, saying whether there is more, as a body: whole if it is small, else each piece in the compute pool
/// as the client takes it.
pub(super) fn printed(
    is_large: bool,
    executor: Executor,
    mut print: impl FnMut(&mut String) -> bool + Send + 'static,
) -> Body {
    if !is_large {
        let mut out = String::new();
        while print(&mut out) {}
        return Body::from(out);
    }
    let pieces = stream::try_unfold(Some(print), move |print| {
        let executor = executor.clone();
        async move {
            let Some(mut print) = print else {
                return Ok(None);
            };
            let job = move |_: &CancelToken| {
                let mut out = String::with_capacity(PIECE_BYTES + 4096);
                let more = print(&mut out);
                Ok::<_, Error>((Bytes::from(out), more.then_some(print)))
            };
            let piece: Result<_> = executor.run(job, &CancelToken::new()).await;
            piece.map(Some)
        }
    });
    Body::from_stream(pieces)
}

/// A list of so many items as a body, as [`printed`]: `push` prints the item of a number.
pub(super) fn printed_list(
    len: usize,
    is_large: bool,
    tail: String,
    executor: Executor,
    push: impl Fn(&mut String, usize) + Send + 'static,
) -> Body {
    let mut next = 0;
    printed(is_large, executor, move |out| {
        if next == 0 {
            out.push_str("{\"status\":\"success\",\"data\":[");
        }
        while next < len && out.len() < PIECE_BYTES {
            if next > 0 {
                out.push(',');
            }
            push(out, next);
            next += 1;
        }
        if next < len {
            return true;
        }
        out.push(']');
        out.push_str(&tail);
        false
    })
}

/// The only point of a series.
fn push_value(out: &mut String, series: &Series) {
    if let Some(p) = series.floats.first() {
        out.push_str(",\"value\":");
        push_float_point(out, p);
    } else if let Some(p) = series.histograms.first() {
        out.push_str(",\"histogram\":");
        push_histogram_point(out, p);
    }
    out.push('}');
}

/// Prints a list from a place on until there is enough for a piece: the next place, or `None` at the end of the list.
fn points<T>(
    out: &mut String,
    key: &str,
    list: &[Point<T>],
    mut at: usize,
    push: fn(&mut String, &Point<T>),
) -> Option<usize> {
    while let Some(point) = list.get(at) {
        if at > 0 {
            out.push(',');
        } else {
            let _ = write!(out, ",\"{key}\":[");
        }
        push(out, point);
        at += 1;
        if out.len() >= PIECE_BYTES && at < list.len() {
            return Some(at);
        }
    }
    if !list.is_empty() {
        out.push(']');
    }
    None
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::{FloatHistogram, Labels, TimestampMs};

    use super::*;

    fn answer(value: QueryValue) -> Answer {
        Answer {
            value,
            warnings: vec!["w".into()],
            infos: Vec::new(),
            stats: Default::default(),
            memory: Default::default(),
        }
    }

    fn series(points: i64) -> Vec<Series> {
        let one = |n: usize| Series {
            labels: Labels::from_pairs([("a", n.to_string())]).unwrap(),
            floats: (0..points)
                .map(|t| Point {
                    t_ms: TimestampMs::new(t * 1000),
                    value: 0.5,
                })
                .collect(),
            histograms: vec![Point {
                t_ms: TimestampMs::EPOCH,
                value: FloatHistogram::default(),
            }],
        };
        (0..3).map(one).collect()
    }

    async fn text(value: QueryValue, limit: usize) -> (String, bool) {
        let text = AnswerText::new(answer(value), limit, None);
        let is_large = text.is_large();
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let bytes = axum::body::to_bytes(text.into_body(executor), usize::MAX);
        (
            String::from_utf8(bytes.await.unwrap().into()).unwrap(),
            is_large,
        )
    }

    #[tokio::test]
    async fn an_answer_serializes_as_it_is_printed() {
        let point = |value: &str| Point {
            t_ms: TimestampMs::new(-1500),
            value: value.to_owned(),
        };
        let mut odd = series(2);
        odd[0].floats[0].value = f64::NAN;
        odd[1].histograms[0].value = FloatHistogram {
            zero_count: 2.0,
            zero_threshold: 0.5,
            ..FloatHistogram::default()
        };
        odd[2].floats.clear();
        let scalar = Point {
            t_ms: TimestampMs::new(1005),
            value: 1e21,
        };
        for value in [
            QueryValue::Matrix(odd.clone()),
            QueryValue::Vector(odd),
            QueryValue::Matrix(Vec::new()),
            QueryValue::Scalar(scalar),
            QueryValue::Text(point("a\"b")),
        ] {
            let (printed, _) = text(value.clone(), 0).await;
            let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
            assert_eq!(serde_json::to_value(answer(value)).unwrap(), printed);
        }
    }

    #[tokio::test]
    async fn pieces_are_one_text() {
        for points in [0, 1, 2, 30_000] {
            let (printed, is_large) = text(QueryValue::Matrix(series(points)), 2).await;
            assert_eq!(is_large, points > 1000);
            let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
            assert_eq!(json["data"]["resultType"], "matrix");
            assert_eq!(json["warnings"][1], TRUNCATED);
            let list = json["data"]["result"].as_array().unwrap();
            assert_eq!(list.len(), 2);
            for s in list {
                let values = s["values"].as_array().map_or(0, Vec::len);
                assert_eq!(values as i64, points);
                assert_eq!(s["histograms"].as_array().unwrap().len(), 1);
            }
        }
        let (vector, _) = text(QueryValue::Vector(series(1)), 0).await;
        assert!(vector.starts_with(
            "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"a\":\"0\"},\"value\":[0,\"0.5\"]},{"
        ), "{vector}");
        let point = |value: String| Point {
            t_ms: TimestampMs::new(1000),
            value,
        };
        let (string, _) = text(QueryValue::Text(point("x".into())), 0).await;
        assert!(
            string.contains("\"string\",\"result\":[1,\"x\"]}"),
            "{string}"
        );
        let (scalar, _) = text(
            QueryValue::Scalar(Point {
                t_ms: TimestampMs::EPOCH,
                value: 2.0,
            }),
            0,
        )
        .await;
        assert!(
            scalar.contains("\"scalar\",\"result\":[0,\"2\"]},\"warnings\":[\"w\"]}"),
            "{scalar}"
        );
    }
}
