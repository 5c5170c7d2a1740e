//! Requests that are made to hurt.

use lgtm_core::codec::protobuf::{put_bytes_field, put_message};
use lgtm_core::error::ErrorKind;

use super::{allowed, otlp, spelled, traces};
use crate::wire::{PushBatch, PushOptions, decode_otlp};

/// A request whose span has an attribute with so many lists in each other.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = vec![0x0a, 1, b'x'];
    for _ in 0..depth {
        let mut list = Vec::new();
        put_bytes_field(&mut list, 1, &value);
        value.clear();
        put_bytes_field(&mut value, 5, &list);
    }
    let mut out = Vec::new();
    put_message(&mut out, 1, |out| {
        put_message(out, 2, |out| {
            put_message(out, 2, |out| {
                put_bytes_field(out, 1, &[1; 16]);
                put_bytes_field(out, 2, &[2; 8]);
                put_message(out, 9, |out| put_bytes_field(out, 2, &value));
            });
        });
    });
    out
}

#[test]
fn lists_in_lists_end_somewhere() {
    let mut batch = PushBatch::default();
    otlp(&mut batch, 0, &nested(10)).unwrap();
    traces(&batch, |_, trace| assert_eq!(trace.span_count(), 1));
    for depth in [100, 5_000] {
        let e = otlp(&mut batch, 0, &nested(depth)).unwrap_err();
        assert!(e.to_string().contains("more than 100 deep"), "{e}");
    }
    let json = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"attributes":[{{"value":{}{}}}]}}]}}]}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(100_000),
        "]}}".repeat(100_000)
    );
    let e = spelled(
        &mut batch,
        0,
        lgtm_core::otlp::OtlpSpelling::Json,
        json.as_bytes(),
    );
    assert_eq!(e.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A million spans of as few bytes as spans can have, each of a trace of its own or all of one.
fn tiny_spans(count: u32, own_trace: bool) -> Vec<u8> {
    let mut spans = Vec::new();
    for n in 1..=count {
        let mut trace_id = [0; 16];
        trace_id[12..].copy_from_slice(&(if own_trace { n } else { 1 }).to_be_bytes());
        put_message(&mut spans, 2, |out| {
            put_bytes_field(out, 1, &trace_id);
            put_bytes_field(out, 2, &(u64::from(n) << 9 | 1).to_be_bytes());
        });
    }
    let mut out = Vec::new();
    put_message(&mut out, 1, |out| put_bytes_field(out, 2, &spans));
    out
}

#[test]
fn a_million_tiny_spans_take_memory_in_proportion() {
    let mut batch = PushBatch::default();
    for own_trace in [false, true] {
        let body = tiny_spans(1_000_000, own_trace);
        otlp(&mut batch, 2048, &body).unwrap();
        assert_eq!(batch.span_count(), 1_000_000);
        assert_eq!(batch.trace_count(), if own_trace { 1_000_000 } else { 1 });
        assert!(
            batch.heap_bytes() < 10 * body.len(),
            "{} of {}",
            batch.heap_bytes(),
            body.len()
        );
        let last = batch.trace(batch.trace_count() - 1);
        let mut bytes = Vec::new();
        last.encode(&mut bytes);
        assert_eq!(bytes.len(), last.encoded_len());
    }
}

#[test]
fn what_a_request_may_become_is_bounded_and_counted() {
    let body = tiny_spans(100_000, true);
    let mut batch = PushBatch::default();
    let fill = |out: &mut Vec<u8>, allowance: &mut lgtm_core::codec::Allowance<'_>| {
        allowance.reserve(out, body.len())?;
        out.extend_from_slice(&body);
        Ok(())
    };
    let e = allowed(body.len() + (1 << 20), |a| {
        decode_otlp(&mut batch, PushOptions::default(), a, fill)
    });
    assert_eq!(e.unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(batch.span_count(), 0);
    let mut batch = PushBatch::default();
    let spent = allowed(1 << 30, |a| {
        decode_otlp(&mut batch, PushOptions::default(), a, fill).unwrap();
        a.spent()
    });
    assert!(
        batch.heap_bytes() <= spent,
        "{} held, {spent} counted",
        batch.heap_bytes()
    );
    // The memory is used again: nothing more is asked for.
    let spent = allowed(1 << 30, |a| {
        decode_otlp(&mut batch, PushOptions::default(), a, fill).unwrap();
        a.spent()
    });
    assert_eq!(spent, 0);
}

#[test]
fn lengths_that_lie_are_refused() {
    let mut batch = PushBatch::default();
    for body in [
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
        &[
            0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ],
        &[0x0a, 2, 0x12, 0x7f],
        &[0x0b],
        &[0x08, 1],
        &[0],
    ] {
        let e = otlp(&mut batch, 0, body).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput, "{body:x?}");
    }
}
