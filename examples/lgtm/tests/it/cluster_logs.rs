//! Logs in several processes on loopback: equal nodes, read / write / backend, one process a component. What they answer is what one process answers,
//! each line once, whoever is killed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Ports, alone, member, node, nodes, wait_for_ring};
use crate::host::{Host, now_ms};
use crate::logql_conformance::{LIMITS, examine, sets, shared};

const STREAMS: i64 = 20;
const JSON: (&str, &str) = ("Content-Type", "application/json");
const RING: &str = "/logs/ingester/ring";
const GATEWAYS: &str = "/logs/index-gateway/ring";

/// Pushes a line of each stream; the status.
fn push(host: &Host, t_ms: i64, n: i64) -> u16 {
    let stream = |s: i64| {
        let text = format!("level=info request {n} of stream {s} took {}ms", n % 17);
        let t_ns = format!("{t_ms}{s:06}");
        let metadata = json!({"trace": format!("{n}-{s}")});
        json!({
            "stream": {"app": format!("app-{}", s % 3), "n": s.to_string()},
            "values": [[t_ns, text, metadata]],
        })
    };
    let streams: Vec<Value> = (0..STREAMS).map(stream).collect();
    let body = json!({ "streams": streams }).to_string();
    let answer = host.post("/loki/api/v1/push", &[JSON], body.as_bytes());
    assert!(answer.status == 204, "{}: {}", answer.status, answer.text());
    answer.status
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// What is asked of every kind of answer, up to `end_ms`.
fn questions(begin_ms: i64, end_ms: i64) -> Vec<String> {
    let range = format!("start={}000000&end={}000000", begin_ms, end_ms);
    let (api, all) = ("/loki/api/v1", encoded(r#"{app=~".+"}"#));
    let metric = |text: &str| {
        let seconds = (end_ms - begin_ms) / 1000 + 1;
        let query = encoded(&text.replace("RANGE", &format!("{seconds}s")));
        format!("{api}/query?query={query}&time={end_ms}000000")
    };
    let lines = encoded(r#"{app="app-1"} |= "took 3ms""#);
    let parsed =
        encoded(r#"sum by (n) (count_over_time({app="app-0"} | logfmt | level="info" [30s]))"#);
    vec![
        format!("{api}/query_range?query={all}&limit=5000&{range}"),
        format!("{api}/query_range?query={all}&limit=5000&direction=forward&{range}"),
        format!("{api}/query_range?query={all}&limit=17&{range}"),
        format!("{api}/query_range?query={lines}&limit=500&{range}"),
        format!("{api}/query_range?query={parsed}&step=30&{range}"),
        metric(r#"sum(count_over_time({app=~".+"}[RANGE]))"#),
        metric(r#"sum by (app) (bytes_over_time({app=~".+"}[RANGE]))"#),
        metric(r#"topk(3, sum by (n) (rate({app=~".+"}[RANGE])))"#),
        metric(r#"sum by (level) (count_over_time({app=~".+"} | trace!="" [RANGE]))"#),
        format!("{api}/series?match%5B%5D={all}&{range}"),
        format!("{api}/labels?{range}"),
        format!("{api}/label/n/values?{range}"),
        format!("{api}/index/volume?query={all}&{range}"),
        format!("{api}/index/volume_range?query={all}&step=60&{range}"),
        format!("{api}/index/stats?query={all}&{range}"),
    ]
}

/// Without what it cost to answer, and without chunks, which each replica makes for itself.
fn answer(host: &Host, question: &str) -> Value {
    let answer = host.get(question);
    assert_eq!(answer.status, 200, "{question}: {}", answer.text());
    let mut answer = answer.json();
    if let Some(data) = answer.get_mut("data").and_then(Value::as_object_mut) {
        data.remove("stats");
        if let Some(Value::Array(list)) = data.get_mut("result") {
            list.sort_by_key(Value::to_string);
        }
    }
    if let Some(all) = answer.as_object_mut() {
        all.remove("chunks");
    }
    answer
}

/// Whether two answers are the same but for a thousandth of each number.
fn are_near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| are_near(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(k, a)| b.get(k).is_some_and(|b| are_near(a, b)))
        }
        (Value::String(a), Value::String(b)) if a != b => {
            let numbers = a.parse::<f64>().ok().zip(b.parse::<f64>().ok());
            numbers.is_some_and(|(a, b)| (a - b).abs() <= 0.001 * b.abs() + 1.0)
        }
        (a, b) => a == b,
    }
}

/// That `host` answers all `questions` as `alone` does, without a warning.
fn same_answers(what: &str, host: &Host, alone: &Host, questions: &[String]) {
    for question in questions {
        let (a, b) = (answer(host, question), answer(alone, question));
        if question.contains("volume_range") {
            // Parts of chunks are counted by milliseconds there, by nanoseconds here.
            assert!(are_near(&a, &b), "{what}: {question}: {a} {b}");
        } else {
            assert_eq!(a, b, "{what}: {question}");
        }
        assert!(a["warnings"].is_null(), "{what}: {question}: {a}");
    }
}

/// Bytes and entries in the store are counted by whole kibibytes, and by the parts of chunks that lie in a range.
fn exact(questions: &[String]) -> Vec<String> {
    let is_exact = |q: &&String| !q.contains("/index/");
    questions.iter().filter(is_exact).cloned().collect()
}

fn total(host: &Host, begin_ms: i64, end_ms: i64) -> i64 {
    let question = questions(begin_ms, end_ms).remove(5);
    let answer = answer(host, &question);
    let result = answer["data"]["result"].as_array().unwrap();
    let value = result
        .first()
        .map_or("0", |r| r["value"][1].as_str().unwrap());
    assert!(answer["warnings"].is_null(), "{answer}");
    value.parse().unwrap()
}

#[test]
fn three_equal_nodes_show_each_line_once_and_any_one_may_die() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let often = [
        "-logs.compactor.compaction-interval=1s",
        "-logs.compactor.min-files=2",
    ];
    let (mut nodes, ports) = nodes(dir.path(), 3, &often);
    let begin_ms = now_ms() - 600_000;
    for n in 0..30 {
        let t_ms = begin_ms + n * 5000;
        assert_eq!(push(&nodes[n as usize % 3], t_ms, n), 204);
        assert_eq!(push(&alone, t_ms, n), 204);
    }
    let live_ms = |n: i64| begin_ms + 200_000 + n * 50;
    let end_ms = begin_ms + 190_000;
    for (n, node) in nodes.iter().enumerate() {
        let what = format!("node {n}");
        same_answers(&what, node, &alone, &questions(begin_ms, end_ms));
    }

    // One dies while others write and read: no write fails, no answer is short, none has a line twice.
    let (is_over, begun, pushed) = (
        AtomicBool::new(false),
        AtomicI64::new(30),
        AtomicI64::new(30),
    );
    let survivors = [&nodes[0], &nodes[1]];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let n = pushed.load(Ordering::SeqCst);
                begun.store(n + 1, Ordering::SeqCst);
                assert_eq!(push(survivors[n as usize % 2], live_ms(n), n), 204);
                pushed.store(n + 1, Ordering::SeqCst);
            }
        });
        for of in survivors {
            let (is_over, pushed, begun) = (&is_over, &pushed, &begun);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let before = pushed.load(Ordering::SeqCst);
                    let found = total(of, begin_ms, begin_ms + 590_000);
                    let after = begun.load(Ordering::SeqCst);
                    let range = before * STREAMS..=after * STREAMS;
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
    assert!(last > 40, "{last} pushes");
    for n in 30..last {
        assert_eq!(push(&alone, live_ms(n), n), 204);
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
    // What goes into the bucket from one node is in the answers of the others, which do not know the index file yet; and once where they do.
    let exact = exact(&all);
    for n in 0..3 {
        assert_eq!(nodes[n].post("/flush", &[], b"").status, 200);
        for node in &nodes {
            same_answers("flushed", node, &alone, &exact);
        }
    }
    // One of them joins index files meanwhile.
    std::thread::park_timeout(Duration::from_millis(2500));
    for node in &nodes {
        same_answers("compacted", node, &alone, &exact);
    }
    let joined = nodes.iter().filter(|node| {
        let metrics = node.get("/metrics").text();
        let mut lines = metrics.lines();
        let written =
            lines.find_map(|l| l.strip_prefix("lgtm_logs_compactor_files_written_total "));
        written.is_some_and(|n| n != "0")
    });
    assert_eq!(joined.count(), 1, "one compactor does the work");
    // Volumes of chunks that differ between replicas are near.
    let stats = all.last().unwrap();
    let (there, here) = (answer(&nodes[1], stats), answer(&alone, stats));
    assert_eq!(there["streams"], here["streams"]);
    let [there, here] = [there, here].map(|v| v["entries"].as_f64().unwrap());
    assert!((there / here - 1.0).abs() < 0.1, "{there} of {here}");
    // Nobody has it in memory any more.
    for node in nodes.drain(..) {
        assert!(node.terminate());
    }
    let (nodes, _) = crate::cluster::nodes(dir.path(), 3, &[]);
    for node in &nodes {
        same_answers("started again", node, &alone, &exact);
    }
    let page = nodes[0].get("/ring").text();
    assert!(page.contains("logs-ingester"), "{page}");
    for node in nodes {
        assert!(node.terminate());
    }
}

#[test]
fn every_recorded_call_is_answered_by_three_nodes() {
    let Some(shared) = shared() else { return };
    for set in sets(&shared) {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("lgtm.yaml");
        let limits = format!("{LIMITS}, split_queries_by_interval: 1h");
        std::fs::write(&config, format!("limits: {{logs: {{{limits}}}}}\n")).unwrap();
        let config = format!("-config.file={}", config.display());
        let (nodes, _) = nodes(dir.path(), 3, &[&config]);
        let head = ["--skip", "^n-s026$"];
        let pushed = [&["--push", "both"], &head[..]].concat();
        examine(&shared, &set, &nodes[0], &pushed, "pushed here");
        examine(&shared, &set, &nodes[1], &head, "pushed elsewhere");
        nodes[0].kill_9();
        examine(&shared, &set, &nodes[2], &head, "one is dead");
        for node in &nodes[1..] {
            assert_eq!(node.post("/flush", &[], b"").status, 200);
        }
        examine(&shared, &set, &nodes[1], &head, "in the bucket");
    }
}

/// Pushes to one process and asks another one; begin and end of what was pushed.
fn pushed_there_asked_here(writer: &Host, reader: &Host, alone: &Host) -> (i64, i64) {
    let begin_ms = now_ms() - 600_000;
    for n in 0..20 {
        let t_ms = begin_ms + n * 10_000;
        assert_eq!(push(writer, t_ms, n), 204);
        assert_eq!(push(alone, t_ms, n), 204);
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
        "-logs.index-gateway.sync-interval=500ms",
        "-logs.index-gateway.full-sync-interval=1s",
        "-logs.ingester.maintenance-interval=200ms",
    ];
    member(dir, target, ports[n], &ports[..n], &flags)
}

#[test]
fn read_write_and_backend_are_three_processes_for_logs() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let ports: Vec<Ports> = (0..3).map(|_| Ports::free()).collect();
    let part = |n: usize, target: &str| part(dir.path(), &ports, n, target);
    let (backend, write, read) = (part(0, "backend"), part(1, "write"), part(2, "read"));
    wait_for_ring(&read, RING, 1);
    wait_for_ring(&read, GATEWAYS, 1);
    wait_for_ring(&write, RING, 1);
    let (begin_ms, end_ms) = pushed_there_asked_here(&write, &read, &alone);
    let exact = exact(&questions(begin_ms, end_ms));
    assert_eq!(write.post("/flush", &[], b"").status, 200);
    // Until the backend knows the index file the ingester has what it names, and for a while more; then the ingester lets go.
    for _ in 0..30 {
        same_answers("moving", &read, &alone, &exact);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert!(write.terminate());
    let gone = read.get(&exact[0]);
    assert_eq!(gone.status, 503, "no ingester is left: {}", gone.text());
    let write = part(1, "write");
    wait_for_ring(&read, RING, 1);
    same_answers("from the bucket", &read, &alone, &exact);
    let metrics = backend.get("/metrics").text();
    assert!(
        metrics.contains("lgtm_rpc_inflight_calls"),
        "{metrics:.300}"
    );
    for host in [read, write, backend] {
        assert!(host.terminate());
    }
}

#[test]
fn lines_of_an_ingester_that_left_for_good_are_in_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let ports: Vec<Ports> = (0..4).map(|_| Ports::free()).collect();
    let part = |n: usize, target: &str, flags: &[&str]| {
        let target_flag = format!("-target={target}");
        // Index files of others are looked for once, at the start.
        let shared = [
            target_flag.as_str(),
            "-ring.replication-factor=1",
            "-ring.lifecycler.join-after=0s",
            "-logs.index-gateway.sync-interval=1h",
        ];
        let flags: Vec<&str> = shared.into_iter().chain(flags.iter().copied()).collect();
        member(
            dir.path(),
            &format!("{target}-{n}"),
            ports[n],
            &ports[..n],
            &flags,
        )
    };
    let leaves = [
        "-logs.ingester.flush-on-shutdown=true",
        "-ring.lifecycler.unregister-on-shutdown=true",
    ];
    let backend = part(0, "backend", &[]);
    let (stays, goes) = (part(1, "write", &[]), part(2, "write", &leaves));
    let read = part(3, "read", &[]);
    for host in [&read, &stays, &goes] {
        wait_for_ring(host, RING, 2);
    }
    wait_for_ring(&read, GATEWAYS, 1);
    // Each has a part of the streams. One goes; nobody knows its index file.
    let (begin_ms, end_ms) = pushed_there_asked_here(&stays, &read, &alone);
    let exact = exact(&questions(begin_ms, end_ms));
    assert!(goes.terminate());
    wait_for_ring(&read, RING, 1);
    same_answers("one has left", &read, &alone, &exact);
    drop((backend, stays));
}

#[test]
fn each_component_of_logs_may_be_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let targets = [
        "logs-index-gateway",
        "logs-compactor",
        "logs-ingester",
        "logs-distributor",
        "logs-querier",
        "logs-query-frontend",
    ];
    let ports: Vec<Ports> = targets.iter().map(|_| Ports::free()).collect();
    let hosts: Vec<Host> = targets
        .iter()
        .enumerate()
        .map(|(n, target)| part(dir.path(), &ports, n, target))
        .collect();
    let [_, _, _, distributor, querier, frontend] = &hosts[..] else {
        panic!("six processes")
    };
    wait_for_ring(distributor, RING, 1);
    for reader in [querier, frontend] {
        wait_for_ring(reader, RING, 1);
        wait_for_ring(reader, GATEWAYS, 1);
    }
    let (begin_ms, end_ms) = pushed_there_asked_here(distributor, frontend, &alone);
    // Steps are aligned by the query-frontend.
    let mut questions = questions(begin_ms, end_ms);
    questions.retain(|q| !q.contains("step="));
    same_answers("a querier", querier, &alone, &questions);
    let nobody = frontend.post("/loki/api/v1/push", &[JSON], b"{}");
    assert_eq!(nobody.status, 404);
}
