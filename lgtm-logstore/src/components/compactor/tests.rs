use std::collections::BTreeMap;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::{Compressor, Decompressor};
use lgtm_core::model::{Labels, Matcher, TimeRangeNs};
use lgtm_core::storage::{Backend, BackendKind, DataKind, Layout, MemoryFile};
use lgtm_core::testing::{FaultPlan, FaultyStore, StoreFault};
use lgtm_core::units::ByteSize;
use tokio::runtime::Handle;

use super::*;
use crate::bucket::{BucketChunks, BucketSettings, BucketWriter, BucketWriterSettings};
use crate::chunk::{ChunkBuilder, ChunkCodec, ChunkFormat, ChunkSettings, StreamChunk};
use crate::components::{DeleteRequests, DeleteSettings};
use crate::index::TENANT_LABEL;
use crate::index::unpack;
use crate::schema::DAY_MS;
use crate::select::{Select, SelectRequest};

pub(in crate::components) const DAY: i64 = 19_844;
pub(in crate::components) const T0_MS: i64 = DAY * DAY_MS + DAY_MS / 2;
pub(in crate::components) const MINUTE: Duration = Duration::from_secs(60);

/// A bucket in memory that outlives the processes over it.
pub(in crate::components) struct World {
    pub(in crate::components) memory: Backend,
    pub(in crate::components) clock: Arc<ManualClock>,
    pub(in crate::components) limits: Overrides<Limits>,
    pub(in crate::components) merge_chunks_below: ByteSize,
    /// Whether delete requests are kept.
    pub(in crate::components) deletes: bool,
}

/// A process over the bucket.
pub(in crate::components) struct Process {
    pub(in crate::components) store: FaultyStore,
    pub(in crate::components) bucket: Bucket,
    pub(in crate::components) compactor: Arc<Compactor>,
    pub(in crate::components) deletes: Arc<DeleteRequests>,
}

pub(in crate::components) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn settings() -> CompactorSettings {
    CompactorSettings {
        min_files: 2,
        deletion_delay: 30 * MINUTE,
        ..CompactorSettings::default()
    }
}

impl World {
    pub(in crate::components) fn new() -> Self {
        Self {
            memory: Backend::memory(),
            clock: Arc::new(ManualClock::at_ms(T0_MS)),
            limits: Overrides::fixed(Limits::default()),
            merge_chunks_below: ByteSize::bytes(0),
            deletes: false,
        }
    }

    pub(in crate::components) fn process(&self, seed: u64) -> Process {
        let store = FaultyStore::new(Arc::clone(self.memory.store()), seed);
        let backend = Backend::new(Arc::new(store.clone()), BackendKind::Memory);
        let layout = Layout::builder()
            .store(Backend::memory())
            .store_for(DataKind::Logs, backend)
            .clock(Arc::clone(&self.clock) as _)
            .jitter_seed(seed)
            .build();
        let bucket = layout.unwrap().bucket(DataKind::Logs);
        let executor = Executor::inline(Handle::current());
        let clock = Arc::clone(&self.clock) as _;
        let settings_of_deletes = DeleteSettings {
            cancel_period: 30 * MINUTE,
            ..DeleteSettings::default()
        };
        let deletes = DeleteRequests::new(bucket.clone(), clock, settings_of_deletes).unwrap();
        let mut compactor = Compactor::builder(bucket.clone(), executor);
        if self.deletes {
            compactor = compactor.deletes(Arc::clone(&deletes));
        }
        let compactor = compactor
            .clock(Arc::clone(&self.clock) as _)
            .instance(format!("c{seed}"))
            .settings(CompactorSettings {
                merge_chunks_below: self.merge_chunks_below,
                ..settings()
            })
            .limits(self.limits.clone())
            .build()
            .unwrap();
        Process {
            store,
            bucket,
            compactor,
            deletes,
        }
    }

    pub(in crate::components) fn reader(&self) -> Arc<BucketChunks> {
        let executor = Executor::inline(Handle::current());
        BucketChunks::builder(self.process(99).bucket, executor)
            .clock(Arc::clone(&self.clock) as _)
            .settings(BucketSettings::default())
            .build()
            .unwrap()
    }

    /// Uploads index files, each with chunks of two tenants; some chunks stand in several.
    pub(in crate::components) async fn fill(&self, files: i64) {
        let bucket = self.process(98).bucket;
        for file in 0..files {
            // A process each, so that chunks put again are indexed again.
            let executor = Executor::inline(Handle::current());
            let writer = BucketWriter::new(
                bucket.clone(),
                executor,
                Arc::clone(&self.clock) as _,
                self.reader(),
                &format!("i{file}"),
                BucketWriterSettings::default(),
            );
            let writer = writer.unwrap();
            for (of, app, minute) in [
                ("a", "x", file),
                ("a", "x", file + 1),
                ("a", "y", file),
                ("b", "secret", file),
            ] {
                writer.put_chunk(chunk(of, app, minute)).await.unwrap();
            }
            // One that reaches into the next day.
            if file == 0 {
                let end = DAY_MS / 2 / 60_000;
                writer.put_chunk(chunk("a", "x", end)).await.unwrap();
            }
            writer.write_index().await.unwrap();
        }
    }
}

fn chunk(of: &str, app: &str, minute: i64) -> StreamChunk {
    let labels = Labels::from_pairs([("app", app), (&format!("only_{of}"), "1")]).unwrap();
    let chunk_settings = ChunkSettings::default();
    let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::new(chunk_settings));
    let t_ns = (T0_MS + minute * 60_000) * 1_000_000;
    for n in -1..2 {
        let line = format!("{of} {app} {minute} {n}");
        let t_ns = t_ns + n * 1_000_000_000;
        builder.append(t_ns, line.as_bytes(), &[]).unwrap();
    }
    let chunk = builder
        .finish(&mut Compressor::default(), &mut ChunkCodec::default())
        .unwrap();
    StreamChunk {
        tenant: tenant(of),
        fingerprint: labels.stable_hash(),
        labels,
        chunk,
    }
}

/// All lines, by tenant.
pub(in crate::components) async fn lines(chunks: &BucketChunks) -> BTreeMap<String, Vec<String>> {
    let mut out = BTreeMap::new();
    for of in ["a", "b"] {
        let any = vec![Matcher::regex("app", ".+").unwrap()];
        let request = SelectRequest::new(any, TimeRangeNs::ALL);
        let mut answer = chunks.select(&tenant(of), &request).await.unwrap();
        let mut lines = Vec::new();
        while let Some(batch) = answer.next_batch().await.unwrap() {
            for entry in batch.blocks.iter().flat_map(|b| b.block.iter()) {
                lines.push(String::from_utf8(entry.line.to_vec()).unwrap());
            }
        }
        assert_eq!(answer.end().warnings, Vec::<String>::new());
        lines.sort();
        out.insert(of.to_owned(), lines);
    }
    out
}

/// What a process finds that begins now.
pub(in crate::components) async fn found(world: &World) -> BTreeMap<String, Vec<String>> {
    let reader = world.reader();
    reader.sync().await.unwrap();
    lines(&reader).await
}

pub(in crate::components) async fn paths(world: &World, folder: &str) -> Vec<String> {
    let all = world.process(97).bucket.list_sorted(folder).await.unwrap();
    all.into_iter().map(|o| o.path).collect()
}

/// Rounds until nothing is to be done, every one after the delay.
pub(in crate::components) async fn settle(world: &World, process: &Process) {
    for _ in 0..6 {
        world.clock.advance(16 * MINUTE);
        process
            .compactor
            .compact(&CancelToken::new())
            .await
            .unwrap();
    }
}

/// One file a tenant and day, nothing else.
async fn assert_settled(world: &World) {
    let index = paths(world, "index").await;
    assert_eq!(index.len(), 3, "{index:#?}");
    assert!(
        index.iter().all(|p| p.contains("-compactor-")),
        "{index:#?}"
    );
    assert_eq!(paths(world, CompactionMark::FOLDER).await, [""; 0]);
}

#[tokio::test]
async fn of_several_compactors_only_the_owner_works() {
    let world = World::new();
    world.fill(3).await;
    let (before, wanted) = (paths(&world, "").await, found(&world).await);
    let executor = Executor::inline(Handle::current());
    let is_owner = Arc::new(AtomicBool::new(false));
    let owner = Arc::clone(&is_owner);
    let compactor = Compactor::builder(world.process(3).bucket, executor)
        .clock(Arc::clone(&world.clock) as _)
        .settings(settings())
        .owns(Arc::new(move |job: &str| {
            assert_eq!(job, Compactor::JOB);
            owner.load(Ordering::SeqCst)
        }))
        .build()
        .unwrap();
    let cancel = CancelToken::new();
    compactor.compact(&cancel).await.unwrap();
    assert_eq!(paths(&world, "").await, before, "it is not the owner");
    is_owner.store(true, Ordering::SeqCst);
    compactor.compact(&cancel).await.unwrap();
    assert_ne!(paths(&world, "").await, before);
    assert_eq!(found(&world).await, wanted);
    // Another one goes on where it stopped.
    let other = world.process(4);
    settle(&world, &other).await;
    assert_eq!(found(&world).await, wanted);
}

#[tokio::test]
async fn files_are_joined_and_the_old_ones_go_later() {
    let world = World::new();
    world.fill(3).await;
    let wanted = found(&world).await;
    assert!(wanted["a"].len() > 15 && wanted["b"].len() == 9);
    let before = world.reader();
    before.sync().await.unwrap();
    let process = world.process(1);
    let cancel = CancelToken::new();
    process.compactor.compact(&cancel).await.unwrap();
    // Two tenants of the day. What reaches into the next one has one file there, which is left until its day is over.
    assert_eq!(paths(&world, "index").await.len(), 4 + 2);
    let counts = process.compactor.counts();
    assert_eq!(counts.files_written.load(Ordering::Relaxed), 2);
    assert_eq!(found(&world).await, wanted);
    // A second round leaves all as it is.
    process.compactor.compact(&cancel).await.unwrap();
    assert_eq!(counts.files_written.load(Ordering::Relaxed), 2);
    assert_eq!(lines(&before).await, wanted);
    world.clock.advance(16 * MINUTE);
    process.compactor.compact(&cancel).await.unwrap();
    assert_eq!(counts.files_deleted.load(Ordering::Relaxed), 3);
    before.sync().await.unwrap();
    assert_eq!(lines(&before).await, wanted);
    world.clock.advance(Duration::from_secs(2 * 86_400));
    settle(&world, &process).await;
    assert_settled(&world).await;
    assert_eq!(found(&world).await, wanted);
    // Late data are joined with what is there.
    world.fill(2).await;
    settle(&world, &process).await;
    world.clock.advance(2 * Duration::from_secs(3600));
    settle(&world, &process).await;
    assert_settled(&world).await;
    assert_eq!(found(&world).await, wanted);
    let requests = process.store.all_requests();
    process.compactor.compact(&cancel).await.unwrap();
    assert!(process.store.all_requests() - requests <= 3, "two listings");
}

#[tokio::test]
async fn a_tenants_file_has_nothing_of_others() {
    let world = World::new();
    world.fill(2).await;
    let process = world.process(1);
    process
        .compactor
        .compact(&CancelToken::new())
        .await
        .unwrap();
    for (of, other) in [("a", "only_b"), ("b", "only_a")] {
        let all = paths(&world, &format!("index/index_{DAY}/{of}")).await;
        let packed = process.bucket.get(&all[0]).await.unwrap();
        let bytes = unpack(&packed, 1 << 20, &mut Decompressor::default()).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(!holds(other) && !holds(TENANT_LABEL), "{of}");
        let file = Arc::new(MemoryFile::new(all[0].clone(), bytes));
        let reader = IndexReader::open(file, IndexReaderSettings::default()).await;
        let reader = reader.unwrap();
        let names: Vec<&str> = reader.label_names().collect();
        assert_eq!(names, ["app", &format!("only_{of}")]);
        let chunks: usize = reader
            .series(
                &reader.postings_all().await.unwrap(),
                &crate::index::SeriesFilter::ALL,
            )
            .await
            .unwrap()
            .iter()
            .map(|s| s.chunks.len())
            .sum();
        assert_eq!(chunks, if of == "a" { 3 + 2 + 1 } else { 2 });
    }
}

#[tokio::test]
async fn stopped_at_any_request_nothing_is_lost_and_the_next_goes_on() {
    // How many requests there are, with nothing going wrong.
    let count = {
        let world = World::new();
        world.fill(3).await;
        let process = world.process(1);
        process
            .compactor
            .compact(&CancelToken::new())
            .await
            .unwrap();
        world.clock.advance(16 * MINUTE);
        process
            .compactor
            .compact(&CancelToken::new())
            .await
            .unwrap();
        process.store.all_requests()
    };
    assert!(count > 15, "{count} requests");
    for stop in 1..=count {
        let world = World::new();
        world.fill(3).await;
        let wanted = found(&world).await;
        let process = world.process(stop);
        process
            .store
            .fail_numbers(stop..u64::MAX, StoreFault::Denied);
        let mut failed = process.compactor.compact(&CancelToken::new()).await;
        if failed.is_ok() {
            assert_eq!(found(&world).await, wanted, "request {stop}");
            world.clock.advance(16 * MINUTE);
            failed = process.compactor.compact(&CancelToken::new()).await;
        }
        assert!(failed.is_err(), "request {stop}");
        assert_eq!(found(&world).await, wanted, "request {stop}");
        // Another process goes on.
        let next = world.process(1000 + stop);
        world.clock.advance(Duration::from_secs(2 * 86_400));
        for _ in 0..5 {
            next.compactor.compact(&CancelToken::new()).await.unwrap();
            assert_eq!(found(&world).await, wanted, "request {stop}");
            world.clock.advance(16 * MINUTE);
        }
        settle(&world, &next).await;
        assert_settled(&world).await;
        assert_eq!(found(&world).await, wanted, "request {stop}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_at_once_do_no_harm() {
    for seed in 0..8 {
        let world = World::new();
        world.fill(3).await;
        let wanted = found(&world).await;
        let (one, two) = (world.process(2 * seed), world.process(2 * seed + 1));
        for process in [&one, &two] {
            process.store.set_plan(FaultPlan {
                pauses: 5,
                lost_ack: 0.02,
                ..FaultPlan::default()
            });
        }
        world.clock.advance(Duration::from_secs(2 * 86_400));
        for _ in 0..6 {
            let cancel = CancelToken::new();
            // One may find a file gone that the other has joined: it tries again.
            let _ = tokio::join!(
                one.compactor.compact(&cancel),
                two.compactor.compact(&cancel)
            );
            assert_eq!(found(&world).await, wanted, "seed {seed}");
            world.clock.advance(8 * MINUTE);
        }
        one.store.heal();
        settle(&world, &one).await;
        assert_settled(&world).await;
        assert_eq!(found(&world).await, wanted, "seed {seed}");
    }
}

#[tokio::test]
async fn a_damaged_file_stays_and_the_others_are_joined() {
    let world = World::new();
    world.fill(4).await;
    let process = world.process(1);
    let all = paths(&world, &format!("index/index_{DAY}")).await;
    let damaged = &all[1];
    let sound = process.bucket.get(damaged).await.unwrap();
    let mut bytes = unpack(&sound, 1 << 20, &mut Decompressor::default()).unwrap();
    // In the middle of the series.
    let file = Arc::new(MemoryFile::new("sound", bytes.clone()));
    let reader = IndexReader::open(file, IndexReaderSettings::default()).await;
    let at = reader.unwrap().toc().series as usize + 12;
    bytes[at] ^= 1;
    let mut packed = Vec::new();
    crate::index::pack(&bytes, &mut Compressor::default(), &mut packed).unwrap();
    process.bucket.put(damaged, packed).await.unwrap();
    process.bucket.put(&all[2], "no gzip at all").await.unwrap();
    let cancel = CancelToken::new();
    process.compactor.compact(&cancel).await.unwrap();
    assert_eq!(
        process.compactor.counts().damaged.load(Ordering::Relaxed),
        2
    );
    world.clock.advance(16 * MINUTE);
    process.compactor.compact(&cancel).await.unwrap();
    let left = paths(&world, &format!("index/index_{DAY}")).await;
    assert_eq!(left.len(), 2 + 2, "{left:#?}");
    assert!(left.contains(damaged) && left.contains(&all[2]));
    // Mended, it is joined with the rest.
    process.bucket.put(damaged, sound).await.unwrap();
    process.bucket.delete(&all[2]).await.unwrap();
    world.clock.advance(Duration::from_secs(2 * 86_400));
    settle(&world, &process).await;
    assert_settled(&world).await;
}

#[tokio::test]
async fn marks_that_cannot_be_read_or_reach_elsewhere_delete_nothing() {
    let world = World::new();
    world.fill(1).await;
    let wanted = found(&world).await;
    let process = world.process(1);
    let chunks = paths(&world, "a").await;
    let bad = CompactionMark::new(0, DAY, chunks);
    let bytes = bad.encode().unwrap();
    process.bucket.put(&bad.path("x", 1), bytes).await.unwrap();
    let broken = bad.path("x", 2);
    process.bucket.put(&broken, "{").await.unwrap();
    process
        .compactor
        .compact(&CancelToken::new())
        .await
        .unwrap();
    assert_eq!(found(&world).await, wanted);
    assert_eq!(paths(&world, CompactionMark::FOLDER).await, [broken]);
}

#[test]
fn faults_of_the_settings_are_named() {
    let bad = CompactorSettings {
        compaction_interval: Duration::ZERO,
        min_files: 0,
        max_files: 1,
        deletion_delay: MINUTE,
        ..CompactorSettings::default()
    };
    let error = bad.validate().unwrap_err().to_string();
    for part in [
        "compaction_interval",
        "min_files",
        "max_files 1",
        "deletion_delay 60s",
    ] {
        assert!(error.contains(part), "{error}");
    }
    CompactorSettings::default().validate().unwrap();
}
