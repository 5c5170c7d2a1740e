use lgtm_core::codec::Allowance;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn decoded(bytes: &[u8]) -> Option<Trace<'_>> {
    let mut grow = |_| Ok(());
    Trace::decode(bytes, &mut Allowance::new(1 << 20, &mut grow)).ok()
}

#[test]
fn ids_are_padded_and_print_both_ways() {
    let id = TraceId::from_hex("AbC").unwrap();
    assert_eq!(id.to_string(), "00000000000000000000000000000abc");
    assert_eq!(id.short_hex(), "abc");
    assert_eq!(TraceId::from_short(&[0x0a, 0xbc]), Some(id));
    assert_eq!(TraceId::from_short(&[0; 17]), None);
    assert!(TraceId::from_hex("0").unwrap().is_zero());
    let refused = |text: &str| TraceId::from_hex(text).unwrap_err().to_string();
    assert!(refused("ax").ends_with("invalid character 'x' at position 2"));
    assert!(refused("+1").ends_with("invalid character '+' at position 1"));
    assert!(refused(&"0".repeat(33)).ends_with("larger than 128 bits"));
    assert!(refused("").ends_with("empty"));
    assert_eq!(SpanId::from_any(&[1, 2]).to_string(), "0102000000000000");
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..12)
}

/// An attribute with a value of every shape, as its bytes.
fn attribute() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(Vec::new()),
        text().prop_map(|t| encoded(Value::Text(&t))),
        any::<bool>().prop_map(|v| encoded(Value::Bool(v))),
        any::<i64>().prop_map(|v| encoded(Value::Int(v))),
        any::<i32>().prop_map(|v| encoded(Value::Double(f64::from(v) / 3.0))),
        text().prop_map(|t| encoded(Value::Bytes(&t))),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        vec(inner, 0..3).prop_map(|items| {
            let mut list = Vec::new();
            for item in &items {
                lgtm_core::codec::protobuf::put_bytes_field(&mut list, 1, item);
            }
            encoded(Value::List(&list))
        })
    });
    (text(), value).prop_map(|(key, value)| {
        let mut out = Vec::new();
        let value = Value::decode(&value).unwrap();
        Attribute { key: &key, value }.encode(&mut out);
        out
    })
}

fn encoded(value: Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(
        attributes in vec(attribute(), 0..4),
        texts in vec(text(), 8),
        numbers in vec(any::<u32>(), 8),
        times in vec(any::<u64>(), 3),
    ) {
        let attributes: Vec<_> = attributes.iter().map(|a| Attribute::decode(a).unwrap()).collect();
        let span = Span {
            trace_id: &texts[0],
            span_id: &texts[1],
            parent_span_id: &texts[2],
            trace_state: &texts[3],
            name: &texts[4],
            kind: numbers[0] as i32,
            start_ns: times[0],
            end_ns: times[1],
            attributes: attributes.clone(),
            dropped_attributes_count: numbers[1],
            events: vec![Event {
                time_ns: times[2],
                name: &texts[5],
                attributes: attributes.clone(),
                dropped_attributes_count: numbers[2],
            }],
            dropped_events_count: numbers[3],
            links: vec![Link {
                trace_id: &texts[6],
                span_id: &texts[1],
                trace_state: &texts[2],
                attributes: attributes.clone(),
                dropped_attributes_count: numbers[4],
            }],
            dropped_links_count: numbers[5],
            status_code: numbers[6] as i32,
            status_message: &texts[7],
        };
        let scope = ScopeSpans {
            name: &texts[3],
            version: &texts[4],
            attributes: attributes.clone(),
            dropped_attributes_count: numbers[7],
            spans: vec![span.clone(), span],
        };
        let resource = ResourceSpans {
            attributes,
            dropped_attributes_count: numbers[0],
            scopes: vec![scope],
        };
        let trace = Trace { resources: vec![resource.clone(), resource] };
        let mut bytes = Vec::new();
        trace.encode(&mut bytes);
        prop_assert_eq!(decoded(&bytes).unwrap(), trace);
        for end in 0..bytes.len() {
            // No cut panics; at a border of fields it reads as less.
            let _ = decoded(&bytes[..end]);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decoded(&bytes);
        let _ = Attribute::decode(&bytes);
        Values::new(&bytes).for_each(drop);
        Attribute::in_map(&bytes).for_each(drop);
    }
}

/// The last of three parts would fit alone: those that did not are missing all the same.
#[test]
fn parts_that_do_not_fit_are_told_even_when_a_later_one_would() {
    let id = |n: u8| [n; 8];
    let (a, b) = (id(1), id(2));
    let part = |span_id, end_ns| Trace {
        resources: vec![ResourceSpans {
            scopes: vec![ScopeSpans {
                name: b"scope",
                spans: vec![Span {
                    span_id,
                    end_ns,
                    ..Span::default()
                }],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let parts = [part(&a, 1), part(&a, 2), part(&b, 3)];
    let max_bytes = size(&parts[2]);
    let mut combiner = Combiner::new(CombineBound::Answer { max_bytes });
    parts.into_iter().for_each(|p| combiner.push(p));
    let combined = combiner.finish();
    assert!(combined.left_out_spans > 0, "{combined:?}");
}

/// Spans of a trace by what makes them the same, the first of each.
fn first_copies(parts: &[Trace<'_>]) -> std::collections::BTreeMap<(SpanId, i32), u64> {
    let mut out = std::collections::BTreeMap::new();
    for (_, _, span) in parts.iter().flat_map(Trace::spans) {
        let kind = if (0..8).contains(&span.kind) {
            span.kind
        } else {
            0
        };
        let key = (SpanId::from_any(span.span_id), kind);
        out.entry(key).or_insert(span.end_ns);
    }
    out
}

fn size(trace: &Trace<'_>) -> usize {
    let mut out = Vec::new();
    trace.encode(&mut out);
    out.len()
}

proptest! {
    #[test]
    fn combined_parts_have_the_first_copy_of_each_span_in_order_and_within_the_bound(
        parts in vec(vec((0u8..9, 0i32..10, 0u64..50, 0u8..3, 0u8..3), 1..12), 1..4),
        max_bytes in 0usize..2000,
    ) {
        let ids: Vec<[u8; 8]> = (0..9).map(|n| [n + 1; 8]).collect();
        let names = [b"a", b"b", b"c"];
        let mut end_ns = 0;
        let mut part = |spans: &[(u8, i32, u64, u8, u8)]| {
            let one = |(id, kind, start_ns, service, scope): &(u8, i32, u64, u8, u8)| {
                end_ns += 1;
                let key = b"service.name";
                let value = Value::Text(names[*service as usize]);
                let span = Span {
                    span_id: &ids[*id as usize],
                    kind: *kind,
                    start_ns: *start_ns,
                    end_ns,
                    ..Span::default()
                };
                let scope = ScopeSpans {
                    name: names[*scope as usize],
                    spans: vec![span],
                    ..ScopeSpans::default()
                };
                ResourceSpans {
                    attributes: vec![Attribute { key, value }],
                    scopes: vec![scope],
                    ..ResourceSpans::default()
                }
            };
            Trace { resources: spans.iter().map(one).collect() }
        };
        let parts: Vec<_> = parts.iter().map(|p| part(p)).collect();
        let combine = |bound| {
            let mut combiner = Combiner::new(bound);
            parts.iter().for_each(|p| combiner.push(p.clone()));
            combiner.finish()
        };
        let whole = combine(CombineBound::Unbounded);
        prop_assert_eq!(whole.left_out_spans, 0);
        if parts.len() == 1 {
            prop_assert_eq!(&whole.trace, &parts[0]);
        } else {
            let found = whole.trace.spans().map(|(_, _, s)| {
                let kind = if (0..8).contains(&s.kind) { s.kind } else { 0 };
                ((SpanId::from_any(s.span_id), kind), s.end_ns)
            });
            let expected = first_copies(&parts);
            prop_assert_eq!(found.collect::<std::collections::BTreeMap<_, _>>(), expected.clone());
            prop_assert_eq!(whole.trace.span_count(), expected.len());
            prop_assert!(whole.trace.resources.len() <= 3);
            for resource in &whole.trace.resources {
                prop_assert!(resource.scopes.len() <= 3);
            }
            let sets = whole.trace.resources.iter().map(|r| r.scopes[0].spans[0].start_ns);
            prop_assert!(sets.is_sorted());
        }
        let cut = combine(CombineBound::Answer { max_bytes });
        prop_assert!(size(&cut.trace) <= max_bytes);
        let cut_copies = first_copies(std::slice::from_ref(&cut.trace));
        prop_assert!(cut.left_out_spans > 0 || cut_copies.len() == first_copies(&parts).len());
        let stored = combine(CombineBound::Stored { max_bytes });
        prop_assert!(stored.trace.span_count() >= first_copies(&parts[..1]).len());
        prop_assert_eq!(
            stored.trace.span_count() as u64 + stored.left_out_spans >= whole.trace.span_count() as u64,
            true
        );
    }

    #[test]
    fn pieces_make_the_whole_text(
        attribute in attribute(),
        shape in vec(vec(0usize..3, 0..3), 0..4),
        wanted in 1usize..200,
    ) {
        let attributes = vec![Attribute::decode(&attribute).unwrap()];
        let resource = |scopes: &Vec<usize>| ResourceSpans {
            attributes: attributes.clone(),
            scopes: scopes
                .iter()
                .map(|spans| ScopeSpans {
                    attributes: attributes.clone(),
                    spans: vec![Span { attributes: attributes.clone(), ..Span::default() }; *spans],
                    ..ScopeSpans::default()
                })
                .collect(),
            ..ResourceSpans::default()
        };
        let trace = Trace { resources: shape.iter().map(resource).collect() };
        for form in [TraceForm::ResourceSpans, TraceForm::Otlp, TraceForm::Batches, TraceForm::Llm] {
            let whole = trace.to_json(form);
            let parsed: serde_json::Value = serde_json::from_str(&whole).unwrap();
            let list = match form {
                TraceForm::ResourceSpans | TraceForm::Otlp => "resourceSpans",
                TraceForm::Batches => "batches",
                TraceForm::Llm => "services",
            };
            let count = parsed[list].as_array().map_or(0, Vec::len);
            prop_assert_eq!(count, trace.resources.len());
            let mut printer = TracePrinter::new(&trace, form);
            let mut pieces = String::new();
            loop {
                let mut piece = String::new();
                let has_more = printer.push(&mut piece, wanted);
                pieces.push_str(&piece);
                if !has_more {
                    break;
                }
                prop_assert!(piece.len() >= wanted);
            }
            prop_assert_eq!(pieces, whole);
        }
    }
}

#[test]
fn a_trace_as_otlp_is_read_as_the_same() {
    let attribute = |key, value| Attribute { key, value };
    let mut list = Vec::new();
    for item in [Value::Int(-3), Value::Text(b"x")] {
        lgtm_core::codec::protobuf::put_bytes_field(&mut list, 1, &encoded(item));
    }
    let attributes = vec![
        attribute(b"text", Value::Text("é\"".as_bytes())),
        attribute(b"int", Value::Int(i64::MIN)),
        attribute(b"double", Value::Double(1e-9)),
        attribute(b"bool", Value::Bool(false)),
        attribute(b"bytes", Value::Bytes(&[0, 255])),
        attribute(b"list", Value::List(&list)),
    ];
    let span = Span {
        trace_id: &[0xab; 16],
        span_id: &[0x01; 8],
        parent_span_id: &[0xff; 8],
        trace_state: b"a=b",
        name: b"GET /",
        kind: 3,
        start_ns: u64::MAX,
        end_ns: 7,
        attributes: attributes.clone(),
        events: vec![Event {
            time_ns: 5,
            name: b"e",
            attributes: attributes.clone(),
            ..Event::default()
        }],
        links: vec![Link {
            trace_id: &[0xcd; 16],
            span_id: &[0x02; 8],
            attributes: attributes.clone(),
            ..Link::default()
        }],
        status_code: 2,
        status_message: b"no",
        ..Span::default()
    };
    let scope = ScopeSpans {
        name: b"lib",
        version: b"1",
        attributes: attributes.clone(),
        spans: vec![span],
        ..ScopeSpans::default()
    };
    let resource = ResourceSpans {
        attributes,
        scopes: vec![scope],
        ..ResourceSpans::default()
    };
    let trace = Trace {
        resources: vec![resource],
    };
    let json = trace.to_json(TraceForm::Otlp);
    let mut bytes = Vec::new();
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(1 << 20, &mut grow);
    crate::wire::otlp_to_protobuf(
        lgtm_core::otlp::OtlpSpelling::Json,
        json.as_bytes(),
        lgtm_core::codec::SizeBound::new(1 << 20),
        &mut bytes,
        &mut allowance,
    )
    .unwrap();
    // Lengths in lists may be written with more bytes than they need.
    let read = Trace::decode(&bytes, &mut allowance).unwrap();
    for form in [TraceForm::Otlp, TraceForm::ResourceSpans] {
        assert_eq!(read.to_json(form), trace.to_json(form));
    }
}

#[test]
fn what_is_no_text_is_shown_all_the_same() {
    let mut deep = Vec::new();
    for _ in 0..200 {
        let mut outer = Vec::new();
        lgtm_core::codec::protobuf::put_bytes_field(&mut outer, 1, &encoded(Value::List(&deep)));
        deep = outer;
    }
    let value = Value::List(&deep);
    let attribute = |key, value| Attribute { key, value };
    let span = Span {
        trace_id: &[0xab; 16],
        span_id: &[1, 2],
        name: b"a\xff\"",
        kind: 77,
        end_ns: 3_000_000,
        attributes: vec![
            attribute(b"d", Value::Double(f64::NEG_INFINITY)),
            attribute(b"b", Value::Bytes(&[0xfb, 0xff])),
            attribute(b"deep", value),
            attribute(b"d", Value::Int(-1)),
            attribute(b"none", Value::Empty),
        ],
        status_code: 2,
        ..Span::default()
    };
    let scope = ScopeSpans {
        spans: vec![span],
        ..ScopeSpans::default()
    };
    let resource = ResourceSpans {
        scopes: vec![scope],
        ..ResourceSpans::default()
    };
    let trace = Trace {
        resources: vec![resource],
    };
    let json = trace.to_json(TraceForm::Batches);
    let start = r#"{"batches":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{"traceId":"q6urq6urq6urq6urq6urqw==","spanId":"AQI=","name":"a�\"","kind":77,"endTimeUnixNano":"3000000","attributes":[{"key":"d","value":{"doubleValue":"-Infinity"}},{"key":"b","value":{"bytesValue":"+/8="}},{"key":"deep","value":{"arrayValue":{"values":["#.replace("a�\"", "a�\\\"");
    assert!(json.starts_with(&start), "{json}");
    let end = r#"{"key":"d","value":{"intValue":"-1"}},{"key":"none","value":{}}],"status":{"code":"STATUS_CODE_ERROR"}}]}]}]}"#;
    assert!(json.ends_with(end), "{json}");
    let llm = trace.to_json(TraceForm::Llm);
    let start = r#"{"traceId":"abababababababababababababababab","services":[{"scopes":[{"spans":[{"spanId":"0102","name":"a�\"","kind":77,"endTimeUnixNano":"3000000","durationMs":3,"attributes":{"b":"+/8=","d":-1,"deep":[["#.replace("a�\"", "a�\\\"");
    assert!(llm.starts_with(&start), "{llm}");
    assert!(
        llm.ends_with(r#""none":null},"status":{"code":"STATUS_CODE_ERROR"}}]}]}]}"#),
        "{llm}"
    );
    assert_eq!(Trace::default().to_json(TraceForm::Llm), "{}");
}
