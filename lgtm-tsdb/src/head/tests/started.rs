//! Start timestamps: kept where a tenant wants them, through log, checkpoint, late samples and blocks.

use super::*;
use crate::chunk::Encoding;
use crate::select::started_samples;
use crate::wire::{HistogramSample, HistogramValue};
use lgtm_core::model::TimestampMs;

fn keeping() -> Limits {
    Limits {
        st_storage_enabled: true,
        out_of_order_time_window: Duration::from_secs(24 * 3600),
        ..Limits::default()
    }
}

/// Kind and count or bits.
fn essence(value: &SampleValue) -> (u8, u64) {
    match value {
        SampleValue::Float(v) => (0, v.to_bits()),
        SampleValue::Histogram(h) => (1, h.count),
        SampleValue::FloatHistogram(h) => (2, h.count.to_bits()),
    }
}

/// A sample as the model has it: kind and count or bits, start since [`START`], 0 for none.
type Modelled = ((u8, u64), i64);

impl Store {
    /// One sample of kind 0 (float), 1 (histogram) or 2 (float histogram).
    async fn push_one(&self, name: &str, t: i64, kind: u8, n: u64, start: i64) -> AppendReport {
        let labels = Labels::from_pairs([("__name__", name), ("job", "x")]).unwrap();
        let start_ms = if start == 0 { 0 } else { START + start };
        let t_ms = START + t;
        let mut batch = WriteBatch::default();
        let value: HistogramValue = match kind {
            0 => {
                let value = n as f64;
                batch.push_started_series(
                    labels.iter(),
                    &[Sample {
                        t_ms: TimestampMs::new(t_ms),
                        value,
                    }],
                    &[TimestampMs::new(start_ms)],
                );
                return self.append_batch(&batch).await;
            }
            1 => Histogram {
                count: n,
                zero_count: n,
                ..Histogram::default()
            }
            .into(),
            _ => lgtm_core::model::FloatHistogram {
                count: n as f64,
                zero_count: n as f64,
                ..Default::default()
            }
            .into(),
        };
        let sample = HistogramSample {
            t_ms: TimestampMs::new(t_ms),
            start_ms: TimestampMs::new(start_ms),
            value,
        };
        batch.push_histogram_sample(labels.iter(), sample);
        self.append_batch(&batch).await
    }

    async fn append_batch(&self, batch: &WriteBatch) -> AppendReport {
        let tenant = TenantId::new("t").unwrap();
        self.heads.append(&tenant, batch).await.unwrap()
    }

    /// All chunks of all series, the head's before those of blocks.
    async fn chunks(&self) -> Vec<(String, Vec<crate::chunk::Chunk>)> {
        let matchers = vec![Matcher::equal("job", "x")];
        let request = SelectRequest::new(matchers, TimeRange::ALL).unwrap();
        let tenant = TenantId::new("t").unwrap();
        let querier = self.holders();
        let mut batches = querier.select(&tenant, &request).await.unwrap();
        let mut out = Vec::new();
        while let Some(batch) = batches.next_batch().await.unwrap() {
            for s in batch {
                out.push((
                    s.labels.metric_name().unwrap().to_owned(),
                    s.chunks.into_vec(),
                ));
            }
        }
        out
    }

    async fn started(&self) -> BTreeMap<(String, i64), Modelled> {
        let mut out = BTreeMap::new();
        for (name, chunks) in self.chunks().await {
            for (at, value) in started_samples(&chunks, TimeRange::ALL).unwrap() {
                let start = match at.start_ms {
                    TimestampMs::EPOCH => 0,
                    s => s.get() - START,
                };
                out.insert(
                    (name.clone(), at.t_ms.get() - START),
                    (essence(&value), start),
                );
            }
        }
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Random pushes, early and late, checkpoints, flushes and restarts beside a map.
    #[test]
    fn a_store_is_a_map_of_samples_and_their_starts(
        ops in proptest::collection::vec((0u8..24, 0usize..4, -300_000i64..600_000, 0u64..50, 0u8..4), 1..150),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut s = Store::new(keeping());
            let mut model: BTreeMap<(String, i64), Modelled> = BTreeMap::new();
            let mut now = 24 * HOUR;
            for (n, (op, series, step, value, since)) in ops.into_iter().enumerate() {
                match op {
                    0 => { s.heads.checkpoint().await.unwrap(); }
                    1 => s.reopen(),
                    2 => { s.flush(FlushScope::All).await; }
                    3 => { s.flush(FlushScope::Complete).await; }
                    _ => {
                        let t = now + step;
                        now = now.max(t);
                        // Names end in the kind of their samples; the last one has floats without a start only.
                        let (name, kind) = [("f", 0), ("h", 1), ("g", 2), ("plain", 0)][series];
                        let start = match (series, since) {
                            (3, _) | (_, 0) => 0,
                            (_, 1) => HOUR,
                            (_, 2) => now - 1000,
                            _ => n as i64 + 1,
                        };
                        // One time, one sample: of two the model would have to know which is kept.
                        if model.contains_key(&(name.to_owned(), t)) {
                            continue;
                        }
                        let r = s.push_one(name, t, kind, value, start).await;
                        assert_eq!(r.rejected.total(), 0, "{:?}", r.rejected);
                        let bits = if kind == 1 { value } else { (value as f64).to_bits() };
                        model.insert((name.to_owned(), t), ((kind, bits), start));
                    }
                }
            }
            assert_eq!(s.started().await, model);
            s.reopen();
            assert_eq!(s.report.undecodable_records + s.report.unknown_series_samples, 0);
            assert_eq!(s.started().await, model);
            s.flush(FlushScope::All).await;
            assert_eq!(s.started().await, model);
            for (name, chunks) in s.chunks().await {
                assert!(name != "plain" || chunks.iter().all(|c| c.encoding == Encoding::Xor));
            }
        });
    }
}

#[tokio::test]
async fn starts_are_dropped_unless_the_tenant_keeps_them() {
    let mut s = Store::new(Limits::default());
    for i in 1..50 {
        let _ = s.push_one("f", i * 1000, 0, i as u64, i).await;
        let _ = s.push_one("h", i * 1000, 1, i as u64, i).await;
    }
    for _ in 0..2 {
        for (_, chunks) in s.chunks().await {
            assert!(chunks.iter().all(|c| !c.encoding.keeps_starts()));
        }
        s.reopen();
    }
    // Switched on later, what comes from then on keeps them; switched off, nothing is lost.
    s.limits = keeping();
    s.reopen();
    let _ = s.push_one("f", 60_000, 0, 7, 500).await;
    s.limits = Limits::default();
    s.reopen();
    let _ = s.push_one("f", 61_000, 0, 8, 500).await;
    let have = s.started().await;
    let start_at = |t: i64| have[&("f".to_owned(), t)].1;
    assert_eq!(
        (start_at(49_000), start_at(60_000), start_at(61_000)),
        (0, 500, 0)
    );
    assert_eq!(have.len(), 100);
}

/// What a series without starts costs: the same chunks and the same number of records (whose bytes `record.rs` tests; those of the log
/// depend on which requests share a frame).
#[tokio::test]
async fn a_series_without_starts_is_stored_as_if_nobody_kept_them() {
    let mut stored = Vec::new();
    for limits in [Limits::default(), keeping()] {
        let limits = Limits {
            out_of_order_time_window: Duration::from_secs(24 * 3600),
            ..limits
        };
        let s = Store::new(limits);
        for i in 0..400i64 {
            // Every tenth comes late.
            let t = if i % 10 == 9 {
                i * 1000 - 500_000
            } else {
                i * 1000
            };
            let _ = s.push_one("f", 24 * HOUR + t, 0, i as u64, 0).await;
            let _ = s.push_one("h", 24 * HOUR + t, 1, i as u64, 0).await;
        }
        let chunks = s.chunks().await.into_iter();
        let chunks: Vec<_> = chunks
            .flat_map(|(name, c)| {
                c.into_iter()
                    .map(move |c| (name.clone(), c.encoding, c.data))
            })
            .collect();
        s.heads.checkpoint().await.unwrap();
        stored.push((chunks, s.heads.wal_stats().records));
    }
    assert_eq!(stored[0], stored[1]);
}

/// A bit flipped anywhere in the log: one request of two samples is lost at the most, and no other start is read than was written.
#[tokio::test]
async fn damage_never_makes_another_start() {
    let s = Store::new(keeping());
    for i in 1..40i64 {
        let _ = s.push_one("f", i * 1000, 0, i as u64, i * 1000 - 7).await;
        let _ = s
            .push_one("h", i * 1000, 1, i as u64, i / 10 * 10_000 + 1)
            .await;
    }
    let want = s.started().await;
    let Store { dir, heads, .. } = s;
    drop(heads);
    let bytes = std::fs::read(dir.path().join("wal/00000001")).unwrap();
    for at in (8..bytes.len()).step_by(53) {
        let mut damaged = Store::new(keeping());
        let wal = damaged.dir.path().join("wal");
        let mut copy = bytes.clone();
        copy[at] ^= 0x10;
        damaged.heads = open_heads(
            tempfile::tempdir().unwrap().path(),
            &keeping(),
            &HeadSettings::default(),
        )
        .0;
        std::fs::write(wal.join("00000001"), copy).unwrap();
        damaged.reopen();
        let have = damaged.started().await;
        assert!(
            have.len() + 1 >= want.len(),
            "byte {at}: {} samples",
            have.len()
        );
        assert!(have.iter().all(|(k, v)| want[k] == *v), "byte {at}");
    }
}
