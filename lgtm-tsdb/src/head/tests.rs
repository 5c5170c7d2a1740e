//! Heads, log and bucket together, against a folder and an object store in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lgtm_core::clock::ManualClock;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{
    BucketSpan, Histogram, Labels, Matcher, STALE_NAN_BITS, Sample, TenantId, TimeRange,
    TimestampMs,
};
use lgtm_core::storage::{Backend, BackendKind, Bucket, DataKind, Layout};
use lgtm_core::testing::{FaultPlan, FaultyStore};
use lgtm_core::wal::WalSettings;
use proptest::prelude::*;

use super::*;
use crate::block::BlockId;
use crate::bucket::BucketBlocks;
use crate::chunk::SampleValue;
use crate::components::Holders;
use crate::limits::Limits;
use crate::select::{Select, SelectRequest, samples};
use crate::wire::WriteBatch;

mod durable;
mod moving;
mod pieces;
mod started;
mod tenants;

const HOUR: i64 = 3_600_000;
const START: i64 = 1_700_000_000_000 / (2 * HOUR) * 2 * HOUR;

/// A store over a folder, which can be closed and opened again.
struct Store {
    dir: tempfile::TempDir,
    bucket: Bucket,
    blocks: Arc<BucketBlocks>,
    heads: Arc<Heads>,
    report: HeadReplayReport,
    ids: Arc<AtomicU64>,
    limits: Limits,
    settings: HeadSettings,
}

fn open_heads(
    dir: &std::path::Path,
    limits: &Limits,
    settings: &HeadSettings,
) -> (Arc<Heads>, HeadReplayReport) {
    let clock = Arc::new(ManualClock::at_ms(START + 100 * HOUR));
    let limits = Overrides::fixed(limits.clone());
    let disk = Arc::new(LocalDisk::new(dir));
    let (heads, log) = Heads::open(disk, ".", settings.clone(), limits, clock, 7).unwrap();
    let report = heads.replay(log).unwrap();
    (Arc::new(heads), report)
}

impl Store {
    fn new(limits: Limits) -> Self {
        let store = Arc::new(object_store::memory::InMemory::new());
        Self::over(store, limits, HeadSettings::default())
    }

    fn over(store: impl Into<Backend>, limits: Limits, settings: HeadSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bucket = Layout::single_bucket(store).bucket(DataKind::MetricBlocks);
        let blocks = BucketBlocks::builder(bucket.clone()).build().unwrap();
        let (heads, report) = open_heads(dir.path(), &limits, &settings);
        Self {
            dir,
            bucket,
            blocks,
            heads,
            report,
            ids: Arc::default(),
            limits,
            settings,
        }
    }

    /// Ends the heads without flushing and begins anew from the folder.
    fn reopen(&mut self) {
        let empty = tempfile::tempdir().unwrap();
        self.heads = open_heads(empty.path(), &self.limits, &self.settings).0;
        (self.heads, self.report) = open_heads(self.dir.path(), &self.limits, &self.settings);
    }

    async fn push(&self, tenant: &str, series: &[(&str, &[(i64, f64)])]) -> AppendReport {
        let mut batch = WriteBatch::default();
        for (name, samples) in series {
            let labels = Labels::from_pairs([("__name__", *name), ("job", "x")]).unwrap();
            let samples: Vec<_> = samples
                .iter()
                .map(|(t, value)| Sample {
                    t_ms: TimestampMs::new(START + t),
                    value: *value,
                })
                .collect();
            batch.push_series(labels.iter(), &samples);
        }
        self.heads
            .append(&TenantId::new(tenant).unwrap(), &batch)
            .await
            .unwrap()
    }

    async fn flush(&self, scope: FlushScope) -> usize {
        self.try_flush(scope).await.unwrap()
    }

    async fn try_flush(&self, scope: FlushScope) -> lgtm_core::Result<usize> {
        let id = || BlockId::new(self.ids.fetch_add(1, Ordering::SeqCst) + 1, [0; 10]);
        let to = FlushTo {
            bucket: &self.bucket,
            executor: &Executor::inline(tokio::runtime::Handle::current()),
            new_id: &id,
            on_block: &|t, m| self.blocks.add(t, m),
        };
        let blocks = self.heads.flush_all(scope, &to).await;
        blocks.map(|b| b.len())
    }

    /// Flushes one tenant whole, and takes no checkpoint.
    async fn flush_one(&self, tenant: &str) {
        let id = || BlockId::new(self.ids.fetch_add(1, Ordering::SeqCst) + 1, [0; 10]);
        let tenant = TenantId::new(tenant).unwrap();
        let to = FlushTo {
            bucket: &self.bucket,
            executor: &Executor::inline(tokio::runtime::Handle::current()),
            new_id: &id,
            on_block: &|t, m| self.blocks.add(t, m),
        };
        let flushed = self.heads.flush(&tenant, FlushScope::All, &to).await;
        assert!(!flushed.unwrap().is_empty());
    }

    /// Asks heads and blocks as one.
    fn holders(&self) -> Holders {
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let recent = Arc::new(HeadSelect::new(Arc::clone(&self.heads), executor));
        Holders::new(vec![recent], vec![self.blocks.clone()])
    }

    /// Name, time since the start, bits of the value.
    async fn all(&self, tenant: &str) -> Vec<(String, i64, u64)> {
        let matchers = vec![Matcher::equal("job", "x")];
        let request = SelectRequest::new(matchers, TimeRange::ALL).unwrap();
        let tenant = TenantId::new(tenant).unwrap();
        let mut batches = self.holders().select(&tenant, &request).await.unwrap();
        let mut out = Vec::new();
        while let Some(batch) = batches.next_batch().await.unwrap() {
            for s in batch {
                for (t, v) in samples(&s.chunks, TimeRange::ALL).unwrap() {
                    let bits = match v {
                        SampleValue::Float(v) => v.to_bits(),
                        SampleValue::Histogram(h) => h.count,
                        SampleValue::FloatHistogram(h) => h.count as u64,
                    };
                    out.push((
                        s.labels.get("__name__").unwrap().to_owned(),
                        t.get() - START,
                        bits,
                    ));
                }
            }
        }
        out
    }
}

fn f(name: &str, t: i64, v: f64) -> (String, i64, u64) {
    (name.into(), t, v.to_bits())
}

#[tokio::test]
async fn samples_are_taken_by_the_rules_of_prometheus() {
    let s = Store::new(Limits::default());
    let r = s
        .push(
            "a",
            &[(
                "up",
                &[
                    (1000, 1.0),
                    (2000, 2.0),
                    (2000, 2.0),
                    (2000, 3.0),
                    (1500, 1.0),
                ],
            )],
        )
        .await;
    assert_eq!(r.samples, 3, "the known one counts as stored");
    assert_eq!(r.rejected.samples["sample-duplicate-timestamp"], 1);
    assert_eq!(r.rejected.samples["sample-out-of-order"], 1);
    let first = r.rejected.first.unwrap();
    assert_eq!(first.reason, "sample-duplicate-timestamp");
    for part in ["duplicate sample for timestamp", r#"__name__="up""#] {
        assert!(first.message.contains(part), "{first:?}");
    }
    // More than half a block range behind the newest: out of bounds, also for a new series.
    let _ = s.push("a", &[("up", &[(2 * HOUR, 1.0)])]).await;
    let r = s.push("a", &[("new", &[(HOUR - 1, 1.0)])]).await;
    assert_eq!(r.rejected.samples["sample-timestamp-too-old"], 1);
    let r = s.push("a", &[("new", &[(200 * HOUR, 1.0)])]).await;
    assert_eq!(r.rejected.samples["too-far-in-future"], 1);
    assert_eq!(
        s.all("a").await,
        [
            f("up", 1000, 1.0),
            f("up", 2000, 2.0),
            f("up", 2 * HOUR, 1.0)
        ]
    );
    assert_eq!(s.all("b").await, []);
}

#[tokio::test]
async fn late_samples_are_taken_within_the_window() {
    let limits = Limits {
        out_of_order_time_window: Duration::from_secs(600),
        ..Limits::default()
    };
    let mut s = Store::new(limits);
    let _ = s.push("a", &[("up", &[(900_000, 9.0)])]).await;
    let late: Vec<(i64, f64)> = (0..50)
        .map(|i| (400_000 + (i * 7 % 50) * 1000, i as f64))
        .collect();
    let r = s
        .push("a", &[("up", &late), ("up", &[(200_000, 1.0)])])
        .await;
    assert_eq!(
        (r.samples, r.rejected.samples["sample-timestamp-too-old"]),
        (50, 1)
    );
    let mut want: BTreeMap<i64, f64> = late.into_iter().collect();
    want.insert(900_000, 9.0);
    let want: Vec<_> = want.into_iter().map(|(t, v)| f("up", t, v)).collect();
    assert_eq!(s.all("a").await, want);
    s.reopen();
    assert_eq!(s.all("a").await, want);
    assert_eq!(s.flush(FlushScope::All).await, 1);
    assert_eq!(s.all("a").await, want);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let mut s = Store::new(Limits::default());
    let mut want = Vec::new();
    for round in 0..300i64 {
        let value = if round % 7 == 0 {
            f64::from_bits(STALE_NAN_BITS)
        } else {
            round as f64 * 0.37
        };
        for name in ["a", "b", "c"] {
            let _ = s.push("t", &[(name, &[(round * 15_000, value)])]).await;
            want.push(f(name, round * 15_000, value));
        }
        if round % 100 == 99 {
            s.heads.checkpoint().await.unwrap();
        }
        if round % 60 == 59 {
            s.reopen();
            assert_eq!(
                s.report.unknown_series_samples + s.report.undecodable_records,
                0
            );
        }
    }
    want.sort();
    assert_eq!(s.all("t").await, want);
    // Full chunks came back from the chunk files by the checkpoint's word.
    assert!(s.heads.chunk_file_bytes() > 0);
}

#[tokio::test]
async fn complete_ranges_move_into_blocks_and_the_rest_stays() {
    let mut s = Store::new(Limits::default());
    let mut want = Vec::new();
    for t in (0..5 * HOUR).step_by(60_000) {
        let _ = s.push("t", &[("a", &[(t, t as f64)])]).await;
        want.push(f("a", t, t as f64));
        if t % HOUR == 0 {
            s.flush(FlushScope::Complete).await;
        }
    }
    let blocks = s.blocks.stats().blocks;
    assert_eq!(
        blocks, 1,
        "five hours are more than one and a half ranges once"
    );
    assert_eq!(s.all("t").await, want);
    let r = s.push("t", &[("b", &[(HOUR, 1.0)])]).await;
    assert_eq!(r.rejected.samples["sample-timestamp-too-old"], 1);
    s.reopen();
    assert_eq!(s.all("t").await, want, "the log was cut at the flush");
    let again = s.push("t", &[("b", &[(HOUR, 1.0)])]).await;
    assert_eq!(
        again.rejected.total(),
        1,
        "what is in blocks stays closed after a restart"
    );
    s.flush(FlushScope::All).await;
    assert_eq!(s.all("t").await, want);
    // A series whose samples are all in blocks goes on where it was.
    let r = s
        .push("t", &[("a", &[(5 * HOUR - 60_000, 1.0), (5 * HOUR, 2.0)])])
        .await;
    assert_eq!((r.samples, r.rejected.total()), (1, 1));
    want.push(f("a", 5 * HOUR, 2.0));
    assert_eq!(s.all("t").await, want);
    s.reopen();
    assert_eq!(s.all("t").await, want, "its anchor was written anew");
}

#[tokio::test]
async fn what_is_refused_whole_leaves_no_series() {
    let s = Store::new(Limits {
        max_native_histogram_buckets: 1,
        ..Limits::default()
    });
    let tenant = TenantId::anonymous();
    let good = Histogram {
        count: 3,
        positive_spans: vec![BucketSpan {
            offset: 0,
            length: 1,
        }],
        positive_deltas: vec![3],
        ..Histogram::default()
    };
    let miscounted = Histogram {
        count: 99,
        ..good.clone()
    };
    let too_wide = Histogram {
        count: 6,
        positive_spans: vec![BucketSpan {
            offset: 0,
            length: 2,
        }],
        positive_deltas: vec![3, 0],
        ..good.clone()
    };
    let (now, never) = (START, START + 1_000_000 * HOUR);
    let labels = |i: i32| Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())]);
    for (i, (t_ms, histogram, wanted)) in [
        (now, miscounted.clone(), "native-histogram-count-mismatch"),
        (now, too_wide, "max-native-histogram-buckets"),
        (never, good.clone(), "too-far-in-future"),
        (never, miscounted, "native-histogram-count-mismatch"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut batch = WriteBatch::default();
        batch.push_histogram(
            labels(i as i32).unwrap().iter(),
            TimestampMs::new(t_ms),
            histogram,
        );
        let report = s.heads.append(&tenant, &batch).await.unwrap();
        assert_eq!(report.rejected.samples.get(wanted), Some(&1), "{report:?}");
        assert_eq!(report.rejected.total(), 1);
        assert_eq!(s.heads.series_of(&tenant), 0, "{wanted}");
    }
    // Nor does a series come of labels alone.
    let mut batch = WriteBatch::default();
    batch.push_series(labels(9).unwrap().iter(), &[]);
    let _ = s.heads.append(&tenant, &batch).await.unwrap();
    assert_eq!(s.heads.series_of(&tenant), 0);
    let mut batch = WriteBatch::default();
    batch.push_histogram(labels(10).unwrap().iter(), TimestampMs::new(now), good);
    assert_eq!(s.heads.append(&tenant, &batch).await.unwrap().histograms, 1);
    assert_eq!(s.heads.series_of(&tenant), 1);
}

#[tokio::test]
async fn histograms_and_limits() {
    let limits = Limits {
        max_global_series_per_user: 1,
        ..Limits::default()
    };
    let mut s = Store::new(limits);
    let tenant = TenantId::new("t").unwrap();
    let labels = Labels::from_pairs([("__name__", "h"), ("job", "x")]).unwrap();
    for i in 0..200u64 {
        let h = Histogram {
            count: 10 + i,
            sum: i as f64,
            schema: 1,
            zero_threshold: 0.001,
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: 2,
            }],
            positive_deltas: vec![5, i as i64],
            ..Histogram::default()
        };
        let mut batch = WriteBatch::default();
        batch.push_histogram(
            labels.iter(),
            TimestampMs::new(START + i as i64 * 15_000),
            h,
        );
        assert_eq!(s.heads.append(&tenant, &batch).await.unwrap().histograms, 1);
    }
    let r = s.push("t", &[("other", &[(1, 1.0)])]).await;
    assert_eq!(r.rejected.samples["max-series-per-user"], 1);
    let want: Vec<_> = (0..200)
        .map(|i| ("h".to_owned(), i * 15_000, 10 + i as u64))
        .collect();
    assert_eq!(s.all("t").await, want);
    s.reopen();
    assert_eq!(s.all("t").await, want);
    s.heads.checkpoint().await.unwrap();
    s.reopen();
    s.flush(FlushScope::All).await;
    assert_eq!(s.all("t").await, want);
}

#[tokio::test]
async fn damage_to_any_one_frame_costs_that_frame_only() {
    let s = Store::new(Limits::default());
    for t in 0..40 {
        let _ = s
            .push(
                "t",
                &[
                    ("a", &[(t * 1000, 100.0 + t as f64)]),
                    ("b", &[(t * 1000, 0.1 * t as f64)]),
                ],
            )
            .await;
    }
    let Store { dir, heads, .. } = s;
    drop(heads);
    let segment = dir.path().join("wal/00000001");
    let bytes = std::fs::read(&segment).unwrap();
    for at in (8..bytes.len()).step_by(37) {
        let other = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(other.path().join("wal")).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(other.path().join("wal/00000001"), damaged).unwrap();
        let (_heads, report) =
            open_heads(other.path(), &Limits::default(), &HeadSettings::default());
        // A frame holds one request of two samples; the one with the first anchors is read by their second copy.
        assert!(report.samples >= 78, "byte {at}: {report:?}");
        assert_eq!(report.unknown_series_samples, 0, "byte {at}: {report:?}");
    }
}

#[tokio::test]
async fn idle_series_and_heads_are_forgotten() {
    let s = Store::new(Limits::default());
    for n in 0..2000 {
        let _ = s
            .push("t", &[(&format!("series_{n}"), &[(1000, 1.0)])])
            .await;
    }
    let head = s.heads.get(&TenantId::new("t").unwrap()).unwrap();
    assert_eq!(
        head.collect_idle(u32::MAX, 0),
        0,
        "series with samples stay"
    );
    s.flush(FlushScope::All).await;
    assert_eq!(head.collect_idle(u32::MAX, 0), 2000);
    assert_eq!(head.series_count(), 0);
    let _ = s.push("t", &[("series_7", &[(2000, 2.0)])]).await;
    let all = s.all("t").await;
    assert_eq!(all.len(), 2001);
    assert!(all.contains(&f("series_7", 2000, 2.0)) && all.contains(&f("series_7", 1000, 1.0)));
}

#[tokio::test]
async fn a_full_process_takes_the_series_it_knows_and_counts_again_when_some_are_gone() {
    let settings = HeadSettings {
        max_series: 2,
        series_idle_timeout: Duration::from_secs(1),
        ..HeadSettings::default()
    };
    let store = Arc::new(object_store::memory::InMemory::new());
    let mut s = Store::over(store, Limits::default(), settings);
    let r = s.push("a", &[("x", &[(1, 1.0)])]).await;
    assert!(!r.is_over_capacity);
    let r = s
        .push(
            "b",
            &[("y", &[(1, 1.0)]), ("z", &[(1, 1.0)]), ("y", &[(2, 2.0)])],
        )
        .await;
    assert!(r.is_over_capacity && r.samples == 2 && r.rejected.samples["ingester-max-series"] == 1);
    assert!(r.rejected.first.unwrap().message.contains("limit: 2"));
    // Series in the log were taken once; a lower bound must not lose them.
    s.settings.max_series = 1;
    s.reopen();
    assert_eq!((s.heads.series_count(), s.all("b").await.len()), (2, 2));
    s.settings.max_series = 2;
    s.reopen();
    s.flush(FlushScope::All).await;
    s.heads.collect_idle();
    assert_eq!(s.heads.series_count(), 0);
    assert!(s.heads.series_by_tenant().iter().all(|t| t.active == 0));
    assert!(!s.push("b", &[("z", &[(3, 1.0)])]).await.is_over_capacity);
}

/// Rounds of pushes, flushes over a store that fails at random, and crashes: what was acknowledged is there each time, once.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_the_store_fails() {
    for seed in 0..12 {
        let store = FaultyStore::new(Arc::new(object_store::memory::InMemory::new()), seed);
        let mut s = Store::over(
            Backend::new(Arc::new(store.clone()), BackendKind::Memory),
            Limits::default(),
            HeadSettings::default(),
        );
        let (mut want, mut failed) = (Vec::new(), 0);
        for round in 0..40i64 {
            store.set_plan(FaultPlan::default());
            for name in ["p", "q"] {
                let t = round * HOUR / 4;
                let _ = s.push("t", &[(name, &[(t, round as f64)])]).await;
                want.push(f(name, t, round as f64));
            }
            store.set_plan(FaultPlan {
                reset: 0.3,
                lost_ack: 0.2,
                throttled: 0.2,
                latency: Some(Duration::ZERO..Duration::from_secs(2)),
                denied: round % 7 == 0,
                ..FaultPlan::default()
            });
            let scope = match round % 3 {
                0 => FlushScope::All,
                _ => FlushScope::Complete,
            };
            failed += usize::from(s.try_flush(scope).await.is_err());
            if round % 5 == 0 {
                s.reopen();
            }
        }
        // The guard's circuit has to see that the store is well again.
        store.set_plan(FaultPlan::default());
        tokio::time::sleep(Duration::from_secs(600)).await;
        want.sort();
        assert_eq!(s.all("t").await, want, "seed {seed}");
        s.try_flush(FlushScope::All).await.unwrap();
        assert_eq!(s.all("t").await, want, "seed {seed}, after the last flush");
        assert!(
            failed > 0 && store.faults() > 20,
            "seed {seed}: nothing failed"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Random pushes, checkpoints, flushes and restarts beside a map.
    #[test]
    fn a_store_is_a_map_of_samples(ops in proptest::collection::vec((0u8..12, 0usize..4, 1i64..400_000, any::<i16>()), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut s = Store::new(Limits::default());
            let mut model: BTreeMap<(String, i64), u64> = BTreeMap::new();
            let names = ["a", "b", "c", "d"];
            let mut now = 0;
            for (op, series, step, value) in ops {
                match op {
                    0 => { s.heads.checkpoint().await.unwrap(); }
                    1 => s.reopen(),
                    2 => { s.flush(FlushScope::All).await; }
                    3 => { s.flush(FlushScope::Complete).await; }
                    _ => {
                        now += step;
                        let value = f64::from(value) / 8.0;
                        let r = s.push("t", &[(names[series], &[(now, value)])]).await;
                        assert_eq!(r.rejected.total(), 0);
                        model.insert((names[series].into(), now), value.to_bits());
                    }
                }
            }
            let want: Vec<_> = model.into_iter().map(|((n, t), v)| (n, t, v)).collect();
            assert_eq!(s.all("t").await, want);
            s.reopen();
            assert_eq!(s.all("t").await, want);
        });
    }
}

/// Records that no writer makes, under right checksums.
fn log_with(dir: &std::path::Path, records: &[(u8, Vec<u8>)]) {
    let disk = Arc::new(LocalDisk::new(dir));
    let clock = Arc::new(ManualClock::at_ms(START));
    let (wal, replay) =
        lgtm_core::wal::Wal::open(disk, "./wal", WalSettings::default(), clock).unwrap();
    replay.for_each(|_| Ok(())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    wal.append_all(records).unwrap();
    runtime.block_on(wal.commit(wal.end())).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn records_of_nonsense_are_counted_and_cost_nothing_else(records in proptest::collection::vec((0u8..9, proptest::collection::vec(any::<u8>(), 0..60)), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<(u8, Vec<u8>)> = records
            .into_iter()
            .map(|(kind, payload)| (kind, [&b"\x01t"[..], &payload].concat()))
            .collect();
        log_with(dir.path(), &records);
        let (heads, report) = open_heads(dir.path(), &Limits::default(), &HeadSettings::default());
        prop_assert_eq!(report.log.records, records.len() as u64);
        // The head works on.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut batch = WriteBatch::default();
        let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
        batch.push_series(labels.iter(), &[Sample { t_ms: TimestampMs::new(START + 90 * HOUR), value: 1.0 }]);
        let report = runtime.block_on(heads.append(&TenantId::new("other").unwrap(), &batch)).unwrap();
        prop_assert_eq!(report.samples, 1);
    }
}
