//! What was decoded of row groups, kept for the next query.
//!
//! A dashboard asks the same of the same blocks again and again. What it decodes of a row group is whole chunks and what follows from their levels,
//! which belong to the block and not to the query: so they are shared, up to a bound, and those that were not used for longest go first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::field_plan::Owner;
use crate::schema::{
    Column, ColumnMemory, ColumnValues, KeptDictionaries, KeyedAttributes, LeafIndex, SpanRows,
    Texts,
};

/// What a part takes beside its own bytes: two entries of tables, and what counts its holders.
const PART_BYTES: usize = 200;
/// A part of more than one in so many of all bytes is not kept: it would push out what serves many queries.
const LARGEST_SHARE: usize = 4;
/// Where there is no room any more, one new part in so many takes the place of what was not used for longest for good; the others go first themselves until
/// they are used again. A query that needs more than there is room for, asked again and again, would else push out each part just before it comes to it.
const ONE_STAYS_OF: u64 = 8;
/// What parts that stay are numbered from; those that go first have smaller numbers.
const FIRST_USE: u64 = 1 << 40;
/// Bytes of columns that come of a byte of the file, about.
const GROWTH: u64 = 4;

/// Decoded parts of row groups of all blocks.
#[derive(Debug)]
pub struct ColumnCache {
    max_bytes: usize,
    /// Of the next block.
    next_block: AtomicU64,
    memory: Arc<ColumnMemory>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    parts: HashMap<PartKey, KeptPart>,
    /// By when they were used, the oldest first.
    by_use: BTreeMap<u64, PartKey>,
    uses: u64,
    /// Parts that came when there was no room.
    late: u64,
    bytes: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            parts: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: FIRST_USE,
            late: 0,
            bytes: 0,
        }
    }
}

#[derive(Debug)]
struct KeptPart {
    part: Part,
    bytes: usize,
    used: u64,
}

/// Which part it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PartKey {
    block: u64,
    group: usize,
    name: PartName,
}

/// A part of a row group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PartName {
    Column(LeafIndex),
    Dictionary(LeafIndex),
    Spans,
    Below(Owner),
    /// Of the list of attributes that a column of keys stands for.
    Keyed(LeafIndex, Vec<u8>),
    /// That some rows of these columns were asked for.
    Asked(Vec<LeafIndex>),
}

/// What is kept of it.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Column(Arc<Column>),
    Dictionary(Arc<Texts>),
    Spans(Arc<SpanRows>),
    Below(Arc<Vec<u32>>),
    Keyed(KeyedList),
    Asked,
}

/// The attributes of a list that have one key.
#[derive(Debug, Clone)]
pub(super) struct KeyedList {
    pub(super) found: Arc<KeyedAttributes>,
    /// Where their texts lie, once these are decoded.
    pub(super) texts: Option<Arc<Vec<Range<u32>>>>,
}

impl Part {
    fn size_bytes(&self) -> usize {
        let bytes = match self {
            Self::Column(column) => column.size_bytes(),
            Self::Dictionary(texts) => texts.capacity_bytes(),
            Self::Spans(spans) => spans.size_bytes(),
            Self::Below(starts) => starts.capacity() * size_of::<u32>(),
            Self::Keyed(keyed) => {
                let texts = keyed.texts.as_ref();
                let places = texts.map_or(0, |places| places.capacity());
                keyed.found.size_bytes() + places * size_of::<Range<u32>>()
            }
            Self::Asked => 0,
        };
        bytes + PART_BYTES
    }

    /// Leaves its memory to others, where nobody else holds it.
    pub(super) fn give(self, memory: &ColumnMemory) {
        match self {
            Self::Column(column) => {
                if let Some(column) = Arc::into_inner(column) {
                    column.give(memory);
                }
            }
            Self::Dictionary(texts) => {
                if let Some(texts) = Arc::into_inner(texts) {
                    texts.give(memory);
                }
            }
            Self::Spans(spans) => {
                if let Some(spans) = Arc::into_inner(spans) {
                    spans.give(memory);
                }
            }
            Self::Below(starts) => {
                if let Some(starts) = Arc::into_inner(starts) {
                    memory.give(starts);
                }
            }
            Self::Keyed(_) | Self::Asked => {}
        }
    }
}

impl ColumnCache {
    /// At most so many bytes; 0 keeps nothing. What goes leaves its memory to `memory`.
    pub fn new(max_bytes: usize, memory: Arc<ColumnMemory>) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            next_block: AtomicU64::new(0),
            memory,
            kept: Mutex::default(),
        })
    }

    /// The place of a block, whose parts go when the last of those who hold it lets go.
    pub fn block(self: &Arc<Self>) -> Arc<BlockColumns> {
        Arc::new(BlockColumns {
            cache: Arc::clone(self),
            number: self.next_block.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Bytes that are kept.
    pub fn size_bytes(&self) -> usize {
        self.kept.lock().bytes
    }

    fn get(&self, key: &PartKey) -> Option<Part> {
        let mut kept = self.kept.lock();
        let kept = &mut *kept;
        let found = kept.parts.get_mut(key)?;
        kept.uses += 1;
        if let Some(key) = kept.by_use.remove(&found.used) {
            kept.by_use.insert(kept.uses, key);
        }
        found.used = kept.uses;
        Some(found.part.clone())
    }

    fn put(&self, key: PartKey, part: Part) {
        let bytes = part.size_bytes();
        if bytes > self.max_bytes / LARGEST_SHARE {
            return;
        }
        let mut gone = Vec::new();
        {
            let mut kept = self.kept.lock();
            gone.extend(kept.remove(&key));
            let is_late = kept.bytes + bytes > self.max_bytes;
            while kept.bytes + bytes > self.max_bytes
                && let Some((_, oldest)) = kept.by_use.pop_first()
            {
                gone.extend(kept.remove(&oldest));
            }
            kept.bytes += bytes;
            let used = kept.number(is_late);
            kept.by_use.insert(used, key.clone());
            kept.parts.insert(key, KeptPart { part, bytes, used });
        }
        gone.into_iter().for_each(|part| part.give(&self.memory));
    }

    /// Lets go of what is kept of a block, or of one part.
    fn forget(&self, is_gone: impl Fn(&PartKey) -> bool) {
        let mut kept = self.kept.lock();
        let gone: Vec<PartKey> = kept.parts.keys().filter(|k| is_gone(k)).cloned().collect();
        let parts: Vec<Part> = gone.iter().filter_map(|key| kept.remove(key)).collect();
        drop(kept);
        parts.into_iter().for_each(|part| part.give(&self.memory));
    }
}

impl Kept {
    /// The place of a new part among those that were used.
    fn number(&mut self, is_late: bool) -> u64 {
        self.late += u64::from(is_late);
        if is_late && !self.late.is_multiple_of(ONE_STAYS_OF) {
            let oldest = self.by_use.first_key_value();
            return oldest.map_or(FIRST_USE, |(used, _)| used.saturating_sub(1));
        }
        self.uses += 1;
        self.uses
    }

    fn remove(&mut self, key: &PartKey) -> Option<Part> {
        let gone = self.parts.remove(key)?;
        self.by_use.remove(&gone.used);
        self.bytes -= gone.bytes;
        Some(gone.part)
    }
}

/// The place of one block in a [`ColumnCache`].
#[derive(Debug)]
pub struct BlockColumns {
    cache: Arc<ColumnCache>,
    number: u64,
}

impl KeptDictionaries for BlockColumns {
    fn get(&self, row_group: usize, leaf: LeafIndex) -> Option<Arc<Texts>> {
        let part = |name| self.cache.get(&self.key(row_group, name));
        match part(PartName::Dictionary(leaf)).or_else(|| part(PartName::Column(leaf)))? {
            Part::Dictionary(texts) => Some(texts),
            Part::Column(column) => match &column.values {
                ColumnValues::Indices { dictionary, .. } => Some(Arc::clone(dictionary)),
                _ => None,
            },
            _ => None,
        }
    }

    fn put(&self, row_group: usize, leaf: LeafIndex, texts: Arc<Texts>) {
        let key = self.key(row_group, PartName::Dictionary(leaf));
        self.cache.put(key, Part::Dictionary(texts));
    }
}

impl BlockColumns {
    fn key(&self, group: usize, name: PartName) -> PartKey {
        PartKey {
            block: self.number,
            group,
            name,
        }
    }
}

impl Drop for BlockColumns {
    fn drop(&mut self) {
        self.cache.forget(|key| key.block == self.number);
    }
}

/// The place of a row group.
#[derive(Debug, Clone)]
pub(super) struct GroupColumns {
    block: Arc<BlockColumns>,
    group: usize,
}

impl GroupColumns {
    pub(super) fn new(block: Arc<BlockColumns>, group: usize) -> Self {
        Self { block, group }
    }

    fn key(&self, name: PartName) -> PartKey {
        self.block.key(self.group, name)
    }

    pub(super) fn get(&self, name: PartName) -> Option<Part> {
        self.block.cache.get(&self.key(name))
    }

    pub(super) fn put(&self, name: PartName, part: Part) {
        self.block.cache.put(self.key(name), part);
    }

    /// Whether anything is kept at all.
    pub(super) fn has_room(&self) -> bool {
        self.block.cache.max_bytes > 0
    }

    /// Whether some rows of these columns were asked for before, and there is room for all of their rows, which take so many bytes of the file: then they
    /// are worth to be decoded as a whole.
    pub(super) fn is_asked_again(&self, leaves: Vec<LeafIndex>, file_bytes: u64) -> bool {
        let cache = &self.block.cache;
        let bytes = file_bytes.saturating_mul(GROWTH) + cache.size_bytes() as u64;
        if bytes > cache.max_bytes as u64 {
            return false;
        }
        let name = PartName::Asked(leaves);
        if self.get(name.clone()).is_some() {
            return true;
        }
        self.put(name, Part::Asked);
        false
    }

    pub(super) fn forget(&self, name: PartName) {
        let key = self.key(name);
        let cache = &self.block.cache;
        let gone = cache.kept.lock().remove(&key);
        if let Some(part) = gone {
            part.give(&cache.memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(len: usize) -> Part {
        Part::Below(Arc::new(vec![0; len]))
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first_and_the_bound_holds() {
        let cache = ColumnCache::new(40_000, Arc::default());
        let (a, b) = (cache.block(), cache.block());
        let (a, b) = (GroupColumns::new(a, 0), GroupColumns::new(b, 0));
        for leaf in 0..4 {
            a.put(PartName::Column(leaf), starts(2_000));
        }
        assert!(a.get(PartName::Column(0)).is_some());
        b.put(PartName::Spans, starts(2_000));
        assert!(a.get(PartName::Column(0)).is_some(), "it was used since");
        assert!(a.get(PartName::Column(1)).is_none());
        assert!(b.get(PartName::Column(0)).is_none(), "another block's");
        assert_eq!(cache.size_bytes(), 4 * (8_000 + PART_BYTES));
        b.put(PartName::Below(Owner::Event), starts(2_600));
        assert!(
            b.get(PartName::Below(Owner::Event)).is_none(),
            "more than its share"
        );
        a.put(PartName::Column(0), starts(1_000));
        let of_three = 3 * (8_000 + PART_BYTES);
        assert_eq!(cache.size_bytes(), of_three + 4_000 + PART_BYTES);
    }

    #[test]
    fn a_round_of_more_than_there_is_room_for_finds_most_of_what_there_is() {
        let cache = ColumnCache::new(8 * 1_000, Arc::default());
        let of = GroupColumns::new(cache.block(), 0);
        let part = || starts((1_000 - PART_BYTES) / size_of::<u32>());
        let round = |leaves: Range<LeafIndex>| {
            let is_missing = |leaf: &LeafIndex| {
                let is_missing = of.get(PartName::Column(*leaf)).is_none();
                if is_missing {
                    of.put(PartName::Column(*leaf), part());
                }
                is_missing
            };
            leaves.filter(is_missing).count()
        };
        let missing: Vec<usize> = (0..20).map(|_| round(0..12)).collect();
        assert!(
            missing[1..].iter().all(|n| (4..=7).contains(n)),
            "{missing:?}"
        );
        let others: Vec<usize> = (0..20).map(|_| round(100..106)).collect();
        assert_eq!(others.last(), Some(&0), "others come in: {others:?}");
    }

    #[test]
    fn parts_go_with_their_block() {
        let cache = ColumnCache::new(100_000, Arc::default());
        let (a, b) = (cache.block(), cache.block());
        let of_a = GroupColumns::new(Arc::clone(&a), 3);
        of_a.put(PartName::Spans, starts(100));
        of_a.put(PartName::Dictionary(1), starts(100));
        of_a.forget(PartName::Dictionary(1));
        GroupColumns::new(Arc::clone(&b), 3).put(PartName::Spans, starts(100));
        drop(a);
        assert_eq!(cache.size_bytes(), 2 * (400 + PART_BYTES), "it is in use");
        drop(of_a);
        assert_eq!(cache.size_bytes(), 400 + PART_BYTES);
        drop(b);
        assert_eq!(cache.size_bytes(), 0);
        let kept = cache.kept.lock();
        assert!(kept.parts.is_empty() && kept.by_use.is_empty());
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let cache = ColumnCache::new(0, Arc::default());
        let of = GroupColumns::new(cache.block(), 0);
        of.put(PartName::Spans, starts(0));
        assert!(of.get(PartName::Spans).is_none());
    }
}
