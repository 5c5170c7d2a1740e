//! The compactor over a bucket: rounds of days, a life that ends at any request, two of them at once, damage, retention, tenants that go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::stored::{SeriesMap, select, some_series, tenant, write};
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TimeRange, TimestampMs};
use lgtm_core::random::RandomSource;
use lgtm_core::storage::{
    Backend, BackendKind, Bucket, DataKind, Layout, RetrySettings, StorageSettings,
};
use lgtm_core::testing::{Dice, FaultyStore, StoreFault};
use lgtm_tsdb::block::{BlockId, BucketIndex, NoCompactMark, TenantDeletionMark};
use lgtm_tsdb::bucket::{BlockScanner, BucketBlocks};
use lgtm_tsdb::components::{BlockRange, Compactor, CompactorSettings, MarkReason};
use lgtm_tsdb::limits::Limits;
use object_store::memory::InMemory;
use tokio::runtime::Handle;

const MINUTE: i64 = 60_000;
/// The beginning of any range that people cut time into.
const BEGINNING: i64 = 1_700_000_000_000 / 7_200_000 * 7_200_000;

/// A bucket whose store may fail, and a clock that stands still.
struct Ground {
    objects: FaultyStore,
    clock: Arc<ManualClock>,
    bucket: Bucket,
}

impl Ground {
    fn new() -> Self {
        let objects = FaultyStore::new(Arc::new(InMemory::new()), 1);
        let clock = Arc::new(ManualClock::at_ms(BEGINNING));
        let settings = StorageSettings {
            retry: RetrySettings {
                max_attempts: 1,
                ..RetrySettings::default()
            },
            ..StorageSettings::default()
        };
        let store = Arc::new(objects.clone());
        let layout = Layout::builder()
            .store(Backend::new(store, BackendKind::Memory))
            .settings(settings)
            .clock(clock.clone());
        Self {
            objects,
            clock,
            bucket: layout.build().unwrap().bucket(DataKind::MetricBlocks),
        }
    }

    fn advance(&self, minutes: i64) {
        self.clock
            .advance(Duration::from_millis((minutes * MINUTE) as u64));
    }

    fn compactor(&self, seed: u64, limits: Limits) -> Arc<Compactor> {
        let settings = CompactorSettings {
            block_ranges: [2, 12, 24]
                .map(|m| BlockRange(Duration::from_secs(60 * m)))
                .into(),
            deletion_delay: Duration::from_secs(600),
            tenant_cleanup_delay: Duration::from_secs(600),
            first_level_compaction_wait_period: Duration::ZERO,
            ..CompactorSettings::default()
        };
        let executor = Executor::inline(Handle::current());
        Compactor::builder(self.bucket.clone(), Overrides::fixed(limits), executor)
            .settings(settings)
            .clock(self.clock.clone())
            .random(random(seed))
            .build()
            .unwrap()
    }

    /// A block of two minutes, from so many minutes on, and its series beside those in `all`.
    async fn write(&self, minute: i64, dice: &mut Dice, all: &mut SeriesMap) -> BlockId {
        let start = BEGINNING + minute * MINUTE;
        let range = TimeRange::new(start, start + 2 * MINUTE);
        let mut series = some_series(dice, range, 4);
        // Two values for one time would be a question of its own.
        series.retain(|labels, _| {
            let known = all.get(labels).into_iter().flatten();
            !known.into_iter().any(|(at, _)| range.contains(at.t_ms))
        });
        let meta = write(&self.bucket, range, &series).await;
        for (labels, samples) in series {
            let known = all.entry(labels).or_default();
            known.extend(samples);
            known.sort_by_key(|(at, _)| at.t_ms);
        }
        meta.ulid
    }

    /// What a process finds that begins now; nothing may be missing.
    async fn found(&self) -> SeriesMap {
        let blocks = BucketBlocks::builder(self.bucket.clone()).clock(self.clock.clone());
        let blocks = blocks.build().unwrap();
        blocks.sync().await.unwrap();
        let (found, warnings) = select(&blocks).await;
        assert_eq!(warnings, Vec::<String>::new());
        found
    }

    async fn objects(&self) -> Vec<String> {
        let listed = self.bucket.list_sorted("t").await.unwrap();
        listed.into_iter().map(|o| o.path).collect()
    }

    async fn live_blocks(&self) -> usize {
        let scanner = BlockScanner::new(self.bucket.clone(), 4);
        let found = scanner.scan(&tenant(), TimestampMs::new(0)).await.unwrap();
        found.live().len()
    }
}

fn random(seed: u64) -> RandomSource {
    let dice = std::sync::Mutex::new(Dice::seeded(seed));
    Arc::new(move |out: &mut [u8]| {
        for byte in out {
            *byte = dice.lock().unwrap().next_u64() as u8;
        }
    })
}

async fn round(compactor: &Compactor) {
    compactor.compact(&CancelToken::new()).await.unwrap();
    compactor.clean(&CancelToken::new()).await.unwrap();
}

/// Objects of the bucket that belong to no block, no mark of one that is there, and are no index.
fn garbage(objects: &[String]) -> Vec<&String> {
    let whole: BTreeSet<&str> = (objects.iter())
        .filter_map(|o| o.strip_suffix("/meta.json"))
        .collect();
    let is_known = |o: &&String| {
        let folder = o
            .rsplit_once("/markers/")
            .and_then(|(tenant, name)| Some((tenant, name.get(..BlockId::LEN)?)));
        match folder {
            Some((tenant, id)) => whole.contains(format!("{tenant}/{id}").as_str()),
            None => {
                o.ends_with(BucketIndex::FILE_NAME)
                    || whole.iter().any(|folder| o.starts_with(folder))
            }
        }
    };
    objects.iter().filter(|o| !is_known(o)).collect()
}

#[tokio::test]
async fn days_go_by_and_the_bucket_stays_small() {
    let ground = Ground::new();
    let compactor = ground.compactor(1, Limits::default());
    let (mut dice, mut all) = (Dice::seeded(1), SeriesMap::new());
    let mut counts = Vec::new();
    // Three ranges of the longest kind.
    for minute in (0..72).step_by(2) {
        ground.write(minute, &mut dice, &mut all).await;
        ground.advance(2);
        round(&compactor).await;
        assert_eq!(ground.found().await, all, "minute {minute}");
        counts.push(ground.objects().await.len());
    }
    ground.advance(60);
    round(&compactor).await;
    assert_eq!(ground.live_blocks().await, 3);
    assert_eq!(ground.found().await, all);
    let objects = ground.objects().await;
    assert_eq!(garbage(&objects), Vec::<&String>::new());
    // Blocks of two minutes would be four objects each.
    assert!(
        objects.len() < 20 && *counts.iter().max().unwrap() < 90,
        "{objects:?} {counts:?}"
    );
    let marked = &compactor.counts().marked_for_deletion[MarkReason::Compaction as usize];
    assert!(marked.load(std::sync::atomic::Ordering::Relaxed) >= 36);
}

#[tokio::test]
async fn a_life_that_ends_at_any_request_loses_nothing_and_leaves_nothing() {
    let mut points = 0;
    for nth in 1.. {
        let ground = Ground::new();
        let (mut dice, mut all) = (Dice::seeded(7), SeriesMap::new());
        for minute in [0, 2, 4, 6, 8, 10, 12] {
            ground.write(minute, &mut dice, &mut all).await;
        }
        ground.write(14, &mut dice, &mut all).await;
        ground.advance(30);
        let before = ground.objects.all_requests();
        ground
            .objects
            .fail_numbers(before + nth..u64::MAX, StoreFault::Reset);
        let limits = Limits {
            compactor_split_and_merge_shards: (nth % 3) as u32,
            ..Limits::default()
        };
        let first = ground.compactor(1, limits.clone());
        let compacted = first.compact(&CancelToken::new()).await;
        let cleaned = first.clean(&CancelToken::new()).await;
        drop(first);
        ground.objects.heal();
        assert_eq!(ground.found().await, all, "request {nth}");
        // Another process goes on.
        let second = ground.compactor(2, limits);
        round(&second).await;
        assert_eq!(ground.found().await, all, "request {nth}");
        ground.advance(60);
        round(&second).await;
        round(&second).await;
        assert_eq!(ground.found().await, all, "request {nth}");
        let objects = ground.objects().await;
        let left = garbage(&objects);
        // What a broken upload left is too young, by the clock of the store, to be deleted: it is never a whole block.
        assert!(
            left.iter()
                .all(|o| !o.ends_with("meta.json") && !o.contains("markers")),
            "{left:?}"
        );
        let live = ground.live_blocks().await;
        assert!(live <= 6, "request {nth}: {live} blocks");
        if compacted.is_ok() && cleaned.is_ok() {
            break;
        }
        points += 1;
    }
    assert!(points > 60, "{points}");
}

#[tokio::test]
async fn two_at_once_do_no_harm() {
    let ground = Ground::new();
    let (mut dice, mut all) = (Dice::seeded(3), SeriesMap::new());
    for minute in (0..24).step_by(2) {
        ground.write(minute, &mut dice, &mut all).await;
    }
    ground.write(24, &mut dice, &mut all).await;
    ground.advance(30);
    let pair = [1, 2].map(|seed| ground.compactor(seed, Limits::default()));
    let cancel = CancelToken::new();
    for _ in 0..4 {
        let (a, b) = tokio::join!(pair[0].compact(&cancel), pair[1].compact(&cancel));
        // One may find a block gone that the other has deleted.
        let _ = (a, b);
        let (a, b) = tokio::join!(pair[0].clean(&cancel), pair[1].clean(&cancel));
        let _ = (a, b);
        assert_eq!(ground.found().await, all);
        ground.advance(11);
    }
    round(&pair[0]).await;
    assert_eq!(ground.found().await, all);
    assert_eq!(ground.live_blocks().await, 2);
    assert_eq!(garbage(&ground.objects().await), Vec::<&String>::new());
}

#[tokio::test]
async fn a_damaged_block_is_marked_and_the_others_are_compacted() {
    let ground = Ground::new();
    let compactor = ground.compactor(1, Limits::default());
    let (mut dice, mut all, mut other) = (Dice::seeded(5), SeriesMap::new(), SeriesMap::new());
    for minute in [0, 2, 4, 6, 8] {
        ground.write(minute, &mut dice, &mut all).await;
    }
    let bad = ground.write(10, &mut dice, &mut other).await;
    ground.advance(60);
    let path = format!("t/{bad}/chunks/000001");
    let whole = ground.bucket.get(&path).await.unwrap();
    let mut bytes = whole.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    ground.bucket.put(&path, bytes).await.unwrap();
    let mark = format!("t/markers/{bad}-{}", NoCompactMark::FILE_NAME);
    round(&compactor).await;
    assert!(
        !ground.bucket.exists(&mark).await.unwrap(),
        "one bad read is not enough"
    );
    assert_eq!(ground.live_blocks().await, 2);
    round(&compactor).await;
    let marked = NoCompactMark::decode(&ground.bucket.get(&mark).await.unwrap()).unwrap();
    assert_eq!((marked.id, marked.reason.as_str()), (bad, "critical"));
    assert!(marked.details.contains("000001"), "{}", marked.details);
    round(&compactor).await;
    assert_eq!(ground.live_blocks().await, 2);
    ground.bucket.put(&path, whole).await.unwrap();
    for (labels, samples) in other {
        let known = all.entry(labels).or_default();
        known.extend(samples);
        known.sort_by_key(|(at, _)| at.t_ms);
    }
    assert_eq!(ground.found().await, all);
}

#[tokio::test]
async fn retention_deletes_what_is_too_old_and_nothing_else() {
    let ground = Ground::new();
    let limits = Limits {
        compactor_blocks_retention_period: Duration::from_secs(20 * 60),
        ..Limits::default()
    };
    let compactor = ground.compactor(1, limits);
    let (mut dice, mut old, mut new) = (Dice::seeded(5), SeriesMap::new(), SeriesMap::new());
    let first = ground.write(0, &mut dice, &mut old).await;
    ground.write(24, &mut dice, &mut new).await;
    ground.advance(21);
    round(&compactor).await;
    let folder = format!("t/{first}");
    assert_eq!(
        ground.live_blocks().await,
        2,
        "its newest sample may be 20 minutes old only"
    );
    ground.advance(1);
    round(&compactor).await;
    assert_eq!(ground.live_blocks().await, 1);
    ground.advance(9);
    round(&compactor).await;
    assert!(!ground.bucket.list_sorted(&folder).await.unwrap().is_empty());
    ground.advance(2);
    round(&compactor).await;
    assert!(ground.bucket.list_sorted(&folder).await.unwrap().is_empty());
    assert_eq!(ground.found().await, new);
    // All of it in the end, the index too.
    ground.advance(60);
    round(&compactor).await;
    ground.advance(60);
    round(&compactor).await;
    assert_eq!(ground.objects().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_deleted_tenant_goes_and_its_mark_a_while_later() {
    let ground = Ground::new();
    let compactor = ground.compactor(1, Limits::default());
    let (mut dice, mut all) = (Dice::seeded(5), SeriesMap::new());
    ground.write(0, &mut dice, &mut all).await;
    ground.write(0, &mut dice, &mut all).await;
    round(&compactor).await;
    let mark = format!("t/markers/{}", TenantDeletionMark::FILE_NAME);
    let bytes = br#"{"deletion_time":1}"#.to_vec();
    ground.bucket.put(&mark, bytes).await.unwrap();
    round(&compactor).await;
    assert_eq!(ground.objects().await, [mark.as_str()]);
    let finished = TenantDeletionMark::decode(&ground.bucket.get(&mark).await.unwrap()).unwrap();
    assert_eq!(finished.finished_time_s, BEGINNING / 1000);
    ground.advance(9);
    round(&compactor).await;
    assert_eq!(ground.objects().await, [mark.as_str()]);
    ground.advance(2);
    round(&compactor).await;
    assert_eq!(ground.objects().await, Vec::<String>::new());
}

#[tokio::test]
async fn readers_take_the_index_and_list_where_there_is_none() {
    let ground = Ground::new();
    let compactor = ground.compactor(1, Limits::default());
    let (mut dice, mut all) = (Dice::seeded(5), SeriesMap::new());
    for minute in [0, 0, 2, 4] {
        ground.write(minute, &mut dice, &mut all).await;
    }
    let blocks = BucketBlocks::builder(ground.bucket.clone()).clock(ground.clock.clone());
    let blocks = blocks.build().unwrap();
    blocks.sync().await.unwrap();
    assert_eq!(select(&blocks).await.0, all, "there is no index");
    round(&compactor).await;
    let (gets, lists) = (
        ground.objects.requests("get"),
        ground.objects.requests("list"),
    );
    blocks.sync().await.unwrap();
    let cost = (
        ground.objects.requests("get") - gets,
        ground.objects.requests("list") - lists,
    );
    assert_eq!(
        cost,
        (1, 1),
        "the tenants are listed, and an object read of each"
    );
    assert_eq!(select(&blocks).await.0, all);
    assert_eq!(
        blocks.stats().blocks,
        5,
        "the sources of the compacted block are still read"
    );
    ground.advance(61);
    compactor.clean(&CancelToken::new()).await.unwrap();
    blocks.sync().await.unwrap();
    assert_eq!(
        (blocks.stats().blocks, select(&blocks).await.0 == all),
        (3, true)
    );
    // An index that nobody writes any more, and one that is damaged.
    ground.write(6, &mut dice, &mut all).await;
    ground.advance(61);
    blocks.sync().await.unwrap();
    assert_eq!(select(&blocks).await.0, all);
    let index = format!("t/{}", BucketIndex::FILE_NAME);
    ground.bucket.put(&index, "damaged").await.unwrap();
    ground.write(8, &mut dice, &mut all).await;
    blocks.sync().await.unwrap();
    assert_eq!(select(&blocks).await, (all, Vec::new()));
}
