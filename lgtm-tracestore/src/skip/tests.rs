use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::select::{
    AttributeScope, CompareOp, Condition, Field, Intrinsic, Literal, SpanFilter, Test,
};
use crate::trace::{Attribute, ResourceSpans, ScopeSpans, Span, Trace, Value};

const ORIGIN: SkipOrigin = SkipOrigin {
    size_bytes: 1_000_000,
    footer_size_bytes: 77,
    traces: 3,
};

fn trace<'a>(attributes: Vec<Attribute<'a>>, name: &'a [u8], kind: i32) -> Trace<'a> {
    let span = Span {
        name,
        kind,
        attributes,
        ..Span::default()
    };
    Trace {
        resources: vec![ResourceSpans {
            scopes: vec![ScopeSpans {
                spans: vec![span],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn attribute<'a>(key: &'a str, value: Value<'a>) -> Attribute<'a> {
    Attribute {
        key: key.as_bytes(),
        value,
    }
}

/// Two row groups: `few` has a value in each, `many` is different in each span, `odd` is only in the second.
fn file(spans: u32, max_bytes: usize) -> Bytes {
    let mut builder = SkipBuilder::default();
    for group in 0..2u32 {
        for n in 0..spans {
            let text = format!("u-{}", group * spans + n);
            let few = ["a", "b"][group as usize];
            let mut attributes = vec![
                attribute("few", Value::Text(few.as_bytes())),
                attribute("many", Value::Text(text.as_bytes())),
            ];
            if group == 1 {
                attributes.push(attribute("odd", Value::Int(7)));
            }
            builder.add(&trace(attributes, few.as_bytes(), 2 + group as i32));
        }
        builder.end_group(max_bytes / 3);
    }
    builder.finish(ORIGIN, max_bytes).unwrap().unwrap().into()
}

fn test(field: Field, test: Test) -> SpanFilter {
    SpanFilter::Test(Condition { field, test })
}

fn equals(key: &str, literal: Literal) -> SpanFilter {
    let field = Field::attribute(AttributeScope::Span, key);
    test(field, Test::Compare(CompareOp::Equal, literal))
}

fn text(text: &str) -> Literal {
    Literal::Text(text.to_owned())
}

#[test]
fn row_groups_are_ruled_out_by_names_values_and_hashes() {
    let index = SkipIndex::decode(file(3000, 100_000)).unwrap();
    assert_eq!(index.origin(), ORIGIN);
    let groups = |filter: &SpanFilter| index.groups_of(filter).iter().collect::<Vec<_>>();
    assert_eq!(groups(&equals("few", text("a"))), [0]);
    assert_eq!(groups(&equals("few", text("c"))), [0; 0]);
    assert_eq!(groups(&equals("none", text("c"))), [0; 0]);
    assert_eq!(groups(&equals("odd", Literal::Float(7.0))), [1]);
    assert_eq!(groups(&equals("odd", Literal::Int(8))), [0; 0]);
    let field = |key: &str| Field::attribute(AttributeScope::Span, key);
    let not = Test::Compare(CompareOp::NotEqual, text("a"));
    assert_eq!(groups(&test(field("few"), not)), [1]);
    let matches = Test::Matches(vec!["[b-z]".to_owned()]);
    assert_eq!(groups(&test(field("few"), matches)), [1]);
    assert_eq!(groups(&test(field("many"), Test::Exists)), [0, 1]);
    let kind = Test::Compare(
        CompareOp::Equal,
        Literal::Kind(crate::trace::SpanKind::Client),
    );
    assert_eq!(groups(&test(Intrinsic::Kind.into(), kind)), [1]);
    // What is there is always let through, little else is.
    assert!((0..3000).all(|n| groups(&equals("many", text(&format!("u-{n}")))).contains(&0)));
    let passed = (0..1000).filter(|n| !groups(&equals("many", text(&format!("x-{n}")))).is_empty());
    assert!(passed.count() < 60);
    let both = SpanFilter::All(vec![equals("few", text("b")), equals("many", text("u-1"))]);
    assert!(!groups(&both).contains(&0));
    let either = SpanFilter::Any(vec![
        equals("few", text("a")),
        equals("odd", Literal::Int(7)),
    ]);
    assert_eq!(groups(&either), [0, 1]);
}

#[test]
fn a_file_takes_no_more_than_it_may_and_then_says_less() {
    for max_bytes in [1_000, 3_000, 20_000] {
        let file = file(3000, max_bytes);
        assert!(file.len() <= max_bytes, "{} of {max_bytes}", file.len());
        let index = SkipIndex::decode(file).unwrap();
        assert!(index.groups_of(&equals("many", text("u-1"))).contains(0));
        assert!(index.groups_of(&equals("none", text("u-1"))).is_empty());
    }
    let builder = SkipBuilder::default();
    assert!(builder.finish(ORIGIN, 10).unwrap().is_none());
}

#[test]
fn names_and_values_are_told_where_all_are_known() {
    let index = SkipIndex::decode(file(3000, 100_000)).unwrap();
    let names: Vec<_> = index.names().unwrap().collect();
    let of_spans = |name: &'static str| (AttributeScope::Span, name.as_bytes());
    let service = (AttributeScope::Resource, b"service.name".as_slice());
    assert_eq!(
        names,
        [service, of_spans("few"), of_spans("many"), of_spans("odd")]
    );
    let values = |name: &str| {
        let field = Field::attribute(AttributeScope::Span, name);
        index
            .values(&field)
            .map(|values| values.cloned().collect::<Vec<_>>())
    };
    let texts = |texts: [&str; 2]| texts.map(|t| SkipValue::Text(t.into())).to_vec();
    assert_eq!(values("few"), Some(texts(["a", "b"])));
    assert_eq!(values("many"), None);
    assert_eq!(values("none"), Some(Vec::new()));
}

#[test]
fn every_changed_bit_is_an_error() {
    let file = file(20, 10_000);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut changed = file.to_vec();
            changed[at] ^= 1 << bit;
            assert!(SkipIndex::decode(changed.into()).is_err(), "{at} {bit}");
        }
        assert!(SkipIndex::decode(file.slice(..at)).is_err());
    }
}

proptest! {
    #[test]
    fn random_bytes_are_no_file(bytes: Vec<u8>, with_mark: bool, with_checksum: bool) {
        let mut file = if with_mark { b"LGTMTSK1".to_vec() } else { Vec::new() };
        file.extend(bytes);
        if with_checksum {
            let crc = lgtm_core::codec::crc32c(&file);
            file.extend(crc.to_le_bytes());
        }
        prop_assert!(SkipIndex::decode(file.into()).is_err());
    }

    #[test]
    fn a_made_up_table_never_panics(table in prop::collection::vec(any::<u8>(), 0..200)) {
        let packed = zstd::bulk::compress(&table, 1).unwrap();
        let mut file = b"LGTMTSK1".to_vec();
        file.extend((table.len() as u32).to_le_bytes());
        file.extend((packed.len() as u32).to_le_bytes());
        file.extend(packed);
        let crc = lgtm_core::codec::crc32c(&file);
        file.extend(crc.to_le_bytes());
        if let Ok(index) = SkipIndex::decode(file.into()) {
            index.groups_of(&equals("few", text("a")));
        }
    }
}
