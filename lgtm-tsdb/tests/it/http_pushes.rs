//! Pushes that mean harm, at the door: what they become in memory is bounded, for each and for all at once; what is refused has its id and
//! its numbers, the rest is stored, and nothing stays counted afterwards.

#![cfg(feature = "http")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::codec::{put_bytes, put_uvarint};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{CancelToken, Executor, ExecutorSettings};
use lgtm_core::limits::{Inflight, Overrides};
use lgtm_core::model::TenantId;
use lgtm_core::storage::{BackendSettings, DataKind, Layout, from_url};
use lgtm_core::testing::store_suite::{back_to_zero, cost_to_others};
use lgtm_core::units::ByteSize;
use lgtm_tsdb::components::clients::Inspect;
use lgtm_tsdb::components::{Distributor, DistributorSettings, Ingester, Querier};
use lgtm_tsdb::http::{ApiSettings, PushApi, QueryApi};
use lgtm_tsdb::limits::Limits;
use tower::ServiceExt;

const NOW_MS: i64 = 1_700_000_000_000;
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// A store behind its door.
struct Door {
    router: axum::Router,
    ingester: Arc<Ingester>,
    executor: Executor,
    inflight: Arc<Inflight>,
    _dir: tempfile::TempDir,
}

impl Door {
    fn new(settings: DistributorSettings) -> Self {
        Self::with(settings, ApiSettings::default())
    }

    fn with(settings: DistributorSettings, door: ApiSettings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_ms(NOW_MS));
        let limits = Overrides::fixed(Limits::default());
        let store = from_url("memory:", &BackendSettings::default()).unwrap();
        let bucket = Layout::single_bucket(store).bucket(DataKind::MetricBlocks);
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(LocalDisk::new(dir.path()));
        let ingester = Ingester::builder(bucket, disk, limits.clone()).clock(Arc::clone(&clock));
        let ingester = ingester.build().unwrap();
        ingester.open().unwrap();
        ingester.replay().unwrap();
        let distributor = Distributor::builder(Arc::clone(&ingester) as _, limits.clone())
            .settings(settings)
            .clock(clock)
            .build();
        let pool = ExecutorSettings {
            threads: 1,
            ..ExecutorSettings::default()
        };
        let executor = Executor::new(&pool, tokio::runtime::Handle::current()).unwrap();
        let api = PushApi::builder(Arc::clone(&distributor), executor.clone()).settings(door);
        let recent = vec![Arc::clone(&ingester) as _];
        let querier = Querier::builder(recent, Vec::new(), limits.clone(), executor.clone());
        let queries = QueryApi::builder(querier.build().unwrap(), limits, executor.clone());
        let queries = queries.build().unwrap();
        Self {
            router: api.build().router().merge(queries.router()),
            ingester,
            executor,
            inflight: Arc::clone(distributor.inflight()),
            _dir: dir,
        }
    }

    async fn post(&self, path: &str, content_type: &str, body: Vec<u8>) -> (u16, String) {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body))
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn write(&self, content_type: &str, body: &[u8]) -> (u16, String) {
        let body = snap::raw::Encoder::new().compress_vec(body).unwrap();
        self.post("/api/v1/push", content_type, body).await
    }

    fn assert_nothing_is_counted(&self) {
        assert_eq!((self.inflight.requests(), self.inflight.bytes()), (0, 0));
    }

    async fn series(&self) -> u64 {
        let tenant = TenantId::anonymous();
        self.ingester.tenant_stats(&tenant).await.unwrap().series
    }
}

fn bytes_field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_uvarint(out, number << 3 | 2);
    put_bytes(out, bytes);
}

fn varint_field(out: &mut Vec<u8>, number: u64, value: u64) {
    put_uvarint(out, number << 3);
    put_uvarint(out, value);
}

fn double_field(out: &mut Vec<u8>, number: u64, value: f64) {
    put_uvarint(out, number << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut out);
    out
}

fn packed(values: impl IntoIterator<Item = u64>) -> Vec<u8> {
    message(|out| values.into_iter().for_each(|v| put_uvarint(out, v)))
}

/// A sample of either version, now.
fn sample() -> Vec<u8> {
    message(|out| {
        double_field(out, 1, 1.0);
        varint_field(out, 2, NOW_MS as u64);
    })
}

/// A series of version 1.
fn series(labels: &[(&str, &str)], rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    message(|out| {
        for (name, value) in labels {
            let label = message(|out| {
                bytes_field(out, 1, name.as_bytes());
                bytes_field(out, 2, value.as_bytes());
            });
            bytes_field(out, 1, &label);
        }
        rest(out);
    })
}

/// A request of version 2: `series` times the same labels, 28 of 2,000 bytes each, though it says the bytes once.
fn symbol_bomb(series: usize) -> Vec<u8> {
    let value = "v".repeat(2000);
    message(|out| {
        for symbol in ["", "__name__", "m", &value] {
            bytes_field(out, 4, symbol.as_bytes());
        }
        (0..28).for_each(|n| bytes_field(out, 4, format!("l{n:02}").as_bytes()));
        let refs = packed([1, 2].into_iter().chain((4..32).flat_map(|n| [n, 3])));
        let one = message(|out| {
            bytes_field(out, 1, &refs);
            bytes_field(out, 2, &sample());
        });
        (0..series).for_each(|_| bytes_field(out, 5, &one));
    })
}

/// A request of OTLP with one histogram of so many explicit bounds and 25 attributes of 2,000 bytes.
fn bucket_bomb(bounds: usize) -> Vec<u8> {
    let value = message(|out| bytes_field(out, 1, "v".repeat(2000).as_bytes()));
    let point = message(|out| {
        put_time(out);
        let counts: Vec<u8> = (0..=bounds).flat_map(|_| 1u64.to_le_bytes()).collect();
        bytes_field(out, 6, &counts);
        let edges: Vec<u8> = (0..bounds).flat_map(|b| (b as f64).to_le_bytes()).collect();
        bytes_field(out, 7, &edges);
        for n in 0..25 {
            let attribute = message(|out| {
                bytes_field(out, 1, format!("k{n:02}").as_bytes());
                bytes_field(out, 2, &value);
            });
            bytes_field(out, 9, &attribute);
        }
    });
    let histogram = message(|out| {
        bytes_field(out, 1, &point);
        varint_field(out, 2, 2);
    });
    otlp(&[message(|out| {
        bytes_field(out, 1, b"h");
        bytes_field(out, 9, &histogram);
    })])
}

fn otlp(metrics: &[Vec<u8>]) -> Vec<u8> {
    let scope = message(|out| metrics.iter().for_each(|m| bytes_field(out, 2, m)));
    message(|out| bytes_field(out, 1, &message(|out| bytes_field(out, 2, &scope))))
}

fn put_time(out: &mut Vec<u8>) {
    put_uvarint(out, 3 << 3 | 1);
    out.extend_from_slice(&(NOW_MS as u64 * 1_000_000).to_le_bytes());
}

fn gauge(name: &str, points: usize) -> Vec<u8> {
    let point = message(put_time);
    let points = message(|out| (0..points).for_each(|_| bytes_field(out, 1, &point)));
    message(|out| {
        bytes_field(out, 1, name.as_bytes());
        bytes_field(out, 5, &points);
    })
}

fn bounded(max_decoded: ByteSize, max_inflight: ByteSize) -> DistributorSettings {
    DistributorSettings {
        max_decoded_bytes: max_decoded,
        max_inflight_push_requests_bytes: max_inflight,
        ..DistributorSettings::default()
    }
}

/// A bomb of each protocol, one after the other.
async fn answers_to_bombs(door: &Door) -> [(u16, String); 2] {
    let buckets = bucket_bomb(500);
    [
        door.write(V2, &symbol_bomb(500)).await,
        door.post("/otlp/v1/metrics", "application/x-protobuf", buckets)
            .await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_push_becomes_is_bounded_and_told_with_the_setting() {
    let door = Door::new(bounded(ByteSize::mib(8), ByteSize::mib(64)));
    for (status, text) in answers_to_bombs(&door).await {
        assert_eq!(status, 413, "{text}");
        for part in [
            "8388608",
            "server.max_decoded_bytes",
            "err-mimir-distributor-max-write-message-size",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        door.assert_nothing_is_counted();
    }
    assert_eq!(door.series().await, 0);
    // The same things in small are taken.
    assert_eq!(door.write(V2, &symbol_bomb(20)).await.0, 200);
    let (status, text) = door
        .post(
            "/otlp/v1/metrics",
            "application/x-protobuf",
            bucket_bomb(20),
        )
        .await;
    assert_eq!((status, door.series().await), (200, 1 + 22), "{text}");
    door.assert_nothing_is_counted();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_pushes_become_is_bounded_by_what_may_be_in_flight() {
    let door = Door::new(bounded(ByteSize::mib(64), ByteSize::mib(8)));
    for (status, text) in answers_to_bombs(&door).await {
        assert_eq!(status, 503, "{text}");
        assert!(
            text.contains("server.max_inflight_push_requests_bytes"),
            "{text}"
        );
        door.assert_nothing_is_counted();
    }
    assert_eq!(
        (door.series().await, door.write(V2, &symbol_bomb(2)).await.0),
        (0, 200)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_at_once_cost_bounded_memory_and_hold_nobody_up() {
    const IN_FLIGHT: u64 = 32 << 20;
    let door = Door::new(bounded(ByteSize::mib(8), ByteSize::bytes(IN_FLIGHT)));
    let bomb = snap::raw::Encoder::new().compress_vec(&symbol_bomb(2000));
    let (bomb, buckets) = (bomb.unwrap(), bucket_bomb(500));
    let bombs = (0..24).map(|n| match n % 2 {
        0 => door.post("/api/v1/push", V2, bomb.clone()),
        _ => door.post(
            "/otlp/v1/metrics",
            "application/x-protobuf",
            buckets.clone(),
        ),
    });
    let query = async || {
        let request = Request::get("/api/v1/query?query=1").body(Body::empty());
        let answer = door.router.clone().oneshot(request.unwrap()).await;
        assert_eq!(answer.unwrap().status(), 200);
    };
    let work = futures::future::join_all(bombs);
    let (answers, worst, grown) = cost_to_others(work, query).await;
    for (status, text) in answers {
        assert!([413, 503].contains(&status), "{status} {text}");
    }
    // Bounds with room for a machine that does other things too, and for code that is not optimised.
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    assert!(grown < 4 * IN_FLIGHT, "{grown}");
    let inflight = Arc::clone(&door.inflight);
    let left = back_to_zero(|| inflight.bytes(), Duration::from_secs(5)).await;
    assert_eq!((left, door.series().await), (Ok(()), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn series_that_are_too_large_are_refused_and_their_neighbours_taken() {
    let door = Door::new(DistributorSettings::default());
    let long = "m".repeat(1 << 20);
    let request = otlp(&[gauge(&long, 3000), gauge("good", 1)]);
    let (status, text) = door
        .post("/otlp/v1/metrics", "application/x-protobuf", request)
        .await;
    assert_eq!(status, 200, "a partial success");
    assert!(
        text.contains("1048576") && text.contains("err-mimir-label-value-too-long"),
        "{text}"
    );
    let many: Vec<_> = (0..1 << 16).map(|n| format!("l{n}")).collect();
    let labels: Vec<_> = many.iter().map(|n| (n.as_str(), "v")).collect();
    let request = message(|out| {
        for labels in [&labels[..], &[("__name__", "good_too")]] {
            bytes_field(
                out,
                1,
                &series(labels, |out| bytes_field(out, 2, &sample())),
            );
        }
    });
    let (status, text) = door.write("", &request).await;
    assert_eq!(status, 400, "{text}");
    for part in [
        "err-mimir-max-label-names-per-series",
        "actual: 65536, limit: 30",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.len() < 1000, "{}", text.len());
    assert_eq!(door.series().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn helps_are_cut_before_they_are_kept() {
    let door = Door::new(DistributorSettings::default());
    let help = "H".repeat(1 << 20);
    let v1 = message(|out| {
        for name in ["one".to_owned(), "x".repeat(1025)] {
            let metadata = message(|out| {
                bytes_field(out, 2, name.as_bytes());
                bytes_field(out, 4, help.as_bytes());
            });
            bytes_field(out, 3, &metadata);
        }
    });
    let (status, text) = door.write("", &v1).await;
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("err-mimir-metric-name-too-long"), "{text}");
    let v2 = message(|out| {
        for symbol in ["", "__name__", "two", &help] {
            bytes_field(out, 4, symbol.as_bytes());
        }
        let one = message(|out| {
            bytes_field(out, 1, &packed([1, 2]));
            bytes_field(out, 2, &sample());
            bytes_field(out, 5, &message(|out| varint_field(out, 3, 3)));
        });
        (0..300).for_each(|_| bytes_field(out, 5, &one));
    });
    assert_eq!(door.write(V2, &v2).await.0, 200);
    let metric = message(|out| {
        bytes_field(out, 2, help.as_bytes());
        out.extend_from_slice(&gauge("three", 1));
    });
    let (status, text) = door
        .post(
            "/otlp/v1/metrics",
            "application/x-protobuf",
            otlp(&[metric]),
        )
        .await;
    assert_eq!(status, 200, "{text}");
    let kept = door
        .ingester
        .metadata(&TenantId::anonymous(), None)
        .await
        .unwrap();
    let kept: Vec<_> = (kept.iter())
        .map(|(name, all)| (name.as_str(), all.len(), all[0].help.len()))
        .collect();
    assert_eq!(
        kept,
        [("one", 1, 1024), ("three", 1, 1024), ("two", 1, 1024)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_that_no_reader_takes_are_refused_and_their_neighbours_taken() {
    let door = Door::new(DistributorSettings::default());
    let histogram = |spans: usize, buckets: usize| {
        message(|out| {
            varint_field(out, 1, buckets as u64);
            double_field(out, 3, 1.0);
            for n in 0..spans {
                let length = if n == 0 { buckets } else { 0 };
                bytes_field(out, 11, &message(|out| varint_field(out, 2, length as u64)));
            }
            // Zig-zag: the first bucket has one, the others as many.
            bytes_field(
                out,
                12,
                &packed((0..buckets).map(|n| if n == 0 { 2 } else { 0 })),
            );
            varint_field(out, 15, NOW_MS as u64);
        })
    };
    for (n, (spans, buckets, id)) in [
        (1, 262_144, None),
        (65_536, 1, None),
        (1, 262_145, Some("native-histogram-too-many-buckets")),
        (65_537, 1, Some("native-histogram-too-many-spans")),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("h{n}");
        let request = message(|out| {
            let h = histogram(spans, buckets);
            let h = series(&[("__name__", &name)], |out| bytes_field(out, 4, &h));
            bytes_field(out, 1, &h);
            let good = series(&[("__name__", "good")], |out| {
                bytes_field(out, 2, &sample())
            });
            bytes_field(out, 1, &good);
        });
        let (status, text) = door.write("", &request).await;
        match id {
            None => assert_eq!(status, 200, "{text}"),
            Some(id) => {
                assert_eq!(status, 400, "{text}");
                assert!(text.contains(&format!("err-mimir-{id}")), "{text}");
            }
        }
        let query = format!(
            "/prometheus/api/v1/query?query=count(%7B__name__=~%22h.%7Cgood%22%7D)&time={}",
            NOW_MS / 1000
        );
        let request = Request::get(query).body(Body::empty()).unwrap();
        let answer = door.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{spans} spans, {buckets} buckets");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_markers_are_no_tenants() {
    let door = ApiSettings {
        multitenancy_enabled: true,
        ..ApiSettings::default()
    };
    let door = Door::with(DistributorSettings::default(), door);
    let request = Request::post("/api/v1/push")
        .header("X-Scope-OrgID", "__evil")
        .body(Body::empty())
        .unwrap();
    let answer = door.router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_pushes_are_decoded_on_the_pool_and_small_ones_at_once() {
    let door = Door::new(DistributorSettings::default());
    let finished = || door.executor.stats().finished;
    let protobuf = "application/x-protobuf";
    assert_eq!(door.write(V2, &symbol_bomb(20)).await.0, 200);
    door.post("/otlp/v1/metrics", protobuf, bucket_bomb(20))
        .await;
    assert_eq!(finished(), 0, "a small body that stays small");
    assert_eq!(door.write(V2, &symbol_bomb(500)).await.0, 200);
    assert_eq!(finished(), 1, "a small body that becomes large");
    let padded = message(|out| {
        out.extend_from_slice(&symbol_bomb(1));
        bytes_field(out, 15, &vec![0; 1 << 20]);
    });
    assert_eq!(door.write(V2, &padded).await.0, 200);
    assert_eq!(finished(), 2, "a large body");
    let padded = message(|out| {
        out.extend_from_slice(&bucket_bomb(1));
        bytes_field(out, 15, &vec![0; 1 << 20]);
    });
    assert_eq!(door.post("/otlp/v1/metrics", protobuf, padded).await.0, 200);
    assert_eq!(finished(), 3, "a large body of OTLP");
    let json = format!("{{\"unknown\":\"{}\"}}", "x".repeat(100 << 10));
    assert_eq!(
        door.post("/otlp/v1/metrics", "application/json", json.into())
            .await
            .0,
        200
    );
    assert_eq!(finished(), 4, "JSON");
    door.assert_nothing_is_counted();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_sender_has_gone_is_not_begun() {
    let door = Door::new(DistributorSettings::default());
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let executor = door.executor.clone();
    let busy = tokio::runtime::Handle::current().spawn(async move {
        let job = move |_: &CancelToken| {
            begun.send(()).unwrap();
            released.recv().unwrap();
            Ok::<_, lgtm_core::Error>(())
        };
        executor.run(job, &CancelToken::new()).await
    });
    has_begun.recv().unwrap();
    {
        let body = symbol_bomb(500);
        let push = door.write(V2, &body);
        tokio::pin!(push);
        assert!(
            futures::poll!(&mut push).is_pending(),
            "it waits for the pool"
        );
        assert_eq!(door.inflight.requests(), 1);
    }
    release.send(()).unwrap();
    busy.await.unwrap().unwrap();
    while door.executor.stats().queued > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(door.executor.stats().cancelled, 1);
    assert_eq!(door.series().await, 0);
    door.assert_nothing_is_counted();
}
