//! One block out of several that overlap.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use lgtm_core::DecodeError;

use super::block::{EntryBlock, SymbolPair};
use super::builder::EntryBlockBuilder;
use super::entry_ref::EntryRef;
use super::symbols::SymbolListBuilder;

/// One block with the entries of all, each once, and how many were left out because they were there already.
///
/// Entries of one time stand in the order of the blocks. Copies all lines.
///
/// # Errors
/// When the lines take more than 4 GiB together.
pub(super) fn merge(blocks: &[EntryBlock]) -> Result<(EntryBlock, u64), DecodeError> {
    let line_bytes: u64 = blocks.iter().map(EntryBlock::line_bytes).sum();
    let mut out = Merged {
        builder: EntryBlockBuilder::copying(usize::try_from(line_bytes).unwrap_or(0)),
        symbols: SymbolListBuilder::default(),
    };
    out.builder
        .reserve(blocks.iter().map(EntryBlock::len).sum());
    let mut next = vec![0usize; blocks.len()];
    let mut duplicates = 0;
    let mut seen = Seen::default();
    // A pass of the loop takes all entries of one time.
    loop {
        let heads = blocks.iter().zip(&next);
        let heads = heads.filter_map(|(block, n)| block.times().get(*n));
        let Some(&t_ns) = heads.min() else { break };
        seen.clear();
        for (n, block) in blocks.iter().enumerate() {
            let from = next[n];
            let count = block.times()[from..].iter().take_while(|t| **t == t_ns);
            next[n] = from + count.count();
            for at in from..next[n] {
                let entry = EntryAt { block: n, at };
                // The last block has no one to tell.
                if seen.insert(blocks, entry, n + 1 < blocks.len()) {
                    out.push(block, at)?
                } else {
                    duplicates += 1
                }
            }
        }
    }
    let symbols = Arc::new(out.symbols.finish());
    Ok((out.builder.finish(symbols), duplicates))
}

/// The same block with each entry once, and how many were left out. Copies all lines.
///
/// # Errors
/// When the lines take more than 4 GiB together.
pub fn distinct(block: &EntryBlock) -> Result<(EntryBlock, u64), DecodeError> {
    // Beside another block each entry is looked at.
    merge(&[block.clone(), block.slice(0..0)])
}

/// The same entries in bytes and with symbols of their own: what others of the block take is not kept with them.
///
/// # Errors
/// When the lines take more than 4 GiB.
pub fn detached(block: &EntryBlock) -> Result<EntryBlock, DecodeError> {
    let line_bytes = usize::try_from(block.line_bytes()).unwrap_or(0);
    let mut out = Merged {
        builder: EntryBlockBuilder::copying(line_bytes),
        symbols: SymbolListBuilder::default(),
    };
    for at in 0..block.len() {
        out.push(block, at)?;
    }
    let symbols = Arc::new(out.symbols.finish());
    Ok(out.builder.finish(symbols))
}

struct Merged {
    builder: EntryBlockBuilder,
    symbols: SymbolListBuilder,
}

impl Merged {
    fn push(&mut self, block: &EntryBlock, at: usize) -> Result<(), DecodeError> {
        let entry = block.get(at);
        self.builder.push_copy(entry.t_ns, entry.line)?;
        for (name, value) in entry.metadata() {
            // A full list reads as empty texts; the blocks' own lists had the same bound.
            let name = self.symbols.intern(name).unwrap_or(u32::MAX);
            let value = self.symbols.intern(value).unwrap_or(u32::MAX);
            self.builder.push_metadata(SymbolPair { name, value });
        }
        Ok(())
    }
}

/// An entry of one of several blocks.
#[derive(Debug, Clone, Copy)]
struct EntryAt {
    block: usize,
    at: usize,
}

impl EntryAt {
    fn get(self, blocks: &[EntryBlock]) -> EntryRef<'_> {
        blocks[self.block].get(self.at)
    }
}

/// Entries of one time that were met. Few are compared one by one, many are looked up by their hash.
#[derive(Debug, Default)]
struct Seen {
    list: Vec<EntryAt>,
    table: HashTable<EntryAt>,
    hashers: DefaultHashBuilder,
}

/// Entries of one time that are compared one by one.
const FEW: usize = 16;

impl Seen {
    fn clear(&mut self) {
        self.list.clear();
        self.table.clear();
    }

    /// Whether the entry is new; remembers it if `keep` or if others were remembered.
    fn insert(&mut self, blocks: &[EntryBlock], entry: EntryAt, keep: bool) -> bool {
        if self.list.is_empty() {
            if keep {
                self.list.push(entry);
            }
            return true;
        }
        let this = entry.get(blocks);
        if self.list.len() < FEW {
            let is_new = !self.list.iter().any(|e| e.get(blocks) == this);
            if is_new {
                self.list.push(entry);
            }
            return is_new;
        }
        let hashers = &self.hashers;
        let hash_of = |e: &EntryAt| hashers.hash_one(e.get(blocks));
        if self.table.is_empty() {
            for known in &self.list {
                self.table.insert_unique(hash_of(known), *known, hash_of);
            }
        }
        let hash = hash_of(&entry);
        if self.table.find(hash, |e| e.get(blocks) == this).is_some() {
            return false;
        }
        self.table.insert_unique(hash, entry, hash_of);
        true
    }
}
