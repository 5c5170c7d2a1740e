//! Blocks of one stream made free of overlap.

use lgtm_core::DecodeError;
use lgtm_core::model::TimestampNs;

use super::block::EntryBlock;
use super::merge::merge;

/// What [`disjoint`] made.
#[derive(Debug, Clone, Default)]
pub struct DisjointBlocks {
    /// In time order; no time stands in two of them.
    pub blocks: Vec<EntryBlock>,
    /// Entries that were left out because another block had them.
    pub duplicates: u64,
}

/// Puts blocks of one stream in time order, cuts them where they overlap and joins what overlaps, each entry once.
///
/// Blocks that overlap nobody pass as they are; only where two have entries at the same times are lines copied. Entries of one time
/// keep the order of the blocks.
///
/// # Errors
/// When the lines of an overlap take more than 4 GiB.
pub fn disjoint(blocks: Vec<EntryBlock>) -> Result<DisjointBlocks, DecodeError> {
    let mut out = DisjointBlocks::default();
    // What is not looked at yet, the earliest last; of equal beginnings the first block last.
    let mut rest: Vec<(usize, EntryBlock)> = Vec::with_capacity(blocks.len());
    rest.extend(blocks.into_iter().enumerate().filter(|b| !b.1.is_empty()));
    rest.sort_by_key(|(place, block)| std::cmp::Reverse((begin(block), *place)));
    while let Some((place, block)) = rest.pop() {
        let Some(other) = rest.last().map(|(_, b)| begin(b)) else {
            out.blocks.push(block);
            break;
        };
        if end(&block) < other {
            out.blocks.push(block);
            continue;
        }
        if begin(&block) < other {
            // Alone up to where the other begins.
            let alone = block.times().partition_point(|t| *t < other);
            out.blocks.push(block.slice(0..alone));
            put_back(&mut rest, (place, block.slice(alone..block.len())));
            continue;
        }
        let mut group = vec![(place, block)];
        while rest.last().is_some_and(|(_, b)| begin(b) == other) {
            group.extend(rest.pop());
        }
        join_heads(group, &mut rest, &mut out)?;
    }
    Ok(out)
}

/// Joins what blocks that begin at the same time have before the first of them ends or another block begins.
fn join_heads(
    group: Vec<(usize, EntryBlock)>,
    rest: &mut Vec<(usize, EntryBlock)>,
    out: &mut DisjointBlocks,
) -> Result<(), DecodeError> {
    let first_end = group.iter().map(|(_, b)| end(b)).min();
    let mut last = first_end.expect("a group has a block");
    if let Some((_, next)) = rest.last() {
        // It begins later than the group does.
        last = last.min(begin(next) - 1);
    }
    let mut heads = Vec::with_capacity(group.len());
    for (place, block) in group {
        let cut = block.times().partition_point(|t| *t <= last);
        heads.push(block.slice(0..cut));
        if cut < block.len() {
            put_back(rest, (place, block.slice(cut..block.len())));
        }
    }
    let (joined, duplicates) = merge(&heads)?;
    out.blocks.push(joined);
    out.duplicates += duplicates;
    Ok(())
}

fn put_back(rest: &mut Vec<(usize, EntryBlock)>, block: (usize, EntryBlock)) {
    let key = |(place, block): &(usize, EntryBlock)| (begin(block), *place);
    let at = rest.partition_point(|other| key(other) > key(&block));
    rest.insert(at, block);
}

fn begin(block: &EntryBlock) -> TimestampNs {
    block.min_ns().expect("empty blocks were left out")
}

fn end(block: &EntryBlock) -> TimestampNs {
    block.max_ns().expect("empty blocks were left out")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::entry::{EntryBlockBuilder, SymbolListBuilder, SymbolPair};

    type Plain = (TimestampNs, Vec<u8>, Vec<(String, String)>);

    fn block(entries: &[(i64, u8, u8)]) -> EntryBlock {
        let mut b = EntryBlockBuilder::copying(0);
        let mut symbols = SymbolListBuilder::default();
        for (t, line, metadata) in entries {
            b.push_copy(*t, &[*line]).unwrap();
            if *metadata > 0 {
                let name = symbols.intern("m").unwrap();
                let value = symbols.intern(&metadata.to_string()).unwrap();
                b.push_metadata(SymbolPair { name, value });
            }
        }
        b.finish(Arc::new(symbols.finish()))
    }

    fn plain(block: &EntryBlock) -> Vec<Plain> {
        let owned = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
        let entry = |e: crate::entry::EntryRef<'_>| {
            (e.t_ns, e.line.to_vec(), e.metadata().map(owned).collect())
        };
        block.iter().map(entry).collect()
    }

    #[test]
    fn blocks_that_touch_are_joined_only_where_they_do() {
        let a = block(&[(1, b'a', 0), (2, b'b', 0), (3, b'c', 0)]);
        let b = block(&[(3, b'c', 0), (3, b'd', 0), (4, b'e', 0)]);
        let made = disjoint(vec![b, a.clone()]).unwrap();
        let sizes: Vec<_> = made.blocks.iter().map(EntryBlock::len).collect();
        assert_eq!((sizes, made.duplicates), (vec![2, 2, 1], 1));
        assert_eq!(
            made.blocks[0].bytes().as_ptr(),
            a.bytes().as_ptr(),
            "no copy of what stands alone"
        );
    }

    proptest! {
        #[test]
        fn no_time_stands_in_two_blocks_and_no_entry_twice(
            blocks in proptest::collection::vec(
                proptest::collection::vec((0i64..40, b'a'..b'd', 0u8..2), 0..40), 0..5),
        ) {
            let blocks: Vec<_> = blocks.iter().map(|b| block(b)).collect();
            let made = disjoint(blocks.clone()).unwrap();
            let bounds: Vec<_> = made.blocks.iter().flat_map(|b| [begin(b), end(b)]).collect();
            for pair in bounds.chunks(2).collect::<Vec<_>>().windows(2) {
                prop_assert!(pair[0][1] < pair[1][0]);
            }
            let mut got: Vec<Plain> = made.blocks.iter().flat_map(plain).collect();
            let mut wanted: Vec<Plain> = blocks.iter().flat_map(plain).collect();
            got.sort();
            got.dedup();
            wanted.sort();
            wanted.dedup();
            prop_assert_eq!(got, wanted);
        }
    }
}
