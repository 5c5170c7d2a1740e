//! Metrics in several processes on loopback: equal nodes, read / write / backend, one process a component. What they answer is what one process
//! answers, whoever is killed.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::host::{Host, Series, now_ms};
use crate::promql_conformance::{examine, shared};

const SERIES: usize = 200;
/// Counts of series may be asked for.
const COUNTS: &str = "-limits.metrics.cardinality-analysis-enabled=true";

/// Ports of a member: gRPC, and gossip over UDP and TCP.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) grpc: u16,
    pub(crate) gossip: u16,
}

impl Ports {
    /// Free ones below those that the system gives to whoever asks for any, so that none of these takes one before it is used. Other runs of these
    /// tests begin elsewhere.
    pub(crate) fn free() -> Self {
        const FIRST: u32 = 15_000;
        const COUNT: u32 = 16_000;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let begin = std::process::id().wrapping_mul(211);
        let port = || {
            for _ in 0..COUNT {
                let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
                let port = u16::try_from(FIRST + next % COUNT).unwrap();
                let address = ("127.0.0.1", port);
                if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                    return port;
                }
            }
            panic!("no port is free")
        };
        Self {
            grpc: port(),
            gossip: port(),
        }
    }
}

/// Starts a member of a cluster whose first members are `seeds`.
pub(crate) fn member(
    dir: &Path,
    name: &str,
    ports: Ports,
    seeds: &[Ports],
    flags: &[&str],
) -> Host {
    let join: Vec<_> = seeds
        .iter()
        .map(|p| format!("127.0.0.1:{}", p.gossip))
        .collect();
    let own = [
        format!("-server.grpc-listen-port={}", ports.grpc),
        format!("-ring.gossip-listen-port={}", ports.gossip),
        format!("-ring.join={}", join.join(",")),
        format!("-ring.instance-id={name}"),
        format!("-storage.url=file:{}", dir.join("bucket").display()),
    ];
    let shared = [
        "-otlp.http-listen-port=0",
        "-otlp.grpc-listen-port=0",
        "-ring.kvstore=gossip",
        "-ring.cluster-label=cluster-test",
        "-ring.lifecycler.min-ready-duration=0s",
        "-ring.lifecycler.observe-period=0s",
        "-ring.lifecycler.heartbeat-period=1s",
        "-ring.lifecycler.heartbeat-timeout=10s",
        "-metrics.query-frontend.cache-results=false",
        COUNTS,
    ];
    let own = own.iter().map(String::as_str);
    let all: Vec<&str> = own.chain(shared).chain(flags.iter().copied()).collect();
    Host::start(&dir.join(name), &all)
}

/// One process, which answers as all should.
pub(crate) fn alone(dir: &Path) -> Host {
    Host::start(&dir.join("alone"), &["-otlp.http-listen-port=0", COUNTS])
}

/// Waits until a page of a ring shows so many instances that are ACTIVE.
pub(crate) fn wait_for_ring(host: &Host, path: &str, count: usize) {
    let mut shown = String::new();
    for _ in 0..2000 {
        let accept = [("Accept", "application/json")];
        let page = host.try_request("GET", path, &accept, b"").unwrap();
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        shown = page.text();
        let page: Value = serde_json::from_str(&shown).unwrap();
        let shards = page["shards"].as_array().unwrap();
        let active = shards.iter().filter(|s| s["state"] == "ACTIVE");
        if active.count() == count {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{path} does not show {count} instances: {shown:.2000}");
}

fn labels(n: usize) -> [String; 2] {
    [format!("{n:04}"), format!("job-{}", n % 7)]
}

/// Pushes a sample of each series; the status.
pub(crate) fn push(host: &Host, t_ms: i64, value: f64) -> u16 {
    let names: Vec<_> = (0..SERIES).map(labels).collect();
    let sets: Vec<_> = names
        .iter()
        .map(|[n, job]| [("__name__", "up"), ("job", job.as_str()), ("n", n.as_str())])
        .collect();
    let series: Vec<Series<'_>> = sets.iter().map(|s| (&s[..], t_ms, value)).collect();
    host.push(&series).status
}

/// What is asked of every kind of answer, around `t_ms`.
pub(crate) fn questions(t_ms: i64) -> Vec<String> {
    let (end, start) = (t_ms / 1000 + 1, t_ms / 1000 - 600);
    let range = format!("start={start}&end={end}");
    let api = "/prometheus/api/v1";
    vec![
        format!("{api}/query?query=up&time={end}"),
        format!("{api}/query?query=sum%20by%20(job)%20(up)&time={end}"),
        format!("{api}/query?query=count_over_time(up%5B10m%5D)&time={end}"),
        format!("{api}/query_range?query=avg%20by%20(job)%20(up)&step=7&{range}"),
        format!("{api}/query_range?query=rate(up%5B1m%5D)&step=30&{range}"),
        format!("{api}/series?match%5B%5D=up&{range}"),
        format!("{api}/labels?{range}"),
        format!("{api}/label/n/values?{range}"),
        format!("{api}/label/job/values?match%5B%5D=up%7Bn%3D%220001%22%7D&{range}"),
        format!("{api}/metadata"),
    ]
}

/// What is told of series in memory: counts of one copy.
fn counts() -> Vec<String> {
    let api = "/prometheus/api/v1";
    vec![
        format!("{api}/cardinality/label_names?limit=5"),
        format!("{api}/cardinality/label_values?label_names%5B%5D=job&limit=3"),
        format!("{api}/cardinality/active_series?selector=up%7Bjob%3D%22job-1%22%7D"),
    ]
}

/// That `host` answers all `questions` as `alone` does, without a warning.
pub(crate) fn same_answers(what: &str, host: &Host, alone: &Host, questions: &[String]) {
    for question in questions {
        let (mut a, mut b) = (host.get(question).json(), alone.get(question).json());
        for answer in [&mut a, &mut b] {
            if question.contains("active_series") {
                let list = answer["data"].as_array_mut().unwrap();
                list.sort_by_key(Value::to_string);
            }
        }
        assert_eq!(a, b, "{what}: {question}");
        assert!(a["warnings"].is_null(), "{what}: {question}: {a}");
    }
}

/// Starts `count` equal nodes; those at `seeds` are theirs.
pub(crate) fn nodes(dir: &Path, count: usize, more: &[&str]) -> (Vec<Host>, Vec<Ports>) {
    let ports: Vec<Ports> = (0..count).map(|_| Ports::free()).collect();
    let nodes: Vec<_> = (0..count)
        .map(|n| node(dir, n, ports[n], &ports[..n], more))
        .collect();
    for node in &nodes {
        wait_for_ring(node, "/ingester/ring", count);
        wait_for_ring(node, "/logs/ingester/ring", count);
    }
    (nodes, ports)
}

pub(crate) fn node(dir: &Path, n: usize, own: Ports, seeds: &[Ports], more: &[&str]) -> Host {
    let flags = [&["-target=all", "-ring.replication-factor=3"], more].concat();
    member(dir, &format!("node-{n}"), own, seeds, &flags)
}

#[test]
fn three_equal_nodes_answer_as_one_process_and_any_one_may_die() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let (mut nodes, ports) = nodes(dir.path(), 3, &[]);
    let begin_ms = now_ms() - 600_000;
    for n in 0..30 {
        let t_ms = begin_ms + n * 10_000;
        assert_eq!(push(&nodes[n as usize % 3], t_ms, n as f64), 200);
        assert_eq!(push(&alone, t_ms, n as f64), 200);
    }
    let end_ms = begin_ms + 300_000;
    for (n, node) in nodes.iter().enumerate() {
        let what = format!("node {n}");
        same_answers(&what, node, &alone, &questions(end_ms));
        same_answers(&what, node, &alone, &counts());
    }
    // What every replica refuses is told as one process tells it, and the rest is stored.
    let old = [("__name__", "up"), ("job", "job-0"), ("n", "0000")];
    let new = [("__name__", "new"), ("n", "1")];
    let mixed: [Series<'_>; 2] = [(&old, begin_ms - 5000, 1.0), (&new, end_ms, 1.0)];
    let (there, here) = (nodes[0].push(&mixed), alone.push(&mixed));
    assert_eq!((there.status, there.text()), (here.status, here.text()));
    assert_eq!(there.status, 400, "{}", there.text());
    same_answers("refused", &nodes[1], &alone, &questions(end_ms));

    // One dies while others write and read: no write fails, no answer is short.
    let live_ms = |n: i64| begin_ms + 310_000 + n * 50;
    let (is_over, pushed) = (AtomicBool::new(false), AtomicI64::new(30));
    let survivors = [&nodes[0], &nodes[1]];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let n = pushed.load(Ordering::SeqCst);
                let to = survivors[n as usize % 2];
                assert_eq!(push(to, live_ms(n), n as f64), 200);
                pushed.store(n + 1, Ordering::SeqCst);
            }
        });
        for of in survivors {
            let (is_over, pushed) = (&is_over, &pushed);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let before = pushed.load(Ordering::SeqCst);
                    let end = begin_ms / 1000 + 600;
                    let query = format!(
                        "/prometheus/api/v1/query?query=count_over_time(up%5B1h%5D)&time={end}"
                    );
                    let answer = of.get(&query);
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let answer = answer.json();
                    let found = answer["data"]["result"].as_array().unwrap();
                    assert_eq!(found.len(), SERIES, "{answer}");
                    for series in found {
                        let count: i64 = series["value"][1].as_str().unwrap().parse().unwrap();
                        assert!(count >= before, "{count} of {before}: {series}");
                    }
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
        assert_eq!(push(&alone, live_ms(n), n as f64), 200);
    }
    let end_ms = live_ms(last);
    for node in &nodes[..2] {
        same_answers("one is dead", node, &alone, &questions(end_ms));
    }

    // It comes back without what was pushed meanwhile, which the others have. One that is stopped in order keeps its place.
    nodes.pop();
    nodes.push(node(dir.path(), 2, ports[2], &ports, &[]));
    for node in &nodes {
        wait_for_ring(node, "/ingester/ring", 3);
        same_answers("it is back", node, &alone, &questions(end_ms));
    }
    let first = nodes.remove(0);
    assert!(first.terminate());
    let accept = [("Accept", "application/json")];
    let page = nodes[0].try_request("GET", "/ingester/ring", &accept, b"");
    let page = page.unwrap().json();
    let shards = page["shards"].as_array().unwrap();
    assert_eq!(
        (shards.len(), &shards[0]["state"]),
        (3, &"LEAVING".into()),
        "{page}"
    );
    assert_eq!(push(&nodes[1], end_ms, 1.0), 200);
    assert_eq!(push(&alone, end_ms, 1.0), 200);
    same_answers("one has left", &nodes[0], &alone, &questions(end_ms));
    nodes.insert(0, node(dir.path(), 0, ports[0], &ports, &[]));
    for node in &nodes {
        wait_for_ring(node, "/ingester/ring", 3);
        same_answers("it is back, too", node, &alone, &questions(end_ms));
    }
    // What goes into blocks of one node is still in the answers of the others.
    for n in 0..3 {
        assert_eq!(nodes[n].post("/flush", &[], b"").status, 200);
        for node in &nodes {
            same_answers("flushed", node, &alone, &questions(end_ms));
        }
    }
    let members = nodes[0].get("/memberlist").text();
    assert!(
        members.lines().filter(|l| l.ends_with("alive")).count() >= 3,
        "{members}"
    );
    assert!(nodes[0].get("/ring").text().contains("metrics-ingester"));
    for node in nodes {
        assert!(node.terminate());
    }
}

#[test]
fn every_published_query_passes_on_three_nodes() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (nodes, _) = nodes(dir.path(), 3, &[]);
    examine(&shared, &nodes[0], true, "pushed here");
    examine(&shared, &nodes[1], false, "pushed elsewhere");
    nodes[0].kill_9();
    examine(&shared, &nodes[2], false, "one is dead");
    for node in &nodes[1..] {
        assert_eq!(node.post("/flush", &[], b"").status, 200);
    }
    examine(&shared, &nodes[1], false, "in blocks");
}

/// Pushes to one process and asks another one.
fn pushed_there_asked_here(writer: &Host, reader: &Host, alone: &Host) {
    let begin_ms = now_ms() - 600_000;
    for n in 0..20 {
        let t_ms = begin_ms + n * 10_000;
        assert_eq!(push(writer, t_ms, n as f64), 200);
        assert_eq!(push(alone, t_ms, n as f64), 200);
    }
    let questions = questions(begin_ms + 200_000);
    same_answers("in the head", reader, alone, &questions);
    same_answers("in the head", reader, alone, &counts());
}

#[test]
fn read_write_and_backend_are_three_processes() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let ports: Vec<Ports> = (0..3).map(|_| Ports::free()).collect();
    let part = |n: usize, target: &str| {
        let target_flag = format!("-target={target}");
        let flags = [
            target_flag.as_str(),
            "-ring.replication-factor=1",
            "-metrics.store-gateway.sync-interval=500ms",
            "-metrics.store-gateway.max-stale-period=500ms",
        ];
        member(dir.path(), target, ports[n], &ports[..n], &flags)
    };
    let (backend, write, read) = (part(0, "backend"), part(1, "write"), part(2, "read"));
    wait_for_ring(&read, "/ingester/ring", 1);
    wait_for_ring(&read, "/store-gateway/ring", 1);
    wait_for_ring(&write, "/ingester/ring", 1);
    pushed_there_asked_here(&write, &read, &alone);
    let questions = questions(now_ms() - 400_000);
    assert_eq!(write.post("/flush", &[], b"").status, 200);
    // Until the backend knows the block the ingester has what is in it, and for a while more.
    for _ in 0..30 {
        same_answers("moving", &read, &alone, &questions);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    // The blocks alone answer for it.
    assert!(write.terminate());
    let gone = read.get(&questions[0]);
    assert_eq!(gone.status, 503, "no ingester is left: {}", gone.text());
    let write = part(1, "write");
    wait_for_ring(&read, "/ingester/ring", 1);
    same_answers("from blocks", &read, &alone, &questions);
    let blocks = backend.get("/metrics").text();
    assert!(
        blocks.contains("cortex_bucket_store_blocks_loaded"),
        "{blocks:.300}"
    );
    for host in [read, write, backend] {
        assert!(host.terminate());
    }
}

#[test]
fn each_component_may_be_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path());
    let targets = [
        "metrics-store-gateway",
        "metrics-compactor",
        "metrics-ingester",
        "metrics-distributor",
        "metrics-querier",
        "metrics-query-frontend",
    ];
    let ports: Vec<Ports> = targets.iter().map(|_| Ports::free()).collect();
    let hosts: Vec<Host> = targets
        .iter()
        .enumerate()
        .map(|(n, target)| {
            let flag = format!("-target={target}");
            let flags = [flag.as_str(), "-ring.replication-factor=1"];
            member(dir.path(), target, ports[n], &ports[..n], &flags)
        })
        .collect();
    let [_, _, _, distributor, querier, frontend] = &hosts[..] else {
        panic!("six processes")
    };
    wait_for_ring(distributor, "/ingester/ring", 1);
    for reader in [querier, frontend] {
        wait_for_ring(reader, "/ingester/ring", 1);
        wait_for_ring(reader, "/store-gateway/ring", 1);
    }
    pushed_there_asked_here(distributor, frontend, &alone);
    same_answers("a querier", querier, &alone, &questions(now_ms() - 400_000));
    let nobody = frontend.post("/api/v1/push", &[], b"");
    assert_eq!(nobody.status, 404);
}
