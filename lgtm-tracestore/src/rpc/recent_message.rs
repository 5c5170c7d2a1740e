//! Recent traces: what is asked for, and what comes.
//!
//! ```text
//! request = { range = 1 { start_ns = 1; end_ns = 2 }; starts = 2 { after_ns = 1; until_ns = 2 }; filter = 3; behind = 4 }
//! answer  = { answer = 1 } first, { traces = 2, repeated } any number of them, { end = 3 } last
//! trace   = { id = 1; bytes = 2; goes_on = 3 }     one that is long comes in pieces, of which all but the last say that it goes on
//! look-up = { answer = 1; ids = 2 }                16 bytes an id; the answer by the number that came first in it
//! have    = { had = 1 }                            a byte an id, 0 or 1
//! ```

use bytes::Bytes;
use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use lgtm_core::rpc::messages::{Field, MESSAGE_BYTES, walk};
use lgtm_core::{Error, Result};

use super::end_message;
use super::filter_message::{filter, put_filter};
use crate::select::{RecentRequest, RecentTrace, SelectEnd, SpanFilter, StartRange, TraceRange};
use crate::trace::TraceId;

pub(super) fn put_range(out: &mut Vec<u8>, number: u64, (from, to): (u64, u64)) {
    put_message(out, number, |out| {
        put_varint_field(out, 1, from);
        put_varint_field(out, 2, to);
    });
}

pub(super) fn range(field: Field<'_>) -> Result<(u64, u64)> {
    let mut out = (0, 0);
    walk("range", field.bytes()?, |number, field| {
        match number {
            1 => out.0 = field.number()?,
            2 => out.1 = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn trace_id(field: Field<'_>) -> Result<TraceId> {
    let bytes = <[u8; 16]>::try_from(field.bytes()?);
    let bytes = bytes.map_err(|_| Error::InvalidInput("a trace id is not 16 bytes".into()))?;
    Ok(TraceId::new(bytes))
}

pub(super) fn put_request(out: &mut Vec<u8>, request: &RecentRequest) {
    if let Some(TraceRange { start_ns, end_ns }) = request.range {
        put_range(out, 1, (start_ns, end_ns));
    }
    if let Some(StartRange { after_ns, until_ns }) = request.starts {
        put_range(out, 2, (after_ns, until_ns));
    }
    if request.filter != SpanFilter::Everything {
        put_filter(out, 3, &request.filter);
    }
    if let Some(id) = &request.behind {
        put_bytes_field(out, 4, id.as_bytes());
    }
}

/// A request.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn request(message: &[u8]) -> Result<RecentRequest> {
    let mut out = RecentRequest::default();
    walk("request", message, |number, field| {
        match number {
            1 => {
                let (start_ns, end_ns) = range(field)?;
                out.range = Some(TraceRange { start_ns, end_ns });
            }
            2 => {
                let (after_ns, until_ns) = range(field)?;
                out.starts = Some(StartRange { after_ns, until_ns });
            }
            3 => out.filter = filter(field)?,
            4 => out.behind = Some(trace_id(field)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_answer_number(out: &mut Vec<u8>, answer: u64) {
    put_varint_field(out, 1, answer);
}

/// Traces that are being sent, from a byte of the first of them on.
#[derive(Debug, Default)]
pub(super) struct SentTraces {
    traces: std::collections::VecDeque<RecentTrace>,
    at: usize,
}

impl SentTraces {
    pub(super) fn new(traces: Vec<RecentTrace>) -> Self {
        Self {
            traces: traces.into(),
            at: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// Appends as much as fits a message.
    pub(super) fn put(&mut self, out: &mut Vec<u8>) {
        let begin = out.len();
        while let Some(trace) = self.traces.front()
            && out.len() - begin < MESSAGE_BYTES
        {
            let room = MESSAGE_BYTES - (out.len() - begin);
            let end = trace.bytes.len().min(self.at + room);
            put_message(out, 2, |out| {
                put_bytes_field(out, 1, trace.id.as_bytes());
                put_bytes_field(out, 2, &trace.bytes[self.at..end]);
                if end < trace.bytes.len() {
                    put_varint_field(out, 3, 1);
                }
            });
            if end < trace.bytes.len() {
                self.at = end;
            } else {
                self.at = 0;
                self.traces.pop_front();
            }
        }
    }
}

pub(super) fn put_end(out: &mut Vec<u8>, end: &SelectEnd) {
    end_message::put_end(out, 3, end);
}

/// What an answer has brought so far.
#[derive(Debug, Default)]
pub(super) struct TakenTraces {
    /// Those that came whole.
    pub(super) traces: Vec<RecentTrace>,
    /// One that goes on.
    begun: Option<RecentTrace>,
    /// The answer's number.
    pub(super) answer: Option<u64>,
    pub(super) end: Option<SelectEnd>,
}

impl TakenTraces {
    /// Takes a message.
    ///
    /// # Errors
    /// `InvalidInput` for bytes that are none, and for an end within a trace.
    pub(super) fn take(&mut self, message: &Bytes) -> Result<()> {
        walk("traces", message, |number, field| {
            match number {
                1 => self.answer = Some(field.number()?),
                2 => self.take_trace(field)?,
                3 => self.end = Some(end_message::end(field)?),
                _ => {}
            }
            Ok(())
        })?;
        if self.end.is_some() && self.begun.is_some() {
            return Err(Error::InvalidInput("the end of a trace is missing".into()));
        }
        Ok(())
    }

    fn take_trace(&mut self, field: Field<'_>) -> Result<()> {
        let (mut id, mut bytes, mut goes_on): (_, &[u8], _) = (None, &[], false);
        walk("trace", field.bytes()?, |number, field| {
            match number {
                1 => id = Some(trace_id(field)?),
                2 => bytes = field.bytes()?,
                3 => goes_on = field.flag()?,
                _ => {}
            }
            Ok(())
        })?;
        let id = id.ok_or_else(|| Error::InvalidInput("a trace has no id".into()))?;
        let trace = match self.begun.take() {
            None => RecentTrace {
                id,
                bytes: bytes.to_vec(),
            },
            Some(mut begun) if begun.id == id => {
                begun.bytes.extend_from_slice(bytes);
                begun
            }
            Some(_) => return Err(Error::InvalidInput("a trace breaks off".into())),
        };
        if goes_on {
            self.begun = Some(trace);
        } else {
            self.traces.push(trace);
        }
        Ok(())
    }
}

pub(super) fn put_look_up(out: &mut Vec<u8>, answer: u64, ids: &[TraceId]) {
    put_varint_field(out, 1, answer);
    put_message(out, 2, |out| {
        ids.iter()
            .for_each(|id| out.extend_from_slice(id.as_bytes()));
    });
}

/// The number of an answer, and what is looked up in it.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn look_up(message: &[u8]) -> Result<(u64, Vec<TraceId>)> {
    let (mut answer, mut ids) = (0, Vec::new());
    walk("look-up", message, |number, field| {
        match number {
            1 => answer = field.number()?,
            2 => {
                let (all, rest) = field.bytes()?.as_chunks::<16>();
                if !rest.is_empty() {
                    return Err(Error::InvalidInput("a trace id is not 16 bytes".into()));
                }
                ids.extend(all.iter().map(|id| TraceId::new(*id)));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((answer, ids))
}

pub(super) fn put_had(out: &mut Vec<u8>, had: &[bool]) {
    put_message(out, 1, |out| out.extend(had.iter().map(|b| u8::from(*b))));
}

/// Of which of so many traces there was anything.
///
/// # Errors
/// `InvalidInput` for bytes that are none, and for another number of traces.
pub(super) fn had(message: &[u8], count: usize) -> Result<Vec<bool>> {
    let mut out = Vec::new();
    walk("have", message, |number, field| {
        if number == 1 {
            out = field.bytes()?.iter().map(|b| *b != 0).collect();
        }
        Ok(())
    })?;
    if out.len() != count {
        return Err(Error::InvalidInput(format!(
            "{count} traces were asked for, and {} are told of",
            out.len()
        )));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::select::{AttributeScope, CompareOp, Condition, Field, Intrinsic, Literal, Test};

    fn trace(id: u8, len: usize) -> RecentTrace {
        RecentTrace {
            id: TraceId::new([id; 16]),
            bytes: (0..len).map(|n| n as u8).collect(),
        }
    }

    #[test]
    fn long_traces_go_in_several_messages() {
        let traces = vec![
            trace(1, 0),
            trace(2, 3 * MESSAGE_BYTES + 7),
            trace(3, MESSAGE_BYTES),
            trace(4, 10),
        ];
        let mut sent = SentTraces::new(traces.clone());
        let (mut taken, mut messages) = (TakenTraces::default(), 0);
        while !sent.is_empty() {
            let mut out = Vec::new();
            sent.put(&mut out);
            assert!(out.len() < MESSAGE_BYTES + 200, "{}", out.len());
            taken.take(&out.into()).unwrap();
            messages += 1;
        }
        assert_eq!((taken.traces, messages > 3), (traces, true));
    }

    #[test]
    fn an_answer_that_ends_within_a_trace_is_none() {
        let mut sent = SentTraces::new(vec![trace(1, 2 * MESSAGE_BYTES)]);
        let mut out = Vec::new();
        sent.put(&mut out);
        let mut taken = TakenTraces::default();
        taken.take(&out.into()).unwrap();
        let mut end = Vec::new();
        put_end(&mut end, &SelectEnd::default());
        assert!(taken.take(&end.into()).is_err());
    }

    /// As version 1 wrote it; never rewritten. `LGTM_MAKE_GOLDEN=1` makes what is missing.
    #[test]
    fn messages_of_an_earlier_version_are_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rpc-v1/");
        let golden = |name: &str, written: &[u8]| {
            let path = format!("{folder}{name}");
            if std::env::var_os("LGTM_MAKE_GOLDEN").is_some() && !std::fs::exists(&path).unwrap() {
                std::fs::write(&path, written).unwrap();
            }
            let golden = std::fs::read(path).unwrap();
            assert!(golden == written, "a new version gets a folder of its own");
            golden
        };
        let test = |field: Field, test: Test| SpanFilter::Test(Condition { field, test });
        let asked = RecentRequest {
            range: Some(TraceRange {
                start_ns: 1,
                end_ns: 1_700_000_000_000_000_000,
            }),
            starts: Some(StartRange {
                after_ns: 5,
                until_ns: 6,
            }),
            filter: SpanFilter::Any(vec![
                test(
                    Field::attribute(AttributeScope::Span, "shop"),
                    Test::Matches(vec!["a.*".into()]),
                ),
                test(
                    Field::Intrinsic(Intrinsic::Duration),
                    Test::Compare(CompareOp::Greater, Literal::Duration(-7)),
                ),
            ]),
            behind: Some(TraceId::new([3; 16])),
        };
        let mut out = Vec::new();
        put_request(&mut out, &asked);
        assert_eq!(request(&golden("request.bin", &out)).unwrap(), asked);
        let traces = vec![trace(1, 5), trace(2, 0)];
        let end = SelectEnd {
            warnings: vec!["a batch is damaged".into()],
            ..SelectEnd::default()
        };
        let mut out = Vec::new();
        put_answer_number(&mut out, u64::MAX);
        SentTraces::new(traces.clone()).put(&mut out);
        put_end(&mut out, &end);
        let mut taken = TakenTraces::default();
        taken.take(&golden("answer.bin", &out).into()).unwrap();
        assert_eq!(
            (taken.answer, taken.traces, taken.end),
            (Some(u64::MAX), traces, Some(end))
        );
    }

    proptest! {
        #[test]
        fn requests_and_look_ups_arrive_as_they_were(
            range: Option<(u64, u64)>, starts: Option<(u64, u64)>, behind: Option<[u8; 16]>,
            answer: u64, ids: Vec<[u8; 16]>, flags: Vec<bool>,
        ) {
            let asked = RecentRequest {
                range: range.map(|(start_ns, end_ns)| TraceRange { start_ns, end_ns }),
                starts: starts.map(|(after_ns, until_ns)| StartRange { after_ns, until_ns }),
                filter: SpanFilter::Nothing,
                behind: behind.map(TraceId::new),
            };
            let mut out = Vec::new();
            put_request(&mut out, &asked);
            prop_assert_eq!(request(&out).unwrap(), asked);
            let ids: Vec<TraceId> = ids.into_iter().map(TraceId::new).collect();
            let mut out = Vec::new();
            put_look_up(&mut out, answer, &ids);
            prop_assert_eq!(look_up(&out).unwrap(), (answer, ids));
            let mut out = Vec::new();
            put_had(&mut out, &flags);
            prop_assert_eq!(had(&out, flags.len()).unwrap(), flags.clone());
            prop_assert!(had(&out, flags.len() + 1).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = request(&bytes);
            let _ = look_up(&bytes);
            let _ = had(&bytes, 3);
            let _ = TakenTraces::default().take(&Bytes::from(bytes.clone()));
            let mut framed = Vec::new();
            put_bytes_field(&mut framed, 2, &bytes);
            let _ = TakenTraces::default().take(&framed.into());
        }
    }
}
