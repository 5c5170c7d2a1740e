//! How much streams have, what their lines have in common, and what comes in.
//!
//! ```text
//! volumes  = items of label sets, each followed by: chunks, bytes, entries, then spans to its end: min_ms zig-zag, length, bytes, entries
//! patterns = { pattern = 1, repeated; end = 3 }
//! pattern  = { pattern = 1; level = 2; counts = 3: time zig-zag, lines, one behind the other; stream = 4, left out where they are not apart }
//! request  = { matcher = 1, repeated; min_ns = 2; max_ns = 3; step_ns = 4; by_stream = 5 }                of patterns
//! request  = { query = 1; start_ns = 2; limit = 3; delay_ns = 4 }                                         of a tail
//! frame    = { stream = 1, repeated; dropped = 2, repeated; end = 3, in the last message }                of a tail
//! stream   = { labels = 1; metadata = 2; parsed = 3; entries = 4: time zig-zag, line, one behind the other }
//! dropped  = { time_ns = 1; labels = 2 }                                       labels: name, value, each with its length
//! ```

use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::{Labels, TimestampMs, TimestampNs};
use lgtm_core::rpc::messages::{
    Field, LabelledMessage, ListEnd, MESSAGE_BYTES, SentList, SymbolReader, SymbolWriter, broken,
    list_end, matcher, put_matcher, put_text, put_time_ns, walk,
};
use lgtm_core::{DecodeError, Result};

use bytes::Bytes;

use super::select_message::put_range;
use crate::components::clients::{PatternCounts, PatternsRequest, TailFrame, TailRequest};
use crate::logql::{AnswerEntry, AnswerStream};
use crate::select::{StreamVolume, VolumeSpan};

/// A list of volumes that is sent.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Volumes(pub(super) Vec<StreamVolume>);

impl SentList for Volumes {
    fn put(&self, from: usize, out: &mut Vec<u8>) -> usize {
        let (mut symbols, begin) = (SymbolWriter::default(), out.len());
        let mut at = from;
        for volume in &self.0[from..] {
            if out.len() - begin + symbols.len() >= MESSAGE_BYTES {
                break;
            }
            put_message(out, 1, |out| {
                symbols.put_labels(out, &volume.labels);
                put_uvarint(out, volume.chunks);
                put_uvarint(out, volume.bytes);
                put_uvarint(out, volume.entries);
                for span in &volume.spans {
                    let (min, max) = (span.min_ms.get(), span.max_ms.get());
                    put_svarint(out, min);
                    put_uvarint(out, max.wrapping_sub(min) as u64);
                    put_uvarint(out, span.bytes);
                    put_uvarint(out, span.entries);
                }
            });
            at += 1;
        }
        put_bytes_field(out, 2, symbols.bytes());
        at
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, message: &[u8]) -> Result<Option<ListEnd>> {
        let parts = LabelledMessage::of(message)?;
        let mut labels = SymbolReader::new(parts.texts()?);
        for bytes in &parts.items {
            let mut r = Reader::new("volume", bytes);
            let labels = labels.read(&mut r)?;
            self.0.push(volume(labels, &mut r).map_err(broken)?);
        }
        parts.end.map(list_end).transpose()
    }
}

fn volume(labels: Labels, r: &mut Reader<'_>) -> Result<StreamVolume, DecodeError> {
    let (chunks, bytes, entries) = (r.uvarint()?, r.uvarint()?, r.uvarint()?);
    let mut spans = Vec::new();
    while !r.is_empty() {
        let min = r.svarint()?;
        spans.push(VolumeSpan {
            min_ms: TimestampMs::new(min),
            max_ms: TimestampMs::new(min.wrapping_add(r.uvarint()? as i64)),
            bytes: r.uvarint()?,
            entries: r.uvarint()?,
        });
    }
    Ok(StreamVolume {
        labels,
        chunks,
        bytes,
        entries,
        spans,
    })
}

/// A list of patterns that is sent.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct SentPatterns(pub(super) Vec<PatternCounts>);

impl SentList for SentPatterns {
    fn put(&self, from: usize, out: &mut Vec<u8>) -> usize {
        let (begin, mut at) = (out.len(), from);
        for pattern in &self.0[from..] {
            if out.len() - begin >= MESSAGE_BYTES {
                break;
            }
            put_message(out, 1, |out| {
                put_text(out, 1, &pattern.pattern);
                put_text(out, 2, &pattern.level);
                put_message(out, 3, |out| {
                    for (t_ns, lines) in &pattern.counts {
                        put_svarint(out, t_ns.get());
                        put_uvarint(out, *lines);
                    }
                });
                if let Some(stream) = pattern.stream {
                    put_varint_field(out, 4, stream);
                }
            });
            at += 1;
        }
        at
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, message: &[u8]) -> Result<Option<ListEnd>> {
        let mut tail = None;
        walk("patterns", message, |number, field| {
            match number {
                1 => self.0.push(pattern(field)?),
                3 => tail = Some(list_end(field.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(tail)
    }
}

fn pattern(field: Field<'_>) -> Result<PatternCounts> {
    let mut out = PatternCounts {
        pattern: String::new(),
        level: String::new(),
        counts: Vec::new(),
        stream: None,
    };
    walk("pattern", field.bytes()?, |number, field| {
        match number {
            1 => out.pattern = field.string()?,
            2 => out.level = field.string()?,
            3 => {
                let mut r = Reader::new("counts", field.bytes()?);
                while !r.is_empty() {
                    let t_ns = r.svarint().map_err(broken)?;
                    let lines = r.uvarint().map_err(broken)?;
                    out.counts.push((TimestampNs::new(t_ns), lines));
                }
            }
            4 => out.stream = Some(field.number()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_patterns_request(out: &mut Vec<u8>, request: &PatternsRequest) {
    request.matchers.iter().for_each(|m| put_matcher(out, 1, m));
    put_range(out, 2, request.range);
    put_varint_field(out, 4, request.step_ns as u64);
    put_varint_field(out, 5, u64::from(request.by_stream));
}

pub(super) fn patterns_request(message: &[u8]) -> Result<PatternsRequest> {
    let mut out = PatternsRequest {
        matchers: Vec::new(),
        range: lgtm_core::model::TimeRangeNs::new(0, 0),
        step_ns: 1,
        by_stream: false,
    };
    walk("patterns request", message, |number, field| {
        match number {
            1 => out.matchers.push(matcher(field)?),
            2 => out.range.min_ns = field.time_ns()?,
            3 => out.range.max_ns = field.time_ns()?,
            4 => out.step_ns = (field.number()? as i64).max(1),
            5 => out.by_stream = field.flag()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_tail_request(out: &mut Vec<u8>, request: &TailRequest) {
    put_text(out, 1, &request.query);
    put_time_ns(out, 2, request.start_ns);
    put_varint_field(out, 3, request.limit as u64);
    put_varint_field(out, 4, request.delay_ns as u64);
}

pub(super) fn tail_request(message: &[u8]) -> Result<TailRequest> {
    let mut out = TailRequest {
        query: String::new(),
        start_ns: TimestampNs::EPOCH,
        limit: 0,
        delay_ns: 0,
    };
    walk("tail request", message, |number, field| {
        match number {
            1 => out.query = field.string()?,
            2 => out.start_ns = field.time_ns()?,
            3 => out.limit = usize::try_from(field.number()?).unwrap_or(usize::MAX),
            4 => out.delay_ns = field.number()? as i64,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

/// A label set that may have empty values.
fn put_plain_labels(out: &mut Vec<u8>, number: u64, labels: &Labels) {
    put_message(out, number, |out| {
        for (name, value) in labels.iter() {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    });
}

fn plain_labels(field: Field<'_>) -> Result<Labels> {
    let (mut r, mut pairs) = (Reader::new("labels", field.bytes()?), Vec::new());
    while !r.is_empty() {
        let name = r.str().map_err(broken)?;
        pairs.push((name, r.str().map_err(broken)?));
    }
    Labels::from_sorted_keeping_empty(pairs)
}

pub(super) fn put_frame(out: &mut Vec<u8>, frame: &TailFrame) {
    for stream in &frame.streams {
        put_message(out, 1, |out| {
            put_plain_labels(out, 1, &stream.stream);
            put_plain_labels(out, 2, &stream.metadata);
            put_plain_labels(out, 3, &stream.parsed);
            put_message(out, 4, |out| {
                for entry in &stream.entries {
                    put_svarint(out, entry.t_ns.get());
                    put_bytes(out, &entry.line);
                }
            });
        });
    }
    for (t_ns, labels) in &frame.dropped {
        put_message(out, 2, |out| {
            put_time_ns(out, 1, *t_ns);
            put_plain_labels(out, 2, labels);
        });
    }
}

/// Nothing comes any more.
pub(super) fn put_tail_end(out: &mut Vec<u8>) {
    put_message(out, 3, |_| {});
}

/// A frame; `None` at the end.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn frame(message: &Bytes) -> Result<Option<TailFrame>> {
    let (mut out, mut is_end) = (TailFrame::default(), false);
    walk("frame", message, |number, field| {
        match number {
            1 => out.streams.push(stream(field, message)?),
            2 => {
                let (mut t_ns, mut labels) = (TimestampNs::EPOCH, Labels::empty());
                walk("dropped", field.bytes()?, |number, field| {
                    match number {
                        1 => t_ns = field.time_ns()?,
                        2 => labels = plain_labels(field)?,
                        _ => {}
                    }
                    Ok(())
                })?;
                out.dropped.push((t_ns, labels));
            }
            3 => is_end = true,
            _ => {}
        }
        Ok(())
    })?;
    Ok((!is_end).then_some(out))
}

fn stream(field: Field<'_>, message: &Bytes) -> Result<AnswerStream> {
    let mut out = AnswerStream {
        stream: Labels::empty(),
        metadata: Labels::empty(),
        parsed: Labels::empty(),
        entries: Vec::new(),
    };
    walk("stream", field.bytes()?, |number, field| {
        match number {
            1 => out.stream = plain_labels(field)?,
            2 => out.metadata = plain_labels(field)?,
            3 => out.parsed = plain_labels(field)?,
            4 => {
                let mut r = Reader::new("entries", field.bytes()?);
                while !r.is_empty() {
                    let t_ns = TimestampNs::new(r.svarint().map_err(broken)?);
                    let line = message.slice_ref(r.bytes().map_err(broken)?);
                    out.entries.push(AnswerEntry { t_ns, line });
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::model::{Listed, Matcher, TimeRangeNs};
    use lgtm_core::rpc::messages::list_messages;
    use proptest::prelude::*;

    fn sent<T: SentList + Clone>(list: &Listed<T>) -> Listed<T> {
        let (mut items, mut tail) = (T::default(), None);
        for mut message in list_messages(list.clone()) {
            assert!(tail.is_none(), "nothing comes behind the end");
            tail = items.take(&message.buffer().split_off(5)).unwrap();
        }
        let tail = tail.unwrap();
        Listed {
            items,
            is_cut: tail.is_cut,
            warnings: tail.warnings,
        }
    }

    fn labels(n: u64) -> Labels {
        Labels::from_pairs([("app", "x".to_owned()), ("n", n.to_string())]).unwrap()
    }

    #[test]
    fn lists_arrive_as_they_were() {
        for n in [0, 1, 30_000u64] {
            let span = |at: u64| VolumeSpan {
                min_ms: TimestampMs::new(at as i64 - 1),
                max_ms: TimestampMs::new(at as i64 + 7),
                bytes: at,
                entries: u64::MAX,
            };
            let volumes = (0..n).map(|n| StreamVolume {
                labels: labels(n),
                chunks: n,
                bytes: 5,
                entries: u64::MAX,
                spans: (0..n % 3).map(span).collect(),
            });
            let mut list = Listed::whole(Volumes(volumes.collect()));
            list.is_cut = n == 1;
            list.warn(vec![format!("warned {n}")]);
            assert_eq!(sent(&list), list);
            let patterns = (0..n).map(|n| PatternCounts {
                pattern: format!("a <_> {n}"),
                level: "info".into(),
                counts: vec![(TimestampNs::new(-5), n), (TimestampNs::new(5), 1)],
                stream: (n % 2 == 0).then_some(u64::MAX - n),
            });
            let list = Listed::whole(SentPatterns(patterns.collect()));
            assert_eq!(sent(&list), list);
        }
    }

    #[test]
    fn requests_and_frames_arrive_as_they_were() {
        let request = PatternsRequest {
            matchers: vec![Matcher::equal("a", "b")],
            range: TimeRangeNs::new(-1, 9),
            step_ns: 77,
            by_stream: true,
        };
        let mut out = Vec::new();
        put_patterns_request(&mut out, &request);
        let back = patterns_request(&out).unwrap();
        assert_eq!(format!("{back:?}"), format!("{request:?}"));
        let request = TailRequest {
            query: "{a=\"b\"}".into(),
            start_ns: TimestampNs::new(-3),
            limit: 100,
            delay_ns: 5,
        };
        let mut out = Vec::new();
        put_tail_request(&mut out, &request);
        let back = tail_request(&out).unwrap();
        assert_eq!(format!("{back:?}"), format!("{request:?}"));
        let full = TailFrame {
            streams: vec![AnswerStream {
                stream: labels(1),
                metadata: Labels::empty(),
                parsed: Labels::from_sorted_keeping_empty([("a", "")]).unwrap(),
                entries: vec![AnswerEntry {
                    t_ns: TimestampNs::new(-9),
                    line: Bytes::from_static(b"\xffline"),
                }],
            }],
            dropped: vec![(TimestampNs::new(4), labels(2))],
        };
        for wanted in [TailFrame::default(), full] {
            let mut out = Vec::new();
            put_frame(&mut out, &wanted);
            assert_eq!(frame(&out.into()).unwrap(), Some(wanted));
        }
        let mut out = Vec::new();
        put_tail_end(&mut out);
        assert_eq!(frame(&out.into()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, number in 1u64..5) {
            let mut framed = Vec::new();
            put_bytes_field(&mut framed, number, &bytes);
            for bytes in [bytes, framed] {
                let _ = Volumes::default().take(&bytes);
                let _ = SentPatterns::default().take(&bytes);
                let _ = patterns_request(&bytes);
                let _ = tail_request(&bytes);
                let _ = frame(&bytes.into());
            }
        }
    }
}
