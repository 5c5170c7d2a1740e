//! What senders may get wrong, and what OTLP becomes.

use lgtm_core::codec::protobuf::{put_bytes_field, put_varint_field};
use lgtm_core::codec::{Allowance, SizeBound};
use lgtm_core::model::TimestampNs;
use lgtm_core::otlp::json_to_protobuf;
use lgtm_core::{ErrorKind, Result};
use proptest::prelude::*;

use super::*;
use crate::limits::Limits;

type Row = (String, i64, String, Vec<(String, String)>);

fn rows(batch: &PushBatch) -> Vec<Row> {
    let owned = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
    let mut out = Vec::new();
    for stream in batch.streams() {
        for e in stream.entries() {
            let line = String::from_utf8_lossy(e.line).into_owned();
            let labels = stream.labels().to_string();
            out.push((
                labels,
                e.t_ns.get(),
                line,
                e.metadata().map(owned).collect(),
            ));
        }
    }
    out
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Protobuf,
    Json,
    Legacy,
    Otlp,
    OtlpJson,
}

fn decode_within(form: Form, body: &[u8], limits: &Limits, max: usize) -> Result<PushBatch> {
    let mut batch = PushBatch::default();
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(max, &mut grow);
    let options = limits.push_options();
    let fill = |out: &mut Vec<u8>, allowance: &mut Allowance<'_>| {
        allowance.reserve(out, body.len())?;
        out.extend_from_slice(body);
        Ok(())
    };
    let from_json = |out: &mut Vec<u8>, allowance: &mut Allowance<'_>| {
        json_to_protobuf(&OTLP_REQUEST, body, SizeBound::new(1 << 30), out, allowance)
    };
    let done = match form {
        Form::Protobuf => decode_protobuf(&mut batch, &options, &mut allowance, fill),
        Form::Json => decode_json(&mut batch, &options, &mut allowance, fill),
        Form::Legacy => decode_legacy_json(&mut batch, &options, &mut allowance, fill),
        Form::Otlp => decode_otlp(
            &mut batch,
            &options,
            TimestampNs::new(7),
            &mut allowance,
            fill,
        ),
        Form::OtlpJson => decode_otlp(
            &mut batch,
            &options,
            TimestampNs::new(7),
            &mut allowance,
            from_json,
        ),
    };
    // What the batch took was asked for.
    assert!(batch.heap_bytes() <= allowance.spent(), "{form:?}");
    assert!(done.is_ok() || batch.entry_count() == 0);
    done.map(|()| batch)
}

fn decode(form: Form, body: &[u8]) -> Result<PushBatch> {
    decode_within(form, body, &plain(), 0)
}

/// Nothing is added to what is sent.
fn plain() -> Limits {
    Limits {
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    }
}

fn message(fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    fields(&mut out);
    out
}

/// Time, line, metadata.
type SentEntry<'a> = (i64, &'a [u8], &'a [(&'a [u8], &'a [u8])]);

/// A request of one stream whose labels stand behind its entries.
fn request(labels: &str, entries: &[SentEntry<'_>]) -> Vec<u8> {
    let stream = message(|out| {
        for (t_ns, line, pairs) in entries {
            let entry = message(|out| {
                let time = message(|out| {
                    put_varint_field(out, 1, (t_ns / 1_000_000_000) as u64);
                    put_varint_field(out, 2, (t_ns % 1_000_000_000) as u64);
                });
                put_bytes_field(out, 1, &time);
                put_bytes_field(out, 2, line);
                for (name, value) in *pairs {
                    let pair = message(|out| {
                        put_bytes_field(out, 1, name);
                        put_bytes_field(out, 2, value);
                    });
                    put_bytes_field(out, 3, &pair);
                }
            });
            put_bytes_field(out, 2, &entry);
        }
        put_bytes_field(out, 1, labels.as_bytes());
    });
    message(|out| put_bytes_field(out, 1, &stream))
}

#[test]
fn metadata_are_made_normal_each_once_and_in_order() {
    let pairs: &[(&[u8], &[u8])] = &[
        (b"user.name", b"a\xffb"),
        (b"1x", b"1"),
        (b"a", b"first"),
        (b"a", b"last"),
    ];
    let body = request("{x=\"y\"}", &[(5, b"line \xff", pairs), (6, b"", &[])]);
    let batch = decode(Form::Protobuf, &body).unwrap();
    let entry = batch.stream(0).entry(0);
    assert_eq!((entry.t_ns.get(), entry.line), (5, &b"line \xff"[..]));
    let wanted = [("a", "last"), ("key_1x", "1"), ("user_name", "a b")];
    assert_eq!(entry.metadata().collect::<Vec<_>>(), wanted);
    assert_eq!((entry.sent.count, entry.sent.bytes), (4, 26));
    assert_eq!(batch.stream(0).entry(1).metadata().count(), 0);
    assert_eq!(batch.byte_count(), 6 + 26);
}

#[test]
fn an_entry_with_a_nameless_pair_is_left_out_and_told() {
    let good: &[(&[u8], &[u8])] = &[(b"a", b"b")];
    let bad: &[(&[u8], &[u8])] = &[(b"a", b"b"), (b"__", b"c")];
    let body = request(
        "{x=\"y\"}",
        &[(1, b"1", good), (2, b"2", bad), (3, b"3", good)],
    );
    let batch = decode_within(Form::Protobuf, &body, &Limits::default(), 0).unwrap();
    let times: Vec<_> = batch.stream(0).entries().map(|e| e.t_ns).collect();
    assert_eq!(times, [1, 3]);
    let [malformed] = batch.malformed() else {
        panic!("{:?}", batch.malformed());
    };
    assert_eq!((malformed.count, malformed.bytes), (1, 6));
    assert!(
        malformed.message.contains("service_name") && malformed.message.contains("\"__\""),
        "{}",
        malformed.message
    );
}

#[test]
fn escapes_in_json_are_resolved_and_odd_bytes_stay() {
    let body = b"{\"x\":[[1]],\"streams\":[{\"values\":[[\"1\",\"a\\n\\u00e9\\ud83d\\ude00\"],[\"2\",\"b\xff\x01\",{\"k\":\"v\xff\"},7]],\"stream\":{\"a\":\"\\\"\"}}]}";
    let batch = decode(Form::Json, body).unwrap();
    assert_eq!(batch.stream(0).labels().to_string(), r#"{a="\""}"#);
    let lines: Vec<_> = batch.stream(0).entries().map(|e| e.line).collect();
    assert_eq!(lines, ["a\né\u{1f600}".as_bytes(), b"b\xff\x01"]);
    let metadata: Vec<_> = batch.stream(0).entry(1).metadata().collect();
    assert_eq!(metadata, [("k", "v ")]);
}

#[test]
fn the_older_json_is_read_and_streams_without_entries_are_dropped() {
    let body = br#"{"streams":[{"labels":"{a=\"b\"}","entries":[{"ts":"1970-01-01T01:00:00.5+01:00","line":"x"}]},
        {"labels":"broken","entries":null},{"stream":{"a":"b"},"values":[]}]}"#;
    let batch = decode(Form::Legacy, body).unwrap();
    let row = (r#"{a="b"}"#.to_owned(), 500_000_000, "x".to_owned(), vec![]);
    assert_eq!((rows(&batch), batch.streams_sent()), (vec![row], 3));
}

#[test]
fn equal_times_are_spread_and_long_lines_are_cut_where_that_is_asked() {
    let limits = Limits {
        increment_duplicate_timestamp: true,
        max_line_size: lgtm_core::units::ByteSize::bytes(6),
        max_line_size_truncate: true,
        max_line_size_truncate_identifier: "..".into(),
        ..plain()
    };
    let body = br#"{"streams":[{"stream":{"a":"b"},"values":[["1","x"],["1","y"],["1","y"],["2","y"],["9","0123456789"],["9","\u00310000000"]]}]}"#;
    let batch = decode_within(Form::Json, body, &limits, 0).unwrap();
    let seen: Vec<_> = rows(&batch).into_iter().map(|r| (r.1, r.2)).collect();
    let wanted = [
        (1, "x"),
        (2, "y"),
        (1, "y"),
        (2, "y"),
        (9, "0123.."),
        (10, "1000.."),
    ];
    assert_eq!(seen, wanted.map(|(t, l)| (t, l.to_owned())));
}

#[test]
fn attributes_become_labels_or_metadata_by_the_rules() {
    let body = br#"{"resourceLogs":[{"resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"svc"}},
        {"key":"team","value":{"stringValue":"a"}},
        {"key":"os","value":{"kvlistValue":{"values":[{"key":"type","value":{"stringValue":"linux"}},{"key":"v","value":{"intValue":"6"}}]}}},
        {"key":"secret","value":{"stringValue":"s"}}]},
      "scopeLogs":[{"scope":{"name":"sc","attributes":[{"key":"x.y","value":{"boolValue":true}}],"droppedAttributesCount":2},"logRecords":[
        {"observedTimeUnixNano":"9","body":{"kvlistValue":{"values":[{"key":"b","value":{"doubleValue":1.5}},{"key":"a","value":{"arrayValue":{"values":[{"stringValue":"q"}]}}}]}},"flags":3,"severityNumber":"SEVERITY_NUMBER_WARN"},
        {"timeUnixNano":"5","observedTimeUnixNano":"6","body":{"stringValue":"l"},"attributes":[{"key":"tier","value":{"stringValue":"1"}},{"key":"k","value":{"bytesValue":"AQI="}}],"eventName":"e","droppedAttributesCount":1},
        {}]}]}]}"#;
    let limits: Limits = serde_json::from_str(
        r#"{"otlp_config":{"resource_attributes":{"attributes_config":[
            {"action":"index_label","regex":"te.m"},{"action":"drop","attributes":["secret"]}]},
            "log_attributes":[{"action":"index_label","attributes":["tier"]}]}}"#,
    )
    .unwrap();
    let batch = decode_within(Form::OtlpJson, body, &limits, 0).unwrap();
    let shared = [
        ("os_type", "linux"),
        ("os_v", "6"),
        ("scope_dropped_attributes_count", "2"),
        ("scope_name", "sc"),
    ];
    let metadata = |more: &[(&str, &str)]| {
        let mut all: Vec<(String, String)> = (shared.iter().chain(more))
            .chain(&[("x_y", "true")])
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        all.sort();
        all
    };
    let own = r#"{service_name="svc", team="a"}"#.to_owned();
    let split = r#"{service_name="svc", team="a", tier="1"}"#.to_owned();
    let warn = metadata(&[
        ("detected_level", "warn"),
        ("flags", "3"),
        ("severity_number", "13"),
    ]);
    let late = metadata(&[
        ("detected_level", "unknown"),
        ("dropped_attributes_count", "1"),
        ("event_name", "e"),
        ("k", "AQI="),
        ("observed_timestamp", "6"),
    ]);
    let bare = metadata(&[("detected_level", "unknown")]);
    assert_eq!(
        rows(&batch),
        [
            (own.clone(), 9, r#"{"a":["q"],"b":1.5}"#.to_owned(), warn),
            (own, 7, String::new(), bare),
            (split, 5, "l".to_owned(), late),
        ]
    );
    assert_eq!(batch.streams_sent(), 2);
}

#[test]
fn hostile_requests_are_refused_within_their_allowance() {
    let deep = |open: &str| format!("{{\"x\":{}", open.repeat(200_000)).into_bytes();
    for body in [deep("["), deep("{\"a\":")] {
        for form in [Form::Json, Form::Legacy, Form::OtlpJson] {
            let error = decode(form, &body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{form:?}");
        }
    }
    // A length that the bytes do not hold, and one of labels that is beyond the bound.
    assert!(decode(Form::Protobuf, &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    let labels = format!("{{a=\"{}\"}}", "x".repeat(17 << 20));
    let body = request(&labels, &[(1, b"x", &[])]);
    let error = decode(Form::Protobuf, &body).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().starts_with("request body too large"));
    // Entries of two bytes become forty.
    let stream = message(|out| {
        for _ in 0..1 << 20 {
            put_bytes_field(out, 2, b"");
        }
    });
    let body = message(|out| put_bytes_field(out, 1, &stream));
    let error = decode_within(Form::Protobuf, &body, &plain(), 8 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    // So many labels that are dropped in the end.
    let labels = format!("{{{}}}", "a=\"\",".repeat(1 << 20));
    let body = request(&labels, &[(1, b"x", &[])]);
    let error = decode_within(Form::Protobuf, &body, &plain(), 32 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let pairs: Vec<_> = (0..1 << 20).map(|n| format!("\"a{n}\":\"\"")).collect();
    let body = format!(
        "{{\"streams\":[{{\"stream\":{{{}}},\"values\":[[\"1\",\"x\"]]}}]}}",
        pairs.join(",")
    );
    let error = decode_within(Form::Json, body.as_bytes(), &plain(), 32 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_line_of_a_hundred_megabytes_is_noted_where_it_stands() {
    let line = vec![b'x'; 100 << 20];
    let body = request("{a=\"b\"}", &[(1, &line, &[])]);
    let batch = decode_within(Form::Protobuf, &body, &Limits::default(), 120 << 20).unwrap();
    assert_eq!(batch.stream(0).entry(0).line.len(), 100 << 20);
}

proptest! {
    #[test]
    fn random_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for form in [Form::Protobuf, Form::Json, Form::Legacy, Form::Otlp, Form::OtlpJson] {
            let _ = decode_within(form, &bytes, &Limits::default(), 1 << 20);
        }
    }

    #[test]
    fn a_damaged_request_is_read_or_refused(at in 0usize..100, with: u8, cut in 0usize..100) {
        let pairs: &[(&[u8], &[u8])] = &[(b"user.name", b"x"), (b"level", b"info")];
        let mut body = request("{x=\"y\", z=\"\\n\"}", &[(5, b"a line", pairs), (6, b"level=warn", &[])]);
        let at = at % body.len();
        body[at] = with;
        let _ = decode_within(Form::Protobuf, &body, &Limits::default(), 0);
        body.truncate(cut);
        let _ = decode_within(Form::Protobuf, &body, &Limits::default(), 0);
    }

    #[test]
    fn both_forms_read_the_same(
        entries in prop::collection::vec((0i64..1 << 40, "\\PC{0,20}", prop::option::of(("[a-z.]{1,5}[a-z]", "\\PC{0,5}"))), 1..10),
    ) {
        let values: Vec<serde_json::Value> = entries.iter().map(|(t, line, pair)| {
            let pairs = pair.iter().map(|(n, v)| (n.clone(), v.clone().into()));
            let pairs: serde_json::Map<String, serde_json::Value> = pairs.collect();
            serde_json::json!([t.to_string(), line, pairs])
        }).collect();
        let json = serde_json::json!({"streams": [{"stream": {"a": "b"}, "values": values}]});
        let pairs: Vec<Vec<(&[u8], &[u8])>> = entries.iter()
            .map(|e| e.2.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect()).collect();
        let of_protobuf: Vec<SentEntry<'_>> = entries.iter().zip(&pairs)
            .map(|(e, p)| (e.0, e.1.as_bytes(), p.as_slice())).collect();
        let limits = Limits::default();
        let a = decode_within(Form::Json, json.to_string().as_bytes(), &limits, 0).unwrap();
        let b = decode_within(Form::Protobuf, &request("{a=\"b\"}", &of_protobuf), &limits, 0).unwrap();
        prop_assert_eq!(rows(&a), rows(&b));
    }
}
