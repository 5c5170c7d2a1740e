use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::{Compressor, DecodeFail, crc32c};
use proptest::prelude::*;

use super::*;
use crate::entry::{EntryBlock, SymbolList};

type Pairs = Vec<(String, String)>;
type Entry = (i64, Vec<u8>, Pairs);

fn build(
    format: ChunkFormat,
    encoding: ChunkEncoding,
    block_size_bytes: usize,
    entries: &[Entry],
) -> FinishedChunk {
    let settings = ChunkSettings {
        encoding,
        block_size_bytes,
        target_size_bytes: 0,
        ..ChunkSettings::default()
    };
    settings.validate().unwrap();
    let mut compressor = Compressor::default();
    let mut chunk = ChunkBuilder::new(format, Arc::new(settings));
    for (t_ns, line, pairs) in entries {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        chunk.append(*t_ns, line, &pairs).unwrap();
        if chunk.is_block_full() {
            chunk.cut(&mut compressor).unwrap();
        }
    }
    let mut codec = ChunkCodec::default();
    let live = chunk.entries(i64::MIN, i64::MAX, &mut codec).unwrap();
    let count: usize = live.iter().map(EntryBlock::len).sum();
    assert_eq!(chunk.entry_count(), count as u64);
    chunk.finish(&mut compressor, &mut codec).unwrap()
}

fn plain(blocks: &[EntryBlock]) -> Vec<Entry> {
    let owned = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
    blocks
        .iter()
        .flat_map(EntryBlock::iter)
        .map(|e| {
            (
                e.t_ns.get(),
                e.line.to_vec(),
                e.metadata().map(owned).collect(),
            )
        })
        .collect()
}

fn read(bytes: &Bytes) -> Result<ChunkEntries, DecodeError> {
    let chunk = Chunk::open(bytes.clone())?;
    chunk
        .read(|_| true, &mut ChunkCodec::default())
        .map_err(|e| match e {
            DecodeFail::Broken(e) => e,
            DecodeFail::Refused(e) => panic!("{e}"),
        })
}

fn entries(max: usize) -> impl Strategy<Value = Vec<Entry>> {
    let line = proptest::collection::vec(any::<u8>(), 0..40);
    let pairs = proptest::collection::btree_map("[a-c]{1,2}", "[x-z]{0,2}", 0..3);
    let entry = (0i64..50, line, pairs).prop_map(|(t, line, pairs)| {
        let pairs = pairs.into_iter().collect();
        (1_700_000_000_000_000_000 + t, line, pairs)
    });
    proptest::collection::vec(entry, 1..max)
}

/// In order of time, each once.
fn sorted(mut entries: Vec<Entry>, format: ChunkFormat) -> Vec<Entry> {
    if !format.has_metadata() {
        entries.iter_mut().for_each(|e| e.2.clear());
    }
    let mut seen = std::collections::HashSet::new();
    entries.retain(|e| seen.insert(e.clone()));
    entries.sort_by_key(|e| e.0);
    entries
}

const FORMATS: [ChunkFormat; 4] = [
    ChunkFormat::V1,
    ChunkFormat::V2,
    ChunkFormat::V3,
    ChunkFormat::V4,
];

proptest! {
    #[test]
    fn entries_of_one_block_come_back_in_order(all in entries(60), format in 0usize..4, encoding in 0usize..9) {
        let format = FORMATS[format];
        let chunk = build(format, ChunkEncoding::ALL[encoding], 1 << 20, &all);
        let back = read(&chunk.bytes.into()).unwrap();
        prop_assert_eq!(back.blocks.len(), 1);
        prop_assert_eq!(plain(&back.blocks), sorted(all.clone(), format));
    }

    #[test]
    fn blocks_that_overlap_are_put_in_order_at_the_end(all in entries(120), block_size in 1usize..300) {
        let chunk = build(ChunkFormat::V4, ChunkEncoding::Snappy, block_size, &all);
        let bytes = Bytes::from(chunk.bytes);
        let back = read(&bytes).unwrap();
        let places = Chunk::open(bytes).unwrap();
        prop_assert!(places.blocks().windows(2).all(|w| w[0].max_ns <= w[1].min_ns));
        let mut got = plain(&back.blocks);
        prop_assert!(got.is_sorted_by_key(|e| e.0));
        prop_assert_eq!(got.len() as u64, chunk.entry_count);
        // Equal entries on both sides of a cut stay when no blocks overlap.
        got.sort();
        got.dedup();
        let mut wanted = sorted(all, ChunkFormat::V4);
        wanted.sort();
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn every_truncation_is_an_error(all in entries(8)) {
        for format in FORMATS {
            let bytes = Bytes::from(build(format, ChunkEncoding::None, 60, &all).bytes);
            for cut in 0..bytes.len() {
                prop_assert!(Chunk::open(bytes.slice(..cut)).is_err(), "{:?} {}", format, cut);
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_found_or_changes_nothing_that_is_read(all in entries(4), format in 0usize..4) {
        let format = FORMATS[format];
        let chunk = build(format, ChunkEncoding::None, 60, &all);
        let good = plain(&read(&chunk.bytes.clone().into()).unwrap().blocks);
        let mut bytes = chunk.bytes;
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(back) = read(&Bytes::from(bytes.clone())) {
                let got = plain(&back.blocks);
                // Header and trailer bear no checksum: another version or encoding may read as fewer entries, never silently.
                prop_assert!(got == good || !back.damaged.is_empty(), "bit {}", bit);
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, all in entries(6), at: prop::sample::Index, with: u8) {
        let _ = read(&Bytes::from(bytes.clone()));
        for format in FORMATS {
            let _ = decode_block(format, bytes.clone().into(), bytes.len() as u64, &Arc::default());
            let mut chunk = build(format, ChunkEncoding::None, 60, &all).bytes;
            let at = at.index(chunk.len());
            chunk[at] = with;
            let chunk = Bytes::from(chunk);
            let _ = read(&chunk);
            // By its ends, of which it says itself how long it is.
            for len in [chunk.len() as u64, u64::MAX, 40] {
                let tail = chunk.slice(at..);
                let Ok(mut ends) = Chunk::open_parts(len, chunk.clone(), tail) else { continue };
                let places = ends.blocks().to_vec();
                let _ = (ends.missing(&places), ends.are_intact(&places));
                ends.add(at as u64, bytes.clone().into());
                let _ = ends.symbols(&mut ChunkCodec::default());
                let _ = ends.read(|_| true, &mut ChunkCodec::default());
            }
        }
        let head = [&[1, 0x2e, 0xe5, 0x6a, 4, 0][..], &bytes].concat();
        let _ = read(&head.into());
        let _ = decode_symbols(ChunkEncoding::None, &bytes, 100, &mut Default::default());
        let _ = ObjectHead::decode(&bytes, &mut Default::default());
        let _ = ObjectHead::chunk_start(&bytes);
        let _ = ObjectHead::decode_front(&bytes, &mut Default::default());
        let front = [&[0, 0, 0, 4, 255, 255, 255, 255, 1, 0x2e, 0xe5, 0x6a, 4, 0][..], &bytes].concat();
        let _ = ObjectHead::decode_front(&front, &mut Default::default());
    }
}

fn lines(n: i64) -> Vec<Entry> {
    let pairs = |i: i64| vec![("id".to_owned(), format!("{}", i % 3))];
    (0..n)
        .map(|i| (i, format!("line {i}").into_bytes(), pairs(i)))
        .collect()
}

#[test]
fn a_damaged_block_is_left_out_and_the_others_are_read() {
    let chunk = build(ChunkFormat::V4, ChunkEncoding::Zstd, 40, &lines(20));
    let places = Chunk::open(chunk.bytes.clone().into()).unwrap();
    assert!(places.blocks().len() > 3);
    let bad = places.blocks()[1];
    let mut bytes = chunk.bytes.clone();
    bytes[bad.start as usize + 3] ^= 4;
    let back = read(&bytes.into()).unwrap();
    assert_eq!(back.damaged.len(), 1);
    assert_eq!(back.damaged[0].place, bad);
    assert!(back.damaged[0].error.to_string().contains("checksum"));
    assert_eq!(back.blocks.len(), places.blocks().len() - 1);
}

/// Writes the block table anew, with other offsets.
fn with_offsets(chunk: &[u8], change: impl Fn(usize, u64) -> u64) -> Vec<u8> {
    let opened = Chunk::open(chunk.to_vec().into()).unwrap();
    let layout = opened.layout();
    let mut blocks = layout.blocks.clone();
    for (n, block) in blocks.iter_mut().enumerate() {
        block.start = change(n, block.start);
    }
    let start = layout.trailer.table.start;
    let mut out = chunk[..start as usize].to_vec();
    let len = ChunkLayout::encode_table(layout.header.format, &blocks, &mut out) as u64;
    let table = start..start + len;
    let symbols = layout.trailer.symbols.clone();
    ChunkTrailer { symbols, table }.encode(&mut out);
    out
}

#[test]
fn a_wrong_offset_is_mended_and_one_that_leaves_the_chunk_is_an_error() {
    for format in FORMATS {
        let chunk = build(format, ChunkEncoding::Snappy, 40, &lines(20));
        let good = plain(&read(&chunk.bytes.clone().into()).unwrap().blocks);
        let shift = |n, at| at + u64::from(n == 0 || n == 2) * 7;
        let mended = read(&with_offsets(&chunk.bytes, shift).into()).unwrap();
        assert_eq!(mended.damaged, []);
        assert_eq!(plain(&mended.blocks), good, "{format:?}");
        let mut far = with_offsets(&chunk.bytes, |n, at| if n == 1 { 1 << 40 } else { at });
        assert_eq!(plain(&read(&far.clone().into()).unwrap().blocks), good);
        // With the block damaged too, neither place is good, and the one in the table leaves the chunk.
        let opened = Chunk::open(chunk.bytes.clone().into()).unwrap();
        far[opened.blocks()[1].start as usize] ^= 1;
        let error = read(&far.into()).unwrap_err().to_string();
        assert!(error.contains("1099511627776"), "{error}");
    }
}

#[test]
fn names_of_metadata_are_read_in_their_normal_form() {
    let symbols = Arc::new(SymbolList::from_texts([&b"user.name"[..], b"a-b", b"ok"]));
    // One entry with user.name=a-b, ok=user.name and a pair beyond the list.
    let bytes = Bytes::from_static(&[2, 1, b'x', 7, 3, 0, 1, 2, 0, 9, 9]);
    let block = decode_block(ChunkFormat::V4, bytes, 1, &symbols).unwrap();
    let pairs: Vec<_> = block.get(0).metadata().collect();
    assert_eq!(pairs, [("user_name", "a-b"), ("ok", "user.name"), ("", "")]);
    for (bad, reason) in [
        (&[2, 1, b'x', 6, 3, 0, 1, 2, 0, 9, 9][..], "fill"),
        (&[2, 1, b'x', 7, 2, 0, 1, 2, 0, 9, 9], "fill"),
        (&[2, 1, b'x', 7, 5, 0, 1, 2, 0, 9, 9], "5 pairs"),
        (&[2, 9, b'x'], "length 9"),
    ] {
        let bytes = Bytes::from_static(bad);
        let error = decode_block(ChunkFormat::V4, bytes, 1, &symbols).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let two = Bytes::from_static(&[2, 1, b'x', 1, 0]);
    let error = decode_block(ChunkFormat::V4, two, 2, &symbols).unwrap_err();
    assert!(error.to_string().contains("1 entries instead of 2"));
}

#[test]
fn a_block_that_unpacks_to_much_is_refused_by_its_bound() {
    let line = vec![b'a'; 100_000];
    let chunk = build(
        ChunkFormat::V4,
        ChunkEncoding::Zstd,
        1,
        &[(1, line, vec![])],
    );
    let chunk = Chunk::open(chunk.bytes.into()).unwrap();
    let mut codec = ChunkCodec::default();
    codec.limits.max_block_bytes = 50_000;
    let refused = chunk.read(|_| true, &mut codec);
    assert!(
        matches!(refused, Err(DecodeFail::Refused(_))),
        "{refused:?}"
    );
}

#[test]
fn the_head_keeps_order_and_drops_duplicates_also_when_many_have_one_time() {
    let settings = Arc::new(ChunkSettings::default());
    let mut chunk = ChunkBuilder::new(ChunkFormat::V4, settings);
    for round in 0..2 {
        for n in 0..1000 {
            let line = format!("line {n}");
            let appended = chunk.append(7, line.as_bytes(), &[("a", "b")]).unwrap();
            assert_eq!(appended == Appended::Duplicate, round == 1, "{n}");
        }
    }
    assert_eq!(chunk.append(7, b"line 1", &[]).unwrap(), Appended::Stored);
    assert_eq!(chunk.append(3, b"early", &[]).unwrap(), Appended::Stored);
    assert_eq!(chunk.append(3, b"early", &[]).unwrap(), Appended::Duplicate);
    assert_eq!(chunk.time_range(), Some((3.into(), 7.into())));
    assert_eq!(chunk.head().len(), 1002);
    let blocks = chunk.entries(0, 10, &mut ChunkCodec::default()).unwrap();
    let all = plain(&blocks);
    assert_eq!(
        (all[0].1.as_slice(), all[1].1.as_slice()),
        (&b"early"[..], &b"line 0"[..])
    );
    assert!(chunk.memory_bytes() > 10_000);
}

#[test]
fn a_chunk_is_full_by_its_size_or_by_ten_blocks() {
    let room = |target_size_bytes: usize| {
        let settings = ChunkSettings {
            encoding: ChunkEncoding::None,
            block_size_bytes: 10,
            target_size_bytes,
            ..ChunkSettings::default()
        };
        let mut chunk = ChunkBuilder::new(ChunkFormat::V4, Arc::new(settings));
        let mut n = 0;
        while chunk.has_room_for(b"0123456789", &[("a", "b")]) {
            chunk.append(n, b"0123456789", &[("a", "b")]).unwrap();
            if chunk.is_block_full() {
                chunk.cut(&mut Compressor::default()).unwrap();
            }
            n += 1;
        }
        n
    };
    // An entry has 16 bytes in a block (time, length, line, metadata), the symbols 2, the entry that is asked about 12.
    assert_eq!((room(0), room(14), room(15), room(100)), (10, 1, 1, 6));
    assert_eq!(room(12), 0);
    type Change = fn(&mut ChunkSettings);
    let faults: [Change; 3] = [
        |s| s.block_size_bytes = 0,
        |s| s.block_size_bytes = 1 << 30,
        |s| s.zstd_level = 0,
    ];
    for change in faults {
        let mut faulty = ChunkSettings::default();
        assert!(faulty.validate().is_ok());
        change(&mut faulty);
        assert!(faulty.validate().is_err(), "{faulty:?}");
    }
    let empty = ChunkBuilder::new(ChunkFormat::V4, Arc::new(ChunkSettings::default()));
    let none = empty.finish(&mut Compressor::default(), &mut ChunkCodec::default());
    assert!(none.is_err());
}

#[test]
fn objects_of_old_writers_are_read_too() {
    let labels = lgtm_core::model::Labels::from_pairs([("app", "x")]).unwrap();
    let chunk = build(ChunkFormat::V4, ChunkEncoding::Gzip, 40, &lines(5));
    let meta = ObjectMeta::new("t", labels.stable_hash(), labels, 0, 4);
    let (object, checksum) =
        encode_object(&meta, &chunk.bytes, &mut Compressor::default()).unwrap();
    assert_eq!(checksum, crc32c(&object));
    let mut old = object.clone();
    let len = u32::from_be_bytes(*old.first_chunk().unwrap()) - 4;
    old[..4].copy_from_slice(&len.to_be_bytes());
    for object in [&object, &old] {
        let (read, chunk) = read_object(&object.clone().into(), &mut Default::default()).unwrap();
        assert_eq!(read, meta);
        assert_eq!(chunk.blocks().iter().map(|b| b.entry_count).sum::<u64>(), 5);
        for cut in 0..object.len() {
            let cut = Bytes::copy_from_slice(&object[..cut]);
            assert!(read_object(&cut, &mut Default::default()).is_err());
        }
        let mut longer = object.clone();
        longer.push(0);
        assert!(read_object(&longer.into(), &mut Default::default()).is_err());
    }
}
