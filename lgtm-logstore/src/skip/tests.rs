//! What side files say is held against the entries that they were made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::chunk::{Chunk, ChunkBuilder, ChunkCodec, ChunkFormat, ChunkKey, ChunkSettings};
use crate::entry::EntryBlock;

type Made = (i64, String, Vec<(String, String)>);

const SECOND: i64 = 1_000_000_000;

/// A chunk of small blocks.
fn chunk_of(entries: &[Made]) -> Vec<u8> {
    let settings = ChunkSettings {
        block_size_bytes: 300,
        target_size_bytes: 1 << 20,
        ..ChunkSettings::default()
    };
    let mut compressor = settings.compressor();
    let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::new(settings));
    for (t, line, metadata) in entries {
        let pairs: Vec<_> = metadata.iter().map(|(n, v)| (&**n, &**v)).collect();
        builder.append(*t, line.as_bytes(), &pairs).unwrap();
        if builder.is_block_full() {
            builder.cut(&mut compressor).unwrap();
        }
    }
    let finished = builder.finish(&mut compressor, &mut ChunkCodec::default());
    finished.unwrap().bytes
}

fn blocks_of(chunk: &[u8]) -> Vec<EntryBlock> {
    let mut codec = ChunkCodec::default();
    let chunk = Chunk::open(Bytes::copy_from_slice(chunk)).unwrap();
    chunk.read(|_| true, &mut codec).unwrap().blocks
}

/// Filters and counts are written however small the chunk is.
fn generous() -> SkipSettings {
    SkipSettings {
        max_size_percent: 5000,
        group_size: lgtm_core::units::ByteSize::bytes(500),
        counts: true,
    }
}

fn build(chunk: &[u8]) -> (SkipFilters, Option<ChunkCounts>) {
    let made = SkipBuilder::default().build(chunk, &generous());
    let made = made.unwrap().unwrap();
    let counts = (!made.counts.is_empty()).then(|| ChunkCounts::decode(&made.counts).unwrap());
    (SkipFilters::decode(made.filters.into()).unwrap(), counts)
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let line = prop_oneof![
        r#"\{"user":"user-[0-9]{1,4}","id":"[0-9a-f]{16}"\}"#,
        "level=(info|warn) took=[0-9]{1,3}ms \\\\x",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} done",
        "[ -~]{0,60}",
    ];
    let level = prop::option::of(prop::sample::select(vec!["info", "warn", "error", ""]));
    let trace = prop::option::of("[0-9a-f]{2}");
    let entry = (0i64..400, 0i64..3, line, level, trace);
    prop::collection::vec(entry, 1..80).prop_map(|all| {
        let mut all: Vec<Made> = all
            .into_iter()
            .map(|(s, ns, line, level, trace)| {
                let pairs = [
                    ("detected_level", level.map(str::to_owned)),
                    ("trace", trace),
                ];
                let pairs = pairs
                    .into_iter()
                    .filter_map(|(n, v)| Some((n.to_owned(), v?)));
                (s * SECOND + ns, line, pairs.collect())
            })
            .collect();
        all.sort();
        all.dedup();
        all
    })
}

proptest! {
    #[test]
    fn blocks_with_what_is_asked_for_are_chosen(
        entries in made(), which: prop::sample::Index, cut: (prop::sample::Index, prop::sample::Index),
        kind in 0..3,
    ) {
        let chunk = chunk_of(&entries);
        let (filters, _) = build(&chunk);
        let (_, line, metadata) = &entries[which.index(entries.len())];
        let (a, b) = (cut.0.index(line.len() + 1), cut.1.index(line.len() + 1));
        let needle = line.as_bytes()[a.min(b)..a.max(b)].to_vec();
        let text = String::from_utf8(needle.clone()).unwrap();
        let mut question = SkipQuestion::default();
        let trace = metadata.iter().find(|(n, _)| n == "trace").map_or("", |(_, v)| v);
        match kind {
            0 => question.line(&needle),
            1 => question.field("trace", &text),
            _ => question.metadata("trace", trace),
        }
        let choice = filters.choose(&question, |_| false);
        let blocks = blocks_of(&chunk);
        prop_assert_eq!(choice.block_count(), blocks.len());
        for (n, block) in blocks.iter().enumerate() {
            let holds = |line: &[u8]| line.windows(needle.len().max(1)).any(|w| w == &needle[..]) || needle.is_empty();
            let has = block.iter().any(|e| match kind {
                0 => holds(e.line),
                1 => holds(e.line) || e.line.contains(&b'\\') || e.metadata().any(|(n, v)| n == "trace" && v == text),
                _ => e.metadata().any(|(n, v)| n == "trace" && v == trace),
            });
            prop_assert!(!has || choice.has(n), "block {} of {:?}", n, choice);
        }
        // A label of the stream may be what was asked for.
        if kind > 0 {
            let all = filters.choose(&question, |label| label == "trace");
            prop_assert!((0..blocks.len()).all(|n| all.has(n)));
        }
    }

    #[test]
    fn counts_are_those_of_the_entries(entries in made()) {
        let chunk = chunk_of(&entries);
        let (_, counts) = build(&chunk);
        let blocks = crate::entry::disjoint(blocks_of(&chunk)).unwrap().blocks;
        let mut wanted: BTreeMap<(Option<String>, i64), (u64, u64)> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for entry in blocks.iter().flat_map(EntryBlock::iter) {
            let level = entry.metadata().find(|(n, _)| *n == "detected_level").map(|(_, v)| v.to_owned());
            names.extend(entry.metadata().map(|(n, _)| n.to_owned()).filter(|n| n != "detected_level"));
            let mut minute = entry.t_ns / MINUTE_NS - 1;
            while (minute + 1) * MINUTE_NS < entry.t_ns {
                minute += 1;
            }
            let cell = wanted.entry((level, minute)).or_default();
            cell.0 += 1;
            cell.1 += entry.line.len() as u64;
        }
        let counts = counts.expect("a chunk that was closed properly is counted");
        prop_assert_eq!(&counts.names, &names.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(Some(counts.min_ns), blocks.first().and_then(EntryBlock::min_ns));
        prop_assert_eq!(Some(counts.max_ns), blocks.last().and_then(EntryBlock::max_ns));
        let mut got = BTreeMap::new();
        for level in &counts.levels {
            for m in &level.minutes {
                got.insert((level.level.clone(), m.minute), (m.lines, m.bytes));
            }
        }
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn random_bytes_are_errors_or_read(bytes: Vec<u8>, needle: Vec<u8>) {
        let _ = ChunkCounts::decode(&bytes);
        let mut question = SkipQuestion::default();
        question.line(&needle);
        question.field("a", "bcde");
        question.metadata("a", "x");
        if let Ok(filters) = SkipFilters::decode(bytes.clone().into()) {
            filters.choose(&question, |_| false).has(3);
        }
        if let Ok(tail) = SideTail::decode(&bytes, bytes.len() as u64) {
            let _ = SideDirectory::decode(&tail, bytes.clone().into());
        }
        let _ = SkipBuilder::default().build(&bytes, &generous());
    }

    #[test]
    fn sections_changed_anywhere_never_panic(entries in made(), at: prop::sample::Index, to: u8) {
        let made = SkipBuilder::default().build(&chunk_of(&entries), &generous()).unwrap().unwrap();
        let mut question = SkipQuestion::default();
        question.line(b"level=info 0123456789abcdef");
        for mut section in [made.filters, made.counts] {
            if section.is_empty() {
                continue;
            }
            let at = at.index(section.len());
            section[at] = to;
            let _ = ChunkCounts::decode(&section);
            if let Ok(filters) = SkipFilters::decode(section.into()) {
                filters.choose(&question, |_| false);
            }
        }
    }
}

fn key(tenant: &str, fingerprint: u64) -> ChunkKey {
    ChunkKey {
        tenant: tenant.to_owned(),
        fingerprint,
        from_ms: 5,
        through_ms: 9,
        checksum: 7,
    }
}

fn object() -> Vec<u8> {
    let mut encoder = SideObjectEncoder::default();
    for (tenant, fingerprint) in [("b", 3), ("a", 2), ("b", 1), ("a", 2)] {
        let skip = ChunkSkip {
            filters: format!("filters of {tenant} {fingerprint}").into_bytes(),
            counts: format!("counts of {tenant} {fingerprint}").into_bytes(),
        };
        encoder.add(key(tenant, fingerprint), 77, skip);
    }
    encoder.encode()
}

fn directory(object: &[u8]) -> Result<SideDirectory, lgtm_core::DecodeError> {
    let tail = SideTail::decode(object, object.len() as u64)?;
    let range = tail.directory();
    let bytes = object[range.start as usize..range.end as usize].to_vec();
    SideDirectory::decode(&tail, bytes.into())
}

#[test]
fn an_object_gives_back_what_was_put_in() {
    let object = object();
    let directory = directory(&object).unwrap();
    assert_eq!(directory.len(), 3);
    for (tenant, fingerprint) in [("b", 3), ("a", 2), ("b", 1)] {
        let found = directory.find(&key(tenant, fingerprint)).unwrap();
        assert_eq!(found.object_bytes, 77);
        for (place, what) in [(found.filters, "filters"), (found.counts, "counts")] {
            let range = place.range();
            let section = &object[range.start as usize..range.end as usize];
            place.check(section).unwrap();
            assert_eq!(
                section,
                format!("{what} of {tenant} {fingerprint}").as_bytes()
            );
        }
    }
    let hashes: Vec<u64> = directory.hashes().collect();
    assert_eq!(hashes[1], chunk_hash(tenant_hash("b"), 1, 5, 7));
    for absent in [key("c", 1), key("a", 1), key("b", 4)] {
        assert!(directory.find(&absent).is_none(), "{absent:?}");
    }
}

#[test]
fn every_flipped_bit_of_an_object_is_noticed() {
    let whole = object();
    for bit in 0..whole.len() * 8 {
        let mut object = whole.clone();
        object[bit / 8] ^= 1 << (bit % 8);
        let Ok(directory) = directory(&object) else {
            continue;
        };
        let keys = [key("b", 3), key("a", 2), key("b", 1)];
        let places = keys
            .iter()
            .filter_map(|k| directory.find(k))
            .flat_map(|c| [c.filters, c.counts]);
        let is_bad = |place: SidePlace| {
            let range = place.range();
            place
                .check(&object[range.start as usize..range.end as usize])
                .is_err()
        };
        let head = bit / 8 < 5;
        assert!(head || places.into_iter().any(is_bad), "bit {bit}");
    }
}

#[test]
fn an_object_cut_short_is_an_error() {
    let whole = object();
    for len in 0..whole.len() {
        assert!(directory(&whole[..len]).is_err(), "{len}");
    }
}

#[test]
fn what_stands_beside_a_chunk_stays_within_its_bound() {
    let entries: Vec<Made> = (0..4000u64)
        .map(|n| {
            let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let line = format!(
                "request {id:016x}{:016x} of user-{} done",
                id.rotate_left(9) ^ n,
                n % 977
            );
            (n as i64 * SECOND, line, vec![])
        })
        .collect();
    let chunk = chunk_of(&entries);
    for max_size_percent in [1, 4, 8, 12] {
        let settings = SkipSettings {
            max_size_percent,
            group_size: lgtm_core::units::ByteSize::kib(64),
            counts: true,
        };
        if let Some(made) = SkipBuilder::default().build(&chunk, &settings).unwrap() {
            let size = made.filters.len() + made.counts.len();
            assert!(
                size <= chunk.len() * max_size_percent as usize / 100,
                "{size} of {}",
                chunk.len()
            );
        }
    }
    let none = SkipSettings {
        max_size_percent: 0,
        ..SkipSettings::default()
    };
    assert_eq!(SkipBuilder::default().build(&chunk, &none).unwrap(), None);
}
