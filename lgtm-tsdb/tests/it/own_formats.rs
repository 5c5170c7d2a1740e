//! Our own formats (log, head records, chunk files): folders that earlier versions wrote are read by this one.
//!
//! `tests/golden/head-vN` is such a folder, never rewritten; since version 2 there are start timestamps in it, since version 3 chunks that
//! blocks have and that stay. A new version of a format adds one, made by
//! `LGTM_MAKE_GOLDEN=FOLDER cargo test -p lgtm-tsdb --test own_formats make`.

use std::path::Path;
use std::sync::Arc;

use lgtm_core::clock::ManualClock;
use lgtm_core::model::{BucketSpan, Histogram, Labels, Matcher, TenantId, TimeRange, TimestampMs};
use lgtm_core::units::ByteSize;
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::chunk::SampleValue;
use lgtm_tsdb::components::IngesterSettings;
use lgtm_tsdb::head::HeadSettings;
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::select::{SelectRequest, started_samples};
use lgtm_tsdb::wire::{HistogramSample, WriteBatch};
use object_store::memory::InMemory;

const START: i64 = 1_700_006_400_000;
const TENANTS: [&str; 2] = ["a", "b"];
const SERIES: [&str; 3] = ["counter", "gauge", "late"];

fn value(tenant: usize, series: usize, i: i64) -> f64 {
    match series {
        0 => (i * 7 + tenant as i64) as f64,
        1 => (i as f64 * 0.37).sin() * 100.0,
        _ => f64::from(i as i32) / 8.0,
    }
}

fn histogram(i: i64) -> Histogram {
    Histogram {
        schema: 2,
        count: 3 * (i as u64 + 1),
        sum: i as f64 * 1.5,
        positive_spans: vec![BucketSpan {
            offset: 1,
            length: 2,
        }],
        positive_deltas: vec![i + 1, i + 1],
        ..Histogram::default()
    }
}

async fn open(folder: &Path) -> Tsdb {
    let limits = Limits {
        out_of_order_time_window: std::time::Duration::from_secs(3600),
        st_storage_enabled: true,
        ..Limits::default()
    };
    let settings = IngesterSettings {
        head: HeadSettings {
            checkpoint_after: ByteSize::bytes(1),
            // Longer than it lies between the clock below and the making of any folder.
            retain_flushed: std::time::Duration::from_secs(3600),
            ..HeadSettings::default()
        },
        ..IngesterSettings::default()
    };
    Tsdb::builder(folder, Arc::new(InMemory::new()))
        .clock(Arc::new(ManualClock::at_ms(START + 7_200_000)))
        .limits(lgtm_core::limits::Overrides::fixed(limits))
        .settings(settings)
        .open()
        .await
        .unwrap()
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "golden")]).unwrap()
}

/// Name, time, start time, bits of the value (or count of the histogram).
type Row = (String, i64, i64, u64);

/// All samples of a tenant.
async fn all(db: &Tsdb, tenant: &TenantId) -> Vec<Row> {
    let job = vec![Matcher::equal("job", "golden")];
    let request = SelectRequest::new(job, TimeRange::ALL).unwrap();
    let mut batches = db.source().select(tenant, &request).await.unwrap();
    let mut out = Vec::new();
    while let Some(batch) = batches.next_batch().await.unwrap() {
        for series in batch {
            for (at, v) in started_samples(&series.chunks, TimeRange::ALL).unwrap() {
                let bits = match v {
                    SampleValue::Float(v) => v.to_bits(),
                    SampleValue::Histogram(h) => h.count,
                    SampleValue::FloatHistogram(h) => h.count.to_bits(),
                };
                let name = series.labels.metric_name().unwrap().to_owned();
                out.push((name, at.t_ms.get(), at.start_ms.get(), bits));
            }
        }
    }
    out
}

/// Since when the sample counts: the counter and the late series restart every 70 samples, and do not say since when the first
/// 70 count; histograms count since the first one.
fn start(series: usize, i: i64) -> i64 {
    match series {
        0 | 2 if i >= 70 => START + i / 70 * 70 * 15_000 - 500,
        3 => START - 1,
        _ => 0,
    }
}

/// What every golden folder of a version holds: 300 samples a series, every tenth of `late` out of order, 40 histograms; since version
/// 2 with start times.
fn expected(tenant: usize, version: u32) -> Vec<Row> {
    let start = |series, i| if version < 2 { 0 } else { start(series, i) };
    let mut out = Vec::new();
    for (n, name) in SERIES.iter().enumerate() {
        for i in 0..300 {
            let bits = value(tenant, n, i).to_bits();
            out.push(((*name).to_owned(), START + i * 15_000, start(n, i), bits));
        }
    }
    for i in 0..40 {
        let row = (START + i * 15_000, start(3, i), histogram(i).count);
        out.push(("latency".to_owned(), row.0, row.1, row.2));
    }
    out.sort();
    out
}

async fn make(folder: &Path) {
    let db = open(folder).await;
    for i in 0..300i64 {
        for (t, tenant) in TENANTS.iter().enumerate() {
            let mut batch = WriteBatch::default();
            for (n, name) in SERIES.iter().enumerate() {
                // A tenth sample comes one step late.
                let i = match (n, i % 10) {
                    (2, 3) => i + 1,
                    (2, 4) => i - 1,
                    _ => i,
                };
                let sample = lgtm_core::model::Sample {
                    t_ms: TimestampMs::new(START + i * 15_000),
                    value: value(t, n, i),
                };
                batch.push_started_series(
                    labels(name).iter(),
                    &[sample],
                    &[TimestampMs::new(start(n, i))],
                );
            }
            if i < 40 {
                let sample = HistogramSample {
                    t_ms: TimestampMs::new(START + i * 15_000),
                    start_ms: TimestampMs::new(start(3, i)),
                    value: histogram(i).into(),
                };
                batch.push_histogram_sample(labels("latency").iter(), sample);
            }
            let tenant = TenantId::new(tenant).unwrap();
            let report = db.push(&tenant, batch).await.unwrap();
            assert_eq!(report.rejected.total(), 0, "{:?}", report.rejected);
        }
        // What is here by then a block has; it stays all the same.
        if i == 120 {
            db.flush().await.unwrap();
        }
        // One checkpoint in the middle: behind it come records, before it chunk files that it refers to.
        if i == 200 {
            db.maintain().await.unwrap();
        }
    }
    db.close().await.unwrap();
}

async fn check(folder: &Path, version: u32) {
    let dir = tempfile::tempdir().unwrap();
    copy(folder, dir.path());
    let db = open(dir.path()).await;
    for (t, tenant) in TENANTS.iter().enumerate() {
        let mut have = all(&db, &TenantId::new(tenant).unwrap()).await;
        have.sort();
        assert_eq!(
            have,
            expected(t, version),
            "{}, tenant {tenant}",
            folder.display()
        );
    }
    db.close().await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn folders_of_earlier_versions_are_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut seen = 0;
    for entry in std::fs::read_dir(golden).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        if let Some(version) = name.strip_prefix("head-v") {
            check(&folder, version.parse().unwrap()).await;
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// What is written now is read now; with `LGTM_MAKE_GOLDEN` the folder stays.
#[tokio::test]
async fn make_a_folder_and_read_it() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path()).await;
    check(dir.path(), 3).await;
    if let Some(folder) = std::env::var_os("LGTM_MAKE_GOLDEN") {
        copy(dir.path(), Path::new(&folder));
    }
}
