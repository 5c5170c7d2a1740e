//! Where the data of a script is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use lgtm_core::clock::ManualClock;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{FloatHistogram, Labels, Sample, TenantId};
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::chunk::{Encoding, SampleValue, encode_run, iter};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::select::{Select, SeriesChunk, SeriesChunks};
use lgtm_tsdb::wire::WriteBatch;

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
            .limits(Arc::new(Overrides::fixed(Limits::default())))
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
                    batch.push_series(labels.iter(), &[Sample { t_ms, value }]);
                }
                Item::Histogram(h, _) => batch.push_histogram(labels.iter(), s.t_ms, h.clone()),
            }
        }
        let report = db.push(&TenantId::anonymous(), &batch).await.unwrap();
        let taken = report.samples + report.histograms;
        assert_eq!(taken, part.len() as u64, "{report:?}");
    }
}

fn chunks_of(samples: &[Loaded]) -> Vec<SeriesChunk> {
    let with_starts = samples.iter().any(|s| s.start_ms != 0);
    if with_starts {
        return samples.iter().map(chunk_with_start).collect();
    }
    let run = samples.iter().map(|s| match &s.value {
        Item::Float(v) => (s.t_ms, SampleValue::Float(*v)),
        Item::Histogram(h, _) => (s.t_ms, SampleValue::FloatHistogram(Box::new(h.clone()))),
    });
    encode_run(run)
        .into_iter()
        .map(|c| SeriesChunk {
            min_ms: c.min_ms,
            max_ms: c.max_ms,
            encoding: c.encoding,
            data: c.data.into(),
        })
        .collect()
}

fn svarint(out: &mut Vec<u8>, value: i64) {
    lgtm_core::codec::put_svarint(out, value);
}

/// One sample with its start timestamp, in a chunk of its own: the store writes none of the encodings that keep them.
fn chunk_with_start(s: &Loaded) -> SeriesChunk {
    let (encoding, data) = match &s.value {
        Item::Float(v) => {
            let mut data = vec![0, 1, if s.start_ms == 0 { 0 } else { 0x80 }];
            svarint(&mut data, s.t_ms);
            data.extend_from_slice(&v.to_bits().to_be_bytes());
            if s.start_ms != 0 {
                svarint(&mut data, s.t_ms - s.start_ms);
            }
            (Encoding::Xor2, data)
        }
        Item::Histogram(h, _) => (Encoding::FloatHistogramSt, histogram_with_start(s, h)),
    };
    SeriesChunk {
        min_ms: s.t_ms,
        max_ms: s.t_ms,
        encoding,
        data: data.into(),
    }
}

/// A float histogram chunk of one sample with the start timestamp behind its bits. Where those end within the last byte is not told,
/// so each place is tried until the chunk reads as it should.
fn histogram_with_start(s: &Loaded, h: &FloatHistogram) -> Vec<u8> {
    let run = [(s.t_ms, SampleValue::FloatHistogram(Box::new(h.clone())))];
    let plain = encode_run(run).remove(0).data;
    let flags = plain[2] & 0b1100_0000;
    let mut head = vec![
        plain[0] | flags,
        plain[1],
        if s.start_ms == 0 { 0 } else { 0x80 },
    ];
    head.extend_from_slice(&plain[3..]);
    if s.start_ms == 0 {
        return head;
    }
    let mut start = Vec::new();
    svarint(&mut start, s.t_ms - s.start_ms);
    for unused in 0..8u32 {
        let mut data = head.clone();
        let mut carry = (data.pop().unwrap() as u16) << 8;
        for byte in start.iter().chain([&0u8]) {
            carry |= (u16::from(*byte) << 8) >> (8 - unused);
            data.push((carry >> 8) as u8);
            carry <<= 8;
        }
        let mut samples = iter(Encoding::FloatHistogramSt, &data).unwrap();
        let first = samples.next();
        if let Some(Ok((t_ms, SampleValue::FloatHistogram(read)))) = first
            && t_ms == s.t_ms
            && samples.start_ms() == s.start_ms
            && read.count == h.count
        {
            return data;
        }
    }
    panic!("no place for the start timestamp of {h:?}");
}
