//! Blocks on a store in memory that may fail: written, listed, read back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::Executor;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Backend, BackendKind, Bucket, DataKind, Layout};
use lgtm_core::testing::{FaultPlan, FaultyStore, StoreFault};
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use object_store::memory::InMemory;

use super::*;
use crate::block::{BlockMeta, TraceSource};
use crate::block_id::BlockId;
use crate::scan::ColumnCache;
use crate::trace::{
    Attribute, DedicatedColumns, ResourceSpans, ScopeSpans, Span, Trace, TraceId, Value,
};

/// Seconds of the clock, and of all spans.
const NOW_S: i64 = 1_795_357_046;

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

fn id(n: u16) -> TraceId {
    let [a, b] = n.to_be_bytes();
    TraceId::new([7, a, b, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
}

/// A trace of some spans with these numbers, as protobuf.
fn trace(id: TraceId, spans: &[u8]) -> Vec<u8> {
    let ids: Vec<[u8; 8]> = spans.iter().map(|n| [1, 1, 1, 1, 1, 1, 1, *n]).collect();
    let spans = spans.iter().zip(&ids).map(|(n, span_id)| Span {
        trace_id: id.as_bytes(),
        span_id,
        name: b"work",
        start_ns: NOW_S as u64 * 1_000_000_000 + u64::from(*n),
        end_ns: NOW_S as u64 * 1_000_000_000 + 1000,
        attributes: vec![Attribute {
            key: b"text",
            value: Value::Text(&[b'x'; 200]),
        }],
        ..Span::default()
    });
    let trace = Trace {
        resources: vec![ResourceSpans {
            attributes: vec![Attribute {
                key: b"service.name",
                value: Value::Text(b"shop"),
            }],
            scopes: vec![ScopeSpans {
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let mut out = Vec::new();
    trace.encode(&mut out);
    out
}

/// Numbers of the spans of a trace, in order.
fn spans(bytes: &[u8]) -> Vec<u8> {
    let mut grow = |_| Ok(());
    let trace = Trace::decode(bytes, &mut Allowance::new(0, &mut grow)).unwrap();
    let mut out: Vec<u8> = trace.spans().map(|(_, _, s)| s.span_id[7]).collect();
    out.sort_unstable();
    out
}

#[derive(Debug)]
struct Traces(std::vec::IntoIter<(TraceId, Vec<u8>)>);

impl TraceSource for Traces {
    fn next_trace(&mut self, out: &mut Vec<u8>) -> Result<Option<TraceId>> {
        Ok(self.0.next().map(|(id, bytes)| {
            out.extend_from_slice(&bytes);
            id
        }))
    }
}

fn some_traces(count: u16) -> Traces {
    let traces: Vec<_> = (0..count)
        .map(|n| (id(n * 2), trace(id(n * 2), &[1, 2, 3])))
        .collect();
    Traces(traces.into_iter())
}

struct House {
    store: FaultyStore,
    bucket: Bucket,
    upload: BlockUpload,
    list: BlockList,
    clock: Arc<ManualClock>,
}

fn house() -> House {
    let store = FaultyStore::new(Arc::new(InMemory::new()), 1);
    let backend = Backend::new(Arc::new(store.clone()), BackendKind::Memory);
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let layout = Layout::builder()
        .store(backend)
        .clock(Arc::clone(&clock) as _);
    let bucket = layout.build().unwrap().bucket(DataKind::Traces);
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let settings = BucketSettings {
        // Several row groups, several shards.
        row_group_size: ByteSize::kib(2),
        bloom_filter_shard_size: ByteSize::bytes(64),
        ..BucketSettings::default()
    };
    House {
        upload: BlockUpload::new(bucket.clone(), executor.clone(), settings.clone()),
        list: BlockList::new(
            bucket.clone(),
            executor,
            Arc::clone(&clock) as _,
            settings.blocklist_poll,
        ),
        store,
        bucket,
        clock,
    }
}

impl House {
    async fn write(&self, n: u8, traces: Traces) -> Result<Option<BlockMeta>> {
        let id = BlockId::random([n; 16]);
        (self.upload)
            .write(&tenant(), id, &DedicatedColumns::default(), traces)
            .await
    }

    fn open(&self, meta: &BlockMeta) -> OpenBlock {
        let executor = Executor::inline(tokio::runtime::Handle::current());
        OpenBlock::new(
            self.bucket.clone(),
            executor,
            &tenant(),
            meta.clone(),
            1 << 30,
        )
        .unwrap()
    }

    async fn objects(&self) -> Vec<String> {
        let objects = self.bucket.list_sorted("t").await.unwrap();
        objects.into_iter().map(|o| o.path).collect()
    }
}

/// All traces of a block, row group by row group.
async fn all(block: &OpenBlock) -> BTreeMap<TraceId, Vec<u8>> {
    let mut out = BTreeMap::new();
    for n in 0..block.file().await.unwrap().row_groups.len() {
        let mut traces = block.row_group(n, 1 << 30).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(id) = traces.next_trace(&mut bytes).unwrap() {
            assert!(out.insert(id, std::mem::take(&mut bytes)).is_none());
        }
    }
    out
}

#[tokio::test]
async fn a_block_is_written_listed_and_found_in() {
    let h = house();
    let meta = h.write(1, some_traces(60)).await.unwrap().unwrap();
    assert_eq!((meta.trace_count, meta.replication_factor), (60, 1));
    assert!(
        meta.row_group_count > 2 && meta.bloom_shards > 1,
        "{meta:?}"
    );
    assert_eq!((meta.end.get() - meta.start.get()) / 1_000_000_000, 1);
    let listed = h.list.blocks(&tenant()).await.unwrap();
    assert_eq!(*listed.live[0], meta);
    let block = h.open(&listed.live[0]);
    for n in 0..120 {
        let found = block.find(id(n)).await.unwrap();
        assert_eq!(
            found.map(|t| spans(&t)),
            (n % 2 == 0).then(|| vec![1, 2, 3]),
            "{n}"
        );
    }
    let all = all(&block).await;
    assert_eq!(all.len(), 60);
    for (id, bytes) in all {
        assert_eq!(block.find(id).await.unwrap(), Some(bytes));
    }
    assert_eq!(h.write(2, some_traces(0)).await.unwrap(), None);
    assert!(
        h.objects()
            .await
            .iter()
            .all(|o| o.contains(&meta.block_id.to_string()))
    );
}

#[tokio::test]
async fn ids_that_no_block_has_cost_one_read_at_most() {
    let h = house();
    let meta = h.write(1, some_traces(60)).await.unwrap().unwrap();
    let block = h.open(&meta);
    let mut let_through = 0;
    for n in 1000..1400 {
        let_through += u64::from(block.may_contain(id(n)).await.unwrap());
        assert_eq!(block.find(id(n)).await.unwrap(), None);
    }
    assert!(let_through < 20, "{let_through} of 400");
    // The shards, the footer, and what those that came through cost.
    let most = u64::from(meta.bloom_shards) + 1 + 3 * let_through;
    assert!(
        h.store.requests("get") <= most,
        "{} > {most}",
        h.store.requests("get")
    );
}

#[tokio::test]
async fn copies_of_a_span_are_stored_once() {
    let h = house();
    let twice = [trace(id(1), &[1, 2]), trace(id(1), &[2, 3])].concat();
    let same_scope = trace(id(2), &[4, 4, 5]);
    let traces = vec![(id(1), twice), (id(2), same_scope)];
    let meta = h
        .write(1, Traces(traces.into_iter()))
        .await
        .unwrap()
        .unwrap();
    let all = all(&h.open(&meta)).await;
    let found: Vec<Vec<u8>> = all.values().map(|t| spans(t)).collect();
    assert_eq!(found, [vec![1, 2, 3], vec![4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn a_block_is_there_whole_or_not_at_all() {
    let h = house();
    h.write(1, some_traces(60)).await.unwrap();
    let requests = h.store.all_requests();
    for fault in [StoreFault::Reset, StoreFault::LostAck] {
        for number in 0..requests {
            let h = house();
            h.store.fail_numbers(number..number + 1000, fault);
            let written = h.write(1, some_traces(60)).await;
            h.store.heal();
            let listed = h.list.refresh(&tenant()).await.unwrap();
            match written {
                Ok(meta) => assert_eq!(*listed.live[0], meta.unwrap()),
                Err(e) => {
                    assert_ne!(e.kind(), ErrorKind::Internal, "{e}");
                    // A write whose answer was lost may have happened; then it is whole.
                    for meta in &listed.live {
                        assert_eq!(all(&h.open(meta)).await.len(), 60);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn the_list_knows_own_blocks_at_once_and_others_after_a_while() {
    let h = house();
    assert_eq!(h.list.blocks(&tenant()).await.unwrap().live.len(), 0);
    let own = h.write(1, some_traces(3)).await.unwrap().unwrap();
    h.list.add(&tenant(), own.clone());
    assert_eq!(h.list.blocks(&tenant()).await.unwrap().live.len(), 1);
    let other = h.write(2, some_traces(3)).await.unwrap().unwrap();
    assert_eq!(h.list.blocks(&tenant()).await.unwrap().live.len(), 1);
    h.clock.advance(Duration::from_secs(301));
    assert_eq!(h.list.blocks(&tenant()).await.unwrap().live.len(), 2);
    // Superseded: its meta bears another name.
    let folder = format!("t/{}", other.block_id);
    let to = format!("{folder}/meta.compacted.json");
    h.bucket
        .copy(&format!("{folder}/meta.json"), &to)
        .await
        .unwrap();
    h.bucket
        .delete(&format!("{folder}/meta.json"))
        .await
        .unwrap();
    let listed = h.list.refresh(&tenant()).await.unwrap();
    assert_eq!((listed.live.len(), listed.compacted.len()), (1, 1));
    assert!(h.list.has_block(&tenant(), other.block_id).await.unwrap());
    assert!(
        !h.list
            .has_block(&tenant(), BlockId::random([9; 16]))
            .await
            .unwrap()
    );
    // A meta that is none costs its block only, and is told.
    h.bucket
        .put(&format!("{folder}/meta.compacted.json"), b"{".to_vec())
        .await
        .unwrap();
    let listed = h.list.refresh(&tenant()).await.unwrap();
    assert_eq!((listed.live.len(), listed.warnings.len()), (1, 1));
    // While the store is away the last list serves.
    h.store.fail_numbers(0..u64::MAX, StoreFault::Reset);
    h.clock.advance(Duration::from_secs(301));
    assert_eq!(h.list.blocks(&tenant()).await.unwrap().live.len(), 1);
    let stranger = TenantId::new("other").unwrap();
    assert!(h.list.blocks(&stranger).await.is_err());
}

#[tokio::test]
async fn damage_is_told_with_its_place_and_a_missing_filter_only_costs_reads() {
    let h = house();
    let meta = h.write(1, some_traces(60)).await.unwrap().unwrap();
    let folder = format!("t/{}", meta.block_id);
    for shard in 0..meta.bloom_shards {
        h.bucket
            .delete(&format!("{folder}/bloom-{shard}"))
            .await
            .unwrap();
    }
    assert!(h.open(&meta).find(id(4)).await.unwrap().is_some());
    let data = format!("{folder}/data.parquet");
    let whole = h.bucket.get(&data).await.unwrap();
    for at in (4..whole.len()).step_by(whole.len() / 97) {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x55;
        h.bucket.put(&data, damaged).await.unwrap();
        // Never a panic; pages have no checksums, so that another value may come out.
        match h.open(&meta).find(id(4)).await {
            Ok(_) => {}
            Err(e) => assert!(
                matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::LimitExceeded),
                "{at}: {e}"
            ),
        }
    }
    h.bucket
        .put(&data, whole.slice(..whole.len() / 2))
        .await
        .unwrap();
    let e = h.open(&meta).find(id(4)).await.unwrap_err();
    assert!(e.to_string().contains("data.parquet"), "{e}");
}

/// Traces whose texts differ, so that a row group of them is large.
fn unlike_traces(count: u16) -> Traces {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let traces = (0..count).map(|n| {
        let mut bytes = trace(id(n), &[1, 2, 3]);
        for byte in bytes.iter_mut().filter(|byte| **byte == b'x') {
            state = state.wrapping_mul(6_364_136_223_846_793_005) + 1;
            *byte = b'a' + (state >> 60) as u8;
        }
        (id(n), bytes)
    });
    Traces(traces.collect::<Vec<_>>().into_iter())
}

#[tokio::test]
async fn dictionaries_that_lookups_decode_serve_the_next_ones() {
    let h = house();
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let settings = BucketSettings::default();
    let upload = BlockUpload::new(h.bucket.clone(), executor, settings);
    let block_id = BlockId::random([1; 16]);
    let columns = DedicatedColumns::default();
    let (of, traces) = (tenant(), unlike_traces(6000));
    let written = upload.write(&of, block_id, &columns, traces).await;
    let meta = written.unwrap().unwrap();
    assert_eq!(meta.row_group_count, 1, "{meta:?}");
    assert!(meta.size_bytes > 2 << 20, "{meta:?}");
    let cache = ColumnCache::new(64 << 20, Arc::default());
    let (alone, sharing) = (h.open(&meta), h.open(&meta).sharing(cache.block()));
    let mut kept_bytes = 0;
    for n in (0..6000).step_by(517) {
        let expected = alone.find(id(n)).await.unwrap();
        assert!(expected.is_some(), "{n}");
        assert_eq!(sharing.find(id(n)).await.unwrap(), expected, "{n}");
        if kept_bytes == 0 {
            kept_bytes = cache.size_bytes();
        }
        // What one keeps is what the next one takes.
        assert_eq!(cache.size_bytes(), kept_bytes, "{n}");
    }
    assert!(kept_bytes > 1000, "{kept_bytes}");
    assert_eq!(sharing.find(id(7000)).await.unwrap(), None);
    drop(sharing);
    assert_eq!(cache.size_bytes(), 0);
}

/// Who has gone.
#[derive(Debug, Default)]
struct Gone(parking_lot::Mutex<Vec<String>>);

impl Departures for Gone {
    fn departed(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn readers_elsewhere_list_blocks_once_when_an_ingester_has_gone() {
    let house = house();
    house.write(1, some_traces(3)).await.unwrap().unwrap();
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let poll = Duration::from_secs(3600);
    let clock = Arc::clone(&house.clock) as Arc<dyn lgtm_core::clock::Clock>;
    let list = Arc::new(BlockList::new(
        house.bucket.clone(),
        executor.clone(),
        clock,
        poll,
    ));
    let gone = Arc::new(Gone::default());
    let reader = BucketSelect::new(
        house.bucket.clone(),
        executor,
        list,
        &BucketSettings::default(),
    );
    let reader = reader.departures(Arc::clone(&gone) as _);
    let found = async || {
        let (blocks, warnings) = reader.blocks(&tenant(), None).await.unwrap();
        (blocks.len(), warnings)
    };
    assert_eq!(found().await, (1, vec![]));
    house.write(2, some_traces(4)).await.unwrap().unwrap();
    assert_eq!(found().await.0, 1, "the second block is not known");
    // A store that is away makes a warning of it, for all who wait, and it is tried again.
    gone.0.lock().push("a@1".into());
    house.store.set_plan(FaultPlan {
        denied: true,
        ..FaultPlan::default()
    });
    for (count, warnings) in futures::future::join_all((0..3).map(|_| found())).await {
        assert_eq!(count, 1);
        assert!(warnings[0].contains("an ingester has gone"), "{warnings:?}");
    }
    house.store.heal();
    // Until the store is asked again.
    house.clock.advance(Duration::from_secs(600));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(found().await, (2, vec![]));
    let lists = house.store.requests("list");
    for _ in 0..3 {
        assert_eq!(found().await, (2, vec![]));
    }
    let of_departure = "each departure costs one listing";
    assert_eq!(house.store.requests("list"), lists, "{of_departure}");
    house.write(3, some_traces(5)).await.unwrap().unwrap();
    assert_eq!(found().await.0, 2);
    gone.0.lock().push("b@2".into());
    assert_eq!(found().await, (3, vec![]));
    // A list that cannot be read again in time says so.
    house.store.set_plan(FaultPlan {
        denied: true,
        ..FaultPlan::default()
    });
    house.clock.advance(2 * poll);
    let (count, warnings) = found().await;
    assert_eq!(count, 3);
    assert!(warnings[0].contains("cannot be read again"), "{warnings:?}");
}

#[tokio::test]
async fn a_list_that_nobody_reads_does_not_grow_for_ever() {
    let house = house();
    let poll = BucketSettings::default().blocklist_poll;
    for n in 1..=40 {
        let meta = house.write(n, some_traces(1)).await.unwrap().unwrap();
        house.list.add(&tenant(), meta);
        house.clock.advance(poll);
    }
    let known = house.list.known_count(&tenant());
    assert!((1..=5).contains(&known), "{known}");
    // Whoever reads it sees all.
    let read = house.list.blocks(&tenant()).await.unwrap();
    assert_eq!(read.live.len(), 40);
    for n in 41..=50 {
        let meta = house.write(n, some_traces(1)).await.unwrap().unwrap();
        house.list.add(&tenant(), meta);
    }
    assert_eq!(house.list.known_count(&tenant()), 50);
    house
        .clock
        .advance(std::time::Duration::from_secs(24 * 3600));
    let meta = house.write(51, some_traces(1)).await.unwrap().unwrap();
    house.list.add(&tenant(), meta);
    assert_eq!(house.list.known_count(&tenant()), 1);
    let read = house.list.blocks(&tenant()).await.unwrap();
    assert_eq!(read.live.len(), 51);
}
