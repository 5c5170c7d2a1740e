//! Traces in several processes on loopback: equal nodes, read / write / backend, one process a component. What they answer is what one process answers,
//! each span once, whoever is killed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Ports, alone, member, node, nodes, wait_for_ring};
use crate::host::{Host, now_ms};
use crate::traces::{examine, shared};

/// Traces that a push has spans of.
const TRACES: i64 = 6;
/// Pushes that have spans of the same traces.
const PUSHES: i64 = 4;
const JSON: (&str, &str) = ("Content-Type", "application/json");
const RING: &str = "/traces/ingester/ring";

/// The id of a trace.
fn trace_id(group: i64, trace: i64) -> String {
    format!("{:032x}", (group + 1) << 16 | (trace + 1))
}

/// Pushes two spans of each trace of a group; the first push of a group has the roots. The status.
fn push(host: &Host, t_ms: i64, n: i64) -> u16 {
    let group = n / PUSHES;
    let spans = |trace: i64| {
        let span = |k: i64| {
            let number = (n % PUSHES) * 2 + k;
            let start_ns = format!("{t_ms}{:06}", trace * 10 + k);
            let end_ns = format!("{}{:06}", t_ms + 1 + n % 17, trace * 10 + k);
            let id = |n: i64| format!("{:016x}", (trace + 1) << 8 | (n + 1));
            let parent = if number == 0 { String::new() } else { id(0) };
            json!({
                "traceId": trace_id(group, trace),
                "spanId": id(number),
                "parentSpanId": parent,
                "name": if number == 0 { "request".to_owned() } else { format!("call {}", number % 3) },
                "kind": 2 + number % 2,
                "startTimeUnixNano": start_ns,
                "endTimeUnixNano": end_ns,
                "status": {"code": if number % 5 == 4 { 2 } else { 0 }},
                "attributes": [
                    {"key": "push", "value": {"intValue": n.to_string()}},
                    {"key": "shop", "value": {"stringValue": format!("shop-{}", trace % 4)}},
                ],
            })
        };
        [span(0), span(1)]
    };
    let resource = |s: i64| {
        let of = (0..TRACES).filter(|trace| trace % 3 == s).flat_map(spans);
        let spans: Vec<Value> = of.collect();
        let service =
            json!([{"key": "service.name", "value": {"stringValue": format!("service-{s}")}}]);
        json!({"resource": {"attributes": service}, "scopeSpans": [{"spans": spans}]})
    };
    let resources: Vec<Value> = (0..3).map(resource).collect();
    let body = json!({ "resourceSpans": resources }).to_string();
    let answer = host.post("/v1/traces", &[JSON], body.as_bytes());
    assert!(answer.status == 200, "{}: {}", answer.status, answer.text());
    assert_eq!(answer.text(), r#"{"partialSuccess":{}}"#);
    answer.status
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

fn count_question(begin_ms: i64, end_ms: i64) -> String {
    let query = encoded("{ } | count_over_time()");
    format!("/api/metrics/query?q={query}&start={begin_ms}000000&end={end_ms}000000")
}

/// What is asked of every kind of answer, up to `end_ms`.
fn questions(begin_ms: i64, end_ms: i64) -> Vec<String> {
    let range = format!("start={}&end={}", begin_ms / 1000 - 1, end_ms / 1000 + 1);
    let search = |query: &str, more: &str| {
        let query = encoded(query);
        format!("/api/search?q={query}&limit=2000&spss=100&{range}{more}")
    };
    let metrics = |query: &str| {
        let query = encoded(query);
        format!("/api/metrics/query?q={query}&start={begin_ms}000000&end={end_ms}000000")
    };
    let filter = encoded(r#"{ resource.service.name = "service-1" }"#);
    vec![
        format!("/api/traces/{}", trace_id(0, 0)),
        format!("/api/v2/traces/{}", trace_id(3, 5)),
        format!("/api/traces/{}", trace_id(1, 2)),
        search("{ }", ""),
        search(r#"{ span.shop = "shop-1" && duration > 3ms }"#, ""),
        search(r#"{ name = "request" } >> { status = error }"#, ""),
        search("{ kind = server } | count() > 3", ""),
        search(
            r#"{ trace:rootService = "service-2" } | select(span.push)"#,
            "",
        ),
        count_question(begin_ms, end_ms),
        metrics("{ } | rate() by (resource.service.name)"),
        metrics("{ status = error } | count_over_time() by (span.shop, name)"),
        metrics("{ } | max_over_time(span.push) by (name)"),
        metrics(r#"{ name = "request" } > { } | count_over_time()"#),
        metrics("{ } | quantile_over_time(duration, .5, .9) by (kind)"),
        format!("/api/v2/search/tags?{range}"),
        format!("/api/v2/search/tag/span.shop/values?{range}"),
        format!("/api/v2/search/tag/name/values?q={filter}&{range}"),
    ]
}

/// Without what it cost to answer, without exemplars, which are any spans, and in order.
fn answer(host: &Host, question: &str) -> Value {
    let answer = host.get(question);
    assert_eq!(answer.status, 200, "{question}: {}", answer.text());
    let mut answer = answer.json();
    assert_eq!(answer["status"], Value::Null, "{question}: {answer}");
    if let Some(all) = answer.as_object_mut() {
        all.remove("metrics");
    }
    tidy(&mut answer);
    answer
}

fn tidy(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.iter_mut().for_each(tidy);
            list.sort_by_key(Value::to_string);
        }
        Value::Object(fields) => {
            fields.remove("exemplars");
            fields.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// That `host` answers all `questions` as `alone` does, whole.
fn same_answers(what: &str, host: &Host, alone: &Host, questions: &[String]) {
    for question in questions {
        let (a, b) = (answer(host, question), answer(alone, question));
        assert_eq!(a, b, "{what}: {question}");
    }
}

fn total(host: &Host, begin_ms: i64, end_ms: i64) -> i64 {
    let answer = answer(host, &count_question(begin_ms, end_ms));
    answer["series"][0]["value"].as_f64().unwrap_or(0.0) as i64
}

#[test]
fn three_equal_nodes_show_each_span_once_and_any_one_may_die() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let often = [
        "-traces.compactor.compaction-interval=1s",
        "-traces.ingester.maintenance-interval=500ms",
        "-traces.store-gateway.blocklist-poll=1s",
        "-traces.ingester.head.retain-flushed=10s",
    ];
    let (mut nodes, ports) = nodes(dir.path(), 3, &often);
    for node in &nodes {
        wait_for_ring(node, RING, 3);
    }
    let begin_ms = now_ms() - 600_000;
    for n in 0..20 {
        let t_ms = begin_ms + n * 5000;
        assert_eq!(push(&nodes[n as usize % 3], t_ms, n), 200);
        assert_eq!(push(&alone, t_ms, n), 200);
    }
    let live_ms = |n: i64| begin_ms + 200_000 + n * 50;
    let end_ms = begin_ms + 190_000;
    for (n, node) in nodes.iter().enumerate() {
        let what = format!("node {n}");
        same_answers(&what, node, &alone, &questions(begin_ms, end_ms));
    }

    // One dies while others write and read: no write fails, no answer is short, none has a span twice.
    let (is_over, begun, pushed) = (
        AtomicBool::new(false),
        AtomicI64::new(20),
        AtomicI64::new(20),
    );
    let survivors = [&nodes[0], &nodes[1]];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let n = pushed.load(Ordering::SeqCst);
                begun.store(n + 1, Ordering::SeqCst);
                assert_eq!(push(survivors[n as usize % 2], live_ms(n), n), 200);
                pushed.store(n + 1, Ordering::SeqCst);
                std::thread::park_timeout(Duration::from_millis(50));
            }
        });
        for of in survivors {
            let (is_over, pushed, begun) = (&is_over, &pushed, &begun);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let before = pushed.load(Ordering::SeqCst);
                    let found = total(of, begin_ms - 1, begin_ms + 590_000);
                    let after = begun.load(Ordering::SeqCst);
                    let range = before * TRACES * 2..=after * TRACES * 2;
                    assert!(range.contains(&found), "{found} is not in {range:?}");
                }
            });
        }
        std::thread::park_timeout(Duration::from_millis(700));
        nodes[2].kill_9();
        std::thread::park_timeout(Duration::from_millis(2500));
        is_over.store(true, Ordering::SeqCst);
    });
    let last = pushed.load(Ordering::SeqCst);
    assert!(last > 30, "{last} pushes");
    for n in 20..last {
        assert_eq!(push(&alone, live_ms(n), n), 200);
    }
    let all = questions(begin_ms, begin_ms + 590_000);
    for node in &nodes[..2] {
        same_answers("one is dead", node, &alone, &all);
    }

    // It comes back without what was pushed meanwhile, which the others have.
    nodes.pop();
    nodes.push(node(dir.path(), 2, ports[2], &ports, &often));
    for node in &nodes {
        wait_for_ring(node, RING, 3);
        same_answers("it is back", node, &alone, &all);
    }
    // What goes into the bucket from one node is in the answers of the others, which do not know the block yet; and once where they do.
    for n in 0..3 {
        assert_eq!(nodes[n].post("/flush", &[], b"").status, 200);
        for (of, node) in nodes.iter().enumerate() {
            // A debug build takes its time for what lies in several places: another part of the questions at each.
            let some: Vec<String> = all.iter().skip((of + n) % 3).step_by(3).cloned().collect();
            same_answers("flushed", node, &alone, &some);
        }
    }
    // One of them joins blocks meanwhile, and what was retained goes.
    for _ in 0..4 {
        std::thread::park_timeout(Duration::from_secs(3));
        for node in &nodes {
            same_answers("compacted", node, &alone, &all[6..10]);
        }
    }
    for node in &nodes {
        same_answers("compacted", node, &alone, &all);
    }
    let joined = nodes.iter().filter(|node| {
        let metrics = node.get("/metrics").text();
        let line = metrics.lines().find(|l| {
            l.starts_with("tempodb_compaction_blocks_total")
                || l.starts_with("lgtm_traces_compactor_blocks_written_total")
        });
        line.is_some_and(|l| !l.ends_with(" 0"))
    });
    assert_eq!(joined.count(), 1, "one compactor does the work of a tenant");
    for node in nodes.drain(..) {
        assert!(node.terminate());
    }
    let (nodes, _) = crate::cluster::nodes(dir.path(), 3, &[]);
    for node in &nodes {
        wait_for_ring(node, RING, 3);
        same_answers("started again", node, &alone, &all);
    }
    let page = nodes[0].get("/ring").text();
    assert!(page.contains("traces-ingester"), "{page}");
    for node in nodes {
        assert!(node.terminate());
    }
}

/// Asks for the cases of both sets whose number ends in one of these digits.
fn ask_sets(node: &Host, digits: &str, more: &[&str]) {
    let Some(exam) = shared("lab/traceql_exam.py") else {
        return;
    };
    let only = format!("^[a-z0-9]+-[0-9]+[{digits}]$");
    for set in ["traceql", "traceql-2"] {
        if let Some(set) = shared(&format!("conformance/{set}")) {
            examine(&exam, &set, node, &[&["--only", &only], more].concat());
        }
    }
}

fn three_nodes_of_sets(dir: &Path) -> Vec<Host> {
    let flags = [
        "-auth.multitenancy-enabled=true",
        // The sets list all spans.
        "-traces.api.max-spans-per-span-set=1000",
    ];
    let (nodes, _) = nodes(dir, 3, &flags);
    for node in &nodes {
        wait_for_ring(node, RING, 3);
    }
    nodes
}

/// Some of the queries, each on the node that `digits` names it for: pushed to one, asked of another, one dead, and out of blocks.
fn ask_published(digits: [&str; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let nodes = three_nodes_of_sets(dir.path());
    ask_sets(&nodes[0], "0-9", &["--push", "--push-only"]);
    ask_sets(&nodes[1], digits[0], &[]);
    nodes[0].kill_9();
    ask_sets(&nodes[2], digits[1], &[]);
    for node in &nodes[1..] {
        assert_eq!(node.post("/flush", &[], b"").status, 200);
    }
    ask_sets(&nodes[1], digits[2], &[]);
}

#[test]
fn published_queries_are_answered_by_three_nodes_and_with_one_dead() {
    // Each once, at one of the three stages.
    ask_published(["0-2", "3-6", "7-9"]);
}

#[test]
#[ignore = "asks eight hundred queries of a debug build three times, which takes minutes"]
fn every_published_query_is_answered_by_three_nodes_and_with_one_dead_long() {
    ask_published(["0-9"; 3]);
}

/// Pushes to one process and asks another one; begin and end of what was pushed.
fn pushed_there_asked_here(writer: &Host, reader: &Host, alone: &Host) -> (i64, i64) {
    let begin_ms = now_ms() - 600_000;
    for n in 0..20 {
        let t_ms = begin_ms + n * 10_000;
        assert_eq!(push(writer, t_ms, n), 200);
        assert_eq!(push(alone, t_ms, n), 200);
    }
    let end_ms = begin_ms + 300_000;
    same_answers("in the head", reader, alone, &questions(begin_ms, end_ms));
    (begin_ms, end_ms)
}

fn part(dir: &Path, ports: &[Ports], n: usize, target: &str) -> Host {
    let target_flag = format!("-target={target}");
    let flags = [
        target_flag.as_str(),
        "-ring.replication-factor=1",
        "-traces.store-gateway.blocklist-poll=500ms",
        "-traces.ingester.maintenance-interval=200ms",
    ];
    member(dir, target, ports[n], &ports[..n], &flags)
}

#[test]
fn read_write_and_backend_are_three_processes_for_traces() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let ports: Vec<Ports> = (0..3).map(|_| Ports::free()).collect();
    let part = |n: usize, target: &str| part(dir.path(), &ports, n, target);
    let (backend, write, read) = (part(0, "backend"), part(1, "write"), part(2, "read"));
    wait_for_ring(&read, RING, 1);
    wait_for_ring(&write, RING, 1);
    let (begin_ms, end_ms) = pushed_there_asked_here(&write, &read, &alone);
    let all = questions(begin_ms, end_ms);
    assert_eq!(write.post("/flush", &[], b"").status, 200);
    // Until the reader knows the block the ingester has what is in it, and for a while more; then the ingester lets go.
    for _ in 0..6 {
        same_answers("moving", &read, &alone, &all[6..10]);
        std::thread::park_timeout(Duration::from_millis(300));
    }
    assert!(write.terminate());
    let gone = read.get(&all[3]);
    assert_eq!(gone.status, 503, "no ingester is left: {}", gone.text());
    let write = part(1, "write");
    wait_for_ring(&read, RING, 1);
    same_answers("from the bucket", &read, &alone, &all);
    let refused = read.post("/v1/traces", &[JSON], b"{}");
    assert_eq!(refused.status, 404);
    for host in [read, write, backend] {
        assert!(host.terminate());
    }
}

#[test]
fn spans_of_an_ingester_that_left_for_good_are_in_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let ports: Vec<Ports> = (0..4).map(|_| Ports::free()).collect();
    let part = |n: usize, target: &str, flags: &[&str]| {
        let target_flag = format!("-target={target}");
        // Blocks of others are looked for once, at the start.
        let shared = [
            target_flag.as_str(),
            "-ring.replication-factor=1",
            "-ring.lifecycler.join-after=0s",
            "-traces.store-gateway.blocklist-poll=1h",
        ];
        let flags: Vec<&str> = shared.into_iter().chain(flags.iter().copied()).collect();
        let name = format!("{target}-{n}");
        member(dir.path(), &name, ports[n], &ports[..n], &flags)
    };
    let leaves = [
        "-traces.ingester.flush-on-shutdown=true",
        "-ring.lifecycler.unregister-on-shutdown=true",
    ];
    let backend = part(0, "backend", &[]);
    let (stays, goes) = (part(1, "write", &[]), part(2, "write", &leaves));
    let read = part(3, "read", &[]);
    for host in [&read, &stays, &goes] {
        wait_for_ring(host, RING, 2);
    }
    // Each has a part of the traces. One goes; nobody knows its block.
    let (begin_ms, end_ms) = pushed_there_asked_here(&stays, &read, &alone);
    let all = questions(begin_ms, end_ms);
    assert!(goes.terminate());
    wait_for_ring(&read, RING, 1);
    same_answers("one has left", &read, &alone, &all);
    drop((backend, stays));
}

#[test]
fn each_component_of_traces_may_be_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let targets = [
        "traces-compactor",
        "traces-ingester",
        "traces-distributor",
        "traces-querier",
        "traces-query-frontend",
    ];
    let ports: Vec<Ports> = targets.iter().map(|_| Ports::free()).collect();
    let hosts: Vec<Host> = targets
        .iter()
        .enumerate()
        .map(|(n, target)| part(dir.path(), &ports, n, target))
        .collect();
    let [_, ingester, distributor, querier, frontend] = &hosts[..] else {
        panic!("five processes")
    };
    for host in [distributor, querier, frontend] {
        wait_for_ring(host, RING, 1);
    }
    let (begin_ms, end_ms) = pushed_there_asked_here(distributor, frontend, &alone);
    let questions = questions(begin_ms, end_ms);
    same_answers("a querier", querier, &alone, &questions);
    assert_eq!(ingester.post("/flush", &[], b"").status, 200);
    same_answers("flushed", frontend, &alone, &questions);
    let nobody = frontend.post("/v1/traces", &[JSON], b"{}");
    assert_eq!(nobody.status, 404);
}
