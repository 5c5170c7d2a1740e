//! The side object's bytes: what each version wrote is read for ever (`docs/format/side_object.md`).

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

use lgtm_core::model::TimestampMs;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_logstore::chunk::{
    ChunkBuilder, ChunkCodec, ChunkEncoding, ChunkFormat, ChunkKey, ChunkSettings,
};
use lgtm_logstore::skip::{
    ChunkCounts, MinuteCount, SideDirectory, SideObjectEncoder, SideTail, SkipBuilder, SkipFilters,
    SkipQuestion, SkipSettings,
};

const VERSION_1: &[u8] = include_bytes!("golden/side_object_v1.bin");
const VERSION_2: &[u8] = include_bytes!("golden/side_object_v2.bin");
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
fn object() -> Vec<u8> {
    let settings = Arc::new(ChunkSettings {
        encoding: ChunkEncoding::None,
        block_size_bytes: 2000,
        ..ChunkSettings::default()
    });
    let mut object = SideObjectEncoder::default();
    for fingerprint in [2, 1] {
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
        let settings = SkipSettings {
            max_size_percent: 50,
            group_size: lgtm_core::units::ByteSize::bytes(3000),
            counts: true,
        };
        let skip = SkipBuilder::default().build(&chunk.unwrap().bytes, &settings);
        object.add(key(fingerprint), 5000, skip.unwrap().unwrap());
    }
    object.encode()
}

#[test]
fn version_2_is_written_as_ever() {
    assert!(
        object() == VERSION_2,
        "the bytes differ: a new version needs a file of its own"
    );
}

#[test]
fn version_1_is_read() {
    is_read(VERSION_1);
}

#[test]
fn version_2_is_read() {
    is_read(VERSION_2);
}

fn is_read(golden: &'static [u8]) {
    let tail = SideTail::decode(golden, golden.len() as u64).unwrap();
    let section = |range: std::ops::Range<u64>| {
        Bytes::from_static(&golden[range.start as usize..range.end as usize])
    };
    let directory = SideDirectory::decode(&tail, section(tail.directory())).unwrap();
    assert_eq!(directory.len(), 2);
    let found = directory.find(&key(2)).unwrap();
    assert_eq!(found.object_bytes, 5000);
    let filters = section(found.filters.range());
    found.filters.check(&filters).unwrap();
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
    let counts = section(found.counts.range());
    found.counts.check(&counts).unwrap();
    let counts = ChunkCounts::decode(&counts).unwrap();
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
        "/tests/golden/side_object_v2.bin"
    );
    if !std::path::Path::new(path).exists() || VERSION_2.is_empty() {
        std::fs::write(path, object()).unwrap();
    }
}
