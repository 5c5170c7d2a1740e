//! Index files made by the real Loki: theirs must read as the same series, and the same series must give the same bytes.

use crate::shared;

use std::path::Path;
use std::sync::Arc;

use lgtm_core::codec::{Compressor, Decompressor, crc32c};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::{Labels, TimeRange, TimestampMs, TimestampNs};
use lgtm_core::storage::MemoryFile;
use lgtm_logstore::index::{
    ChunkMeta, FingerprintRange, IndexEncoder, IndexEncoderSettings, IndexFileName, IndexReader,
    IndexReaderSettings, IndexVersion, SeriesFilter, SeriesMeta, TENANT_LABEL, pack, sort_chunks,
    unpack,
};
use serde_json::Value;

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

fn labels(v: &Value) -> Labels {
    let pairs = v.as_object().unwrap().iter();
    Labels::from_pairs(pairs.map(|(n, v)| (n, text(v)))).unwrap()
}

fn fingerprint(labels: &Labels) -> u64 {
    let own = labels.iter().filter(|(name, _)| *name != TENANT_LABEL);
    Labels::from_sorted(own).unwrap().stable_hash()
}

fn unpacked(file: &Path) -> Vec<u8> {
    let packed = std::fs::read(file).unwrap();
    let index = unpack(&packed, 16 << 20, &mut Decompressor::default()).unwrap();
    let mut again = Vec::new();
    pack(&index, &mut Compressor::default(), &mut again).unwrap();
    assert_eq!(
        unpack(&again, index.len(), &mut Decompressor::default()).unwrap(),
        index
    );
    index
}

async fn open(bytes: &[u8], settings: IndexReaderSettings) -> IndexReader {
    let file = MemoryFile::new("golden index", bytes.to_vec());
    IndexReader::open(Arc::new(file), settings).await.unwrap()
}

/// Writes series, which must be in order.
fn write(version: IndexVersion, series: &[SeriesMeta]) -> (Vec<u8>, u32) {
    let mut symbols: Vec<&str> = series
        .iter()
        .flat_map(|s| s.labels.iter())
        .flat_map(|(n, v)| [n, v])
        .collect();
    symbols.sort_unstable();
    symbols.dedup();
    let symbols = SymbolTable::from_sorted(symbols).unwrap();
    let mut encoder = IndexEncoder::new(version, symbols, IndexEncoderSettings::default());
    for s in series {
        let ordinal = |text: &str| encoder.symbols().ordinal(text).unwrap();
        let labels: Vec<_> = s
            .labels
            .iter()
            .map(|(n, v)| (ordinal(n), ordinal(v)))
            .collect();
        let reference = encoder
            .add_series(s.fingerprint, &labels, &s.chunks)
            .unwrap();
        assert!(s.reference == 0 || s.reference == reference);
    }
    let (bytes, stats) = encoder.finish_to_vec().unwrap();
    (bytes, stats.checksum)
}

fn chunk(v: &Value) -> ChunkMeta {
    let n = |i: usize| v[i].as_i64().unwrap();
    ChunkMeta {
        min_ms: TimestampMs::new(n(0)),
        max_ms: TimestampMs::new(n(1)),
        kb: n(2) as u32,
        entries: n(3) as u32,
        checksum: n(4) as u32,
        ingested_day: None,
    }
}

#[tokio::test]
async fn index_vectors_are_written_byte_for_byte_and_read() {
    let Some(folder) = shared::folder("golden/loki/vectors/index") else {
        return;
    };
    let files = shared::json_lines(&folder.join("files.jsonl"));
    for v in shared::json_lines(&folder.join("expected.jsonl")) {
        let name = text(&v["name"]);
        let file = files.iter().find(|f| f["name"] == v["name"]).unwrap();
        let bytes = unpacked(&folder.join(format!("{}.gz", text(&file["file"]))));
        assert_eq!(Some(bytes.len() as u64), file["size"].as_u64());
        assert_eq!(format!("{:x}", crc32c(&bytes)), text(&file["crc32c_hex"]));
        let version = IndexVersion::new(v["version"].as_u64().unwrap() as u8).unwrap();

        let index = open(&bytes, IndexReaderSettings::default()).await;
        assert_eq!(index.version(), version);
        let all = index.postings_all().await.unwrap();
        let read = index.series(&all, &SeriesFilter::ALL).await.unwrap();
        let (again, checksum) = write(version, &read);
        assert!(again == bytes, "{name}: the bytes differ");
        assert_eq!(checksum, index.checksum());
        let compacted = IndexFileName::Compacted {
            created_ns: TimestampNs::new(1_700_000_000_000_000_000),
            min_ms: index.toc().min_ms,
            max_ms: index.toc().max_ms,
            checksum,
        };
        let theirs = text(&file["compacted_file_name_if_ts_1700000000s"]);
        assert_eq!(theirs.parse::<IndexFileName>().unwrap(), compacted);
        assert_eq!(compacted.to_string(), format!("{theirs}.gz"));

        match v["series"].as_array() {
            Some(series) => {
                let mut wanted: Vec<_> = series
                    .iter()
                    .map(|s| {
                        let labels = labels(&s["labels"]);
                        let mut chunks =
                            s["chunks"].as_array().unwrap().iter().map(chunk).collect();
                        sort_chunks(&mut chunks);
                        SeriesMeta {
                            reference: 0,
                            fingerprint: fingerprint(&labels),
                            labels,
                            chunks,
                        }
                    })
                    .collect();
                wanted.sort_by(|a, b| (a.fingerprint, &a.labels).cmp(&(b.fingerprint, &b.labels)));
                let (ours, _) = write(version, &wanted);
                assert!(ours == bytes, "{name}: the bytes differ");
            }
            None => assert_eq!(Some(read.len() as u64), v["series_count"].as_u64()),
        }
        check_answers(&bytes, &read).await;
    }
}

/// Postings, filters and shards against the series themselves, with everything kept and with next to nothing kept.
async fn check_answers(bytes: &[u8], series: &[SeriesMeta]) {
    let tight = IndexReaderSettings {
        max_resident_section_bytes: 0,
        series_guess_bytes: 16,
        ..IndexReaderSettings::default()
    };
    for settings in [IndexReaderSettings::default(), tight] {
        let index = open(bytes, settings).await;
        let all = index.postings_all().await.unwrap();
        let references: Vec<_> = series.iter().map(|s| s.reference).collect();
        assert_eq!(all, references);
        assert!(series.is_sorted_by_key(|s| s.fingerprint));
        let names: Vec<String> = index.label_names().map(str::to_owned).collect();
        for name in &names {
            let values: Vec<String> = index
                .label_values(name)
                .await
                .unwrap()
                .iter()
                .map(str::to_owned)
                .collect();
            assert!(values.is_sorted());
            for value in values.iter().step_by(values.len().div_ceil(20)) {
                let bearers = series.iter().filter(|s| s.labels.get(name) == Some(value));
                let wanted: Vec<_> = bearers.map(|s| s.reference).collect();
                assert_eq!(index.postings(name, value).await.unwrap(), wanted);
                let count = index.postings_len(name, value).await.unwrap();
                assert_eq!(count, Some(wanted.len() as u64));
            }
            assert!(
                index
                    .postings(name, "no such value")
                    .await
                    .unwrap()
                    .is_empty()
            );
            let lists = index
                .postings_for_values(name, &mut |_| true)
                .await
                .unwrap();
            assert_eq!(lists.len(), values.len());
        }
        for shard in 0..4 {
            let fingerprints = FingerprintRange::of_shard(shard, 4).unwrap();
            let filter = SeriesFilter {
                fingerprints,
                ..SeriesFilter::ALL
            };
            let narrowed = index.narrow(&all, fingerprints);
            let read = index.series(narrowed, &filter).await.unwrap();
            let own = series
                .iter()
                .filter(|s| fingerprints.contains(s.fingerprint));
            assert!(read.iter().eq(own), "shard {shard}");
        }
        let toc = *index.toc();
        for part in 0..5 {
            let step = (toc.max_ms - toc.min_ms) / 4;
            let time = TimeRange::new(toc.min_ms + (part - 1) * step, toc.min_ms + part * step);
            let filter = SeriesFilter {
                time: Some(time),
                ..SeriesFilter::ALL
            };
            let read = index.series(&all, &filter).await.unwrap();
            let wanted = series.iter().filter_map(|s| {
                let mut s = s.clone();
                s.chunks.retain(|c| c.overlaps(&time));
                (!s.chunks.is_empty()).then_some(s)
            });
            assert!(read.into_iter().eq(wanted), "{time:?}");
        }
    }
}

#[tokio::test]
async fn all_indexes_of_all_buckets_are_read_and_written_byte_for_byte() {
    let Some(folder) = shared::folder("golden/loki/buckets") else {
        return;
    };
    for set in shared::folders(&folder) {
        for (list, root) in [
            ("index.jsonl", "bucket"),
            ("index-compacted.jsonl", "compacted"),
        ] {
            let list = set.join(list);
            if !list.is_file() {
                continue;
            }
            for v in shared::json_lines(&list) {
                let file = set.join(root).join(text(&v["file"]));
                let name = file.file_name().unwrap().to_str().unwrap();
                let place = file.display();
                let bytes = unpacked(&file);
                let index = open(&bytes, IndexReaderSettings::default()).await;
                let all = index.postings_all().await.unwrap();
                let read = index.series(&all, &SeriesFilter::ALL).await.unwrap();
                check_series(&index, &read, &v);
                let (ours, checksum) = write(index.version(), &read);
                assert!(ours == bytes, "{place}: the bytes differ");
                match name.parse().unwrap() {
                    IndexFileName::Compacted {
                        checksum: named,
                        min_ms,
                        max_ms,
                        ..
                    } => {
                        assert_eq!(named, checksum, "{place}");
                        assert_eq!((min_ms, max_ms), (index.toc().min_ms, index.toc().max_ms));
                    }
                    IndexFileName::Uploaded { .. } => {}
                }
                assert_eq!(name.parse::<IndexFileName>().unwrap().to_string(), name);
                check_answers(&bytes, &read).await;
            }
        }
    }
}

fn check_series(index: &IndexReader, read: &[SeriesMeta], v: &Value) {
    assert_eq!(
        Some(u64::from(index.version().number())),
        v["version"].as_u64()
    );
    assert_eq!(
        format!("{:x}", index.checksum()),
        text(&v["toc_checksum_hex"])
    );
    let toc = index.toc();
    for (ours, theirs) in [
        (toc.symbols, "symbols"),
        (toc.series, "series"),
        (toc.label_indices, "label_indices"),
        (toc.label_offset_table, "label_indices_table"),
        (toc.postings, "postings"),
        (toc.postings_table, "postings_table"),
        (toc.fingerprint_offsets, "fingerprint_offsets"),
        (toc.min_ms.get() as u64, "from"),
        (toc.max_ms.get() as u64, "through"),
    ] {
        assert_eq!(Some(ours), v["toc"][theirs].as_u64(), "{theirs}");
    }
    let names: Vec<Value> = index.label_names().map(Value::from).collect();
    assert_eq!(Some(&names), v["label_names"].as_array());
    let series = v["series"].as_array().unwrap();
    assert_eq!(read.len(), series.len());
    for (ours, theirs) in read.iter().zip(series) {
        assert_eq!(ours.labels, labels(&theirs["labels"]));
        assert_eq!(
            format!("{:x}", ours.fingerprint),
            text(&theirs["fingerprint_hex"])
        );
        assert_eq!(ours.fingerprint, fingerprint(&ours.labels));
        let chunks = theirs["chunks"].as_array().unwrap();
        assert_eq!(ours.chunks.len(), chunks.len());
        for (ours, theirs) in ours.chunks.iter().zip(chunks) {
            assert_eq!(Some(ours.min_ms.get()), theirs["mint"].as_i64());
            assert_eq!(Some(ours.max_ms.get()), theirs["maxt"].as_i64());
            assert_eq!(Some(u64::from(ours.kb)), theirs["kb"].as_u64());
            assert_eq!(Some(u64::from(ours.entries)), theirs["entries"].as_u64());
            assert_eq!(
                format!("{:x}", ours.checksum),
                text(&theirs["checksum_hex"])
            );
        }
    }
}
