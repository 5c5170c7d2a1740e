//! What side files say is held against the entries that they were made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::chunk::{Chunk, ChunkBuilder, ChunkCodec, ChunkFormat, ChunkKey, ChunkSettings};
use crate::entry::EntryBlock;
use lgtm_core::model::TimestampMs;

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
            let mut minute = entry.t_ns.get() / MINUTE_NS - 1;
            while (minute + 1) * MINUTE_NS < entry.t_ns.get() {
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
    fn what_is_made_while_chunks_grow_is_what_is_made_of_them(
        chunks in prop::collection::vec((made(), any::<bool>()), 1..4), order: u64,
    ) {
        let settings = ChunkSettings {
            block_size_bytes: 300,
            target_size_bytes: 1 << 20,
            ..ChunkSettings::default()
        };
        let (skip_settings, settings) = (generous(), Arc::new(settings));
        let (mut compressor, mut codec) = (settings.compressor(), ChunkCodec::default());
        let mut skip = SkipBuilder::default();
        // Chunks that grow side by side share a builder; some come in no order.
        let mut open: Vec<_> = chunks
            .iter()
            .map(|(entries, is_shuffled)| {
                let mut entries = entries.clone();
                if *is_shuffled {
                    entries.sort_by_key(|e| (e.0 as u64 ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                }
                let builder = ChunkBuilder::new(ChunkFormat::V4, Arc::clone(&settings));
                (entries, builder, SkipDraft::new(&skip_settings))
            })
            .collect();
        for n in 0..80 {
            for (entries, builder, draft) in &mut open {
                let Some((t, line, metadata)) = entries.get(n) else { continue };
                let pairs: Vec<_> = metadata.iter().map(|(n, v)| (&**n, &**v)).collect();
                builder.append(*t, line.as_bytes(), &pairs).unwrap();
                if builder.is_block_full() {
                    let mut drafting = draft.go_on(&mut skip, &skip_settings);
                    builder.cut_observed(&mut compressor, &mut drafting).unwrap();
                    drafting.pause();
                }
            }
        }
        for (_, builder, mut draft) in open {
            prop_assert!(draft.memory_bytes() >= size_of::<SkipDraft>());
            let mut drafting = draft.go_on(&mut skip, &skip_settings);
            let chunk = builder.finished_observed(&mut compressor, &mut codec, &mut drafting).unwrap();
            let made = drafting.finish(chunk.bytes.len());
            let built = SkipBuilder::default().build(&chunk.bytes, &skip_settings).unwrap();
            let Some(MadeSkip::Own(made)) = made else {
                return Err(TestCaseError::fail("made for a batch"));
            };
            prop_assert_eq!(Some(made), built);
        }
    }

    #[test]
    fn a_batch_excludes_nothing_that_its_chunks_have(
        chunks in prop::collection::vec(made(), 1..6), which: prop::sample::Index, room in 0usize..4000,
        cut: (prop::sample::Index, prop::sample::Index),
    ) {
        let settings = SkipSettings::default();
        let mut batch = OpenBatch::new("a", &settings);
        let mut known = Vec::new();
        for (n, entries) in chunks.iter().enumerate() {
            let chunk = chunk_of(entries);
            let small = SkipBuilder::default().small(&chunk, &settings).unwrap();
            known.push(build(&chunk).1);
            batch.add(&key("a", n as u64), small, room);
        }
        let Some(batch) = batch.close(0) else { return Ok(()) };
        prop_assert!(batch.size_bytes() <= room * chunks.len());
        let entries = &chunks[which.index(chunks.len())];
        let (_, line, metadata) = &entries[which.index(entries.len())];
        let (a, b) = (cut.0.index(line.len() + 1), cut.1.index(line.len() + 1));
        let mut question = SkipQuestion::default();
        question.line(&line.as_bytes()[a.min(b)..a.max(b)]);
        for (name, value) in metadata {
            question.metadata(name, value);
        }
        let mut object = SideObjectEncoder::default();
        object.add_batch(batch);
        let object = Bytes::from(object.encode());
        let directory = directory(&object).unwrap();
        for (n, known) in known.iter().enumerate() {
            let found = directory.find(&key("a", n as u64)).unwrap();
            let section = |place: SidePlace| object.slice(place.range().start as usize..place.range().end as usize);
            if !found.filters.is_empty() {
                let filters = SkipFilters::decode(section(found.filters)).unwrap();
                prop_assert!(filters.choose(&question, |_| false).has(0));
            }
            if !found.counts.is_empty() {
                let counts = BatchCounts::decode(section(found.counts)).unwrap();
                let mut counts = counts.chunk(found.in_batch.unwrap()).unwrap();
                let mut known = known.clone();
                if let (Some(counts), Some(known)) = (&mut counts, &mut known) {
                    let totals: Vec<_> = known.levels.iter().map(LevelCounts::total).collect();
                    prop_assert_eq!(&*counts.totals, &*totals);
                    if !counts.is_by_minute {
                        known.levels.iter_mut().for_each(|l| l.minutes.clear());
                    }
                }
                prop_assert_eq!(counts.map(|c| c.counts), known);
            }
        }
    }

    #[test]
    fn random_bytes_are_errors_or_read(bytes: Vec<u8>, needle: Vec<u8>) {
        let _ = ChunkCounts::decode(&bytes);
        if let Ok(counts) = BatchCounts::decode(bytes.clone().into()) {
            let _ = counts.chunk(0);
        }
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
        from_ms: TimestampMs::new(5),
        through_ms: TimestampMs::new(9),
        checksum: 7,
    }
}

/// Two small chunks of a tenant that has no others, which share sections.
fn batch() -> ChunkBatch {
    let settings = SkipSettings::default();
    let entries = [(SECOND, "a line of some words".to_owned(), Vec::new())];
    let chunk = chunk_of(&entries);
    let mut batch = OpenBatch::new("c", &settings);
    for fingerprint in [5, 6] {
        let small = SkipBuilder::default().small(&chunk, &settings).unwrap();
        batch.add(&key("c", fingerprint), small, 200);
    }
    batch.close(0).unwrap()
}

fn object() -> Vec<u8> {
    let mut encoder = SideObjectEncoder::default();
    encoder.add_batch(batch());
    encoder.add_batch(batch());
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
    assert_eq!(directory.len(), 5, "each chunk once");
    assert_eq!(directory.batches().len(), 1);
    let small = directory.find(&key("c", 6)).unwrap();
    assert_eq!(small.in_batch, Some(1));
    assert_eq!(small.filters, directory.find(&key("c", 5)).unwrap().filters);
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
    assert_eq!(
        hashes[1],
        chunk_hash(tenant_hash("b"), 1, TimestampMs::new(5), 7)
    );
    assert_eq!(hashes.len(), 5);
    for absent in [key("c", 1), key("a", 5), key("a", 1), key("b", 4)] {
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
        let keys = [key("b", 3), key("a", 2), key("b", 1), key("c", 5)];
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
fn a_draft_that_was_stopped_half_way_gives_nothing() {
    let settings = Arc::new(ChunkSettings::default());
    let (skip_settings, mut skip) = (generous(), SkipBuilder::default());
    let mut compressor = settings.compressor();
    let mut builder = ChunkBuilder::new(ChunkFormat::V4, settings);
    let mut draft = SkipDraft::new(&skip_settings);
    for n in 0..2 {
        builder.append(n, b"a line of some words", &[]).unwrap();
        let mut drafting = draft.go_on(&mut skip, &skip_settings);
        (builder.cut_observed(&mut compressor, &mut drafting)).unwrap();
        if n > 0 {
            drafting.pause();
        }
    }
    let mut drafting = draft.go_on(&mut skip, &skip_settings);
    let mut codec = ChunkCodec::default();
    let chunk = builder.finished_observed(&mut compressor, &mut codec, &mut drafting);
    assert!(drafting.finish(chunk.unwrap().bytes.len()).is_none());
}

#[test]
fn a_settled_draft_has_a_group_for_what_came_before_and_one_for_the_rest() {
    let settings = Arc::new(ChunkSettings::default());
    let (skip_settings, mut skip) = (generous(), SkipBuilder::default());
    let mut compressor = settings.compressor();
    let mut builder = ChunkBuilder::new(ChunkFormat::V4, settings);
    let mut draft = SkipDraft::new(&skip_settings);
    for (n, line) in ["first words", "second words"].into_iter().enumerate() {
        builder.append(n as i64, line.as_bytes(), &[]).unwrap();
        let mut drafting = draft.go_on(&mut skip, &skip_settings);
        (builder.cut_observed(&mut compressor, &mut drafting)).unwrap();
        drafting.pause();
        if n == 0 {
            assert!(draft.open_bytes() > 0);
            draft.go_on(&mut skip, &skip_settings).settle();
            assert_eq!(draft.open_bytes(), 0);
        }
    }
    let mut drafting = draft.go_on(&mut skip, &skip_settings);
    let mut codec = ChunkCodec::default();
    let chunk = builder.finished_observed(&mut compressor, &mut codec, &mut drafting);
    let Some(MadeSkip::Own(made)) = drafting.finish(chunk.unwrap().bytes.len()) else {
        panic!("there is room for filters of its own");
    };
    let filters = SkipFilters::decode(made.filters.into()).unwrap();
    let blocks_with = |text: &[u8]| {
        let mut question = SkipQuestion::default();
        question.line(text);
        let choice = filters.choose(&question, |_| false);
        [0, 1].map(|block| choice.has(block))
    };
    assert_eq!(blocks_with(b"first"), [true, false]);
    assert_eq!(blocks_with(b"second"), [false, true]);
    assert_eq!(blocks_with(b"words"), [true, true]);
    let counts = ChunkCounts::decode(&made.counts).unwrap();
    assert_eq!(counts.levels[0].total(), (2, 23));
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
