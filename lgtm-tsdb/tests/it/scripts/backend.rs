//! Where the data of a script is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use lgtm_core::clock::ManualClock;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Sample, TenantId, TimestampMs};
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::chunk::{Chunk, SampleTime, SampleValue, encode_started_run};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::select::{Select, SeriesChunks};
use lgtm_tsdb::wire::{HistogramSample, WriteBatch};

use super::load::{Item, Loaded};
use crate::memory::Memory;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Encoded chunks in a list.
    Memory,
    /// The head of the metrics store.
    Head,
    /// Blocks in an object store, the head being empty.
    Blocks,
}

/// All that was loaded since the last `clear`.
pub(crate) type Data = BTreeMap<Labels, Vec<Loaded>>;

/// A store that holds the data of a script.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) source: Arc<dyn Select>,
    _db: Option<(Tsdb, tempfile::TempDir)>,
}

impl Store {
    pub(crate) async fn build(backend: Backend, data: &Data) -> Self {
        if backend == Backend::Memory {
            let chunks = data.iter().map(|(labels, samples)| SeriesChunks {
                labels: labels.clone(),
                chunks: chunks_of(samples).into(),
            });
            let source = Arc::new(Memory::new(
                chunks.filter(|s| !s.chunks.is_empty()).collect(),
                3,
            ));
            return Self { source, _db: None };
        }
        let dir = tempfile::tempdir().unwrap();
        let bucket = Arc::new(object_store::memory::InMemory::new());
        let db = Tsdb::builder(dir.path(), bucket)
            .limits(Overrides::fixed(Limits {
                st_storage_enabled: true,
                ..Limits::default()
            }))
            .clock(Arc::new(ManualClock::at_ms(1_000_000_000_000)))
            .open()
            .await
            .unwrap();
        append(&db, data).await;
        if backend == Backend::Blocks {
            db.flush().await.unwrap();
        }
        Self {
            source: db.source(),
            _db: Some((db, dir)),
        }
    }
}

/// How much of the data's time goes into one request. A head takes nothing that is much older than its newest sample.
const REQUEST_MS: i64 = 1_800_000;

/// Stores everything in the order of time.
async fn append(db: &Tsdb, data: &Data) {
    let mut all: Vec<(&Labels, &Loaded)> = data
        .iter()
        .flat_map(|(labels, samples)| samples.iter().map(move |s| (labels, s)))
        .collect();
    all.sort_by_key(|(_, s)| s.t_ms);
    for part in all.chunk_by(|a, b| a.1.t_ms / REQUEST_MS == b.1.t_ms / REQUEST_MS) {
        let mut batch = WriteBatch::default();
        for (labels, s) in part {
            match &s.value {
                Item::Float(value) => {
                    let (t_ms, value) = (s.t_ms, *value);
                    let sample = Sample {
                        t_ms: t_ms.into(),
                        value,
                    };
                    batch.push_started_series(
                        labels.iter(),
                        &[sample],
                        &[TimestampMs::new(s.start_ms)],
                    );
                }
                Item::Histogram(h, _) => batch.push_histogram_sample(
                    labels.iter(),
                    HistogramSample {
                        t_ms: TimestampMs::new(s.t_ms),
                        start_ms: TimestampMs::new(s.start_ms),
                        value: h.clone().into(),
                    },
                ),
            }
        }
        let report = db.push(&TenantId::anonymous(), batch).await.unwrap();
        let taken = report.samples + report.histograms;
        assert_eq!(taken, part.len() as u64, "{report:?}");
    }
}

fn chunks_of(samples: &[Loaded]) -> Vec<Chunk> {
    let run = samples.iter().map(|s| {
        let at = SampleTime {
            t_ms: TimestampMs::new(s.t_ms),
            start_ms: TimestampMs::new(s.start_ms),
        };
        match &s.value {
            Item::Float(v) => (at, SampleValue::Float(*v)),
            Item::Histogram(h, _) => (at, SampleValue::FloatHistogram(Box::new(h.clone()))),
        }
    });
    encode_started_run(run).into_iter().collect()
}
