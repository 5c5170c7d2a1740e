//! What was found of a trace as an answer: decoded, copies left out, filtered, printed. Takes as long as the trace is large.

use lgtm_core::codec::protobuf::{put_message, put_varint_field};
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::{Error, Result};

use super::form::AnswerForm;
use super::json::Members;
use super::protobuf::{put_number, put_text};
use crate::components::FoundTrace;
use crate::trace::{SharedIds, Trace, TraceForm, TracePrinter};
use crate::traceql::TraceFilter;

/// Bytes that a decoded trace may take for each byte of its protobuf, and at least: attributes of two bytes become fifty.
const DECODED_FACTOR: usize = 32;
const DECODED_LEAST: usize = 1 << 20;

/// `PartialStatus`
const PARTIAL: u64 = 1;

/// Which of the two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TraceVersion {
    V1,
    V2,
}

/// How a trace is asked for.
#[derive(Debug, Clone)]
pub(super) struct AskedTrace {
    pub(super) version: TraceVersion,
    pub(super) form: AnswerForm,
    pub(super) max_bytes: usize,
    pub(super) filter: Option<TraceFilter>,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MadeTrace {
    Body(Vec<u8>),
    Missing,
    TooLarge,
}

impl AskedTrace {
    /// The answer.
    ///
    /// # Errors
    /// `Corrupt` for bytes that are no trace.
    pub(super) fn make(&self, found: &FoundTrace) -> Result<MadeTrace> {
        let is_v1 = self.version == TraceVersion::V1;
        if is_v1 && found.is_cut {
            return Ok(MadeTrace::TooLarge);
        }
        if is_v1 && found.bytes.is_empty() {
            return Ok(MadeTrace::Missing);
        }
        let trace = decoded(&found.bytes)?;
        let ids = SharedIds::find(&trace);
        let mut trace = ids.apply(trace);
        let mut messages = Vec::new();
        if found.is_cut {
            messages.push(format!(
                "Trace exceeds maximum size of {} bytes, a partial trace is returned",
                self.max_bytes
            ));
        }
        if let Some(filter) = &self.filter
            && filter.apply(&mut trace)? > 0
        {
            let text = "Trace filtered, only a subset of spans matching the filter is returned";
            messages.push(text.to_owned());
        }
        messages.extend(found.end.warnings.iter().cloned());
        let message = messages.join("; ");
        let is_missing = found.bytes.is_empty();
        let body = match (self.form, is_v1) {
            (AnswerForm::Protobuf, true) => {
                let mut out = Vec::with_capacity(found.bytes.len());
                trace.encode(&mut out);
                out
            }
            (AnswerForm::Protobuf, false) => {
                let read = if is_missing {
                    Default::default()
                } else {
                    found.end.stats
                };
                let mut out = Vec::with_capacity(found.bytes.len() + 64);
                put_message(&mut out, 1, |out| trace.encode(out));
                put_message(&mut out, 2, |out| {
                    put_number(out, 1, read.inspected_bytes);
                    put_number(out, 2, read.backend_reads);
                    put_number(out, 3, read.backend_bytes);
                });
                if !message.is_empty() {
                    put_varint_field(&mut out, 3, PARTIAL);
                    put_text(&mut out, 4, &message);
                }
                out
            }
            (_, true) => trace.to_json(TraceForm::Batches).into_bytes(),
            (form, false) => {
                let read = if is_missing {
                    0
                } else {
                    found.end.stats.inspected_bytes
                };
                v2_json(&trace, form, read, &message).into_bytes()
            }
        };
        Ok(MadeTrace::Body(body))
    }
}

fn v2_json(trace: &Trace<'_>, form: AnswerForm, inspected_bytes: u64, message: &str) -> String {
    let mut out = String::new();
    let mut members = Members::open(&mut out);
    let is_llm = form == AnswerForm::Llm;
    let of_trace = if is_llm {
        TraceForm::Llm
    } else {
        TraceForm::ResourceSpans
    };
    TracePrinter::new(trace, of_trace).push(members.name("trace"), usize::MAX);
    let mut metrics = Members::open(members.name("metrics"));
    metrics.long("inspectedBytes", inspected_bytes);
    metrics.close();
    if !message.is_empty() {
        members.text("status", "PARTIAL");
        members.text("message", message);
    } else if is_llm {
        members.text("status", "COMPLETE");
    }
    members.close();
    out
}

/// The spans of all parts, each once, those of equal resources and scopes together.
fn decoded(bytes: &[u8]) -> Result<Trace<'_>> {
    let max = bytes
        .len()
        .saturating_mul(DECODED_FACTOR)
        .max(DECODED_LEAST);
    let mut grow = |_| lgtm_core::exec::check_wanted("the reading of a trace");
    let mut allowance = Allowance::new(max, &mut grow);
    let trace = Trace::decode(bytes, &mut allowance).map_err(|e| match e {
        DecodeFail::Broken(e) => Error::Corrupt {
            place: "a stored trace".into(),
            source: e,
        },
        DecodeFail::Refused(e) => e,
    })?;
    let mut trace = trace.without_copies();
    trace.rebatch();
    Ok(trace)
}
