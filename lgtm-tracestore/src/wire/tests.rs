use std::collections::BTreeMap;

use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::{Allowance, SizeBound};
use lgtm_core::error::ErrorKind;
use lgtm_core::otlp::OtlpSpelling;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::trace::{Attribute, ResourceSpans, ScopeSpans, Span, Trace, TraceId, Value, Values};

mod foreign;
mod hostile;

fn allowed<T>(max_bytes: usize, decode: impl FnOnce(&mut Allowance<'_>) -> T) -> T {
    decode(&mut Allowance::new(max_bytes, &mut |_| Ok(())))
}

/// Decodes what is OTLP already.
fn otlp(batch: &mut PushBatch, max_attribute_bytes: usize, body: &[u8]) -> lgtm_core::Result<()> {
    spelled(batch, max_attribute_bytes, OtlpSpelling::Protobuf, body)
}

fn spelled(
    batch: &mut PushBatch,
    max_attribute_bytes: usize,
    spelling: OtlpSpelling,
    body: &[u8],
) -> lgtm_core::Result<()> {
    let options = PushOptions {
        max_attribute_bytes,
    };
    allowed(1 << 30, |allowance| {
        decode_otlp(batch, options, allowance, |out, allowance| {
            otlp_to_protobuf(spelling, body, SizeBound::new(1 << 28), out, allowance)
        })
    })
}

/// The traces of a batch, decoded.
fn traces(batch: &PushBatch, check: impl Fn(TraceId, &Trace<'_>)) {
    let mut bytes = Vec::new();
    for view in batch.traces() {
        bytes.clear();
        view.encode(&mut bytes);
        assert_eq!(bytes.len(), view.encoded_len());
        let trace = allowed(0, |a| Trace::decode(&bytes, a)).unwrap();
        assert_eq!(trace.span_count(), view.span_count());
        check(view.id(), &trace);
    }
}

/// What a span is told apart by here: resource, scope, name; enough where names are unique.
type Row = (Vec<u8>, Vec<u8>, Vec<u8>);

fn rows(trace: &Trace<'_>) -> Vec<Row> {
    let spans = trace.spans().map(|(resource, scope, span)| {
        // Its key may be cut.
        let service = resource.attributes[0].value.as_text().unwrap();
        (service.to_vec(), scope.name.to_vec(), span.name.to_vec())
    });
    spans.collect()
}

/// Ids, names and sizes of a span by chance; of its attribute the text.
#[derive(Debug, Clone)]
struct Sent {
    trace: u8,
    text: String,
    is_nested: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    (0u8..4, "[a-zäß€𝄞]{0,12}", any::<bool>()).prop_map(|(trace, text, is_nested)| Sent {
        trace,
        text,
        is_nested,
    })
}

fn trace_id(n: u8) -> [u8; 16] {
    [n + 1; 16]
}

/// What a service sends: scopes with their spans.
type Resource = (u8, Vec<(u8, Vec<Sent>)>);

/// A request, whose spans are named by their order.
fn request(resources: &[Resource]) -> Vec<u8> {
    let mut n = 0u64;
    let mut out = Vec::new();
    for (service, scopes) in resources {
        put_message(&mut out, 1, |out| {
            put_message(out, 1, |out| {
                put_text(out, 1, "service.name", &[b'a' + service])
            });
            for (scope, spans) in scopes {
                put_message(out, 2, |out| {
                    // Some senders put the scope behind the spans.
                    if scope % 2 == 0 {
                        put_message(out, 1, |out| put_bytes_field(out, 1, &[b'a' + scope]));
                    }
                    for span in spans {
                        n += 1;
                        put_message(out, 2, |out| put_span(out, n, span));
                    }
                    if scope % 2 == 1 {
                        put_message(out, 1, |out| put_bytes_field(out, 1, &[b'a' + scope]));
                    }
                });
            }
        });
    }
    out
}

fn put_text(out: &mut Vec<u8>, field: u64, key: &str, text: &[u8]) {
    put_message(out, field, |out| {
        let value = Value::Text(text);
        let key = key.as_bytes();
        Attribute { key, value }.encode(out);
    });
}

fn put_span(out: &mut Vec<u8>, n: u64, span: &Sent) {
    put_bytes_field(out, 1, &trace_id(span.trace));
    put_bytes_field(out, 2, &n.to_be_bytes());
    put_bytes_field(out, 5, n.to_string().as_bytes());
    if span.is_nested {
        let mut list = Vec::new();
        put_message(&mut list, 1, |out| {
            Value::Text(span.text.as_bytes()).encode(out)
        });
        put_message(out, 9, |out| {
            let (key, value) = (&b"k"[..], Value::List(&list));
            Attribute { key, value }.encode(out);
        });
    } else {
        put_text(out, 9, "k", span.text.as_bytes());
    }
}

fn text_of(span: &Span<'_>) -> Vec<u8> {
    match span.attributes[0].value {
        Value::Text(text) => text.to_vec(),
        Value::List(list) => {
            let first = Values::new(list).next().unwrap().unwrap();
            first.as_text().unwrap().to_vec()
        }
        _ => unreachable!(),
    }
}

fn shape() -> impl Strategy<Value = Vec<Resource>> {
    vec((0u8..3, vec((0u8..3, vec(sent(), 0..6)), 0..4)), 0..4)
}

proptest! {
    #[test]
    fn spans_are_by_trace_with_their_scopes_and_resources(
        requests in vec(shape(), 1..3),
        max in 1usize..14,
    ) {
        // One batch for all: nothing is left of the one before.
        let mut batch = PushBatch::default();
        for request_shape in &requests {
            let body = request(request_shape);
            let whole = allowed(0, |a| Trace::decode(&body, a)).unwrap();
            otlp(&mut batch, max, &body).unwrap();
            prop_assert_eq!(batch.span_count(), whole.span_count());
            prop_assert_eq!(batch.byte_count(), body.len() as u64);
            let mut expected = BTreeMap::<TraceId, Vec<Row>>::new();
            let sent = request_shape.iter().flat_map(|(r, scopes)| scopes.iter().map(move |s| (*r, s)));
            let mut n = 0;
            let mut texts = BTreeMap::new();
            for (service, (scope, spans)) in sent {
                for span in spans {
                    n += 1;
                    let id = TraceId::new(trace_id(span.trace));
                    let name = n.to_string().into_bytes();
                    let row = (vec![b'a' + service], vec![b'a' + scope], name.clone());
                    expected.entry(id).or_default().push(row);
                    let end = (0..=max.min(span.text.len())).rev().find(|at| span.text.is_char_boundary(*at)).unwrap();
                    texts.insert(name, span.text.as_bytes()[..end].to_vec());
                }
            }
            prop_assert_eq!(batch.trace_count(), expected.len());
            let ids: Vec<_> = batch.traces().map(|t| t.id()).collect();
            traces(&batch, |id, trace| {
                let mut found = rows(trace);
                let mut expected = expected[&id].clone();
                found.sort();
                expected.sort();
                assert_eq!(found, expected);
                for (_, _, span) in trace.spans() {
                    assert_eq!(text_of(span), texts[span.name], "{max}");
                    assert_eq!(span.trace_id, id.as_bytes());
                }
                // Equal scopes of a resource are one.
                for resource in &trace.resources {
                    let mut names: Vec<_> = resource.scopes.iter().map(|s| s.name).collect();
                    names.sort_unstable();
                    assert!(names.windows(2).all(|w| w[0] != w[1]));
                }
            });
            prop_assert_eq!(ids.len(), batch.trace_count());
            let cut = batch.cut_text_count() > 0;
            prop_assert!(!cut || max < 12 * 4 || max < b"service.name".len());
        }
    }

    #[test]
    fn what_is_not_cut_is_the_bytes_that_came(request_shape in shape()) {
        let body = request(&request_shape);
        let mut batch = PushBatch::default();
        otlp(&mut batch, 0, &body).unwrap();
        prop_assert_eq!(batch.cut_text_count(), 0);
        let mut found: Vec<_> = batch.traces().flat_map(|t| t.spans().map(|s| s.span.to_vec()).collect::<Vec<_>>()).collect();
        let mut expected = Vec::new();
        let mut n = 0;
        for span in request_shape.iter().flat_map(|(_, s)| s).flat_map(|(_, s)| s) {
            n += 1;
            let mut out = Vec::new();
            put_span(&mut out, n, span);
            expected.push(out);
        }
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let mut batch = PushBatch::default();
        let _ = otlp(&mut batch, 3, &bytes);
        let _ = spelled(&mut batch, 3, OtlpSpelling::Json, &bytes);
        let options = PushOptions::default();
        allowed(1 << 20, |a| {
            for version in [ZipkinVersion::V1, ZipkinVersion::V2] {
                let _ = decode_zipkin_json(&mut batch, options, version, &bytes, a);
            }
            let _ = decode_zipkin_protobuf(&mut batch, options, &bytes, a);
            let _ = decode_jaeger_thrift(&mut batch, options, &bytes, a);
        });
    }

    #[test]
    fn cut_and_changed_requests_never_panic(
        request_shape in shape(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut body = request(&request_shape);
        let mut batch = PushBatch::default();
        if body.is_empty() {
            return Ok(());
        }
        let end = at.index(body.len());
        let _ = otlp(&mut batch, 3, &body[..end]);
        traces(&batch, |_, _| ());
        body[end] ^= 1 << bit;
        if otlp(&mut batch, 3, &body).is_ok() {
            // What was taken can be read.
            traces(&batch, |_, _| ());
        } else {
            prop_assert_eq!((batch.span_count(), batch.trace_count()), (0, 0));
        }
    }
}

#[test]
fn scopes_with_other_attributes_stay_apart_and_equal_ones_meet() {
    let scope = |value: &'static [u8]| {
        let attribute = Attribute {
            key: b"k",
            value: Value::Text(value),
        };
        ScopeSpans {
            name: b"lib",
            version: b"1",
            attributes: vec![attribute],
            spans: vec![Span {
                trace_id: &[1; 16],
                span_id: &[2; 8],
                ..Span::default()
            }],
            ..ScopeSpans::default()
        }
    };
    let resource = ResourceSpans {
        scopes: vec![scope(b"a"), scope(b"b"), scope(b"a")],
        ..ResourceSpans::default()
    };
    let mut body = Vec::new();
    Trace {
        resources: vec![resource],
    }
    .encode(&mut body);
    let mut batch = PushBatch::default();
    otlp(&mut batch, 0, &body).unwrap();
    traces(&batch, |_, trace| {
        let scopes = &trace.resources[0].scopes;
        let found: Vec<_> = scopes
            .iter()
            .map(|s| (s.attributes[0].value, s.spans.len()))
            .collect();
        assert_eq!(found, [(Value::Text(b"a"), 2), (Value::Text(b"b"), 1)]);
    });
}

#[test]
fn a_resource_in_pieces_is_one_and_a_parent_of_zeros_is_none() {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_message(out, 1, |out| put_text(out, 1, "service.name", b"a"));
        put_message(out, 2, |out| {
            put_message(out, 2, |out| {
                put_bytes_field(out, 1, &[1; 16]);
                put_bytes_field(out, 2, &[2; 8]);
                put_bytes_field(out, 4, &[0; 8]);
                put_bytes_field(out, 5, b"root");
            });
        });
        put_message(out, 1, |out| put_text(out, 1, "more", b"b"));
    });
    let mut batch = PushBatch::default();
    otlp(&mut batch, 2048, &body).unwrap();
    traces(&batch, |_, trace| {
        let resource = &trace.resources[0];
        assert_eq!(
            (resource.attributes.len(), resource.service_name()),
            (2, &b"a"[..])
        );
        let span = &resource.scopes[0].spans[0];
        assert_eq!((span.name, span.parent_span_id), (&b"root"[..], &b""[..]));
    });
}

#[test]
fn empty_requests_are_taken_in_all_spellings() {
    let mut batch = PushBatch::default();
    for json in [
        "",
        " \n",
        "{}",
        "{\"resourceSpans\":[]}",
        "{\"resourceSpans\":[{\"scopeSpans\":[{}]}]}",
    ] {
        spelled(&mut batch, 0, OtlpSpelling::Json, json.as_bytes()).unwrap();
        assert_eq!(batch.span_count(), 0);
    }
    otlp(&mut batch, 0, &[]).unwrap();
    allowed(1000, |a| {
        for (version, json) in [(ZipkinVersion::V1, ""), (ZipkinVersion::V2, " []")] {
            let options = PushOptions::default();
            decode_zipkin_json(&mut batch, options, version, json.as_bytes(), a).unwrap();
        }
        decode_zipkin_protobuf(&mut batch, PushOptions::default(), b"", a).unwrap();
        decode_jaeger_thrift(&mut batch, PushOptions::default(), &[0], a).unwrap();
    });
    assert_eq!((batch.trace_count(), batch.refused()), (0, None));
}

#[test]
fn ids_that_are_none_refuse_the_whole_request_in_tempos_words() {
    let with = |trace: &[u8], span: &[u8]| {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_message(out, 2, |out| {
                for (trace, span) in [(&[1; 16][..], &[2; 8][..]), (trace, span), (trace, span)] {
                    put_message(out, 2, |out| {
                        put_bytes_field(out, 1, trace);
                        put_bytes_field(out, 2, span);
                    });
                }
            });
        });
        out
    };
    let trace = "trace ids must be 128 bit, received";
    let span = "span ids must be 64 bit and not all zero, received";
    let mut batch = PushBatch::default();
    for (trace_id, span_id, message, rule) in [
        (
            &[][..],
            &[1; 8][..],
            format!("{trace} 0 bits"),
            SpanRule::InvalidTraceId,
        ),
        (
            &[0; 16],
            &[1; 8],
            format!("{trace} 0 bits"),
            SpanRule::InvalidTraceId,
        ),
        (
            &[1; 8],
            &[1; 8],
            format!("{trace} 64 bits"),
            SpanRule::InvalidTraceId,
        ),
        (
            &[1; 15],
            &[1; 8],
            format!("{trace} 120 bits"),
            SpanRule::InvalidTraceId,
        ),
        (
            &[1; 17],
            &[1; 8],
            format!("{trace} 136 bits"),
            SpanRule::InvalidTraceId,
        ),
        (
            &[1; 16],
            &[],
            format!("{span} 0 bits"),
            SpanRule::InvalidSpanId,
        ),
        (
            &[1; 16],
            &[0; 8],
            format!("{span} 0 bits"),
            SpanRule::InvalidSpanId,
        ),
        (
            &[1; 16],
            &[1; 16],
            format!("{span} 128 bits"),
            SpanRule::InvalidSpanId,
        ),
    ] {
        let e = otlp(&mut batch, 0, &with(trace_id, span_id)).unwrap_err();
        assert_eq!(
            (e.kind(), e.to_string()),
            (ErrorKind::InvalidInput, message)
        );
        assert_eq!(batch.refused(), Some(RefusedSpans { rule, count: 3 }));
        assert_eq!(batch.span_count(), 0);
    }
    otlp(&mut batch, 0, &with(&[1; 16], &[1; 8])).unwrap();
    assert_eq!((batch.span_count(), batch.refused()), (3, None));
}

#[test]
fn json_takes_names_of_both_kinds_and_ids_in_hexadecimal_only() {
    let json = br#"{"resource_spans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},
        "scope_spans":[{"scope":{"name":"lib"},"spans":[{"trace_id":"0AF7651916CD43DD8448EB211C80319C","spanId":"b7ad6b7169203331",
        "kind":"SPAN_KIND_SERVER","start_time_unix_nano":1,"endTimeUnixNano":"3","unknown":{"a":[1]},"flags":257,
        "status":{"code":"STATUS_CODE_ERROR","message":"m"},"attributes":[{"key":"n","value":{"intValue":"-3"}},{"key":"none"}]}]}]}]}"#;
    let mut batch = PushBatch::default();
    spelled(&mut batch, 0, OtlpSpelling::Json, json).unwrap();
    traces(&batch, |id, trace| {
        assert_eq!(id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        let (_, _, span) = trace.spans().next().unwrap();
        assert_eq!(
            (span.kind, span.status_code, span.start_ns, span.end_ns),
            (2, 2, 1, 3)
        );
        assert_eq!(span.attributes[0].value, Value::Int(-3));
        assert_eq!(span.attributes[1].value, Value::Empty);
    });
    let text = str::from_utf8(json).unwrap();
    for (from, to, why) in [
        (
            "0AF7651916CD43DD8448EB211C80319C",
            "CvdlGRbNQ92ESOshHIAxnA==",
            "not hexadecimal",
        ),
        (
            "0AF7651916CD43DD8448EB211C80319C",
            "0AF7651916CD43DD",
            "received 64 bits",
        ),
        ("\"flags\":257", "\"flags\":\"x\"", "no number"),
        ("}]}]}]}]}", "}]}]}]}", "EOF"),
    ] {
        let bad = text.replace(from, to);
        assert_ne!(bad, text);
        let e = spelled(&mut batch, 0, OtlpSpelling::Json, bad.as_bytes()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains(why), "{e}");
    }
}

#[test]
fn bodies_of_other_signals_are_refused() {
    let mut logs = Vec::new();
    put_message(&mut logs, 1, |out| {
        put_message(out, 2, |out| {
            put_message(out, 2, |out| {
                out.extend_from_slice(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8]);
                put_varint_field(out, 2, 9);
            });
        });
    });
    let e = otlp(&mut PushBatch::default(), 0, &logs).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert!(e.to_string().contains("field 1 has wire type 1"), "{e}");
    let json = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#;
    // Its names are not known, which JSON allows.
    let mut batch = PushBatch::default();
    spelled(&mut batch, 0, OtlpSpelling::Json, json).unwrap();
    assert_eq!(batch.span_count(), 0);
}
