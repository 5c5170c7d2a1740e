//! What do a hop to another process and three replicas cost? Goals: a hop at most 25 % more CPU a sample than one process, three replicas in all at most
//! 3.3 times, a query over three ingesters at most 1.5 times.
//!
//! Remote write 1.0 as Prometheus sends it, 2,000 series with a sample each, from the decompressed body to the log. CPU is that of all processes
//! together, which here are one. `cargo bench -p lgtm-tsdb --features rpc --bench ring_cost`

#![allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#![allow(clippy::print_stdout, reason = "a bench says what it measured")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::{Allowance, put_bytes, put_uvarint};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{CancelToken, Executor, ExecutorSettings};
use lgtm_core::http::{ConnectionSettings, Connections, HttpServer};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::rpc::{RpcClient, RpcClientSettings, RpcServer, RpcServerSettings};
use lgtm_core::service::Service;
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_core::telemetry::Registry;
use lgtm_ring::instance::{Instance, RingDesc};
use lgtm_ring::ring::{Ring, RingSettings};
use lgtm_ring::token::{RandomTokens, TokenGenerator};
use lgtm_tsdb::components::clients::{IngesterClient, Queries};
use lgtm_tsdb::components::ring::{LocalIngesters, RingIngesters};
use lgtm_tsdb::components::{Distributor, Ingester, Querier};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::promql::{ParserOptions, Query};
use lgtm_tsdb::rpc::{RemoteIngester, RemoteSettings, ingester_routes};
use lgtm_tsdb::wire::{DecodeRules, decode_v1};
use tokio::runtime::Handle;

const SERIES: usize = 2000;
const PUSHES: usize = 1500;
const QUERIES: usize = 40;
const T_MS: i64 = 1_700_000_000_000;

fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks = |n: usize| -> f64 {
        let field = rest.split(' ').nth(n);
        field.and_then(|f| f.parse().ok()).expect("a number")
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_uvarint(out, number << 3 | 2);
    put_bytes(out, bytes);
}

/// The body of one request: every series with a sample at `t_ms`.
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
    out
}

fn limits() -> Overrides<Limits> {
    Overrides::fixed(Limits::default())
}

fn executor() -> Executor {
    let settings = ExecutorSettings {
        threads: 1,
        ..ExecutorSettings::default()
    };
    Executor::new(&settings, Handle::current()).expect("a thread")
}

fn ingester(dir: &Path) -> Arc<Ingester> {
    let bucket = Layout::single_bucket(Backend::memory()).bucket(DataKind::MetricBlocks);
    let disk = Arc::new(LocalDisk::new(dir));
    let ingester = Ingester::builder(bucket, disk, limits())
        .clock(Arc::new(ManualClock::at_ms(T_MS)))
        .executor(executor())
        .build()
        .expect("settings that fit");
    ingester.open().expect("a folder");
    ingester.replay().expect("an empty log");
    ingester
}

/// The same ingester over loopback. Its server runs as long as the process.
async fn remote(ingester: &Arc<Ingester>) -> Arc<dyn IngesterClient> {
    let rpc = RpcServer::new(RpcServerSettings::default(), executor()).expect("defaults fit");
    let router = ingester_routes(&rpc, Arc::clone(ingester) as _, &executor());
    let settings = RpcServerSettings::connections(&ConnectionSettings::default());
    let connections = Connections::new(settings, &Registry::new()).expect("defaults fit");
    let server = HttpServer::bind("rpc", "127.0.0.1:0", router, connections).await;
    let server = server.expect("a port");
    let address = server.address().to_string();
    Handle::current().spawn(async move { server.run(CancelToken::new()).await });
    let client = RpcClient::new(&address, RpcClientSettings::default(), executor());
    let client = Arc::new(client.expect("an address"));
    Arc::new(RemoteIngester::new(client, RemoteSettings::default()))
}

/// Ingesters behind a ring of replication factor 3.
fn behind_ring(ingesters: Vec<Arc<dyn IngesterClient>>) -> Arc<dyn IngesterClient> {
    let (mut instances, mut pool) = (RingDesc::new(), LocalIngesters::new());
    let mut taken = std::collections::HashSet::new();
    for (n, ingester) in ingesters.into_iter().enumerate() {
        let tokens = RandomTokens::seeded(n as i64 + 1).generate(128, &taken);
        let tokens = tokens.expect("free tokens");
        taken.extend(&tokens);
        let addr = format!("node-{n}:9095");
        pool = pool.with(&addr, ingester);
        instances.insert(Instance {
            id: format!("node-{n}"),
            addr,
            timestamp_s: T_MS / 1000,
            tokens: tokens.into(),
            ..Instance::default()
        });
    }
    let ring = Ring::new(RingSettings::default(), &instances);
    let all = RingIngesters::builder(ring.into(), Arc::new(pool), limits(), executor());
    let all = all.clock(Arc::new(ManualClock::at_ms(T_MS)));
    all.build().expect("settings that fit")
}

/// Pushes and asks; prints CPU nanoseconds a sample and CPU milliseconds a query, with how many times the first line's that is.
async fn measure(what: &str, ingesters: Arc<dyn IngesterClient>, first: &mut Option<[f64; 2]>) {
    let tenant = TenantId::anonymous();
    let distributor = Distributor::builder(Arc::clone(&ingesters), limits()).build();
    let bodies: Vec<Vec<u8>> = (0..PUSHES)
        .map(|n| request(T_MS - 3_600_000 + n as i64 * 1000))
        .collect();
    let rules = DecodeRules::default();
    let mut began = cpu_s();
    let mut wall = Instant::now();
    for (n, body) in bodies.iter().enumerate() {
        if n == PUSHES / 10 {
            // By then all series are known.
            (began, wall) = (cpu_s(), Instant::now());
        }
        let mut batch = distributor.batch(distributor.inflight().ticket());
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        decode_v1(&mut batch, &rules, &mut allowance, |out, _| {
            out.extend_from_slice(body);
            Ok(())
        })
        .expect("a request");
        let told = distributor.push(&tenant, batch).await.expect("a quorum");
        assert_eq!(told.report.samples, SERIES as u64);
    }
    // What the quorum did not wait for.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let samples = (SERIES * (PUSHES - PUSHES / 10)) as f64;
    let push_ns = (cpu_s() - began) * 1e9 / samples;
    let push_wall = wall.elapsed().as_secs_f64() * 1e9 / samples;
    let querier = Querier::builder(vec![ingesters], Vec::new(), limits(), executor()).build();
    let querier = querier.expect("settings that fit");
    let text = "sum by (handler) (rate(http_request_duration_seconds_count[1m]))";
    let ms = |n: usize| TimestampMs::new(T_MS - 3_600_000 + n as i64 * 1000);
    let query = Query::range(text, ms(60)..=ms(PUSHES), 15_000, &ParserOptions::default());
    let query = query.expect("a query");
    let (began, wall) = (cpu_s(), Instant::now());
    for _ in 0..QUERIES {
        querier.query(&tenant, &query).await.expect("an answer");
    }
    let query_ms = (cpu_s() - began) * 1e3 / QUERIES as f64;
    let query_wall = wall.elapsed().as_secs_f64() * 1e3 / QUERIES as f64;
    let [push_one, query_one] = *first.get_or_insert([push_ns, query_ms]);
    println!(
        "{what:<42} push {push_ns:6.0} ns CPU/sample ({:4.2}x, {push_wall:5.0} ns wall)   query {query_ms:6.1} ms CPU ({:4.2}x, {query_wall:5.1} ms wall)",
        push_ns / push_one,
        query_ms / query_one,
    );
}

fn main() {
    // Cargo asks for a list of tests.
    if std::env::args().any(|a| a == "--list") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut first = None;
        let dirs: Vec<_> = (0..11)
            .map(|_| tempfile::tempdir().expect("a folder"))
            .collect();
        let all: Vec<_> = dirs.iter().map(|d| ingester(d.path())).collect();
        let here = |n: usize| Arc::clone(&all[n]) as Arc<dyn IngesterClient>;
        measure("one ingester, here", here(0), &mut first).await;
        measure(
            "one ingester, over loopback",
            remote(&all[1]).await,
            &mut first,
        )
        .await;
        let three = behind_ring(vec![here(2), here(3), here(4)]);
        measure("three of three, here", three, &mut first).await;
        let (a, b) = (remote(&all[5]).await, remote(&all[6]).await);
        let three = behind_ring(vec![here(7), a, b]);
        measure("three of three, two over loopback", three, &mut first).await;
    });
}
