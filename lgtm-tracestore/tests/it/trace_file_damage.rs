//! Files that are damaged or made up: errors, no panics, and no more memory than was allowed.

use crate::blocks;
use crate::shared;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_tracestore::schema::{
    BlockFile, BlockVersion, BlockWriterSettings, FetchedRanges, LookupStep, OffsetIndex, RowPlan,
    RowReader, TraceLookup, decode_column_index,
};
use lgtm_tracestore::trace::{
    Attribute, DedicatedColumns, ResourceSpans, ScopeSpans, Span, Trace, TraceId, Value,
};
use std::sync::Arc;

use crate::blocks::{GoldenBlock, allowed, golden, open};

/// Everything that can be read of a file, as far as it goes.
fn read(
    bytes: &[u8],
    version: BlockVersion,
    dedicated: &DedicatedColumns,
    a: &mut Allowance<'_>,
) -> Result<usize, DecodeFail> {
    let size = bytes.len() as u64;
    let footer = match bytes
        .len()
        .checked_sub(8)
        .and_then(|at| bytes.get(at..at + 4))
    {
        Some(len) => u32::from_le_bytes(len.try_into().unwrap()),
        None => 0,
    };
    let range = BlockFile::footer_range(size, footer)?;
    let file = BlockFile::decode(&bytes[range.start as usize..], size, a)?;
    let mut traces = 0;
    for group in 0..file.row_groups.len().min(20) {
        for chunk in &file.row_groups[group].chunks {
            for (range, is_offsets) in [(&chunk.offset_index, true), (&chunk.column_index, false)] {
                let Some(range) = range else { continue };
                let index = &bytes[range.start as usize..range.end as usize];
                if is_offsets {
                    let _ = OffsetIndex::decode(index, a);
                } else {
                    let _ = decode_column_index(index, a);
                }
            }
        }
        let some_rows = RowPlan::rows(&file, group, 1..3, bytes, a);
        for plan in [Ok(RowPlan::row_group(&file, group)), some_rows] {
            let Ok(plan) = plan else { continue };
            let Ok(mut rows) = RowReader::open(&file, &plan, version, dedicated, bytes, a) else {
                continue;
            };
            let mut out = Vec::new();
            while let Ok(Some(_)) = rows.next(&mut out, a) {
                traces += 1;
            }
        }
    }
    Ok(traces)
}

const BOUND: usize = 32 << 20;

fn read_bounded(block: &GoldenBlock, bytes: &[u8]) -> Result<usize, DecodeFail> {
    allowed(BOUND, |a| read(bytes, block.version, &block.dedicated, a))
}

#[test]
fn flipped_bits_of_real_files_never_panic() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    let (mut errors, mut tried) = (0, 0);
    for block in golden(&root)
        .iter()
        .filter(|b| b.is_live && !b.name.contains("compacted"))
    {
        assert!(read_bounded(block, &block.bytes).unwrap() > 0);
        let mut bytes = block.bytes.clone();
        // A stride that is no multiple of anything: all kinds of places are met.
        for at in (0..bytes.len()).step_by(211) {
            bytes[at] ^= 1 << (at % 8);
            errors += usize::from(read_bounded(block, &bytes).is_err());
            tried += 1;
            bytes[at] = block.bytes[at];
        }
        let tail = bytes.len() - 400;
        for at in tail..bytes.len() {
            for value in [0, 0x7f, 0xff] {
                bytes[at] = value;
                errors += usize::from(read_bounded(block, &bytes).is_err());
                tried += 1;
            }
            bytes[at] = block.bytes[at];
        }
    }
    assert!(errors > tried / 20, "{errors} of {tried} were found out");
}

#[test]
fn cut_files_are_errors() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    for block in golden(&root)
        .iter()
        .filter(|b| b.is_live && !b.name.contains("compacted"))
    {
        for at in (0..block.bytes.len()).step_by(997) {
            assert!(read_bounded(block, &block.bytes[..at]).is_err());
        }
    }
}

#[test]
fn columns_swapped_between_chunks_never_panic() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    for block in golden(&root)
        .iter()
        .filter(|b| b.is_live && !b.name.contains("compacted"))
    {
        let file = open(&block.bytes);
        let leaves = file.leaves.len();
        for n in 0..leaves {
            for step in [1, 7, 31] {
                let mut file = file.clone();
                let other = (n + step) % leaves;
                file.row_groups[0].chunks.swap(n, other);
                let plan = RowPlan::row_group(&file, 0);
                allowed(BOUND, |a| {
                    let (version, bytes) = (block.version, block.bytes.as_slice());
                    let rows = RowReader::open(&file, &plan, version, &block.dedicated, bytes, a);
                    if let Ok(mut rows) = rows {
                        let mut out = Vec::new();
                        while let Ok(Some(_)) = rows.next(&mut out, a) {}
                    }
                });
            }
        }
    }
}

/// A text that stands once in the dictionary and in every span would be gigabytes of traces.
#[test]
fn what_rows_become_is_bounded() {
    let long = vec![b'x'; 1 << 20];
    let list: Vec<u8> = (0..10_000).flat_map(|_| [10, 3, 10, 1, b'y']).collect();
    let attribute = |value| Attribute { key: b"k", value };
    let span = |n: u8| Span {
        name: b"n",
        attributes: vec![attribute(Value::Text(&long)), attribute(Value::List(&list))],
        start_ns: n.into(),
        ..Span::default()
    };
    let scope = ScopeSpans {
        spans: (0..100).map(span).collect(),
        ..ScopeSpans::default()
    };
    let trace = Trace {
        resources: vec![ResourceSpans {
            scopes: vec![scope],
            ..ResourceSpans::default()
        }],
    };
    let mut bytes = Vec::new();
    trace.encode(&mut bytes);
    let settings = BlockWriterSettings::default();
    let (file, _) = blocks::write(&[(TraceId::new([1; 16]), bytes)], settings);
    assert!(file.len() < 2 << 20, "{} bytes", file.len());
    let dedicated = DedicatedColumns::default();
    let refused = |bound| {
        let opened = open(&file);
        let plan = RowPlan::row_group(&opened, 0);
        allowed(bound, |a| {
            let version = BlockVersion::V4;
            let mut rows =
                RowReader::open(&opened, &plan, version, &dedicated, file.as_slice(), a).unwrap();
            let mut out = Vec::new();
            let done = rows.next(&mut out, a);
            assert!(
                out.len() < bound + (2 << 20),
                "{} bytes were made",
                out.len()
            );
            done.is_err()
        })
    };
    assert!(refused(60 << 20));
    assert!(!refused(300 << 20));
}

#[test]
fn what_was_not_fetched_is_an_error() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    for block in golden(&root) {
        let file = open(&block.bytes);
        let id = TraceId::new([0xb3; 16]);
        let mut lookup = TraceLookup::new(
            Arc::new(file.clone()),
            block.version,
            block.dedicated.clone(),
            id,
            Some(0),
        );
        allowed(0, |a| {
            let nothing = FetchedRanges::default();
            assert!(matches!(lookup.step(&nothing, a), Ok(LookupStep::Read(_))));
            assert!(lookup.step(&nothing, a).is_err());
        });
    }
}

proptest::proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        let mut file = bytes.clone();
        let len = file.len() as u32;
        file.splice(0..0, *b"PAR1");
        file.extend(len.to_le_bytes());
        file.extend(*b"PAR1");
        let dedicated = DedicatedColumns::default();
        let _ = allowed(BOUND, |a| read(&file, BlockVersion::V4, &dedicated, a));
        let _ = allowed(BOUND, |a| OffsetIndex::decode(&bytes, a));
        let _ = allowed(BOUND, |a| decode_column_index(&bytes, a));
    }
}
