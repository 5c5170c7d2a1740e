//! The answer to a query as JSON, made in pieces: a large one is printed while it is sent, so that it never stands in memory as text.

use axum::body::{Body, Bytes};
use futures::stream;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::{Error, Result};

use super::json::success;
use crate::logql::{Answer, AnswerPrinter, LabelEncoding, QueryValue};

/// What one job prints, about, but for a line of which one is longer.
const PIECE_BYTES: usize = 256 << 10;
/// What is printed where it is asked for: bytes of lines and labels, as many as take a fraction of a millisecond.
const INLINE_BYTES: usize = 64 << 10;
/// Bytes that a point is printed in, about.
const POINT_BYTES: usize = 32;

/// An answer that is being printed.
pub(super) struct AnswerText {
    answer: Answer,
    printer: AnswerPrinter,
    has_begun: bool,
}

impl AnswerText {
    pub(super) fn new(answer: Answer, encoding: LabelEncoding) -> Self {
        Self {
            printer: AnswerPrinter::new(encoding, Some(answer.stats)),
            answer,
            has_begun: false,
        }
    }

    /// Whether printing it takes longer than a thread of the runtime should be held.
    fn is_large(&self) -> bool {
        let mut bytes = 0;
        let mut add = |more: usize| {
            bytes += more;
            bytes > INLINE_BYTES
        };
        match &self.answer.value {
            QueryValue::Streams(all) => all.iter().any(|s| {
                let labels = [&s.stream, &s.metadata, &s.parsed];
                add(labels.iter().map(|l| l.size_bytes()).sum())
                    || s.entries.iter().any(|e| add(POINT_BYTES + e.line.len()))
            }),
            QueryValue::Matrix(all) | QueryValue::Vector(all) => {
                let mut of = all.iter();
                of.any(|s| add(s.labels.size_bytes() + POINT_BYTES * s.points.len()))
            }
            QueryValue::Scalar(_) => false,
        }
    }

    /// The text as a body: whole if it is small, else piece by piece in the compute pool as the client takes it.
    pub(super) fn into_body(mut self, executor: Executor) -> Body {
        if !self.is_large() {
            let mut out = String::new();
            while self.print(usize::MAX, &mut out) {}
            return Body::from(out);
        }
        let pieces = stream::try_unfold(Some(self), move |text| {
            let executor = executor.clone();
            async move {
                let Some(mut text) = text else {
                    return Ok(None);
                };
                let job = move |_: &CancelToken| {
                    let mut out = String::with_capacity(PIECE_BYTES + 4096);
                    let more = text.print(PIECE_BYTES, &mut out);
                    Ok::<_, Error>((Bytes::from(out), more.then_some(text)))
                };
                let piece: Result<_> = executor.run(job, &CancelToken::new()).await;
                piece.map(Some)
            }
        });
        Body::from_stream(pieces)
    }

    /// Prints the next piece; whether there is more.
    fn print(&mut self, bytes: usize, out: &mut String) -> bool {
        if !self.has_begun {
            self.has_begun = true;
            out.push_str(&success(&self.answer.warnings));
            out.push_str(",\"data\":");
        }
        let more = self.printer.print(&self.answer.value, bytes, out);
        if !more {
            out.push('}');
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::Labels;

    use super::*;
    use crate::logql::{AnswerEntry, AnswerStream};

    fn answer(lines: usize) -> Answer {
        let entry = |n: usize| AnswerEntry {
            t_ns: (lines - n) as i64,
            line: Bytes::from(vec![b'x'; 100]),
        };
        Answer {
            value: QueryValue::Streams(vec![AnswerStream {
                stream: Labels::from_pairs([("app", "x")]).unwrap(),
                metadata: Labels::empty(),
                parsed: Labels::empty(),
                entries: (0..lines).map(entry).collect(),
            }]),
            warnings: vec!["b".into(), "a".into(), "b".into()],
            stats: Default::default(),
            memory: Default::default(),
        }
    }

    #[tokio::test]
    async fn pieces_are_one_text() {
        for lines in [0, 1, 30_000] {
            let text = AnswerText::new(answer(lines), LabelEncoding::Merged);
            assert_eq!(text.is_large(), lines > 1000);
            let executor = Executor::inline(tokio::runtime::Handle::current());
            let bytes = axum::body::to_bytes(text.into_body(executor), usize::MAX);
            let bytes = bytes.await.unwrap();
            let begin = br#"{"status":"success","warnings":["a","b"],"data":{"resultType":"streams","result":[{"stream":{"app":"x"},"values":["#;
            assert!(bytes.starts_with(begin));
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let values = json["data"]["result"][0]["values"].as_array().unwrap();
            assert_eq!(values.len(), lines);
            assert!(json["data"]["stats"]["summary"].is_object());
        }
    }
}
