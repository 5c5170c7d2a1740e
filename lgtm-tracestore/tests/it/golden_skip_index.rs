//! The side file of version 1: what was written once is read for ever.

use lgtm_tracestore::select::{
    AttributeScope, CompareOp, Condition, Field, Literal, SpanFilter, Test,
};
use lgtm_tracestore::skip::{SkipBuilder, SkipIndex, SkipOrigin, SkipValue};
use lgtm_tracestore::trace::{Attribute, ResourceSpans, ScopeSpans, Span, Trace, Value};

const VERSION_1: &[u8] = include_bytes!("../golden/skip_index_v1.bin");

const ORIGIN: SkipOrigin = SkipOrigin {
    size_bytes: 123_456,
    footer_size_bytes: 789,
    traces: 2400,
};

fn file() -> Vec<u8> {
    let mut builder = SkipBuilder::default();
    for n in 0..2400u32 {
        let id = format!("request-{n}");
        let attribute = |key: &'static [u8], value| Attribute { key, value };
        let span = Span {
            name: b"GET /",
            kind: 2,
            attributes: vec![
                attribute(b"http.method", Value::Text(b"GET")),
                attribute(
                    b"http.status_code",
                    Value::Int(200 + i64::from(n / 1200) * 300),
                ),
                attribute(b"cached", Value::Bool(true)),
                attribute(b"load", Value::Double(0.5)),
                attribute(b"request.id", Value::Text(id.as_bytes())),
            ],
            ..Span::default()
        };
        builder.add(&Trace {
            resources: vec![ResourceSpans {
                attributes: vec![attribute(b"service.name", Value::Text(b"shop"))],
                scopes: vec![ScopeSpans {
                    spans: vec![span],
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        });
        if n % 1200 == 1199 {
            builder.end_group(4096);
        }
    }
    builder.finish(ORIGIN, 16 << 10).unwrap().unwrap()
}

fn groups(index: &SkipIndex, key: &str, literal: Literal) -> Vec<usize> {
    let filter = SpanFilter::Test(Condition {
        field: Field::attribute(AttributeScope::Span, key),
        test: Test::Compare(CompareOp::Equal, literal),
    });
    index.groups_of(&filter).iter().collect()
}

#[test]
fn version_1_is_read() {
    let index = SkipIndex::decode(VERSION_1.into()).unwrap();
    assert_eq!(index.origin(), ORIGIN);
    assert_eq!(groups(&index, "http.status_code", Literal::Int(500)), [1]);
    assert_eq!(groups(&index, "cached", Literal::Bool(false)), [0; 0]);
    for n in 0..2400 {
        let id = Literal::Text(format!("request-{n}"));
        assert!(groups(&index, "request.id", id).contains(&(n / 1200)));
    }
    let absent = Literal::Text("request-x".to_owned());
    assert_eq!(groups(&index, "request.id", absent), [0; 0]);
    let service = Field::attribute(AttributeScope::Resource, "service.name");
    let services: Vec<_> = index.values(&service).unwrap().cloned().collect();
    assert_eq!(services, [SkipValue::Text(b"shop".to_vec())]);
}

#[test]
fn the_same_block_has_the_same_file() {
    // Compression may change with its library; what is in the file does not.
    let (new, old) = (
        SkipIndex::decode(file().into()),
        SkipIndex::decode(VERSION_1.into()),
    );
    assert_eq!(
        format!("{:?}", without_file(new.unwrap())),
        format!("{:?}", without_file(old.unwrap()))
    );
}

fn without_file(index: SkipIndex) -> Vec<(AttributeScope, Vec<u8>)> {
    let names = index.names().unwrap();
    names.map(|(scope, name)| (scope, name.to_vec())).collect()
}

#[test]
#[ignore = "writes the file of a new version"]
fn a_new_version_is_written_once_long() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/skip_index_v1.bin"
    );
    if !std::path::Path::new(path).exists() || VERSION_1.is_empty() {
        std::fs::write(path, file()).unwrap();
    }
}
