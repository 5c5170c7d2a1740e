//! Protobuf that several answers share: values, and what a query read. Field numbers are those of Tempo's `tempopb`.

use lgtm_core::codec::protobuf::{fixed64_tag, put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::put_uvarint;

use crate::components::QueryEnd;
use crate::traceql::AnswerValue;

pub(super) fn put_text(out: &mut Vec<u8>, field: u64, text: &str) {
    if !text.is_empty() {
        put_bytes_field(out, field, text.as_bytes());
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint_field(out, field, number);
    }
}

pub(super) fn put_double(out: &mut Vec<u8>, field: u64, number: f64) {
    if number != 0.0 {
        put_set_double(out, field, number);
    }
}

fn put_set_double(out: &mut Vec<u8>, field: u64, number: f64) {
    put_uvarint(out, fixed64_tag(field));
    out.extend_from_slice(&number.to_bits().to_le_bytes());
}

/// `KeyValue`s.
pub(super) fn put_attributes(out: &mut Vec<u8>, field: u64, attributes: &[(String, AnswerValue)]) {
    for (key, value) in attributes {
        put_message(out, field, |out| {
            put_text(out, 1, key);
            put_message(out, 2, |out| put_value(out, value));
        });
    }
}

/// An `AnyValue`.
fn put_value(out: &mut Vec<u8>, value: &AnswerValue) {
    match value {
        AnswerValue::Text(text) => put_bytes_field(out, 1, text.as_bytes()),
        AnswerValue::Bool(v) => put_varint_field(out, 2, (*v).into()),
        AnswerValue::Int(v) => put_varint_field(out, 3, *v as u64),
        AnswerValue::Float(v) => put_set_double(out, 4, *v),
        AnswerValue::Array(all) => put_message(out, 5, |out| {
            for value in all {
                put_message(out, 1, |out| put_value(out, value));
            }
        }),
    }
}

/// `SearchMetrics`.
pub(super) fn put_search_metrics(out: &mut Vec<u8>, field: u64, end: &QueryEnd) {
    let stats = &end.stats;
    put_message(out, field, |out| {
        put_number(out, 1, stats.inspected_traces);
        put_number(out, 2, stats.inspected_bytes);
        put_number(out, 3, stats.total_blocks);
        put_number(out, 4, end.completed_jobs);
        put_number(out, 5, end.total_jobs);
        put_number(out, 6, stats.total_block_bytes);
        put_number(out, 7, stats.inspected_spans);
        put_number(out, 8, stats.backend_reads);
        put_number(out, 9, stats.backend_bytes);
    });
}

/// `MetadataMetrics`.
pub(super) fn put_metadata_metrics(out: &mut Vec<u8>, field: u64, end: &QueryEnd) {
    let stats = &end.stats;
    put_message(out, field, |out| {
        put_number(out, 1, stats.inspected_bytes);
        put_number(out, 2, end.total_jobs);
        put_number(out, 3, end.completed_jobs);
        put_number(out, 4, stats.total_blocks);
        put_number(out, 5, stats.total_block_bytes);
        put_number(out, 6, stats.backend_reads);
        put_number(out, 7, stats.backend_bytes);
    });
}
