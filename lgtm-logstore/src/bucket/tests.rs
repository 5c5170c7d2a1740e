//! What was written is read back, with and without faults of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::cache::{Cache, CacheExt, MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Compressor;
use lgtm_core::exec::Executor;
use lgtm_core::model::{Labels, Matcher, TenantId, TimeRangeNs};
use lgtm_core::storage::{Backend, Bucket, DataKind, Layout};
use lgtm_core::testing::{FaultPlan, FaultyStore, StoreFault};
use lgtm_core::units::ByteSize;
use proptest::prelude::*;

use super::*;
use crate::chunk::{
    Appended, ChunkBuilder, ChunkCodec, ChunkEncoding, ChunkFormat, ChunkSettings, FinishedChunk,
    KeyForm, StreamChunk,
};
use crate::entry::EntryBlockBuilder;
use crate::schema::DAY_MS;
use crate::select::{MemorySelect, Select, SelectEnd, SelectHints, SelectOrder, SelectRequest};

const ORDERS: [SelectOrder; 3] = [
    SelectOrder::Streams,
    SelectOrder::OldestFirst,
    SelectOrder::NewestFirst,
];
/// Half a day before a midnight.
pub(super) const T0: i64 = (19_844 * DAY_MS + DAY_MS / 2) * 1_000_000;
pub(super) const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;

pub(super) type Seen = (String, i64, Vec<u8>);

pub(super) struct World {
    pub(super) store: FaultyStore,
    clock: Arc<ManualClock>,
    pub(super) bucket: Bucket,
    chunks: Arc<BucketChunks>,
    pub(super) writer: BucketWriter,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(BucketSettings::default())
    }

    fn with(settings: BucketSettings) -> Self {
        let memory = Backend::memory();
        let store = FaultyStore::new(Arc::clone(memory.store()), 7);
        let backend = memory.wrapped(|_| Arc::new(store.clone()));
        let clock = Arc::new(ManualClock::at_ms(T0 / 1_000_000));
        let layout = Layout::builder()
            .store(Backend::memory())
            .store_for(DataKind::Logs, backend)
            .clock(Arc::clone(&clock) as _)
            .jitter_seed(7)
            .build();
        let bucket = layout.unwrap().bucket(DataKind::Logs);
        let chunks = reader(&bucket, &clock, settings);
        let writer = writer(&bucket, &clock, &chunks);
        Self {
            store,
            clock,
            bucket,
            chunks,
            writer,
        }
    }

    /// Another process over the same bucket.
    pub(super) async fn other(&self) -> Arc<BucketChunks> {
        let other = reader(&self.bucket, &self.clock, BucketSettings::default());
        other.sync().await.unwrap();
        other
    }

    pub(super) async fn write(&self, chunks: Vec<StreamChunk>) {
        self.writer.put_chunks(chunks).await.unwrap();
        self.writer.write_index().await.unwrap();
    }

    async fn paths(&self) -> Vec<String> {
        let all = self.bucket.list_sorted("").await.unwrap();
        all.into_iter().map(|o| o.path).collect()
    }

    /// Flips a bit in the middle of an object.
    async fn damage(&self, path: &str) {
        let mut bytes = self.bucket.get(path).await.unwrap().to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 4;
        self.bucket.put(path, bytes).await.unwrap();
    }
}

fn reader(
    bucket: &Bucket,
    clock: &Arc<ManualClock>,
    settings: BucketSettings,
) -> Arc<BucketChunks> {
    let executor = Executor::inline(tokio::runtime::Handle::current());
    BucketChunks::builder(bucket.clone(), executor)
        .clock(Arc::clone(clock) as _)
        .settings(settings)
        .build()
        .unwrap()
}

fn writer(bucket: &Bucket, clock: &Arc<ManualClock>, chunks: &Arc<BucketChunks>) -> BucketWriter {
    BucketWriter::new(
        bucket.clone(),
        Executor::inline(tokio::runtime::Handle::current()),
        Arc::clone(clock) as _,
        Arc::clone(chunks),
        "host-1",
        BucketWriterSettings::default(),
    )
    .unwrap()
}

pub(super) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub(super) fn labels(app: &str) -> Labels {
    Labels::from_pairs([("app", app), ("env", "test")]).unwrap()
}

/// A chunk with blocks of some lines.
fn packed(entries: &[(i64, String)]) -> FinishedChunk {
    let settings = ChunkSettings {
        encoding: ChunkEncoding::Snappy,
        block_size_bytes: 64,
        target_size_bytes: 0,
        ..ChunkSettings::default()
    };
    let mut compressor = Compressor::default();
    let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::new(settings));
    for (t_ns, line) in entries {
        let appended = builder.append(*t_ns, line.as_bytes(), &[("m", "v")]);
        assert!(matches!(
            appended.unwrap(),
            Appended::Stored | Appended::Duplicate
        ));
        if builder.is_block_full() {
            builder.cut(&mut compressor).unwrap();
        }
    }
    builder
        .finish(&mut compressor, &mut ChunkCodec::default())
        .unwrap()
}

fn chunk(of: &str, app: &str, entries: &[(i64, String)]) -> StreamChunk {
    let labels = labels(app);
    StreamChunk {
        tenant: tenant(of),
        fingerprint: labels.stable_hash(),
        labels,
        chunk: packed(entries),
    }
}

/// So many entries, a second apart.
fn entries(from_ns: i64, count: i64) -> Vec<(i64, String)> {
    let entry = |n| (from_ns + n * SECOND, format!("line {n} of {from_ns}"));
    (0..count).map(entry).collect()
}

pub(super) fn all() -> SelectRequest {
    SelectRequest::new(vec![Matcher::regex("app", ".+").unwrap()], TimeRangeNs::ALL)
}

pub(super) async fn read(
    chunks: &BucketChunks,
    of: &str,
    request: &SelectRequest,
) -> lgtm_core::Result<(BTreeSet<Seen>, SelectEnd)> {
    let mut answer = chunks.select(&tenant(of), request).await?;
    let mut out = BTreeSet::new();
    let mut horizon = None;
    while let Some(batch) = answer.next_batch().await? {
        for b in batch.blocks {
            for e in b.block.iter() {
                match (request.order, horizon) {
                    (SelectOrder::NewestFirst, Some(h)) => assert!(e.t_ns < h),
                    (SelectOrder::OldestFirst, Some(h)) => assert!(e.t_ns >= h),
                    _ => {}
                }
                let seen = (b.labels.to_string(), e.t_ns.get(), e.line.to_vec());
                assert!(out.insert(seen), "an entry came twice");
            }
        }
        horizon = Some(batch.horizon_ns);
    }
    Ok((out, answer.end()))
}

fn seen(app: &str, entries: &[(i64, String)]) -> BTreeSet<Seen> {
    let labels = labels(app).to_string();
    let one = |(t, line): &(i64, String)| (labels.clone(), *t, line.clone().into_bytes());
    entries.iter().map(one).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_found_at_once_and_by_others() {
    let world = World::new();
    world.chunks.sync().await.unwrap();
    let a = entries(T0, 40);
    // Across midnight: two days list it.
    let late = entries(T0 + 12 * HOUR - 20 * SECOND, 40);
    let put = vec![
        chunk("t1", "a", &a),
        chunk("t1", "a", &late),
        chunk("t2", "b", &a),
    ];
    let keys = world.writer.put_chunks(put.clone()).await.unwrap();
    assert!(world.writer.has_pending());
    let (before, end) = read(&world.chunks, "t1", &all()).await.unwrap();
    assert!(before.is_empty() && end.warnings.is_empty(), "not indexed");

    let written = world.writer.write_index().await.unwrap();
    assert!(!world.writer.has_pending());
    let started = T0;
    let seconds = T0 / SECOND;
    assert_eq!(
        written.files,
        [
            format!("index/index_19844/{seconds}-host-1-{started}.tsdb.gz"),
            format!("index/index_19845/{}-host-1-{started}.tsdb.gz", seconds + 1),
        ]
    );
    let mut paths: Vec<String> = keys
        .iter()
        .map(|k| k.object_name(crate::chunk::KeyForm::StreamFolders))
        .collect();
    paths.extend(written.files);
    paths.sort();
    assert_eq!(world.paths().await, paths);

    let mut wanted = seen("a", &a);
    wanted.extend(seen("a", &late));
    let other = world.other().await;
    for chunks in [&world.chunks, &other] {
        for order in ORDERS {
            let (got, end) = read(chunks, "t1", &all().order(order)).await.unwrap();
            assert_eq!((got, end.warnings), (wanted.clone(), vec![]), "{order:?}");
            assert_eq!((end.stats.streams, end.stats.chunks_referenced), (1, 2));
        }
        let (got, _) = read(chunks, "t2", &all()).await.unwrap();
        assert_eq!(got, seen("b", &a));
        assert!(read(chunks, "t3", &all()).await.unwrap().0.is_empty());
    }
    assert_eq!(
        world.chunks.stats().index_files_opened,
        0,
        "written files are open"
    );

    // The same again: the same keys, and nothing doubled.
    assert_eq!(world.writer.put_chunks(put).await.unwrap(), keys);
    world.writer.write_index().await.unwrap();
    assert_eq!(world.paths().await.len(), paths.len() + 2);
    let (got, end) = read(&world.chunks, "t1", &all()).await.unwrap();
    assert_eq!((got, end.stats.chunks_referenced), (wanted, 2));
    let request = all();
    let volumes = world.chunks.volumes(&tenant("t1"), &request).await.unwrap();
    assert_eq!((volumes.items[0].chunks, volumes.items[0].entries), (2, 80));
}

#[tokio::test(start_paused = true)]
async fn who_stops_early_loads_no_more_chunks_than_needed() {
    let world = World::new();
    world.chunks.sync().await.unwrap();
    let hours: Vec<_> = (0..10).map(|h| entries(T0 + h * HOUR, 100)).collect();
    let put = hours.iter().map(|e| chunk("t", "a", e)).collect();
    world.write(put).await;
    let hints = SelectHints {
        entries: 30,
        ..SelectHints::default()
    };
    for (order, hour) in [(SelectOrder::NewestFirst, 9), (SelectOrder::OldestFirst, 0)] {
        let before = world.store.requests("get");
        let request = all().order(order).hints(hints.clone());
        let mut answer = world.chunks.select(&tenant("t"), &request).await.unwrap();
        let mut count = 0;
        while count < 30 {
            let batch = answer.next_batch().await.unwrap().unwrap();
            for b in batch.blocks {
                assert!(hours[hour].first().unwrap().0 <= b.block.min_ns().unwrap().get());
                count += b.block.len();
            }
        }
        assert!(count < 60, "{count} entries decoded for 30");
        assert_eq!(world.store.requests("get") - before, 1, "{order:?}");
        let stats = answer.end().stats;
        assert_eq!((stats.chunks_referenced, stats.chunks_downloaded), (10, 1));
    }
    let past = TimeRangeNs::new(T0 + 3 * HOUR, T0 + 3 * HOUR + 50 * SECOND);
    let mut request = all();
    request.range = past;
    let (got, end) = read(&world.chunks, "t", &request).await.unwrap();
    assert_eq!(got, seen("a", &hours[3][..50]));
    assert_eq!(end.stats.chunks_downloaded, 1);
    assert!(
        end.stats.decompressed_lines < 60,
        "other blocks stay packed"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_or_gone_is_named_and_the_rest_is_served() {
    let world = World::new();
    world.chunks.sync().await.unwrap();
    let (a, b, c) = (
        entries(T0, 40),
        entries(T0 + HOUR, 40),
        entries(T0 + 2 * HOUR, 40),
    );
    let put = vec![
        chunk("t", "a", &a),
        chunk("t", "b", &b),
        chunk("t", "c", &c),
    ];
    let keys = world.writer.put_chunks(put).await.unwrap();
    world.writer.write_index().await.unwrap();
    let form = crate::chunk::KeyForm::StreamFolders;
    let names: Vec<_> = keys.iter().map(|k| k.object_name(form)).collect();
    let good = world.bucket.get(&names[0]).await.unwrap();
    world.damage(&names[0]).await;
    world.bucket.delete(&names[1]).await.unwrap();
    for order in ORDERS {
        let (got, end) = read(&world.chunks, "t", &all().order(order)).await.unwrap();
        assert!(got.is_superset(&seen("c", &c)), "{order:?}");
        let kept = got.intersection(&seen("a", &a)).count();
        assert!(kept < a.len() && got.len() == kept + c.len());
        assert!(kept > 0, "a block is lost, not the chunk");
        let warnings = end.warnings.join("\n");
        assert!(
            warnings.contains(&names[0]) && warnings.contains(&names[1]),
            "{warnings}"
        );
    }
    assert!(world.chunks.stats().chunks_damaged >= 2);
    // Repaired, and found so: nothing wrong was kept.
    world.bucket.put(&names[0], good).await.unwrap();
    let (got, _) = read(&world.chunks, "t", &all()).await.unwrap();
    assert!(got.is_superset(&seen("a", &a)));

    // An index file of another process that is damaged, then repaired.
    let other = world.other().await;
    let index = world.paths().await;
    let index = index.iter().find(|p| p.starts_with("index/")).unwrap();
    let good = world.bucket.get(index).await.unwrap();
    world.damage(index).await;
    let (got, end) = read(&other, "t", &all()).await.unwrap();
    assert!(got.is_empty() && end.warnings[0].contains(index), "{end:?}");
    assert_eq!(other.stats().index_files_set_aside.len(), 1);
    let names = other.label_names(&tenant("t"), &all()).await.unwrap();
    assert_eq!(names.warnings.len(), 1, "lists say so too");
    world.bucket.put(index, good).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    let (got, _) = read(&other, "t", &all()).await.unwrap();
    assert!(got.is_superset(&seen("c", &c)), "looked at again");
    // Compacted away: the next listing forgets it.
    let fresh = world.other().await;
    world.bucket.delete(index).await.unwrap();
    let (got, end) = read(&fresh, "t", &all()).await.unwrap();
    assert!(got.is_empty() && end.warnings.len() == 1);
    fresh.sync().await.unwrap();
    let (_, end) = read(&fresh, "t", &all()).await.unwrap();
    assert_eq!(end.warnings, Vec::<String>::new());
    assert_eq!(fresh.stats().index_files, 0);
}

#[tokio::test(start_paused = true)]
async fn one_bad_read_leaves_no_trace() {
    let world = World::new();
    world.chunks.sync().await.unwrap();
    let a = entries(T0, 40);
    world.write(vec![chunk("t", "a", &a)]).await;
    for request in 1..4 {
        let other = world.other().await;
        let now = world.store.all_requests();
        world
            .store
            .fail_numbers(now + request..now + request + 1, StoreFault::FlippedBit);
        for _ in 0..2 {
            let (got, end) = read(&other, "t", &all()).await.unwrap();
            assert_eq!((got, end.warnings), (seen("a", &a), vec![]), "{request}");
        }
        world.store.heal();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_at_start_is_said() {
    let world = World::new();
    world.store.set_plan(FaultPlan {
        denied: true,
        ..FaultPlan::default()
    });
    assert!(world.chunks.sync().await.is_err());
    let (got, end) = read(&world.chunks, "t", &all()).await.unwrap();
    assert!(
        got.is_empty() && end.warnings[0].contains("not all known"),
        "{end:?}"
    );
    assert!(!world.chunks.stats().is_listed);
    world.store.heal();
    world.clock.advance(Duration::from_secs(600));
    tokio::time::advance(Duration::from_secs(600)).await;
    world.chunks.sync().await.unwrap();
    let (_, end) = read(&world.chunks, "t", &all()).await.unwrap();
    assert_eq!(end.warnings, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn readers_elsewhere_list_tables_once_when_an_ingester_has_gone() {
    let w = World::new();
    w.write(vec![chunk("t", "a", &entries(T0, 1))]).await;
    let other = w.other().await;
    // Of a day that is listed seldom, too.
    let old = T0 - 20 * 24 * HOUR;
    w.write(vec![chunk("t", "b", &entries(old, 1))]).await;
    let tenant = TenantId::new("t").unwrap();
    let after = |departed: &[&str]| {
        let departed = departed.iter().map(|d| (*d).to_owned());
        SelectRequest::new(vec![], TimeRangeNs::ALL).after(departed.collect())
    };
    let found = async |departed: &[&str]| {
        let found = other.series(&tenant, &after(departed)).await.unwrap();
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        found.items.len()
    };
    assert_eq!(found(&[]).await, 1, "the second index file is not known");
    // A store that is away makes a warning of it, for all who wait, and it is tried again.
    w.store.set_plan(FaultPlan {
        denied: true,
        ..FaultPlan::default()
    });
    let request = after(&["x@1"]);
    let asked = (0..3).map(|_| other.series(&tenant, &request));
    for names in futures::future::join_all(asked).await {
        let warnings = names.unwrap().warnings;
        let is_told = |w: &String| w.contains("an ingester has gone");
        assert!(warnings.iter().any(is_told), "{warnings:?}");
    }
    w.store.heal();
    w.clock.advance(Duration::from_secs(600));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(found(&["x@1"]).await, 2);
    let lists = w.store.requests("list");
    for _ in 0..3 {
        assert_eq!(found(&["x@1"]).await, 2);
        assert_eq!(
            other.volumes(&tenant, &request).await.unwrap().items.len(),
            2
        );
    }
    let of_departure = "each departure costs one listing";
    assert_eq!(w.store.requests("list"), lists, "{of_departure}");
    w.write(vec![chunk("t", "c", &entries(T0, 1))]).await;
    assert_eq!(found(&["x@1"]).await, 2);
    assert_eq!(found(&["x@1", "y@2"]).await, 3);
}

#[tokio::test(start_paused = true)]
async fn whichever_request_fails_nothing_is_lost_or_doubled() {
    let a = entries(T0, 40);
    let late = entries(T0 + 12 * HOUR - 20 * SECOND, 40);
    for fault in [StoreFault::Denied, StoreFault::LostAck, StoreFault::Reset] {
        for number in 1..12 {
            let world = World::new();
            let put = || vec![chunk("t", "a", &a), chunk("t", "a", &late)];
            world.store.fail_numbers(number..number + 1, fault);
            // What a head does: it begins anew until all is in the store.
            let mut tries = 0;
            loop {
                tries += 1;
                assert!(tries < 10, "{fault:?} {number}");
                let put = world.writer.put_chunks(put()).await;
                let indexed = world.writer.write_index().await;
                if put.is_ok() && indexed.is_ok() {
                    break;
                }
                world.clock.advance(Duration::from_secs(120));
                tokio::time::advance(Duration::from_secs(120)).await;
            }
            world.store.heal();
            let mut wanted = seen("a", &a);
            wanted.extend(seen("a", &late));
            let (got, _) = read(&world.chunks, "t", &all()).await.unwrap();
            assert_eq!(got, wanted, "{fault:?} {number}");
            let (got, end) = read(&*world.other().await, "t", &all()).await.unwrap();
            assert_eq!((got, end.warnings), (wanted, vec![]), "{fault:?} {number}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bounds_of_a_request_hold() {
    let world = World::new();
    world.chunks.sync().await.unwrap();
    let put = ["a", "b", "c"].map(|app| chunk("t", app, &entries(T0, 40)));
    world.write(put.into()).await;
    let bounds = [(2, 0, 0), (0, 2, 0), (0, 0, 100)];
    for (max_streams, max_chunks, max_chunk_bytes) in bounds {
        let bounds = crate::select::FetchBounds {
            max_streams,
            max_chunks,
            max_chunk_bytes,
        };
        let error = read(&world.chunks, "t", &all().bounds(bounds)).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), lgtm_core::ErrorKind::LimitExceeded, "{error}");
    }
    let needle = |value: &str| SelectHints {
        metadata_needles: vec![("m".into(), value.into())],
        ..SelectHints::default()
    };
    let (got, end) = read(&world.chunks, "t", &all().hints(needle("x")))
        .await
        .unwrap();
    assert!(got.is_empty() && end.stats.decompressed_lines == 0);
    let (got, _) = read(&world.chunks, "t", &all().hints(needle("v")))
        .await
        .unwrap();
    assert_eq!(got.len(), 120);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Chunks of replicas overlap in any way; memory for loaded chunks may be short.
    #[test]
    fn a_bucket_answers_as_memory_does(
        chunks in prop::collection::vec(
            (0u8..3, prop::collection::btree_set((0i64..200, 0u8..3), 1..30)), 1..12),
        range in (0i64..200, 0i64..200),
        short in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let settings = BucketSettings {
                chunk_memory: if short { ByteSize::bytes(700) } else { ByteSize::mib(1) },
                batch_blocks: 2,
                ..BucketSettings::default()
            };
            let world = World::with(settings);
            world.chunks.sync().await.unwrap();
            let memory = MemorySelect::default();
            let mut put = BTreeMap::new();
            for (app, times) in &chunks {
                let app = app.to_string();
                let lines: Vec<_> = times.iter()
                    .map(|(t, line)| (T0 + t * SECOND, format!("line {line} is long enough")))
                    .collect();
                let mut block = EntryBlockBuilder::copying(0);
                for (t, line) in &lines {
                    block.push_copy(*t, line.as_bytes()).unwrap();
                }
                memory.push(&tenant("t"), &labels(&app), block.finish(Arc::default())).unwrap();
                put.insert((app.clone(), lines.clone()), chunk("t", &app, &lines));
            }
            world.write(put.into_values().collect()).await;
            let (from, to) = (range.0.min(range.1), range.0.max(range.1));
            let ranges = [
                TimeRangeNs::ALL,
                TimeRangeNs::new(T0 + from * SECOND, T0 + to * SECOND),
            ];
            for (range, order) in ranges.into_iter().flat_map(|r| ORDERS.map(|o| (r, o))) {
                let request = SelectRequest { range, ..all().order(order) };
                let mut wanted = BTreeSet::new();
                let mut answer = memory.select(&tenant("t"), &request).await.unwrap();
                while let Some(batch) = answer.next_batch().await.unwrap() {
                    for b in batch.blocks {
                        wanted.extend(b.block.iter()
                            .map(|e| (b.labels.to_string(), e.t_ns.get(), e.line.to_vec())));
                    }
                }
                let (got, end) = read(&world.chunks, "t", &request).await.unwrap();
                assert_eq!((got, end.warnings), (wanted, vec![]), "{order:?} {range:?}");
            }
        });
    }
}

#[tokio::test]
async fn kept_chunks_are_not_loaded_again_and_a_damaged_one_is() {
    let world = World::new();
    let key = world
        .writer
        .put_chunk(chunk("a", "x", &entries(T0, 50)))
        .await;
    world.writer.write_index().await.unwrap();
    let key = key.unwrap().object_name(KeyForm::StreamFolders);
    let clock = Arc::clone(&world.clock) as Arc<dyn lgtm_core::clock::Clock>;
    let cache = MemoryCache::new("kept", &MemoryCacheSettings::default(), clock).unwrap();
    let cache = Arc::new(cache);
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let chunks = BucketChunks::builder(world.bucket.clone(), executor)
        .clock(Arc::clone(&world.clock) as _)
        .chunk_cache(Arc::clone(&cache) as _)
        .build()
        .unwrap();
    chunks.sync().await.unwrap();
    let (wanted, _) = read(&chunks, "a", &all()).await.unwrap();
    for loaded in [1, 1] {
        let (got, end) = read(&chunks, "a", &all()).await.unwrap();
        assert_eq!((got, end.warnings), (wanted.clone(), Vec::<String>::new()));
        assert_eq!(chunks.stats().chunks_loaded, loaded);
    }
    let mut object = cache.get(&key).await.expect("it is kept").to_vec();
    let middle = object.len() / 2;
    object[middle] ^= 4;
    cache.set(&key, object.into(), None).await;
    let (got, end) = read(&chunks, "a", &all()).await.unwrap();
    assert_eq!((got, end.warnings), (wanted, Vec::<String>::new()));
    assert_eq!(chunks.stats().chunks_loaded, 2);
}

#[tokio::test]
async fn kept_index_files_are_not_loaded_again_and_a_damaged_one_is() {
    let world = World::new();
    world.write(vec![chunk("a", "x", &entries(T0, 50))]).await;
    let clock = Arc::clone(&world.clock) as Arc<dyn lgtm_core::clock::Clock>;
    let cache = MemoryCache::new("kept", &MemoryCacheSettings::default(), clock).unwrap();
    let cache = Arc::new(cache);
    let index = world.paths().await;
    let index = index.iter().find(|p| p.starts_with("index/")).unwrap();
    let (mut wanted, mut gets) = (None, Vec::new());
    for spoiled in [false, false, true] {
        if spoiled {
            let mut object = cache.get(index).await.expect("it is kept").to_vec();
            let middle = object.len() / 2;
            object[middle] ^= 4;
            cache.set(index, object.into(), None).await;
        }
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let chunks = BucketChunks::builder(world.bucket.clone(), executor)
            .clock(Arc::clone(&world.clock) as _)
            .index_cache(Arc::clone(&cache) as _)
            .build()
            .unwrap();
        chunks.sync().await.unwrap();
        let before = world.store.requests("get");
        let (got, end) = read(&chunks, "a", &all()).await.unwrap();
        assert_eq!(end.warnings, Vec::<String>::new());
        assert_eq!(&got, wanted.get_or_insert_with(|| got.clone()));
        gets.push(world.store.requests("get") - before);
    }
    assert_eq!(gets, [2, 1, 2], "a chunk, and where need be the index");
}
