//! Blocks made by Prometheus, promtool, Thanos and Cortex: read as those programs read them, and written again byte for byte.
//!
//! The golden folder is `$LGTM_SHARED/golden/tsdb` (default: `shared` beside the workspace). Without it the tests are skipped, but
//! fail under `CI=true`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lgtm_core::index::SymbolTable;
use lgtm_core::model::{Labels, TenantId, TimestampMs};
use lgtm_core::storage::{Backend, BackendKind, Bucket, DataKind, Layout, LocalFile, ReadPlan};
use lgtm_core::units::ByteSize;
use lgtm_tsdb::block::{
    BlockId, BlockMeta, BlockReader, BlockReaderSettings, BlockWriter, BlockWriterSettings,
    BucketIndex, DeletionMark, MetaInput, NoCompactMark, SegmentEncoder, TenantDeletionMark,
    Tombstones,
};
use lgtm_tsdb::chunk::Chunk;
use lgtm_tsdb::index::{
    ChunkRefMeta, IndexEncoder, IndexEncoderSettings, IndexHeader, IndexReader, IndexReaderSettings,
};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use serde_json::Value;

/// All of `store` as one bucket.
fn bucket_over(store: Arc<dyn ObjectStore>) -> Bucket {
    let layout = Layout::builder().store(InMemory::new()).store_for(
        DataKind::MetricBlocks,
        Backend::new(store, BackendKind::Memory),
    );
    layout.build().unwrap().bucket(DataKind::MetricBlocks)
}

fn golden() -> Option<PathBuf> {
    let root = match std::env::var_os("LGTM_SHARED") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    };
    let path = root.join("golden/tsdb");
    if path.is_dir() {
        return Some(path);
    }
    let is_ci = std::env::var("CI").is_ok_and(|v| v == "true");
    assert!(!is_ci, "{} is missing", path.display());
    println!("skipped: {} is missing", path.display());
    None
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
    found.sort();
}

fn files_named(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    walk(dir, &mut all);
    all.retain(|p| p.to_str().unwrap().ends_with(end));
    assert!(!all.is_empty(), "no {end} in {}", dir.display());
    all
}

/// A golden block and what the real reader said about it.
struct Golden {
    dir: PathBuf,
    index: Value,
    series: Vec<Series>,
}

struct Series {
    labels: Vec<(String, String)>,
    chunks: Vec<(ChunkRefMeta, u8, usize, u32)>,
}

impl Golden {
    fn is_legacy(&self) -> bool {
        self.index["label_offset_table_entries"] != -1
    }
}

fn u64_of(v: &Value) -> u64 {
    v.as_u64().unwrap()
}

fn blocks() -> Vec<Golden> {
    let Some(golden) = golden() else {
        return Vec::new();
    };
    let load = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (set, ulid) = name
            .strip_suffix(".index.json")
            .unwrap()
            .split_once('.')
            .unwrap();
        let lines = path.with_file_name(format!("{set}.{ulid}.series.jsonl"));
        let series = std::fs::read_to_string(lines).unwrap();
        Golden {
            dir: path.with_file_name(set).join(ulid),
            index: serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(),
            series: series.lines().map(series_of).collect(),
        }
    };
    files_named(&golden.join("blocks"), ".index.json")
        .iter()
        .map(load)
        .collect()
}

fn series_of(line: &str) -> Series {
    let v: Value = serde_json::from_str(line).unwrap();
    let labels = v["labels"].as_array().unwrap().iter();
    let chunks = v["chunks"].as_array().unwrap().iter();
    Series {
        labels: labels
            .map(|l| {
                (
                    l[0].as_str().unwrap().to_owned(),
                    l[1].as_str().unwrap().to_owned(),
                )
            })
            .collect(),
        chunks: chunks
            .map(|c| {
                let meta = ChunkRefMeta {
                    min_ms: TimestampMs::new(c["mint"].as_i64().unwrap()),
                    max_ms: TimestampMs::new(c["maxt"].as_i64().unwrap()),
                    reference: u64_of(&c["ref"]),
                };
                (
                    meta,
                    u64_of(&c["enc"]) as u8,
                    u64_of(&c["len"]) as usize,
                    u64_of(&c["n"]) as u32,
                )
            })
            .collect(),
    }
}

/// The usual settings, and such that keep nothing and read as little as possible at a time.
fn all_settings() -> [BlockReaderSettings; 2] {
    let mut frugal = BlockReaderSettings::default();
    let reads = ReadPlan {
        max_gap_bytes: 0,
        max_read_bytes: 1,
        concurrency: 1,
        ..ReadPlan::default()
    };
    frugal.index = IndexReaderSettings {
        max_resident_section_bytes: 0,
        series_guess_bytes: 1,
        reads,
        ..IndexReaderSettings::default()
    };
    frugal.chunks.chunk_guess_bytes = 1;
    frugal.chunks.reads = reads;
    [BlockReaderSettings::default(), frugal]
}

#[tokio::test]
async fn every_block_reads_as_prometheus_reads_it() {
    for golden in blocks() {
        for settings in all_settings() {
            let block = BlockReader::open(&golden.dir, settings).await.unwrap();
            check_index(&golden, &block).await;
            check_series(&golden, &block).await;
            let mut expected = Tombstones::default();
            for t in golden.index["tombstones"].as_array().unwrap() {
                let interval = lgtm_tsdb::block::DeletedInterval {
                    min_ms: TimestampMs::new(t["mint"].as_i64().unwrap()),
                    max_ms: TimestampMs::new(t["maxt"].as_i64().unwrap()),
                };
                expected.insert(u64_of(&t["series"]) as u32, interval);
            }
            assert_eq!(block.tombstones(), &expected, "{}", golden.dir.display());
            assert_eq!(expected.interval_count(), block.meta().stats.num_tombstones);
        }
    }
}

async fn check_index(golden: &Golden, block: &BlockReader) {
    let (index, place) = (block.index(), golden.dir.display());
    let toc = &golden.index["toc"];
    let expected = [
        "symbols",
        "series",
        "label_indices",
        "postings",
        "label_offset_table",
        "postings_offset_table",
    ]
    .map(|k| u64_of(&toc[k]));
    let t = index.toc();
    let found = [
        t.symbols,
        t.series,
        t.label_indices,
        t.postings,
        t.label_offset_table,
        t.postings_table,
    ];
    assert_eq!(found, expected, "{place}");

    let symbols = index.symbol_table().await.unwrap();
    assert_eq!(
        symbols.len() as u64,
        u64_of(&golden.index["num_symbols"]),
        "{place}"
    );
    if let Some(expected) = golden.index["symbols"].as_array() {
        assert!(
            symbols
                .iter()
                .eq(expected.iter().map(|s| s.as_str().unwrap())),
            "{place}"
        );
    }
    let ordinals: Vec<u32> = (0..symbols.len() as u32).collect();
    let looked_up = index.lookup_symbols(&ordinals).await.unwrap();
    assert!(symbols.iter().eq(looked_up.iter()), "{place}");

    let names: Vec<_> = index.label_names().collect();
    let expected = golden.index["label_names"].as_array().unwrap();
    assert!(names.iter().eq(expected), "{place}: {names:?}");
    for name in names {
        let values = index.label_values(name).await.unwrap();
        assert!(values.iter().is_sorted());
        let count = u64_of(&golden.index["label_value_counts"][name]);
        assert_eq!(values.len() as u64, count, "{place} {name}");
        let lists = index
            .postings_for_values(name, &mut |_| true)
            .await
            .unwrap();
        assert_eq!(lists.len(), values.len());
        for (value, list) in values.iter().zip(lists) {
            assert_eq!(
                index.postings(name, value).await.unwrap(),
                list,
                "{place} {name}={value}"
            );
        }
        for missing in ["", "no such value", "\u{10ffff}"] {
            assert!(index.postings(name, missing).await.unwrap().is_empty());
        }
    }
    assert!(
        index
            .postings("no such name", "x")
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        index.postings_all().await.unwrap().len() as u64,
        u64_of(&golden.index["num_series"])
    );
    for list in golden.index["postings"].as_array().unwrap() {
        let (name, value) = (
            list["name"].as_str().unwrap(),
            list["value"].as_str().unwrap(),
        );
        let found = match name {
            "" => index.postings_all().await.unwrap(),
            _ => index.postings(name, value).await.unwrap(),
        };
        let expected: Vec<_> = list["series"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| u64_of(r) as u32)
            .collect();
        assert_eq!(found, expected, "{place} {name}={value}");
    }
}

async fn check_series(golden: &Golden, block: &BlockReader) {
    let place = golden.dir.display();
    let refs = block.index().postings_all().await.unwrap();
    let series = block.index().series(&refs).await.unwrap();
    assert_eq!(series.len(), golden.series.len(), "{place}");
    for (found, expected) in series.iter().zip(&golden.series) {
        assert_eq!(
            found.labels,
            Labels::from_pairs(expected.labels.clone()).unwrap(),
            "{place}"
        );
        let metas: Vec<_> = expected.chunks.iter().map(|c| c.0).collect();
        assert_eq!(found.chunks, metas, "{place} {}", found.labels);
        let chunks = block.chunks().read(&metas).await.unwrap();
        for (chunk, (meta, encoding, len, count)) in chunks.iter().zip(&expected.chunks) {
            let found = (
                chunk.min_ms,
                chunk.max_ms,
                chunk.encoding as u8,
                chunk.data.len(),
            );
            assert_eq!(
                found,
                (meta.min_ms, meta.max_ms, *encoding, *len),
                "{place}"
            );
            assert_eq!(u32::from(chunk.sample_count()), *count, "{place}");
        }
    }
}

async fn symbols_of(golden: &Golden) -> SymbolTable {
    let block = BlockReader::open(&golden.dir, BlockReaderSettings::default())
        .await
        .unwrap();
    let symbols = block.index().symbol_table().await.unwrap();
    SymbolTable::from_sorted(symbols.iter()).unwrap()
}

fn ordinals(symbols: &SymbolTable, series: &Series) -> Vec<(u32, u32)> {
    let ordinal = |s: &str| symbols.ordinal(s).unwrap();
    series
        .labels
        .iter()
        .map(|(n, v)| (ordinal(n), ordinal(v)))
        .collect()
}

#[tokio::test]
async fn every_index_of_the_current_writer_is_rebuilt_byte_for_byte() {
    for golden in blocks().iter().filter(|g| !g.is_legacy()) {
        let symbols = symbols_of(golden).await;
        for max_postings_memory_bytes in [1 << 20, 2000] {
            let scratch = tempfile::tempdir().unwrap();
            let settings = IndexEncoderSettings {
                max_postings_memory_bytes,
                scratch_dir: Some(scratch.path().to_owned()),
            };
            let mut encoder = IndexEncoder::new(symbols.clone(), settings).unwrap();
            for series in &golden.series {
                let chunks: Vec<_> = series.chunks.iter().map(|c| c.0).collect();
                encoder
                    .add_series(&ordinals(&symbols, series), &chunks)
                    .unwrap();
            }
            let (bytes, stats) = encoder.finish_to_vec().unwrap();
            let expected = std::fs::read(golden.dir.join("index")).unwrap();
            assert!(bytes == expected, "{} differs", golden.dir.display());
            assert_eq!(stats.size_bytes, bytes.len() as u64);
            assert_eq!(stats.series_count, u64_of(&golden.index["num_series"]));
        }
    }
}

/// The limit a set was cut with: one file tells nothing, several come from the set made with 4096.
fn segment_limit(golden: &Golden) -> u64 {
    match std::fs::read_dir(golden.dir.join("chunks"))
        .unwrap()
        .count()
    {
        1 => SegmentEncoder::DEFAULT_MAX_SEGMENT_BYTES,
        _ => 4096,
    }
}

#[tokio::test]
async fn every_chunk_segment_is_rewritten_byte_for_byte() {
    for golden in blocks() {
        let block = BlockReader::open(&golden.dir, BlockReaderSettings::default())
            .await
            .unwrap();
        let mut encoder = SegmentEncoder::new(segment_limit(&golden));
        for series in &golden.series {
            let refs: Vec<_> = series.chunks.iter().map(|c| c.0.reference).collect();
            let listed: Vec<_> = series.chunks.iter().map(|c| c.0).collect();
            let chunks = block.chunks().read(&listed).await.unwrap();
            let encoded: Vec<_> = chunks.iter().map(Chunk::borrowed).collect();
            let mut written = Vec::new();
            encoder.add_series(&encoded, &mut written).unwrap();
            assert_eq!(written, refs, "{}", golden.dir.display());
        }
        encoder.finish();
        let mut files = vec![Vec::new(); block.chunks().segment_count()];
        while let Some(piece) = encoder.take_output() {
            files[piece.segment as usize - 1].extend_from_slice(&piece.bytes);
        }
        for (i, bytes) in files.iter().enumerate() {
            let path = golden.dir.join(format!("chunks/{:06}", i + 1));
            assert!(
                *bytes == std::fs::read(&path).unwrap(),
                "{} differs",
                path.display()
            );
        }
    }
}

#[tokio::test]
async fn a_block_written_to_a_store_is_the_golden_block_and_opens_again() {
    for golden in blocks().iter().filter(|g| !g.is_legacy()) {
        let source = BlockReader::open(&golden.dir, BlockReaderSettings::default())
            .await
            .unwrap();
        let symbols = symbols_of(golden).await;
        let dir = tempfile::tempdir().unwrap();
        let stores: [Arc<dyn ObjectStore>; 2] = [
            Arc::new(InMemory::new()),
            Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap()),
        ];
        for store in stores {
            let bucket = bucket_over(store);
            let tenant = TenantId::new("tenant").unwrap();
            let settings = BlockWriterSettings {
                max_segment_bytes: segment_limit(golden),
                flush_bytes: 300,
                part_size: ByteSize::bytes(1000),
                ..BlockWriterSettings::default()
            };
            let id = source.meta().ulid;
            let writer = BlockWriter::new(bucket.clone(), &tenant, id, symbols.clone(), settings);
            let mut writer = writer.unwrap();
            for series in &golden.series {
                add_series(&mut writer, &source, &symbols, series).await;
            }
            let original = source.meta().clone();
            let input = MetaInput {
                min_ms: original.min_ms,
                max_ms: original.max_ms,
                level: original.compaction.level,
                sources: original.compaction.sources.clone(),
                parents: original.compaction.parents.clone(),
                hints: original.compaction.hints.clone(),
                thanos: None,
            };
            let mut meta = writer.finish(input).await.unwrap().unwrap();
            meta.stats.num_tombstones = original.stats.num_tombstones;
            assert_eq!(meta, original);
            let folder = format!("{tenant}/{id}");
            for path in files_named(&golden.dir, "") {
                let name = path
                    .strip_prefix(&golden.dir)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                if name == "tombstones" || name == "meta.json" {
                    continue;
                }
                let found = bucket.get(&format!("{folder}/{name}")).await.unwrap();
                assert!(
                    found == std::fs::read(&path).unwrap(),
                    "{} differs",
                    path.display()
                );
            }
            let settings = BlockReaderSettings::default();
            let opened = BlockReader::open_object(&bucket, &folder, settings);
            check_series(golden, &opened.await.unwrap()).await;
        }
    }
}

async fn add_series(
    writer: &mut BlockWriter,
    source: &BlockReader,
    symbols: &SymbolTable,
    series: &Series,
) {
    let listed: Vec<_> = series.chunks.iter().map(|c| c.0).collect();
    let read = source.chunks().read(&listed).await.unwrap();
    let chunks: Vec<_> = read.iter().map(Chunk::borrowed).collect();
    writer
        .add_series(&ordinals(symbols, series), &chunks)
        .unwrap();
    if writer.wants_flush() {
        writer.flush_pending().await.unwrap();
        assert_eq!(writer.pending_bytes(), 0);
    }
}

#[test]
fn every_meta_is_rewritten_byte_for_byte() {
    let Some(golden) = golden() else { return };
    for path in files_named(&golden, "/meta.json") {
        let bytes = std::fs::read(&path).unwrap();
        let meta = BlockMeta::decode(&bytes).unwrap();
        assert_eq!(
            String::from_utf8(meta.encode().unwrap()),
            String::from_utf8(bytes.clone())
        );
        // With members of a version yet to come, at three levels.
        let mut json: Value = serde_json::from_slice(&bytes).unwrap();
        for place in ["", "/stats", "/compaction", "/thanos"] {
            if let Some(object) = json.pointer_mut(place).and_then(Value::as_object_mut) {
                object.insert(
                    "someday".into(),
                    serde_json::json!({ "a": [1, 2.5, null, "<x>"] }),
                );
            }
        }
        let meta = BlockMeta::decode(&serde_json::to_vec(&json).unwrap()).unwrap();
        let again: Value = serde_json::from_slice(&meta.encode().unwrap()).unwrap();
        assert_eq!(again, json, "{}", path.display());
    }
}

#[test]
fn tombstones_files_are_rewritten_with_the_same_content() {
    let Some(golden) = golden() else { return };
    for path in files_named(&golden, "/tombstones") {
        let bytes = std::fs::read(&path).unwrap();
        let tombstones = Tombstones::decode(&bytes).unwrap();
        let again = tombstones.encode();
        // Series stand in map order in the original: the content is the same, the order need not be.
        assert_eq!(again.len(), bytes.len());
        assert_eq!(Tombstones::decode(&again).unwrap(), tombstones);
    }
}

#[test]
fn block_ids_are_the_published_ulids() {
    let Some(golden) = golden() else { return };
    let lines = std::fs::read_to_string(golden.join("vectors/ulid.jsonl")).unwrap();
    assert!(!lines.is_empty());
    for line in lines.lines() {
        let v: Value = serde_json::from_str(line).unwrap();
        let id: BlockId = v["ulid"].as_str().unwrap().parse().unwrap();
        let hex: String = id.to_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, v["bytes_hex"].as_str().unwrap());
        assert_eq!(id.to_string(), v["ulid"].as_str().unwrap());
        assert_eq!(id.time_ms(), u64_of(&v["time_ms"]));
        assert_eq!(
            format!("{:08x}", id.hash32()),
            v["block_id_hash32"].as_str().unwrap()
        );
    }
}

#[tokio::test]
async fn blocks_of_a_bucket_open_by_what_their_meta_tells() {
    let Some(golden) = golden() else { return };
    let store = LocalFileSystem::new_with_prefix(golden.join("bucket")).unwrap();
    let bucket = bucket_over(Arc::new(store));
    for path in files_named(&golden.join("bucket"), "/index") {
        let folder = path
            .parent()
            .unwrap()
            .strip_prefix(golden.join("bucket"))
            .unwrap();
        let settings = BlockReaderSettings::default();
        let block = BlockReader::open_object(&bucket, folder.to_str().unwrap(), settings);
        let block = block.await.unwrap();
        let stats = &block.meta().stats;
        let refs = block.index().postings_all().await.unwrap();
        let series = block.index().series(&refs).await.unwrap();
        assert_eq!(series.len() as u64, stats.num_series);
        let chunks: Vec<_> = series
            .iter()
            .flat_map(|s| s.chunks.iter().copied())
            .collect();
        assert_eq!(
            block.chunks().read(&chunks).await.unwrap().len() as u64,
            stats.num_chunks
        );
    }
}

#[test]
fn marks_are_rewritten_byte_for_byte() {
    let Some(golden) = golden() else { return };
    for path in files_named(&golden.join("bucket"), "-mark.json") {
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let again = if name.ends_with(TenantDeletionMark::FILE_NAME) {
            TenantDeletionMark::decode(&bytes).unwrap().encode()
        } else if name.ends_with(DeletionMark::FILE_NAME) {
            DeletionMark::decode(&bytes).unwrap().encode()
        } else {
            assert!(name.ends_with(NoCompactMark::FILE_NAME), "{name}");
            NoCompactMark::decode(&bytes).unwrap().encode()
        };
        assert_eq!(String::from_utf8(again.unwrap()), String::from_utf8(bytes));
    }
}

#[test]
fn bucket_indexes_read_and_come_back() {
    let Some(golden) = golden() else { return };
    for path in files_named(&golden, BucketIndex::FILE_NAME) {
        let bytes = std::fs::read(&path).unwrap();
        let index = BucketIndex::decode("golden", &bytes, 1 << 20).unwrap();
        let plain = [
            path.with_file_name("bucket-index.expected.json"),
            path.with_file_name("bucket-index.json"),
        ];
        let plain = plain.iter().find(|p| p.exists()).unwrap();
        let plain = std::fs::read(plain).unwrap();
        assert_eq!(BucketIndex::decode_json(&plain).unwrap(), index);
        let again = index.encode().unwrap();
        assert_eq!(gunzip(&again), gunzip(&bytes), "{}", path.display());
        // The file name in the gzip header follows its ten fixed bytes.
        assert_eq!(again[10..28], bytes[10..28]);
    }
}

fn gunzip(bytes: &[u8]) -> String {
    std::io::read_to_string(flate2::read::GzDecoder::new(bytes)).unwrap()
}

#[tokio::test]
async fn index_headers_of_thanos_are_ours_byte_for_byte_and_open() {
    let Some(golden) = golden() else { return };
    let indexes = files_named(&golden.join("bucket"), "/index");
    let mut equal = 0;
    for path in files_named(&golden.join("bucket/index-headers"), "/index-header") {
        let block = path.parent().unwrap().file_name();
        let of_block = |p: &&PathBuf| p.parent().unwrap().file_name() == block;
        let index = indexes.iter().find(of_block).unwrap();
        let file = Arc::new(LocalFile::open(index).unwrap());
        let bytes = std::fs::read(&path).unwrap();
        // A golden file may be a hex dump in text instead of the header itself (one is, of another block's header). That cannot
        // be compared, and must not open.
        if bytes.starts_with(b"00000000: ") {
            assert!(IndexHeader::open("header", bytes.into(), file).is_err());
            continue;
        }
        assert_eq!(
            IndexHeader::build(&*file).await.unwrap(),
            bytes,
            "{}",
            path.display()
        );
        let joined = IndexHeader::open("header", bytes.into(), file).unwrap();
        let joined = IndexReader::open(Arc::new(joined), IndexReaderSettings::default()).await;
        assert!(!joined.unwrap().postings_all().await.unwrap().is_empty());
        equal += 1;
    }
    assert!(equal > 0, "no index-header could be compared");
}
