//! What does it cost to find a trace by its id among many blocks, and what is asked of the bucket? Goals over 100 blocks: at most one shard of a bloom
//! filter a block, at most three ranges of a block that has it, 95 of 100 lookups within 10 ms where filters and footers are known and the bucket is a
//! local disk.
//!
//! `cargo bench --bench trace_lookup -- [BLOCKS] [SPANS A BLOCK]`: blocks of traces that are made here, each of which has its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement is said aloud, and reads the clock"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::protobuf::{fixed64_tag, put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::put_uvarint;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Backend, BackendKind, DataKind, Layout};
use lgtm_core::testing::FaultyStore;
use lgtm_tracestore::block::TraceSource;
use lgtm_tracestore::block_id::BlockId;
use lgtm_tracestore::bucket::{BlockList, BlockUpload, BucketSelect, BucketSettings};
use lgtm_tracestore::trace::{DedicatedColumns, TraceId};
use object_store::local::LocalFileSystem;

const SPANS_A_TRACE: u64 = 20;
const LOOKUPS: u64 = 300;

/// Numbers that look random, always the same.
fn mixed(n: u64) -> u64 {
    let n = (n ^ n >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ n >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn id_of(n: u64) -> TraceId {
    let id = [mixed(n).to_be_bytes(), mixed(n + (1 << 40)).to_be_bytes()].concat();
    TraceId::from_short(&id).unwrap()
}

fn text(out: &mut Vec<u8>, field: u64, key: &str, value: &str) {
    put_message(out, field, |out| {
        put_bytes_field(out, 1, key.as_bytes());
        put_message(out, 2, |out| put_bytes_field(out, 1, value.as_bytes()));
    });
}

fn made_trace(n: u64) -> (TraceId, Vec<u8>) {
    let id = id_of(n);
    let mut out = Vec::new();
    for service in 0..SPANS_A_TRACE / 4 {
        put_message(&mut out, 1, |out| {
            put_message(out, 1, |out| {
                text(out, 1, "service.name", &format!("service-{service}"));
                text(out, 1, "k8s.pod.name", &format!("pod-{}", mixed(n) % 40));
            });
            put_message(out, 2, |out| {
                put_message(out, 1, |out| put_bytes_field(out, 1, b"otelhttp"));
                (0..4).for_each(|span| made_span(out, id, (n, service * 4 + span)));
            });
        });
    }
    (id, out)
}

fn made_span(out: &mut Vec<u8>, id: TraceId, (n, span): (u64, u64)) {
    let random = mixed(n * 64 + span);
    put_message(out, 2, |out| {
        put_bytes_field(out, 1, id.as_bytes());
        put_bytes_field(out, 2, &random.to_be_bytes());
        if span > 0 {
            put_bytes_field(out, 4, &mixed(n * 64).to_be_bytes());
        }
        put_bytes_field(out, 5, format!("GET /thing-{}", random % 40).as_bytes());
        put_varint_field(out, 6, 2);
        let start = 1_749_980_000_000_000_000 + random % 7_000_000_000_000;
        for (field, time) in [(7, start), (8, start + random % 300_000_000)] {
            put_uvarint(out, fixed64_tag(field));
            out.extend(time.to_le_bytes());
        }
        text(out, 9, "http.method", "GET");
        text(out, 9, "user.id", &format!("u-{}", random % 100_000));
    });
}

#[derive(Debug)]
struct Source(std::vec::IntoIter<(TraceId, Vec<u8>)>);

impl TraceSource for Source {
    fn next_trace(&mut self, out: &mut Vec<u8>) -> lgtm_core::Result<Option<TraceId>> {
        Ok(self.0.next().map(|(id, bytes)| {
            out.extend_from_slice(&bytes);
            id
        }))
    }
}

/// CPU time of all threads so far.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(of).sum())
}

/// A bucket as a back end of some kind, which counts what it is asked for.
struct House {
    store: FaultyStore,
    executor: Executor,
    layout: Layout,
    tenant: TenantId,
}

impl House {
    fn new(folder: &std::path::Path, kind: BackendKind) -> Self {
        let local = LocalFileSystem::new_with_prefix(folder).unwrap();
        let store = FaultyStore::new(Arc::new(local), 1);
        let backend = Backend::new(Arc::new(store.clone()), kind);
        let runtime = tokio::runtime::Handle::current();
        Self {
            store,
            executor: Executor::new(&ExecutorSettings::default(), runtime).unwrap(),
            layout: Layout::single_bucket(backend),
            tenant: TenantId::new("t").unwrap(),
        }
    }

    async fn write(&self, blocks: u64, traces: u64) {
        let bucket = self.layout.bucket(DataKind::Traces);
        let settings = BucketSettings::default();
        let upload = BlockUpload::new(bucket, self.executor.clone(), settings);
        let dedicated = DedicatedColumns::standard();
        for block in 0..blocks {
            let mut all: Vec<_> = (block * traces..(block + 1) * traces)
                .map(made_trace)
                .collect();
            all.sort();
            let id = (u128::from(mixed(block)) << 64 | u128::from(block)).to_be_bytes();
            let written = upload.write(
                &self.tenant,
                BlockId::random(id),
                &dedicated,
                Source(all.into_iter()),
            );
            written.await.unwrap().unwrap();
        }
    }

    fn select(&self) -> BucketSelect {
        let bucket = self.layout.bucket(DataKind::Traces);
        let clock = Arc::new(ManualClock::at_ms(1_900_000_000_000));
        let settings = BucketSettings::default();
        let poll = settings.blocklist_poll;
        let list = BlockList::new(bucket.clone(), self.executor.clone(), clock, poll);
        BucketSelect::new(bucket, self.executor.clone(), Arc::new(list), &settings)
    }

    /// Objects that were read whole, and ranges of objects, so far.
    fn asked(&self) -> [u64; 2] {
        ["get", "get_ranges"].map(|operation| self.store.requests(operation))
    }

    /// Looks for traces one after the other and says what that took.
    async fn look(&self, select: &BucketSelect, what: &str, ids: &[TraceId], found: usize) {
        let (asked, busy) = (self.asked(), cpu());
        let mut times = Vec::new();
        for id in ids {
            let began = Instant::now();
            let (parts, warnings) = select.find(&self.tenant, *id, None).await.unwrap();
            times.push(began.elapsed().as_secs_f64() * 1e3);
            assert_eq!((parts.len(), warnings.len()), (found, 0));
        }
        let (busy, now) = (cpu() - busy, self.asked());
        times.sort_by(f64::total_cmp);
        let count = ids.len() as f64;
        println!(
            "{what:<28} p50 {:>7.2} ms, p95 {:>7.2} ms, {:>6.2} ms CPU; {:>6.2} objects and {:>5.2} ranges each",
            times[times.len() / 2],
            times[(times.len() * 95).div_ceil(100) - 1],
            busy.as_secs_f64() * 1e3 / count,
            (now[0] - asked[0]) as f64 / count,
            (now[1] - asked[1]) as f64 / count,
        );
    }
}

async fn run(blocks: u64, spans: u64) {
    let folder = tempfile::tempdir().unwrap();
    let traces = spans / SPANS_A_TRACE;
    House::new(folder.path(), BackendKind::File)
        .write(blocks, traces)
        .await;
    println!("{blocks} blocks of {} spans", traces * SPANS_A_TRACE);
    let of = |n: u64| id_of(mixed(n) % (blocks * traces));
    let hits: Vec<TraceId> = (0..LOOKUPS).map(of).collect();
    let misses: Vec<TraceId> = (0..LOOKUPS).map(|n| id_of(n + (1 << 30))).collect();
    for (name, kind) in [
        ("local disk", BackendKind::File),
        ("S3's rules", BackendKind::S3),
    ] {
        let house = House::new(folder.path(), kind);
        println!("{name}:");
        let select = house.select();
        house.look(&select, "first of all", &hits[..1], 1).await;
        house
            .look(&select, "hits, footers not known", &hits, 1)
            .await;
        house.look(&select, "hits", &hits, 1).await;
        house.look(&select, "misses", &misses, 0).await;
    }
}

fn main() {
    let arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let numbers: Vec<u64> = arguments.map(|a| a.parse().unwrap()).collect();
    let number = |n: usize, default| numbers.get(n).copied().unwrap_or(default);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(number(0, 100), number(1, 50_000)));
}
