//! Zipkin and Jaeger.

use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};

use super::{allowed, traces};
use crate::trace::{Attribute, Span, Trace, Value};
use crate::wire::{
    PushBatch, PushOptions, ZipkinVersion, decode_jaeger_thrift, decode_zipkin_json,
    decode_zipkin_protobuf,
};

fn attribute<'a>(list: &[Attribute<'a>], key: &str) -> Option<Value<'a>> {
    let found = list.iter().find(|a| a.key == key.as_bytes());
    found.map(|a| a.value)
}

fn zipkin(json: &str) -> lgtm_core::Result<PushBatch> {
    zipkin_of(ZipkinVersion::V2, json)
}

fn zipkin_of(version: ZipkinVersion, json: &str) -> lgtm_core::Result<PushBatch> {
    let mut batch = PushBatch::default();
    allowed(1 << 20, |a| {
        decode_zipkin_json(
            &mut batch,
            PushOptions::default(),
            version,
            json.as_bytes(),
            a,
        )
    })?;
    Ok(batch)
}

/// The only span of the only trace.
fn only(batch: &PushBatch, check: impl Fn(&Trace<'_>, &Span<'_>)) {
    assert_eq!((batch.trace_count(), batch.span_count()), (1, 1));
    traces(batch, |_, trace| {
        let (_, _, span) = trace.spans().next().unwrap();
        check(trace, span);
    });
}

#[test]
fn a_zipkin_span_says_the_same_in_otlp() {
    let json = r#"[{"traceId":"5982fe77008310cc","id":"bd7a977555f6b982","parentId":"5982fe77008310cc","kind":"CLIENT",
        "name":"get \"x\"","timestamp":1757000000000001,"duration":250,"shared":true,"debug":false,
        "localEndpoint":{"serviceName":"frontend","ipv4":"127.0.0.1","port":8080},
        "remoteEndpoint":{"serviceName":"backend","ipv4":"10.0.0.1","ipv6":"::1"},
        "annotations":[{"timestamp":1757000000000100,"value":"ws"}],
        "tags":{"http.path":"/api","error":"boom","otel.scope.name":"lib","w3c.tracestate":"a=1"}}]"#;
    let batch = zipkin(json).unwrap();
    only(&batch, |trace, span| {
        assert_eq!(trace.resources[0].service_name(), b"frontend");
        assert_eq!(trace.resources[0].scopes[0].name, b"lib");
        assert_eq!(span.trace_id[..8], [0; 8]);
        assert_eq!(span.parent_span_id, span.trace_id[8..].to_vec());
        assert_eq!((span.name, span.kind), (&b"get \"x\""[..], 3));
        assert_eq!(span.start_ns, 1_757_000_000_000_001_000);
        assert_eq!(span.end_ns - span.start_ns, 250_000);
        assert_eq!((span.status_code, span.status_message), (2, &b"boom"[..]));
        assert_eq!(span.trace_state, b"a=1");
        assert_eq!(
            (span.events[0].time_ns % 1_000_000, span.events[0].name),
            (100_000, &b"ws"[..])
        );
        let has = |key| attribute(&span.attributes, key);
        assert_eq!(has("http.path"), Some(Value::Text(b"/api")));
        assert_eq!(has("net.host.ip"), Some(Value::Text(b"127.0.0.1")));
        assert_eq!(has("net.host.port"), Some(Value::Int(8080)));
        assert_eq!(has("peer.service"), Some(Value::Text(b"backend")));
        assert_eq!(has("net.peer.ip"), Some(Value::Text(b"::1")));
        assert_eq!((has("error"), has("otel.scope.name")), (None, None));
    });
}

#[test]
fn zipkin_spans_of_a_service_lie_together() {
    let span = |id: u32, service: &str| {
        format!(r#"{{"traceId":"1","id":"{id}","localEndpoint":{{"serviceName":"{service}"}}}}"#)
    };
    let json = format!(
        "[{},{},{},{}]",
        span(1, "a"),
        span(2, "a"),
        span(3, "b"),
        span(4, "a")
    );
    let batch = zipkin(&json).unwrap();
    traces(&batch, |_, trace| {
        let found: Vec<_> = trace
            .resources
            .iter()
            .map(|r| (r.service_name(), r.scopes[0].spans.len()))
            .collect();
        assert_eq!(found, [(&b"a"[..], 2), (b"b", 1), (b"a", 1)]);
    });
}

#[test]
fn what_is_wrong_with_zipkins_json_is_told() {
    for (json, why) in [
        ("{}", "a list of spans"),
        ("[1]", "SpanJson"),
        (
            r#"[{"traceId":"xyz","id":"1"}]"#,
            "\"xyz\" is not at most 32 hexadecimal digits",
        ),
        (
            r#"[{"traceId":"1","id":"00000000000000001"}]"#,
            "at most 16",
        ),
        (r#"[{"traceId":"1"}]"#, "span ids must be 64 bit"),
        (r#"[{"id":"1"}]"#, "trace ids must be 128 bit"),
        (r#"[{"traceId":"1","id":"1"}"#, "EOF"),
        (r#"[{"traceId":"1","id":"1","tags":{"a":1}}]"#, "a string"),
    ] {
        let e = zipkin(json).unwrap_err().to_string();
        assert!(e.contains(why), "{json}: {e}");
    }
    let many = format!(r#"[{{"annotations":[{}{{}}]}}]"#, "{},".repeat(1 << 16));
    assert!(
        zipkin(&many)
            .unwrap_err()
            .to_string()
            .contains("more than 65536")
    );
}

#[test]
fn zipkins_protobuf_is_its_json() {
    let mut body = Vec::new();
    put_message(&mut body, 1, |out| {
        put_bytes_field(out, 1, &[7; 16]);
        put_bytes_field(out, 2, &[8; 8]);
        put_bytes_field(out, 3, &[9; 8]);
        put_varint_field(out, 4, 2);
        put_bytes_field(out, 5, b"op");
        out.extend_from_slice(&[0x31, 1, 0, 0, 0, 0, 0, 0, 0]);
        put_varint_field(out, 7, 2);
        put_message(out, 8, |out| {
            put_bytes_field(out, 1, b"svc");
            put_bytes_field(out, 2, &[10, 0, 0, 1]);
            put_varint_field(out, 4, 80);
        });
        put_message(out, 10, |out| put_bytes_field(out, 2, b"note"));
        put_message(out, 11, |out| {
            put_bytes_field(out, 1, b"k");
            put_bytes_field(out, 2, b"v\xff");
        });
    });
    let mut batch = PushBatch::default();
    let decode = |batch: &mut PushBatch, body: &[u8]| {
        allowed(1 << 20, |a| {
            decode_zipkin_protobuf(batch, PushOptions::default(), body, a)
        })
    };
    decode(&mut batch, &body).unwrap();
    only(&batch, |trace, span| {
        assert_eq!(trace.resources[0].service_name(), b"svc");
        assert_eq!(
            (span.trace_id, span.span_id, span.parent_span_id),
            (&[7; 16][..], &[9; 8][..], &[8; 8][..])
        );
        assert_eq!(
            (span.kind, span.name, span.start_ns, span.end_ns),
            (2, &b"op"[..], 1000, 3000)
        );
        assert_eq!(span.events[0].name, b"note");
        let has = |key| attribute(&span.attributes, key);
        assert_eq!(has("k"), Some(Value::Text("v\u{fffd}".as_bytes())));
        assert_eq!(has("net.host.ip"), Some(Value::Text(b"10.0.0.1")));
    });
    for end in 1..body.len() {
        assert!(decode(&mut batch, &body[..end]).is_err(), "{end}");
    }
}

#[test]
fn annotations_tell_what_a_span_of_zipkin_v1_is() {
    let json = r#"[{"traceId":"1","id":"2","parentId":"1","name":"get","timestamp":1000,"duration":500,"annotations":[
        {"timestamp":1000,"value":"cs","endpoint":{"serviceName":"front"}},
        {"timestamp":1100,"value":"sr","endpoint":{"serviceName":"back"}},
        {"timestamp":1200,"value":"note","endpoint":{"serviceName":"back"}},
        {"timestamp":1300,"value":"ss","endpoint":{"serviceName":"back"}},
        {"timestamp":1500,"value":"cr","endpoint":{"serviceName":"front"}}],
        "binaryAnnotations":[{"key":"http.path","value":"/","endpoint":{"serviceName":"front"}},
        {"key":"n","value":3,"endpoint":{"serviceName":"back"}},
        {"key":"sa","value":true,"endpoint":{"serviceName":"back","ipv4":"10.0.0.2"}}]},
        {"traceId":"1","id":"3","name":"local","timestamp":7,"binaryAnnotations":[{"key":"lc","value":"x","endpoint":{"serviceName":"front"}}]}]"#;
    let batch = zipkin_of(ZipkinVersion::V1, json).unwrap();
    assert_eq!((batch.trace_count(), batch.span_count()), (1, 3));
    traces(&batch, |_, trace| {
        let spans: Vec<_> = trace
            .spans()
            .map(|(r, _, s)| (r.service_name(), s))
            .collect();
        let told: Vec<_> = spans
            .iter()
            .map(|(service, s)| {
                (
                    *service,
                    s.kind,
                    s.start_ns / 1000,
                    s.end_ns / 1000,
                    s.span_id[7],
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (&b"front"[..], 3, 1000, 1500, 2),
                (b"back", 2, 1100, 1300, 2),
                (b"front", 0, 7, 7, 3)
            ]
        );
        let [(_, client), (_, server), (_, local)] = spans[..] else {
            panic!()
        };
        assert_eq!(
            attribute(&client.attributes, "http.path"),
            Some(Value::Text(b"/"))
        );
        assert_eq!(
            attribute(&client.attributes, "net.peer.ip"),
            Some(Value::Text(b"10.0.0.2"))
        );
        assert_eq!(attribute(&server.attributes, "n"), Some(Value::Text(b"3")));
        assert_eq!(
            (client.events.len(), server.events[0].name),
            (0, &b"note"[..])
        );
        assert_eq!(attribute(&local.attributes, "lc"), Some(Value::Text(b"x")));
    });
    for (json, why) in [
        (r#"[{"traceId":"1","id":"x"}]"#, "\"x\" is not"),
        (
            r#"[{"traceId":"1","id":"1","annotations":[1]}]"#,
            "invalid type: integer `1`, expected an annotation",
        ),
    ] {
        let e = zipkin_of(ZipkinVersion::V1, json).unwrap_err().to_string();
        assert!(e.contains(why), "{json}: {e}");
    }
}

/// Thrift's binary protocol, written.
#[derive(Default)]
struct Thrift(Vec<u8>);

impl Thrift {
    fn head(mut self, kind: u8, number: u16) -> Self {
        self.0.push(kind);
        self.0.extend(number.to_be_bytes());
        self
    }

    fn i64(self, number: u16, v: i64) -> Self {
        let mut out = self.head(10, number);
        out.0.extend(v.to_be_bytes());
        out
    }

    fn i32(self, number: u16, v: i32) -> Self {
        let mut out = self.head(8, number);
        out.0.extend(v.to_be_bytes());
        out
    }

    fn bytes(self, number: u16, v: &[u8]) -> Self {
        let mut out = self.head(11, number);
        out.0.extend((v.len() as u32).to_be_bytes());
        out.0.extend(v);
        out
    }

    fn raw(self, kind: u8, number: u16, v: &[u8]) -> Self {
        let mut out = self.head(kind, number);
        out.0.extend(v);
        out
    }

    fn list(self, number: u16, items: &[Vec<u8>]) -> Self {
        let mut out = self.head(15, number);
        out.0.push(12);
        out.0.extend((items.len() as u32).to_be_bytes());
        out.0.extend(items.concat());
        out
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(0);
        self.0
    }
}

fn tag(key: &str, text: &str) -> Vec<u8> {
    let tag = Thrift::default().bytes(1, key.as_bytes()).i32(2, 0);
    tag.bytes(3, text.as_bytes()).end()
}

fn jaeger_batch() -> Vec<u8> {
    let typed = |key: &str, kind| Thrift::default().bytes(1, key.as_bytes()).i32(2, kind);
    let tags = [
        tag("span.kind", "server"),
        tag("http.method", "GET"),
        typed("error", 2).raw(2, 5, &[1]).end(),
        typed("d", 1)
            .raw(4, 4, &1.5f64.to_bits().to_be_bytes())
            .end(),
        typed("n", 3).i64(6, -7).end(),
        typed("b", 4).bytes(7, &[0xfb, 0xff]).end(),
    ];
    let reference = |kind, trace, span| {
        Thrift::default()
            .i32(1, kind)
            .i64(2, trace)
            .i64(3, 5)
            .i64(4, span)
            .end()
    };
    let log = Thrift::default()
        .i64(1, 11)
        .list(2, &[tag("event", "retry"), tag("why", "slow")]);
    let span = Thrift::default()
        .i64(1, 6)
        .i64(2, 5)
        .i64(3, 7)
        .i64(4, 0)
        .bytes(5, b"op")
        .list(6, &[reference(0, 6, 9), reference(1, 8, 10)])
        .i32(7, 1)
        .i64(8, 10)
        .i64(9, 5)
        .list(10, &tags)
        .list(11, &[log.end()])
        .raw(13, 99, &[11, 8, 0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0, 0, 5])
        .end();
    let process = Thrift::default()
        .bytes(1, b"svc")
        .list(2, &[tag("host", "h1")])
        .end();
    Thrift::default()
        .list(2, &[span])
        .raw(12, 1, &process)
        .end()
}

#[test]
fn a_jaeger_batch_says_the_same_in_otlp() {
    let body = jaeger_batch();
    let mut batch = PushBatch::default();
    let decode = |batch: &mut PushBatch, body: &[u8]| {
        allowed(1 << 20, |a| {
            decode_jaeger_thrift(batch, PushOptions::default(), body, a)
        })
    };
    decode(&mut batch, &body).unwrap();
    only(&batch, |trace, span| {
        let resource = &trace.resources[0];
        assert_eq!(resource.service_name(), b"svc");
        assert_eq!(
            attribute(&resource.attributes, "host"),
            Some(Value::Text(b"h1"))
        );
        assert_eq!(
            span.trace_id,
            [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6]
        );
        assert_eq!(
            (span.span_id[7], span.parent_span_id[7], span.kind),
            (7, 9, 2)
        );
        assert_eq!(
            (span.start_ns, span.end_ns, span.status_code),
            (10_000, 15_000, 2)
        );
        let has = |key| attribute(&span.attributes, key);
        assert_eq!(has("http.method"), Some(Value::Text(b"GET")));
        assert_eq!(
            (has("d"), has("n")),
            (Some(Value::Double(1.5)), Some(Value::Int(-7)))
        );
        assert_eq!(has("b"), Some(Value::Text(b"+/8=")));
        assert_eq!((has("error"), has("span.kind")), (None, None));
        let [event] = &span.events[..] else { panic!() };
        assert_eq!((event.time_ns, event.name), (11_000, &b"retry"[..]));
        assert_eq!(
            attribute(&event.attributes, "why"),
            Some(Value::Text(b"slow"))
        );
        let [link] = &span.links[..] else { panic!() };
        assert_eq!((link.trace_id[15], link.span_id[7]), (8, 10));
        let kind = attribute(&link.attributes, "opentracing.ref_type");
        assert_eq!(kind, Some(Value::Text(b"follows_from")));
    });
    for end in 0..body.len() {
        assert!(decode(&mut batch, &body[..end]).is_err(), "{end}");
    }
}

#[test]
fn hostile_thrift_is_refused() {
    let mut batch = PushBatch::default();
    let deep = [12, 0, 9].repeat(100_000);
    let many = Thrift::default()
        .raw(15, 2, &[12, 0xff, 0xff, 0xff, 0xff])
        .0;
    let bombs: Vec<u8> = [&[11, 0, 1, 0xff, 0xff, 0xff, 0xff][..]].concat();
    // A million tags of a byte each.
    let mut span = vec![15, 0, 10, 12];
    span.extend(1_000_000u32.to_be_bytes());
    span.resize(span.len() + 1_000_000, 0);
    span.push(0);
    let tags = Thrift::default().list(2, &[span]).end();
    for (body, why) in [
        (&deep[..], "more than 32 deep"),
        (&many, "elements exceed"),
        (&bombs, "exceeds"),
        (&tags, "more than 65536"),
        (&[99, 0, 1], "type 99 is not known"),
        (b"", "byte"),
    ] {
        let e = allowed(1 << 20, |a| {
            decode_jaeger_thrift(&mut batch, PushOptions::default(), body, a)
        });
        let e = e.unwrap_err().to_string();
        assert!(e.contains(why), "{why}: {e}");
    }
}
