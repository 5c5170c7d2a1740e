use std::sync::Arc;

use lgtm_core::clock::ManualClock;
use lgtm_core::exec::Executor;
use lgtm_core::model::{Labels, Matcher, TenantId, TimeRangeNs};
use lgtm_core::storage::{Backend, DataKind, Layout};
use tokio::runtime::Handle;

use super::*;
use crate::bucket::{BucketChunks, BucketSettings, BucketWriter, BucketWriterSettings};
use crate::chunk::{ChunkBuilder, ChunkCodec, ChunkFormat, ChunkSettings, StreamChunk};
use crate::components::CompactorSettings;
use crate::select::{Select, SelectHints, SelectRequest};

const DAY: i64 = 19_844;
const T0_MS: i64 = DAY * DAY_MS + DAY_MS / 2;
const HOUR_MS: i64 = 3_600_000;

struct World {
    logs: Bucket,
    side: Bucket,
    clock: Arc<ManualClock>,
}

fn tenant() -> TenantId {
    TenantId::new("a").unwrap()
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at_ms(T0_MS));
        let layout = Layout::builder()
            .store(Backend::memory())
            .clock(Arc::clone(&clock) as _)
            .build()
            .unwrap();
        Self {
            logs: layout.bucket(DataKind::Logs),
            side: layout.bucket(DataKind::LogSkip),
            clock,
        }
    }

    async fn reader(&self) -> Arc<BucketChunks> {
        let executor = Executor::inline(Handle::current());
        let chunks = BucketChunks::builder(self.logs.clone(), executor)
            .clock(Arc::clone(&self.clock) as _)
            .side_files(self.side.clone())
            .settings(BucketSettings::default())
            .build()
            .unwrap();
        chunks.sync().await.unwrap();
        chunks
    }

    fn compactor(&self) -> Arc<Compactor> {
        Compactor::builder(self.logs.clone(), Executor::inline(Handle::current()))
            .clock(Arc::clone(&self.clock) as _)
            .side_files(self.side.clone())
            .settings(CompactorSettings {
                min_files: 3,
                ..CompactorSettings::default()
            })
            .build()
            .unwrap()
    }

    /// Flushes a chunk of an application, and gives the object that stands beside it.
    async fn flush(&self, app: &str) {
        let mut settings = BucketWriterSettings::default();
        settings.side_files.max_size_percent = 100;
        let writer = BucketWriter::new(
            self.logs.clone(),
            Executor::inline(Handle::current()),
            Arc::clone(&self.clock) as _,
            self.reader().await,
            app,
            settings,
        );
        let writer = writer.unwrap();
        let settings = Arc::new(ChunkSettings::default());
        let mut compressor = settings.compressor();
        let mut builder = ChunkBuilder::new(ChunkFormat::V4, settings);
        for n in 0..200u64 {
            let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ app.len() as u64;
            let line = format!("request {id:016x} of {app} was answered");
            let t_ns = T0_MS * 1_000_000 + n as i64;
            builder.append(t_ns, line.as_bytes(), &[]).unwrap();
        }
        let labels = Labels::from_pairs([("app", app)]).unwrap();
        let chunk = StreamChunk {
            tenant: tenant(),
            fingerprint: labels.stable_hash(),
            labels,
            chunk: builder
                .finish(&mut compressor, &mut ChunkCodec::default())
                .unwrap(),
        };
        writer.put_chunk(chunk).await.unwrap();
        assert_eq!(writer.write_index().await.unwrap().side_files.len(), 1);
    }

    async fn side_paths(&self) -> Vec<String> {
        let all = self.side.list_sorted("").await.unwrap();
        all.into_iter().map(|o| o.path).collect()
    }

    /// Chunks that a search for a word loads, by who knows the side objects of now.
    async fn loaded_for(&self, word: &str) -> u64 {
        let reader = self.reader().await;
        let range = TimeRangeNs::new(0, i64::MAX);
        let hints = SelectHints {
            line_needles: vec![word.as_bytes().to_vec()],
            ..SelectHints::default()
        };
        let matchers = vec![Matcher::regex("app", ".+").unwrap()];
        let request = SelectRequest::new(matchers, range).hints(hints);
        let mut answer = reader.select(&tenant(), &request).await.unwrap();
        while answer.next_batch().await.unwrap().is_some() {}
        reader.stats().chunks_loaded
    }
}

async fn round(compactor: &Arc<Compactor>) {
    compactor.compact(&CancelToken::new()).await.unwrap();
}

#[tokio::test]
async fn side_objects_of_a_day_are_joined_and_the_old_ones_go_later() {
    let world = World::new();
    for app in ["first", "second", "the-third"] {
        world.flush(app).await;
    }
    assert_eq!(world.loaded_for("of second was").await, 1);
    let compactor = world.compactor();
    round(&compactor).await;
    let counts = compactor.counts();
    assert_eq!(counts.side_objects_written.load(Ordering::Relaxed), 1);
    assert_eq!(world.side_paths().await.len(), 4, "readers may need them");
    world.clock.advance(Duration::from_secs(16 * 60));
    round(&compactor).await;
    let left = world.side_paths().await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].ends_with("-compactor"));
    assert_eq!(counts.side_objects_deleted.load(Ordering::Relaxed), 3);
    for (word, loaded) in [("of first was", 1), ("of second was", 1), ("of nobody", 0)] {
        assert_eq!(world.loaded_for(word).await, loaded, "{word}");
    }
    // What does not grow is left alone.
    round(&compactor).await;
    assert_eq!(world.side_paths().await, left);
}

#[tokio::test]
async fn a_process_that_ends_before_it_deletes_leaves_that_to_the_next_one() {
    let world = World::new();
    for app in ["first", "second", "the-third"] {
        world.flush(app).await;
    }
    round(&world.compactor()).await;
    assert_eq!(world.side_paths().await.len(), 4);
    world.clock.advance(Duration::from_secs(60));
    let next = world.compactor();
    round(&next).await;
    world.clock.advance(Duration::from_secs(16 * 60));
    round(&next).await;
    assert_eq!(world.side_paths().await.len(), 1);
    assert_eq!(world.loaded_for("of second was").await, 1);
}

#[tokio::test]
async fn what_is_damaged_is_left_out_and_deleted() {
    let world = World::new();
    world.flush("first").await;
    world.flush("second").await;
    let damaged = format!("{DAY}/5-other");
    world
        .side
        .put(&damaged, b"no side object".to_vec())
        .await
        .unwrap();
    let compactor = world.compactor();
    round(&compactor).await;
    world.clock.advance(Duration::from_secs(16 * 60));
    round(&compactor).await;
    assert_eq!(world.side_paths().await.len(), 1);
    assert_eq!(compactor.counts().damaged.load(Ordering::Relaxed), 1);
    assert_eq!(world.loaded_for("of first was").await, 1);
}

#[tokio::test]
async fn side_objects_go_with_the_index_of_their_day() {
    let world = World::new();
    world.flush("first").await;
    let compactor = world.compactor();
    let orphan = format!("{}/5-other", DAY - 3);
    world
        .side
        .put(&orphan, b"of a day that is gone".to_vec())
        .await
        .unwrap();
    let fresh = format!("{}/5-other", DAY + 1);
    world
        .side
        .put(&fresh, b"its index file comes next".to_vec())
        .await
        .unwrap();
    round(&compactor).await;
    let left = world.side_paths().await;
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(&orphan));
    // Without any table nothing tells that a day is gone.
    for object in world.logs.list_sorted("").await.unwrap() {
        world.logs.delete(&object.path).await.unwrap();
    }
    let hours = u64::try_from(72 * HOUR_MS).unwrap();
    world.clock.advance(Duration::from_millis(hours));
    round(&world.compactor()).await;
    assert_eq!(world.side_paths().await.len(), 2);
}

#[tokio::test]
async fn what_stands_beside_deleted_chunks_goes_when_objects_are_joined() {
    let world = World::new();
    for app in ["one", "second", "third-app"] {
        world.flush(app).await;
    }
    let compactor = world.compactor();
    round(&compactor).await;
    world.clock.advance(std::time::Duration::from_secs(16 * 60));
    round(&compactor).await;
    let joined = world.side_paths().await;
    assert_eq!(joined.len(), 1);
    let keys = async |path: &str| -> Vec<ChunkKey> {
        let object = world.side.get(path).await.unwrap();
        let tail = crate::skip::SideTail::decode(&object, object.len() as u64).unwrap();
        let range = tail.directory();
        let part = object.slice(range.start as usize..range.end as usize);
        let directory = crate::skip::SideDirectory::decode(&tail, part).unwrap();
        directory.chunks().map(|(key, _)| key).collect()
    };
    let all = keys(&joined[0]).await;
    assert_eq!(all.len(), 3);
    let side = compactor.side.as_ref().unwrap();
    side.note_gone([all[1].clone()]);
    round(&compactor).await;
    world.clock.advance(std::time::Duration::from_secs(16 * 60));
    round(&compactor).await;
    let left = world.side_paths().await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(keys(&left[0]).await, [all[0].clone(), all[2].clone()]);
    // That was all.
    round(&compactor).await;
    assert_eq!(world.side_paths().await, left);
}
