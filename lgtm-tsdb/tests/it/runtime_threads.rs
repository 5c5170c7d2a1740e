//! No request holds a thread of the runtime, and none goes on computing when its client is gone.

#![cfg(feature = "http")]

use std::sync::Arc;
use std::time::Duration;

use crate::memory::Memory;
use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use lgtm_core::Result;
use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::exec::{Executor, ExecutorSettings, move_to_pool};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, TenantId, TextSet};
use lgtm_core::testing::{longest_poll, one_poll_at_a_time, process_time};
use lgtm_tsdb::chunk::{SampleValue, encode_run};
use lgtm_tsdb::components::clients::StoreGatewayClient;
use lgtm_tsdb::components::{Querier, QueryFrontend};
use lgtm_tsdb::http::{ApiSettings, QueryApi};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::select::{Listed, Select, SelectRequest, SeriesBatches, SeriesChunks};
use tower::ServiceExt;

const TENANT: &str = "X-Scope-OrgID";
const SERIES: usize = 20_000;
const NOW_S: i64 = 1_000_000;

/// What a holder of many series does: it looks through them in the pool.
#[derive(Debug)]
struct Large(Memory);

impl StoreGatewayClient for Large {}

#[async_trait]
impl Select for Large {
    async fn select(&self, t: &TenantId, r: &SelectRequest) -> Result<Box<dyn SeriesBatches>> {
        move_to_pool().await;
        self.0.select(t, r).await
    }

    async fn series(&self, t: &TenantId, r: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        move_to_pool().await;
        self.0.series(t, r).await
    }

    async fn label_names(&self, t: &TenantId, r: &SelectRequest) -> Result<Listed<TextSet>> {
        move_to_pool().await;
        self.0.label_names(t, r).await
    }

    async fn label_values(
        &self,
        t: &TenantId,
        name: &str,
        r: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        move_to_pool().await;
        self.0.label_values(t, name, r).await
    }
}

/// `m{i="0"}` and so on, 60 samples each, the last one now.
fn series() -> Vec<SeriesChunks> {
    let of = |i: usize| {
        let labels = [("__name__", "m".to_owned()), ("i", format!("{i:06}"))];
        let samples = (0..60i64).map(|t| {
            let t_ms = (NOW_S - 59 * 15 + t * 15) * 1000;
            (t_ms, SampleValue::Float((i as i64 * t % 17) as f64))
        });
        let chunks = encode_run(samples).into_iter();
        SeriesChunks {
            labels: Labels::from_pairs(labels).unwrap(),
            chunks: chunks.collect(),
        }
    };
    (0..SERIES).map(of).collect()
}

fn door() -> (axum::Router, Executor) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let limits = Overrides::fixed(Limits::default());
    let pool = ExecutorSettings {
        threads: 2,
        ..ExecutorSettings::default()
    };
    let executor = Executor::new(&pool, tokio::runtime::Handle::current()).unwrap();
    let large = vec![Arc::new(Large(Memory::new(series(), 512))) as _];
    let querier = Querier::builder(Vec::new(), large, limits.clone(), executor.clone());
    let querier = querier.build().unwrap();
    let engine = querier.engine().clone();
    let frontend = QueryFrontend::builder(querier, engine, limits.clone()).clock(clock.clone());
    let settings = ApiSettings {
        multitenancy_enabled: true,
        ..ApiSettings::default()
    };
    let api = QueryApi::builder(frontend.build().unwrap(), limits, executor.clone())
        .settings(settings)
        .clock(clock);
    (api.build().unwrap().router(), executor)
}

fn escaped(text: &str) -> String {
    let escape = |b: u8| {
        if b.is_ascii_alphanumeric() {
            (b as char).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    text.bytes().map(escape).collect()
}

fn form(path: &str, query: &str, more: &str) -> Request<Body> {
    Request::post(format!("/api/v1/{path}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT_ENCODING, "gzip")
        .header(TENANT, "a")
        .body(Body::from(format!("query={}{more}", escaped(query))))
        .unwrap()
}

/// A remote read that asks for all series so many times.
fn read(queries: usize, streamed: bool) -> Request<Body> {
    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, body.len() as u8];
        out.extend_from_slice(body);
        out
    }
    let matcher = [field(2, b"__name__"), field(3, b"m")].concat();
    let mut query = vec![0x10];
    let mut end_ms = NOW_S as u64 * 1000;
    while end_ms >= 0x80 {
        query.push(end_ms as u8 | 0x80);
        end_ms >>= 7;
    }
    query.push(end_ms as u8);
    query.extend(field(3, &matcher));
    let mut body = field(1, &query).repeat(queries);
    if streamed {
        body.extend([0x10, 1]);
    }
    let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    Request::post("/api/v1/read")
        .header(TENANT, "a")
        .body(Body::from(body))
        .unwrap()
}

type Hostile = Vec<(&'static str, Request<Body>)>;

fn nested(head: &str, inner: &str, tail: &str, levels: usize) -> String {
    format!("{}{inner}{}", head.repeat(levels), tail.repeat(levels))
}

fn list(n: usize, of: impl Fn(usize) -> String) -> String {
    (0..n).map(of).collect::<Vec<_>>().join(",")
}

/// Three hours in steps of a second.
fn hours() -> String {
    format!("&start={}&end={NOW_S}&step=1", NOW_S - 10_999)
}

/// Queries whose text is long, or costs more than it seems.
fn texts() -> Hostile {
    let unequal = list(50_000, |i| format!("i!=\"{i}\""));
    let patterns = list(900, |i| format!("i=~\".*{i}.*\""));
    let alternatives = list(60_000, |i| format!("{i}.*")).replace(',', "|");
    let labels = list(50_000, |i| format!("l{i}"));
    let many = list(100_000, |_| "\"b\"".into());
    let join = format!("label_join(m,\"a\",\",\",{many})");
    let repeated = "m{i=~\"(((a{1,100}){1,100}){1,100})\"}";
    let parens = nested("(", &"1".repeat(1000), ")", 499);
    vec![
        ("matchers", form("query", &format!("m{{{unequal}}}"), "")),
        ("patterns", form("query", &format!("m{{{patterns}}}"), "")),
        ("repetitions", form("query", repeated, "")),
        (
            "alternatives",
            form("query", &format!("m{{i=~\"{alternatives}\"}}"), ""),
        ),
        ("sums", form("query", &["1"; 480].join("+"), &hours())),
        (
            "grouping",
            form("query", &format!("sum by ({labels}) (m)"), ""),
        ),
        ("parens", form("format_query", &parens, "")),
        (
            "deep",
            form("format_query", &nested("abs(", &join, ")", 480), ""),
        ),
        ("tree", form("parse_query", &join, "")),
    ]
}

/// Queries with large answers, or much on the way to small ones.
fn data() -> Hostile {
    let (one, all, hours) = ("m{i=\"000001\"}", "m", hours());
    let join = ",\"i\",\",\",\"i\",\"i\")";
    let replace = ",\"i\",\"$1$1\",\"i\",\"(.*)\")";
    let pieces = "&start=-900000000&end=900000000&step=170000";
    let quantiles = "sum(quantile_over_time(0.5,m[1h]))";
    let values = "count_values(\"x\",m+time())";
    vec![
        ("or", form("query", &[all; 90].join(" or "), "")),
        ("all", form("query", all, "")),
        ("ranked", form("query", "topk(1e6,m)", "")),
        ("joined", form("query", "m * on(i) group_left() m", "")),
        ("ranges", form("query", "m[1h]", "")),
        (
            "labels",
            form("query", &nested("label_join(", one, join, 40), ""),
        ),
        (
            "templates",
            form("query", &nested("label_replace(", one, replace, 40), ""),
        ),
        ("values", form("query_range", values, &hours)),
        (
            "steps",
            form("query", "count_over_time(vector(1)[2h:1ms])", ""),
        ),
        ("matrix", form("query_range", all, &hours)),
        ("quantiles", form("query_range", quantiles, &hours)),
        ("pieces", form("query_range", one, pieces)),
    ]
}

/// Other calls.
fn calls() -> Hostile {
    let all = ["match[]=m"; 99].join("&");
    let form_of = |path: &str, body: &str| {
        Request::post(format!("/api/v1/{path}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(TENANT, "a")
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    vec![
        (
            "exemplars",
            form("query_exemplars", &["m"; 99].join("+"), ""),
        ),
        ("series", form_of("series", &all)),
        ("label names", form_of("labels", &all)),
        ("read", read(100, false)),
        ("streamed read", read(100, true)),
        ("reads", read(10_000, false)),
    ]
}

/// Requests meant to do harm, by name.
fn hostile() -> Hostile {
    [texts(), data(), calls()].into_iter().flatten().collect()
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

/// The most processor time that one poll may take.
const MAX_POLL: Duration = Duration::from_millis(10);

#[test]
#[ignore = "takes half a minute"]
fn a_hostile_request_holds_up_nobody_and_ends_with_its_client() {
    let runtime = one_poll_at_a_time().unwrap();
    runtime.block_on(async {
        let (router, executor) = door();
        let mut faults = Vec::new();
        for (name, request) in hostile() {
            let router = router.clone();
            let call = async move {
                let answer = router.oneshot(request).await.unwrap();
                assert_ne!(answer.status().as_u16(), 500);
                let _ = to_bytes(answer.into_body(), usize::MAX).await;
            };
            let (longest, ended) = longest_poll(call, Duration::from_secs(1)).await;
            if !idle(&executor).await {
                faults.push(format!("{name}: still computed two seconds later"));
            }
            println!("{name}: one poll took {longest:?}, ended by itself: {ended}");
            if longest > MAX_POLL {
                faults.push(format!("{name}: one poll took {longest:?}"));
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    });
}

/// The heavy queries of one tenant take all that it may have; a small one of another is answered soon.
#[test]
#[ignore = "takes some seconds"]
fn a_small_query_of_another_tenant_is_answered_soon() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (router, executor) = door();
        let heavy: Vec<_> = (10..30)
            .map(|q| {
                let query = format!("sum(quantile_over_time(0.{q},m[1h]))");
                let request = form("query_range", &query, &hours());
                tokio::runtime::Handle::current().spawn(router.clone().oneshot(request))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let stats = executor.stats();
        assert!(stats.running >= 2, "{stats:?}");
        let begin = tokio::time::Instant::now();
        let mut small = form("query", "sum(m{i=\"000001\"})", "");
        small.headers_mut().insert(TENANT, "v".parse().unwrap());
        let answer = router.oneshot(small).await.unwrap();
        let (status, took) = (answer.status(), begin.elapsed());
        println!("answered after {took:?}");
        assert!(
            status.is_success() && took < Duration::from_secs(1),
            "{took:?}"
        );
        assert_eq!(heavy.iter().filter(|h| h.is_finished()).count(), 0);
        heavy.iter().for_each(|h| h.abort());
        assert!(idle(&executor).await, "{:?}", executor.stats());
    });
}
