//! What does a push cost from the door to the log? Goal: below 500 ns a sample of known series, all included.
//!
//! Remote write 1.0 as Prometheus sends it by default, 2,000 series with a sample each, through the routes of the API.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::codec::{put_bytes, put_uvarint};
use lgtm_tsdb::prelude::*;
use tower::ServiceExt;

const SERIES: usize = 2000;
const T_MS: i64 = 1_700_000_000_000;

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_uvarint(out, number << 3 | 2);
    put_bytes(out, bytes);
}

/// One request, compressed: every series with a sample at `t_ms`.
fn request(t_ms: i64) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..SERIES {
        let mut series = Vec::new();
        let labels = [
            ("__name__", "http_request_duration_seconds_count".to_owned()),
            ("code", format!("{}", 200 + n % 5)),
            ("handler", format!("/api/v1/handler/{}", n % 40)),
            ("instance", format!("10.0.{}.{}:8080", n / 200, n % 200)),
            ("job", "api-server".to_owned()),
            ("method", "GET".to_owned()),
        ];
        for (name, value) in labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&((t_ms / 1000 + n as i64) as f64).to_le_bytes());
        put_uvarint(&mut sample, 2 << 3);
        put_uvarint(&mut sample, t_ms as u64);
        field(&mut series, 2, &sample);
        field(&mut out, 1, &series);
    }
    let compressed = snap::raw::Encoder::new().compress_vec(&out);
    compressed.expect("a request of usual size")
}

fn push(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let store = Tsdb::builder(dir.path(), Backend::memory())
        .clock(Arc::new(lgtm_core::clock::ManualClock::at_ms(T_MS)))
        .without_housekeeping()
        .open();
    let db = runtime.block_on(store).expect("a store");
    let router = db.router();
    let mut t_ms = T_MS - 3_600_000;
    let mut group = c.benchmark_group("push");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("remote_write_2000_series", |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                t_ms += 1;
                let request = Request::post("/api/v1/push")
                    .body(Body::from(request(t_ms)))
                    .expect("a request");
                let began = Instant::now();
                let answer = runtime.block_on(router.clone().oneshot(request));
                took += began.elapsed();
                assert_eq!(answer.map(|a| a.status()).ok(), Some(StatusCode::OK));
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, push);
criterion_main!(benches);
