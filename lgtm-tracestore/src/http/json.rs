//! JSON of answers as protobuf's mapping has it: what is zero or empty left out, 64-bit integers as text, no spaces.

use std::fmt::Write;

use lgtm_core::go::json::push_quoted;
use lgtm_core::go::push_json_float;

use crate::components::QueryEnd;
use crate::traceql::AnswerValue;

/// The members of an object that is being printed. `close` ends it.
pub(super) struct Members<'o> {
    out: &'o mut String,
    is_first: bool,
}

impl<'o> Members<'o> {
    pub(super) fn open(out: &'o mut String) -> Self {
        out.push('{');
        Self {
            out,
            is_first: true,
        }
    }

    /// Begins a member.
    pub(super) fn name(&mut self, name: &str) -> &mut String {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(',');
        }
        push_quoted(self.out, name);
        self.out.push(':');
        self.out
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            push_quoted(self.name(name), text);
        }
    }

    /// A number of 64 bits, which is text.
    pub(super) fn long(&mut self, name: &str, number: u64) {
        if number != 0 {
            let _ = write!(self.name(name), "\"{number}\"");
        }
    }

    pub(super) fn count(&mut self, name: &str, number: u64) {
        if number != 0 {
            let _ = write!(self.name(name), "{number}");
        }
    }

    pub(super) fn double(&mut self, name: &str, number: f64) {
        if number != 0.0 {
            push_double(self.name(name), number);
        }
    }

    pub(super) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        print: impl FnMut(&mut String, T),
    ) {
        push_list(self.name(name), items, print);
    }

    pub(super) fn attributes(&mut self, name: &str, attributes: &[(String, AnswerValue)]) {
        if !attributes.is_empty() {
            self.list(name, attributes, |out, (key, value)| {
                let mut members = Members::open(out);
                members.text("key", key);
                push_value(members.name("value"), value);
                members.close();
            });
        }
    }

    pub(super) fn close(self) {
        self.out.push('}');
    }
}

pub(super) fn push_list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut print: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        print(out, item);
    }
    out.push(']');
}

fn push_double(out: &mut String, v: f64) {
    if v.is_finite() {
        push_json_float(out, v);
    } else if v.is_nan() {
        out.push_str("\"NaN\"");
    } else {
        out.push_str(if v > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    }
}

/// An `AnyValue`: what is set is there, zero and empty too.
fn push_value(out: &mut String, value: &AnswerValue) {
    let mut members = Members::open(out);
    match value {
        AnswerValue::Text(text) => push_quoted(members.name("stringValue"), text),
        AnswerValue::Int(v) => drop(write!(members.name("intValue"), "\"{v}\"")),
        AnswerValue::Float(v) => push_double(members.name("doubleValue"), *v),
        AnswerValue::Bool(v) => drop(write!(members.name("boolValue"), "{v}")),
        AnswerValue::Array(all) => {
            let mut inner = Members::open(members.name("arrayValue"));
            if !all.is_empty() {
                inner.list("values", all, push_value);
            }
            inner.close();
        }
    }
    members.close();
}

/// What a query read, as searches and metrics tell it.
pub(super) fn push_search_metrics(out: &mut String, end: &QueryEnd) {
    let mut members = Members::open(out);
    members.count("inspectedTraces", end.stats.inspected_traces);
    members.long("inspectedBytes", end.stats.inspected_bytes);
    members.count("totalBlocks", end.stats.total_blocks);
    members.count("completedJobs", end.completed_jobs);
    members.count("totalJobs", end.total_jobs);
    members.long("totalBlockBytes", end.stats.total_block_bytes);
    members.long("inspectedSpans", end.stats.inspected_spans);
    members.close();
}

/// The same of tags and values.
pub(super) fn push_metadata_metrics(out: &mut String, end: &QueryEnd) {
    let mut members = Members::open(out);
    members.long("inspectedBytes", end.stats.inspected_bytes);
    members.count("totalJobs", end.total_jobs);
    members.count("completedJobs", end.completed_jobs);
    members.count("totalBlocks", end.stats.total_blocks);
    members.long("totalBlockBytes", end.stats.total_block_bytes);
    members.close();
}
