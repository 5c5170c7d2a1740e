//! The side object's bytes: what each version wrote is read for ever (`docs/format/side_object.md`).

use lgtm_core::model::TimestampMs;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_logstore::chunk::{
    ChunkBuilder, ChunkCodec, ChunkEncoding, ChunkFormat, ChunkKey, ChunkSettings,
};
use lgtm_logstore::skip::{
    BatchCounts, ChunkCounts, MinuteCount, OpenBatch, SideDirectory, SideObjectEncoder, SidePlace,
    SideTail, SkipBuilder, SkipFilters, SkipQuestion, SkipSettings,
};

const VERSION_1: &[u8] = include_bytes!("../golden/side_object_v1.bin");
const VERSION_2: &[u8] = include_bytes!("../golden/side_object_v2.bin");
const VERSION_3: &[u8] = include_bytes!("../golden/side_object_v3.bin");
const SECOND: i64 = 1_000_000_000;

fn key(fingerprint: u64) -> ChunkKey {
    ChunkKey {
        tenant: "tenant".to_owned(),
        fingerprint,
        from_ms: TimestampMs::EPOCH,
        through_ms: TimestampMs::new(119_000),
        checksum: 7,
    }
}

/// Two minutes of one line a second.
fn chunk() -> Vec<u8> {
    let settings = Arc::new(ChunkSettings {
        encoding: ChunkEncoding::None,
        block_size_bytes: 2000,
        ..ChunkSettings::default()
    });
    let mut compressor = settings.compressor();
    let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::clone(&settings));
    for n in 0..120 {
        let line = format!(
            "GET /users/{n} id={:016x} trace=\"a\\b\"",
            n * 0x0123_4567_89ab_i64
        );
        let level = ["info", "error"][n as usize % 2];
        let metadata = [("detected_level", level), ("pod", "p-1")];
        builder
            .append(n * SECOND, line.as_bytes(), &metadata)
            .unwrap();
        if builder.is_block_full() {
            builder.cut(&mut compressor).unwrap();
        }
    }
    let chunk = builder.finish(&mut compressor, &mut ChunkCodec::default());
    chunk.unwrap().bytes
}

/// Two chunks, and a batch of two more.
fn object() -> Vec<u8> {
    let settings = SkipSettings {
        max_size_percent: 50,
        group_size: lgtm_core::units::ByteSize::bytes(3000),
        counts: true,
    };
    let (chunk, mut builder) = (chunk(), SkipBuilder::default());
    let mut object = SideObjectEncoder::default();
    for fingerprint in [2, 1] {
        let skip = builder.build(&chunk, &settings);
        object.add(key(fingerprint), 5000, skip.unwrap().unwrap());
    }
    let mut batch = OpenBatch::new("tenant", &settings);
    for fingerprint in [4, 3] {
        let small = builder.small(&chunk, &settings).unwrap();
        batch.add(&key(fingerprint), small, chunk.len() / 2);
    }
    object.add_batch(batch.close(0).unwrap());
    object.encode()
}

#[test]
fn version_3_is_written_as_ever() {
    assert!(
        object() == VERSION_3,
        "the bytes differ: a new version needs a file of its own"
    );
}

#[test]
fn version_3_is_read() {
    is_read(VERSION_3, 4);
    let (section, directory) = opened(VERSION_3);
    let found = directory.find(&key(4)).unwrap();
    assert_eq!(found.in_batch, Some(0));
    assert_eq!(found.filters, directory.find(&key(3)).unwrap().filters);
    let filters = SkipFilters::decode(section(found.filters)).unwrap();
    let has = |text: &str| {
        let mut question = SkipQuestion::default();
        question.line(text.as_bytes());
        filters.choose(&question, |_| false).has(0)
    };
    assert!(has("/users/11") && !has("Kaiserschmarrn"));
    let counts = BatchCounts::decode(section(found.counts)).unwrap();
    let (first, own) = (
        counts.chunk(0).unwrap().unwrap(),
        is_counted(&directory, &section),
    );
    assert_eq!((&first.counts, first.is_by_minute), (&own, true));
    assert_eq!(first.totals[0].0, 60);
    assert_eq!(counts.chunk(1).unwrap().unwrap(), first);
    assert_eq!(counts.chunk(2).unwrap(), None);
}

#[test]
fn version_1_is_read() {
    is_read(VERSION_1, 2);
}

#[test]
fn version_2_is_read() {
    is_read(VERSION_2, 2);
}

/// What reads sections, and the directory.
fn opened(golden: &'static [u8]) -> (impl Fn(SidePlace) -> Bytes, SideDirectory) {
    let tail = SideTail::decode(golden, golden.len() as u64).unwrap();
    let part = |range: std::ops::Range<u64>| {
        Bytes::from_static(&golden[range.start as usize..range.end as usize])
    };
    let directory = SideDirectory::decode(&tail, part(tail.directory())).unwrap();
    let section = move |place: SidePlace| {
        let bytes = part(place.range());
        place.check(&bytes).unwrap();
        bytes
    };
    (section, directory)
}

fn is_counted(directory: &SideDirectory, section: &impl Fn(SidePlace) -> Bytes) -> ChunkCounts {
    let found = directory.find(&key(2)).unwrap();
    ChunkCounts::decode(&section(found.counts)).unwrap()
}

fn is_read(golden: &'static [u8], chunks: usize) {
    let (section, directory) = opened(golden);
    assert_eq!(directory.len(), chunks);
    let found = directory.find(&key(2)).unwrap();
    assert_eq!((found.object_bytes, found.in_batch), (5000, None));
    let filters = section(found.filters);
    let filters = SkipFilters::decode(filters).unwrap();
    let choice = |ask: &dyn Fn(&mut SkipQuestion)| {
        let mut question = SkipQuestion::default();
        ask(&mut question);
        filters.choose(&question, |_| false)
    };
    for held in ["/users/11", "id=00000123456789ab", "trace"] {
        assert!(choice(&|q| q.line(held.as_bytes())).has(0), "{held}");
    }
    for absent in [
        "Kaiserschmarrn",
        "fedcba9876543210",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    ] {
        assert!(
            choice(&|q| q.line(absent.as_bytes())).is_empty(),
            "{absent}"
        );
    }
    assert!(!choice(&|q| q.metadata("pod", "p-1")).is_empty());
    assert!(choice(&|q| q.metadata("pod", "p-2")).is_empty());
    assert!(
        !choice(&|q| q.field("id", "fedcba9876543210")).is_empty(),
        "lines have escapes"
    );
    let counts = is_counted(&directory, &section);
    assert_eq!(counts.names, ["pod"]);
    assert_eq!(counts.levels[0].level.as_deref(), Some("info"));
    let first = |minute, lines, bytes| MinuteCount {
        minute,
        lines,
        bytes,
    };
    // The first second belongs to the minute before.
    assert_eq!(counts.levels[0].minutes[0], first(-1, 1, 44));
    assert_eq!(counts.levels[0].minutes[1].lines, 30);
}

/// Writes the file of a new version: `cargo test ... -- --ignored` once, and never again.
#[test]
#[ignore = "writes the file of a new version"]
fn a_new_version_is_written_once_long() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/side_object_v3.bin"
    );
    if !std::path::Path::new(path).exists() || VERSION_3.is_empty() {
        std::fs::write(path, object()).unwrap();
    }
}
