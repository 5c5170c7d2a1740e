//! Requests that mean harm, beside others: none holds a thread of the runtime, none goes on computing when its client is gone, and nothing stays
//! counted afterwards.

#![cfg(feature = "http")]

use crate::door;

use std::time::Duration;

use crate::door::{Door, DoorParts, JSON, PROTOBUF, encoded, field};
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use lgtm_core::codec::{Compression, Compressor};
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::testing::process_time;
use lgtm_logstore::components::DistributorSettings;
use lgtm_logstore::limits::Limits;
use serde_json::json;
use tower::ServiceExt;

const STREAMS: usize = 2_000;

async fn filled() -> (Door, Executor) {
    let pool = ExecutorSettings {
        threads: 2,
        ..ExecutorSettings::default()
    };
    let executor = Executor::new(&pool, tokio::runtime::Handle::current()).unwrap();
    let door = Door::with(DoorParts {
        executor: Some(executor.clone()),
        limits: Limits {
            max_query_series: 0,
            max_entries_limit_per_query: 0,
            ..Limits::default()
        },
        distributor: DistributorSettings {
            max_recv_msg_size: lgtm_core::units::ByteSize::mib(16),
            ..DistributorSettings::default()
        },
        ..DoorParts::default()
    })
    .await;
    let line = |n: usize| format!("level=info msg=\"request {n}\" took={n}ms path=/a/b/{n}");
    for some in (0..STREAMS).collect::<Vec<_>>().chunks(200) {
        let streams: Vec<_> = some
            .iter()
            .map(|n| {
                let at = |k: i64| ((door::NOW_S - 600 + k) * 1_000_000_000).to_string();
                let values: Vec<_> = (0..50).map(|k| json!([at(k), line(*n)])).collect();
                json!({"stream": {"app": "a", "n": format!("{n:05}")}, "values": values})
            })
            .collect();
        let body = json!({"streams": streams}).to_string();
        let answer = door
            .post("/loki/api/v1/push", &[("Content-Type", JSON)], body)
            .await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    (door, executor)
}

fn form(path: &str, params: &[(&str, &str)]) -> Request<Body> {
    Request::post(format!("/loki/api/v1/{path}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT_ENCODING, "gzip")
        .body(Body::from(encoded(params)))
        .unwrap()
}

fn push(content_type: &str, encoding: &str, body: Vec<u8>) -> Request<Body> {
    Request::post("/loki/api/v1/push")
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_ENCODING, encoding)
        .body(Body::from(body))
        .unwrap()
}

fn compressed(with: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::default()
        .compress(with, bytes, &mut out)
        .unwrap();
    out
}

type Hostile = Vec<(&'static str, Request<Body>)>;

/// Queries whose text is long, or costs more than it seems.
fn texts() -> Hostile {
    let list = |n: usize, of: fn(usize) -> String| (0..n).map(of).collect::<Vec<_>>();
    let matchers = list(900, |n| format!("n=~\".*{n}.*\"")).join(",");
    let selector = format!("{{app=\"a\",{matchers}}}");
    let alternatives = list(10_000, |n| format!("{n}.*")).join("|");
    let alternatives = format!("{{app=\"a\"}} |~ \"{alternatives}\"");
    let repeated = "{app=\"a\"} |~ \"(((a{1,100}){1,100}){1,100})\"";
    let filters = format!("{{app=\"a\"}} {}", "|= \"x\" ".repeat(400));
    let deep = format!("{}vector(1){}", "sum(".repeat(400), ")".repeat(400));
    let template = format!(
        "{{app=\"a\"}} | line_format \"{}\"",
        "{{ range $i := .n }}".repeat(50)
    );
    let bomb = "{app=\"a\"} | line_format \"{{ repeat 1000000 __line__ }}\"";
    vec![
        ("matchers", form("query_range", &[("query", &selector)])),
        (
            "alternatives",
            form("query_range", &[("query", &alternatives)]),
        ),
        ("repetitions", form("query_range", &[("query", repeated)])),
        ("filters", form("query_range", &[("query", &filters)])),
        ("deep", form("query", &[("query", &deep)])),
        ("formatted", form("format_query", &[("query", &deep)])),
        ("template", form("query_range", &[("query", &template)])),
        (
            "bomb",
            form("query_range", &[("query", bomb), ("limit", "5000")]),
        ),
        (
            "garbage",
            form("query_range", &[("query", &"(".repeat(130_000))]),
        ),
    ]
}

/// Queries with large answers, or much on the way to small ones.
fn data() -> Hostile {
    let all = "{app=\"a\"}";
    let steps = ("step", "1");
    vec![
        (
            "all lines",
            form("query_range", &[("query", all), ("limit", "100000")]),
        ),
        (
            "all series",
            form(
                "query_range",
                &[("query", "count_over_time({app=\"a\"}[5m])"), steps],
            ),
        ),
        (
            "parsed",
            form(
                "query_range",
                &[
                    (
                        "query",
                        "quantile_over_time(0.9, {app=\"a\"} | logfmt | unwrap duration(took) [5m]) by (path)",
                    ),
                    steps,
                ],
            ),
        ),
        (
            "joined",
            form(
                "query_range",
                &[
                    (
                        "query",
                        "count_over_time({app=\"a\"}[5m]) / count_over_time({app=\"a\"}[5m])",
                    ),
                    steps,
                ],
            ),
        ),
        ("series", form("series", &[("match[]", all)])),
        ("label values", form("label/n/values", &[])),
        (
            "volume",
            form("index/volume", &[("query", "{}"), ("limit", "5000")]),
        ),
        (
            "volumes",
            form(
                "index/volume_range",
                &[("query", all), ("targetLabels", "n"), ("step", "1")],
            ),
        ),
        (
            "shards",
            form(
                "index/shards",
                &[("query", all), ("targetBytesPerShard", "1")],
            ),
        ),
        (
            "fields",
            form("detected_fields", &[("query", all), ("line_limit", "5000")]),
        ),
        ("patterns", form("patterns", &[("query", all)])),
    ]
}

/// Pushes.
fn pushes() -> Hostile {
    let spaces = vec![b' '; 15 << 20];
    let deep = format!("{{\"streams\":{}", "[".repeat(1 << 20));
    let labels: Vec<String> = (0..200_000).map(|n| format!("l{n}=\"x\"")).collect();
    let mut stream = Vec::new();
    field(
        &mut stream,
        1,
        format!("{{{}}}", labels.join(", ")).as_bytes(),
    );
    field(&mut stream, 2, b"");
    let mut labels = Vec::new();
    field(&mut labels, 1, &stream);
    let labels = snap::raw::Encoder::new().compress_vec(&labels).unwrap();
    let entries = vec![json!(["1", "x", {"a": "b", "c": "d"}]); 200_000];
    let entries = json!({"streams": [{"stream": {"a": "b"}, "values": entries}]}).to_string();
    vec![
        (
            "gzip bomb",
            push(JSON, "gzip", compressed(Compression::Gzip, &spaces)),
        ),
        (
            "zstd bomb",
            push(JSON, "zstd", compressed(Compression::Zstd, &spaces)),
        ),
        ("nested", push(JSON, "", deep.into())),
        ("labels", push(PROTOBUF, "", labels)),
        (
            "entries",
            push(
                JSON,
                "gzip",
                compressed(Compression::Gzip, entries.as_bytes()),
            ),
        ),
        (
            "snappy bomb",
            push(PROTOBUF, "", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        ),
    ]
}

fn hostile() -> Hostile {
    [texts(), data(), pushes()].into_iter().flatten().collect()
}

/// The longest that a trivial task waited for a thread while `what` was under way, at most a second.
async fn longest_wait(what: impl Future<Output = ()> + Send + 'static) -> Duration {
    let runtime = tokio::runtime::Handle::current();
    let work = runtime.spawn(what);
    let begin = tokio::time::Instant::now();
    let mut longest = Duration::ZERO;
    while begin.elapsed() < Duration::from_secs(1) && !work.is_finished() {
        let asked = tokio::time::Instant::now();
        // As many as there are threads, so that each is needed.
        for probe in [(); 4].map(|()| runtime.spawn(async {})) {
            probe.await.unwrap();
        }
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    work.abort();
    longest
}

/// What may be computed for a client that has left: time by the clock, and of processors, since other programs of the machine take their share.
const MAX_AFTER: Duration = Duration::from_secs(2);

/// Waits until nothing is computed any more; false once that takes more than [`MAX_AFTER`].
async fn idle(executor: &Executor) -> bool {
    let used = process_time();
    for look in 0.. {
        let stats = executor.stats();
        if stats.running == 0 && stats.queued == 0 {
            return true;
        }
        // Two hundred looks take two seconds at least.
        if look > 200 && process_time().saturating_sub(used) > MAX_AFTER {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[test]
#[ignore = "takes half a minute"]
fn a_hostile_request_holds_up_nobody_and_ends_with_its_client() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (door, executor) = filled().await;
        let mut faults = Vec::new();
        for (n, (name, _)) in hostile().into_iter().enumerate() {
            let mut shortest = Duration::MAX;
            // Other programs want the CPUs too: what counts is that it can go well.
            for _ in 0..3 {
                let request = hostile().swap_remove(n).1;
                let router = door.router.clone();
                let call = async move {
                    let answer = router.oneshot(request).await.unwrap();
                    assert_ne!(answer.status().as_u16(), 500);
                    let _ = to_bytes(answer.into_body(), usize::MAX).await;
                };
                shortest = shortest.min(longest_wait(call).await);
                if !idle(&executor).await {
                    faults.push(format!("{name}: still computed two seconds later"));
                }
                if shortest < Duration::from_millis(50) {
                    break;
                }
            }
            println!("{name}: others waited {shortest:?}");
            if shortest > Duration::from_millis(100) {
                faults.push(format!("{name}: others waited {shortest:?}"));
            }
        }
        let distributor = door.store.distributor();
        let inflight = distributor.inflight();
        assert_eq!((inflight.requests(), inflight.bytes()), (0, 0));
        assert!(faults.is_empty(), "{faults:#?}");
    });
}
