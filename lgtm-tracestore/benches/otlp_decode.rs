//! What does it cost to take an OTLP request apart by trace? Goal: at most 0.5 CPU-seconds per million spans, and no allocation per span.
//!
//! Requests are those of a web shop: 15 services with 4 pods each, 12 resource attributes, about 7 attributes a span, traces of 22 spans, 800 spans a
//! request, the spans of each pod together as a collector's batch has them. What the decoder asks for beyond the memory of the batch is printed: 0
//! once the batch has seen a request.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement is said aloud"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::codec::protobuf::{fixed64_tag, put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::{Allowance, SizeBound, put_uvarint};
use lgtm_core::otlp::OtlpSpelling;
use lgtm_tracestore::trace::{Trace, TraceForm};
use lgtm_tracestore::wire::{PushBatch, PushOptions, decode_otlp, otlp_to_protobuf};

const SPANS: u64 = 800;
const SERVICES: u64 = 15;
const PODS: u64 = 4;
const SPANS_PER_TRACE: u64 = 22;

/// Numbers that look random, always the same.
fn mixed(n: u64) -> u64 {
    let n = (n ^ n >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ n >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn text(out: &mut Vec<u8>, field: u64, key: &str, value: &str) {
    put_message(out, field, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message(out, 2, |out| put_bytes_field(out, 1, value.as_bytes()));
    });
}

fn int(out: &mut Vec<u8>, field: u64, key: &str, value: u64) {
    put_message(out, field, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message(out, 2, |out| put_varint_field(out, 3, value));
    });
}

fn put_resource(out: &mut Vec<u8>, service: u64, pod: u64) {
    text(out, 1, "service.name", &format!("service-{service}"));
    text(out, 1, "service.namespace", "shop");
    text(out, 1, "service.version", "1.4.2");
    let instance = format!("{:016x}", mixed(service * 7 + pod));
    text(out, 1, "service.instance.id", &instance);
    text(out, 1, "k8s.namespace.name", "shop-prod");
    text(
        out,
        1,
        "k8s.pod.name",
        &format!("service-{service}-{:08x}-{pod}", service * 77),
    );
    text(
        out,
        1,
        "k8s.node.name",
        &format!("node-{}", (service + pod) % 12),
    );
    text(out, 1, "deployment.environment", "production");
    text(out, 1, "host.arch", "amd64");
    text(out, 1, "telemetry.sdk.language", "go");
    text(out, 1, "telemetry.sdk.name", "opentelemetry");
    text(out, 1, "telemetry.sdk.version", "1.24.0");
}

fn put_span(out: &mut Vec<u8>, n: u64) {
    let trace = n / SPANS_PER_TRACE;
    let id = [mixed(trace).to_be_bytes(), mixed(trace + 1).to_be_bytes()].concat();
    put_bytes_field(out, 1, &id);
    put_bytes_field(out, 2, &(mixed(n) | 1).to_be_bytes());
    if !n.is_multiple_of(SPANS_PER_TRACE) {
        put_bytes_field(out, 4, &(mixed(n - 1) | 1).to_be_bytes());
    }
    put_bytes_field(out, 5, b"SELECT orders.items");
    put_varint_field(out, 6, 2 + n % 2);
    for field in [7, 8] {
        put_uvarint(out, fixed64_tag(field));
        out.extend_from_slice(&(1_757_000_000_000_000_000 + n * 1_000_003).to_le_bytes());
    }
    match n % 3 {
        0 => {
            text(out, 9, "db.system", "postgresql");
            text(out, 9, "db.name", "orders");
            text(out, 9, "db.operation", "SELECT");
            let statement = "SELECT id, name, price, updated_at FROM orders.items WHERE id = $1 AND tenant = $2 LIMIT 10";
            text(out, 9, "db.statement", statement);
            int(out, 9, "db.rows", n % 60);
            text(out, 9, "net.peer.name", "pg-3.db.internal");
        }
        1 => {
            text(out, 9, "http.method", "GET");
            text(out, 9, "http.route", "/api/orders/{id}");
            text(
                out,
                9,
                "http.target",
                &format!("/api/orders/{n}?session=a1b2c3d4e5f60718"),
            );
            int(out, 9, "http.status_code", 200);
            int(out, 9, "http.response_content_length", n * 31 % 90_000);
            text(out, 9, "net.peer.ip", "10.0.3.114");
        }
        _ => {
            text(out, 9, "rpc.system", "grpc");
            text(out, 9, "rpc.service", "shop.Cart");
            text(out, 9, "rpc.method", "AddItem");
            int(out, 9, "rpc.grpc.status_code", 0);
            text(out, 9, "app.user.id", &format!("user-{}", n % 20_000));
        }
    }
    int(out, 9, "thread.id", n % 64);
    if n.is_multiple_of(50) {
        put_message(out, 11, |out| {
            put_bytes_field(out, 2, b"exception");
            text(out, 3, "exception.type", "TimeoutError");
            text(
                out,
                3,
                "exception.stacktrace",
                &"  at shop.Cart.addItem(Cart.java:118)\n".repeat(20),
            );
        });
    }
    put_message(out, 15, |_| ());
}

fn request(seed: u64) -> Vec<u8> {
    let mut by_pod = vec![Vec::new(); (SERVICES * PODS) as usize];
    for n in 0..SPANS {
        let n = seed * SPANS + n;
        let service = mixed(n) % SERVICES;
        let pod = mixed(n / SPANS_PER_TRACE) % PODS;
        by_pod[(service * PODS + pod) as usize].push(n);
    }
    let mut out = Vec::new();
    for (at, spans) in by_pod
        .iter()
        .enumerate()
        .filter(|(_, spans)| !spans.is_empty())
    {
        put_message(&mut out, 1, |out| {
            put_message(out, 1, |out| {
                put_resource(out, at as u64 / PODS, at as u64 % PODS)
            });
            put_message(out, 2, |out| {
                put_message(out, 1, |out| {
                    put_bytes_field(out, 1, b"shop.instrumentation");
                    put_bytes_field(out, 2, b"0.48.0");
                });
                for n in spans {
                    put_message(out, 2, |out| put_span(out, *n));
                }
            });
        });
    }
    out
}

/// Decodes a request; gives what was asked for beyond the batch's memory.
fn decode(batch: &mut PushBatch, spelling: OtlpSpelling, body: &[u8]) -> usize {
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(0, &mut grow);
    decode_otlp(
        batch,
        PushOptions::default(),
        &mut allowance,
        |out, allowance| otlp_to_protobuf(spelling, body, SizeBound::new(1 << 28), out, allowance),
    )
    .unwrap();
    allowance.spent()
}

fn otlp_decode(c: &mut Criterion) {
    let requests: Vec<_> = (0..16).map(request).collect();
    let mut batch = PushBatch::default();
    let bytes: usize = requests.iter().map(Vec::len).sum();
    println!("{} bytes a span", bytes / requests.len() / SPANS as usize);
    for round in 0..2 {
        let grown: usize = requests
            .iter()
            .map(|r| decode(&mut batch, OtlpSpelling::Protobuf, r))
            .sum();
        println!(
            "round {round}: {grown} bytes asked for, {} held",
            batch.heap_bytes()
        );
    }
    let mut group = c.benchmark_group("otlp_decode");
    group.throughput(Throughput::Elements(SPANS));
    let mut n = 0;
    let mut next = || {
        n += 1;
        &requests[n % requests.len()]
    };
    group.bench_function("protobuf", |b| {
        b.iter(|| decode(&mut batch, OtlpSpelling::Protobuf, black_box(next())));
    });
    let mut out = Vec::new();
    group.bench_function("protobuf and encode by trace", |b| {
        b.iter(|| {
            decode(&mut batch, OtlpSpelling::Protobuf, black_box(next()));
            out.clear();
            batch.traces().for_each(|t| t.encode(&mut out));
            out.len()
        });
    });
    group.finish();
    let whole = &requests[0];
    let mut group = c.benchmark_group("trace");
    group.throughput(Throughput::Elements(SPANS));
    group.bench_function("decode every span", |b| {
        b.iter(|| {
            let mut grow = |_| Ok(());
            Trace::decode(black_box(whole), &mut Allowance::new(0, &mut grow))
                .unwrap()
                .span_count()
        });
    });
    let mut grow = |_| Ok(());
    let trace = Trace::decode(whole, &mut Allowance::new(0, &mut grow)).unwrap();
    group.bench_function("print as JSON", |b| {
        b.iter(|| black_box(&trace).to_json(TraceForm::ResourceSpans).len());
    });
    group.finish();
}

criterion_group!(benches, otlp_decode);
criterion_main!(benches);
