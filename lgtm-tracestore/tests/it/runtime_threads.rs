//! No call holds a thread of the runtime, none goes on computing when its client is gone, and memory stays within bounds, whatever is sent and asked.

#![cfg(feature = "http")]

use crate::door;

use std::io::Write;
use std::time::Duration;

use crate::door::{Door, DoorParts, JSON, NOW_S, PROTOBUF, SECOND};
use axum::body::{Body, HttpBody};
use axum::http::{Request, Version};
use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::testing::{longest_poll, one_poll_at_a_time, process_time};
use lgtm_core::units::ByteSize;
use lgtm_tracestore::limits::Limits;
use tower::ServiceExt;

/// The most processor time that one poll may take.
const MAX_POLL: Duration = Duration::from_millis(10);
/// Processor time that may be spent for a client that has left.
const MAX_AFTER: Duration = Duration::from_secs(2);
/// What the process may take at most while all of this is sent and asked: the bounds of the settings are a part of it, and so are the bodies
/// that this test makes.
const MAX_RSS_KB: u64 = 1_500_000;

const TRACES: u64 = 1_000;
const SPANS: u64 = 20;
/// Spans of the one trace that is huge, and its number.
const HUGE_SPANS: u64 = 30_000;
const HUGE: u64 = 0xb16;

/// A span as protobuf: `Span` of a `ScopeSpans`.
fn span(out: &mut Vec<u8>, trace: u64, id: u64, parent: u64, more: impl FnOnce(&mut Vec<u8>)) {
    put_message(out, 2, |out| {
        put_bytes_field(out, 1, &u128::from(trace).to_be_bytes());
        put_bytes_field(out, 2, &id.to_be_bytes());
        if parent > 0 {
            put_bytes_field(out, 4, &parent.to_be_bytes());
        }
        put_bytes_field(out, 5, format!("name {}", id % 50).as_bytes());
        put_varint_field(out, 6, id % 6);
        let start = (NOW_S - 600) * SECOND + (trace * 7919 + id) % 500 * SECOND;
        for (tag, time) in [(0x39, start), (0x41, start + id % 1000 * 1_000_000)] {
            out.push(tag);
            out.extend_from_slice(&time.to_le_bytes());
        }
        more(out);
    });
}

fn attribute(out: &mut Vec<u8>, field: u64, key: &str, text: &str) {
    put_message(out, field, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message(out, 2, |out| put_bytes_field(out, 1, text.as_bytes()));
    });
}

/// A request of one resource.
fn request(spans: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, 1, |out| {
        put_message(out, 1, |out| attribute(out, 1, "service.name", "shop"));
        put_message(out, 2, spans);
    });
    out
}

/// Many traces, half of them in a block, and a huge one.
async fn stored(door: &Door) {
    let push = async |body: Vec<u8>| {
        let headers = [("content-type", PROTOBUF)];
        let answer = door.ask("POST", "/v1/traces", &headers, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    for half in 0..2 {
        push(request(|out| {
            for trace in 0..TRACES / 2 {
                let trace = 1_000_000 + half * TRACES / 2 + trace;
                for n in 0..SPANS {
                    let id = trace * 100 + n + 1;
                    let parent = if n == 0 {
                        0
                    } else {
                        trace * 100 + (n - 1) / 2 + 1
                    };
                    span(out, trace, id, parent, |out| {
                        attribute(out, 9, "k", &format!("v{}", id % 5000));
                        attribute(out, 9, &format!("n{}", id % 3000), "x");
                        attribute(out, 9, "text", &"some words ".repeat(10));
                    });
                }
            }
        }))
        .await;
        push(request(|out| {
            for n in 0..HUGE_SPANS / 2 {
                let id = half * HUGE_SPANS / 2 + n + 1;
                span(out, HUGE, id, id / 2, |out| {
                    attribute(out, 9, "k", &format!("h{id}"))
                });
            }
        }))
        .await;
        if half == 0 {
            door.store.flush().await.unwrap();
        }
    }
}

/// A call: its name, and the request.
type Hostile = (&'static str, Request<Body>);

fn post(path: &str, content_type: &str, body: Vec<u8>) -> Request<Body> {
    let request = Request::builder().method("POST").uri(path);
    let request = request.header("content-type", content_type);
    request.body(Body::from(body)).unwrap()
}

/// A query sent as a form: texts may be longer than a URL.
fn get(path: &str, params: &[(&str, &str)]) -> Request<Body> {
    let form = "application/x-www-form-urlencoded";
    post(path, form, door::query(params).into_bytes())
}

fn search(q: &str) -> Request<Body> {
    get(
        "/api/search",
        &[("q", q), ("limit", "100000"), ("spss", "100")],
    )
}

fn range(q: &str, step: &str) -> Request<Body> {
    let (start, end) = ((NOW_S - 3600).to_string(), NOW_S.to_string());
    let params = [("q", q), ("start", &start), ("end", &end), ("step", step)];
    get("/api/metrics/query_range", &params)
}

fn call(method: &str, put: impl FnOnce(&mut Vec<u8>)) -> Request<Body> {
    let mut message = Vec::new();
    put(&mut message);
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    let mut request = post(
        &format!("/tempopb.StreamingQuerier/{method}"),
        "application/grpc",
        body,
    );
    *request.version_mut() = Version::HTTP_2;
    request
}

fn list(n: usize, separator: &str, of: impl Fn(usize) -> String) -> String {
    (0..n).map(of).collect::<Vec<_>>().join(separator)
}

/// Queries whose text is long, or costs more than it seems.
fn texts() -> Vec<Hostile> {
    let nested = |n: usize| format!("{{ {}true{} }}", "(".repeat(n), ")".repeat(n));
    let ors = list(5000, " || ", |i| format!(".a{i} = {i}"));
    let regexes = list(800, " || ", |i| {
        format!("name =~ \".*(a{i}|b){{1,50}}c.*\"")
    });
    let alternatives = list(15_000, "|", |i| format!("{i}.*"));
    let relations = list(2000, " >> ", |_| "{ }".into());
    let spansets = list(9000, " && ", |_| "{ }".into());
    let sums = list(9000, " + ", |i| format!("{i}"));
    let bys = list(5000, ", ", |i| format!("span.k{i}"));
    let quantiles = list(9000, ", ", |i| format!("0.{i:04}"));
    let stages = list(4000, " | ", |_| "{ true }".into());
    let legs = list(200, " + ", |_| "({ } | rate())".into());
    vec![
        ("parentheses", search(&nested(10_000))),
        ("fewer parentheses", search(&nested(400))),
        (
            "negations",
            search(&format!("{{ {}true }}", "!".repeat(20_000))),
        ),
        ("alternatives of fields", search(&format!("{{ {ors} }}"))),
        ("regular expressions", search(&format!("{{ {regexes} }}"))),
        (
            "alternatives",
            search(&format!("{{ name =~ \"{alternatives}\" }}")),
        ),
        (
            "repetitions",
            search(r#"{ name =~ "(((a{1,100}){1,100}){1,100})" }"#),
        ),
        ("relations", search(&relations)),
        ("spansets", search(&spansets)),
        ("sums", search(&format!("{{ {sums} > 1 }}"))),
        ("columns", search(&format!("{{ }} | select({bys})"))),
        (
            "groups",
            search(&format!("{{ }} | by(span.k) | select({bys})")),
        ),
        (
            "labels",
            range(&format!("{{ }} | rate() by ({bys})"), "60s"),
        ),
        (
            "quantiles",
            range(
                &format!("{{ }} | quantile_over_time(duration, {quantiles})"),
                "60s",
            ),
        ),
        ("stages", search(&stages)),
        ("queries in one", range(&legs, "60s")),
        (
            "filter of tags",
            get("/api/v2/search/tags", &[("q", &format!("{{ {ors} }}"))]),
        ),
        (
            "filter of values",
            get(
                "/api/v2/search/tag/name/values",
                &[("q", &format!("{{ {regexes} }}"))],
            ),
        ),
        (
            "tags",
            get(
                "/api/search",
                &[("tags", &list(2000, " ", |i| format!("k{i}=v{i}")))],
            ),
        ),
        (
            "filter of a trace",
            get(
                &format!("/api/v2/traces/{HUGE:x}"),
                &[("q", &format!("{{ {ors} }}"))],
            ),
        ),
    ]
}

/// Queries with large answers, or much on the way to small ones.
fn data() -> Vec<Hostile> {
    let huge = |path: &str, accept: &str, params: &[(&str, &str)]| {
        let mut request = get(&format!("{path}/{HUGE:x}"), params);
        request
            .headers_mut()
            .insert("accept", accept.parse().unwrap());
        request
    };
    let (v1, v2) = ("/api/traces", "/api/v2/traces");
    let (protobuf, llm) = ("application/protobuf", "application/vnd.grafana.llm");
    vec![
        ("everything", search("{ }")),
        ("nothing", search("{ span.k = \"nowhere\" }")),
        (
            "a slow expression",
            search(r#"{ span.text =~ "(a|s|so|some| )*words (x|y)*z" }"#),
        ),
        ("descendants", search("{ } >> { }")),
        ("no descendants", search("{ } !>> { }")),
        ("siblings", search("{ } ~ { }")),
        ("unions", search("({ } &>> { }) || ({ } &<< { })")),
        ("sets by a field", search("{ } | by(span.k) | count() > 0")),
        (
            "all columns",
            search("{ } | select(span.k, span.text, name, nestedSetLeft, nestedSetRight)"),
        ),
        ("series of spans", range("{ } | rate() by (span:id)", "60s")),
        ("many points", range("{ } | rate() by (span.k)", "1s")),
        (
            "best of many",
            range("{ } | rate() by (span.k) | topk(1000)", "1s"),
        ),
        (
            "buckets",
            range("{ } | histogram_over_time(duration) by (span.k)", "10s"),
        ),
        (
            "comparison",
            range("{ } | compare({ status = error }, 1000)", "3600s"),
        ),
        ("names", get("/api/v2/search/tags", &[])),
        ("names, older", get("/api/search/tags", &[])),
        (
            "names of some",
            get("/api/v2/search/tags", &[("q", "{ span.k =~ \"v1.*\" }")]),
        ),
        ("values", get("/api/v2/search/tag/span.k/values", &[])),
        (
            "values of ids",
            get("/api/v2/search/tag/span:id/values", &[("q", "{ }")]),
        ),
        ("values, older", get("/api/search/tag/k/values", &[])),
        ("huge trace", huge(v1, "", &[])),
        ("huge trace, protobuf", huge(v1, protobuf, &[])),
        ("huge trace, newer", huge(v2, "", &[])),
        ("huge trace, newer protobuf", huge(v2, protobuf, &[])),
        ("huge trace for models", huge(v2, llm, &[])),
        (
            "huge trace, filtered",
            huge(
                v2,
                "",
                &[
                    ("q", "{ span.k =~ \".*7\" }"),
                    ("keep_hierarchy", "true"),
                    ("match_depth", "-1"),
                ],
            ),
        ),
        (
            "stream of traces",
            call("Search", |out| {
                put_varint_field(out, 4, 100_000);
                put_bytes_field(out, 8, b"{ }");
                put_varint_field(out, 9, 100);
            }),
        ),
        ("stream of names", call("SearchTagsV2", |_| {})),
        (
            "stream of values",
            call("SearchTagValuesV2", |out| {
                put_bytes_field(out, 1, b"span.k")
            }),
        ),
        (
            "stream of series",
            call("MetricsQueryRange", |out| {
                put_bytes_field(out, 1, b"{ } | rate() by (span.k)");
                put_varint_field(out, 4, SECOND);
            }),
        ),
    ]
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

/// Pushes that become large, or are no pushes.
fn pushes() -> Vec<Hostile> {
    let tiny = request(|out| (1..=50_000).for_each(|n| span(out, n + 5_000_000, n, 0, |_| {})));
    let wide = request(|out| {
        span(out, 7, 7, 0, |out| {
            (0..50_000).for_each(|n| attribute(out, 9, &format!("attribute {n}"), "v"));
        });
    });
    let long = request(|out| {
        span(out, 8, 8, 0, |out| {
            attribute(out, 9, "k", &"x".repeat(8 << 20))
        })
    });
    let one = request(|out| (1..=50_000).for_each(|n| span(out, 9, n, n / 2, |_| {})));
    let mut deep = Vec::new();
    for _ in 0..5000 {
        let mut outer = Vec::new();
        put_message(&mut outer, 5, |out| put_bytes_field(out, 1, &deep));
        deep = outer;
    }
    let deep = request(|out| {
        span(out, 10, 10, 0, |out| {
            put_message(out, 9, |out| {
                put_bytes_field(out, 1, b"k");
                put_bytes_field(out, 2, &deep);
            });
        });
    });
    let json_span = |n: usize| {
        format!(
            r#"{{"traceId":"{:032x}","spanId":"{n:016x}","name":"a","startTimeUnixNano":"1800000000000000000","endTimeUnixNano":"1800000000000000000"}}"#,
            n + 9_000_000
        )
    };
    let json = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
        list(20_000, ",", |n| json_span(n + 1))
    );
    let brackets = format!(r#"{{"resourceSpans":{}"#, "[".repeat(1 << 20));
    let zipkin = format!(
        "[{}]",
        list(20_000, ",", |n| format!(
            r#"{{"traceId":"{:016x}","id":"{:016x}","name":"a","timestamp":1800000000000000,"tags":{{"a":"b"}}}}"#,
            n + 1,
            n + 1
        ))
    );
    let mut lies = vec![0x0c, 0, 1, 0x0f, 0, 2, 0x0c];
    lies.extend_from_slice(&0x7fff_ffffu32.to_be_bytes());
    lies.extend_from_slice(&vec![0; 4 << 20]);
    let bomb = gzip(&vec![0; 200 << 20]);
    let with_gzip = |path, content_type, body| {
        let mut request = post(path, content_type, body);
        request
            .headers_mut()
            .insert("content-encoding", "gzip".parse().unwrap());
        request
    };
    vec![
        ("tiny traces", post("/v1/traces", PROTOBUF, tiny.clone())),
        (
            "tiny traces, packed",
            with_gzip("/v1/traces", PROTOBUF, gzip(&tiny)),
        ),
        ("a wide span", post("/v1/traces", PROTOBUF, wide)),
        ("a long value", post("/v1/traces", PROTOBUF, long)),
        ("a large trace", post("/v1/traces", PROTOBUF, one)),
        ("a deep value", post("/v1/traces", PROTOBUF, deep)),
        ("JSON", post("/v1/traces", JSON, json.into_bytes())),
        ("brackets", post("/v1/traces", JSON, brackets.into_bytes())),
        ("a bomb", with_gzip("/v1/traces", PROTOBUF, bomb.clone())),
        ("Zipkin", post("/api/v2/spans", JSON, zipkin.into_bytes())),
        ("a bomb for Zipkin", with_gzip("/api/v2/spans", JSON, bomb)),
        (
            "lengths that lie",
            post("/api/traces", "application/x-thrift", lies),
        ),
    ]
}

/// Sends a request and reads its answer.
async fn sent(router: axum::Router, request: Request<Body>) {
    let answer = router.oneshot(request).await.unwrap();
    let mut body = answer.into_body();
    while let Some(frame) =
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
    {
        drop(frame.unwrap());
    }
}

/// Waits until nothing is computed any more; false once that takes more than [`MAX_AFTER`]. Processor time counts, as it does for polls: what other
/// programs of the machine do does not.
async fn idle(executor: &Executor) -> bool {
    let begin = process_time();
    loop {
        let stats = executor.stats();
        if stats.running == 0 && stats.queued == 0 {
            return true;
        }
        if process_time().saturating_sub(begin) > MAX_AFTER {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The most that this process has taken so far.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kb = line.and_then(|l| l.trim().strip_suffix("kB"));
    kb.and_then(|kb| kb.trim().parse().ok()).unwrap_or(0)
}

#[test]
#[ignore = "takes minutes"]
fn a_hostile_call_holds_up_nobody_and_ends_with_its_client() {
    let runtime = one_poll_at_a_time().unwrap();
    runtime.block_on(async {
        let pool = ExecutorSettings {
            threads: 2,
            ..ExecutorSettings::default()
        };
        let executor = Executor::new(&pool, tokio::runtime::Handle::current()).unwrap();
        let mut limits = Limits::default();
        limits.global.max_bytes_per_trace = ByteSize::bytes(0);
        let parts = DoorParts {
            limits,
            executor: Some(executor.clone()),
            ..DoorParts::default()
        };
        let door = Door::with(parts).await;
        stored(&door).await;
        println!("at rest {} kB", peak_kb());
        let mut faults = Vec::new();
        let calls = [texts(), data(), pushes()].into_iter().flatten();
        for (name, request) in calls {
            let work = sent(door.router.clone(), request);
            let (longest, ended) = longest_poll(work, Duration::from_secs(2)).await;
            if !idle(&executor).await {
                faults.push(format!(
                    "{name}: {MAX_AFTER:?} were not enough to stop after the client had left"
                ));
            }
            println!(
                "{name}: one poll took {longest:?}, ended by itself: {ended}, peak {} kB",
                peak_kb()
            );
            if longest > MAX_POLL {
                faults.push(format!("{name}: one poll took {longest:?}"));
            }
        }
        let held = door.store.querier().memory().held_bytes();
        if held > 0 {
            faults.push(format!("{held} bytes are held for queries that have ended"));
        }
        if peak_kb() > MAX_RSS_KB {
            faults.push(format!(
                "the process took {} kB, at most {MAX_RSS_KB} are allowed",
                peak_kb()
            ));
        }
        assert!(faults.is_empty(), "{faults:#?}");
    });
}
