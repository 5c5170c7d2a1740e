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
