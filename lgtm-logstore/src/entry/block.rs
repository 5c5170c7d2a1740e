//! A run of entries of one stream.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::model::TimestampNs;

use super::entry_ref::EntryRef;
use super::symbols::SymbolList;

/// Where a line stands in the bytes of its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineRange {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl LineRange {
    /// Bytes of the line.
    #[inline]
    #[allow(
        clippy::len_without_is_empty,
        reason = "asked for how long lines are, not whether they are"
    )]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// As a range of bytes.
    #[inline]
    pub fn bytes(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Name and value of one structured metadata field, as numbers into the block's [`SymbolList`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SymbolPair {
    /// The name.
    pub name: u32,
    /// The value.
    pub value: u32,
}

/// The columns that all slices of a block share.
#[derive(Debug, Default)]
pub(super) struct EntryColumns {
    pub(super) t_ns: Vec<TimestampNs>,
    pub(super) lines: Vec<LineRange>,
    /// Where the metadata of each entry end in `pairs`; empty if no entry has any.
    pub(super) pair_ends: Vec<u32>,
    pub(super) pairs: Vec<SymbolPair>,
}

/// Entries of one stream, in time order; those of one time in the order of their arrival.
///
/// The lines stand in one buffer, which may have other bytes between them: what a decompressed block of a chunk has there. So a search
/// may go over the whole buffer at once, and looks up afterwards in which line it found something, if in any. A clone and a
/// [slice](EntryBlock::slice) share all of it and cost a few counters.
#[derive(Debug, Clone)]
pub struct EntryBlock {
    pub(super) bytes: Bytes,
    pub(super) columns: Arc<EntryColumns>,
    pub(super) symbols: Arc<SymbolList>,
    /// The entries of the columns that belong to it.
    pub(super) range: Range<usize>,
}

impl EntryBlock {
    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Time of the first entry, nanoseconds.
    pub fn min_ns(&self) -> Option<TimestampNs> {
        self.times().first().copied()
    }

    /// Time of the last entry, nanoseconds.
    pub fn max_ns(&self) -> Option<TimestampNs> {
        self.times().last().copied()
    }

    /// Times of the entries, nanoseconds, ascending.
    #[inline]
    pub fn times(&self) -> &[TimestampNs] {
        &self.columns.t_ns[self.range.clone()]
    }

    /// Where the lines of the entries stand in [`EntryBlock::bytes`]. They need not stand in order.
    #[inline]
    pub fn lines(&self) -> &[LineRange] {
        &self.columns.lines[self.range.clone()]
    }

    /// The buffer that holds the lines, with whatever stands between them; of a slice, the lines of other entries too.
    #[inline]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether each line ends before the next one begins, so that a place in the buffer tells the entry by halving.
    pub fn has_lines_in_order(&self) -> bool {
        self.lines().is_sorted_by(|a, b| a.end <= b.start)
    }

    /// Whether a line has a byte. Costs one pass over the buffer, and a search by halving for each place between lines that has it.
    pub fn has_byte(&self, byte: u8) -> bool {
        let lines = self.lines();
        if !self.has_lines_in_order() {
            return (0..self.len()).any(|n| memchr::memchr(byte, self.line(n)).is_some());
        }
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
            return false;
        };
        let (start, end) = (first.start as usize, last.end as usize);
        memchr::memchr_iter(byte, &self.bytes[start..end]).any(|at| {
            let at = (start + at) as u32;
            let line = lines.partition_point(|l| l.end <= at);
            lines.get(line).is_some_and(|l| l.start <= at)
        })
    }

    /// Bytes of memory that its lines and columns take; of a slice its part of what all slices share, by the number of entries.
    pub fn memory_bytes(&self) -> u64 {
        let c = &*self.columns;
        let columns = size_of_val(&c.t_ns[..])
            + size_of_val(&c.lines[..])
            + size_of_val(&c.pair_ends[..])
            + size_of_val(&c.pairs[..]);
        let all = (self.bytes.len() + columns) as u64;
        match c.t_ns.len() as u64 {
            0 => all,
            entries => all.saturating_mul(self.len() as u64).div_ceil(entries),
        }
    }

    /// Whether any entry has structured metadata.
    #[inline]
    pub fn has_metadata(&self) -> bool {
        !self.columns.pairs.is_empty()
    }

    /// The texts of the structured metadata.
    #[inline]
    pub fn symbols(&self) -> &Arc<SymbolList> {
        &self.symbols
    }

    /// The line of an entry.
    ///
    /// # Panics
    /// When there is no such entry.
    #[inline]
    pub fn line(&self, entry: usize) -> &[u8] {
        &self.bytes[self.lines()[entry].bytes()]
    }

    /// The structured metadata of an entry.
    ///
    /// # Panics
    /// When there is no such entry.
    #[inline]
    pub fn metadata(&self, entry: usize) -> &[SymbolPair] {
        let c = &*self.columns;
        if c.pair_ends.is_empty() {
            return &[];
        }
        let at = self.range.start + entry;
        let start = at.checked_sub(1).map_or(0, |before| c.pair_ends[before]);
        &c.pairs[start as usize..c.pair_ends[at] as usize]
    }

    /// A look at an entry.
    ///
    /// # Panics
    /// When there is no such entry.
    #[inline]
    pub fn get(&self, entry: usize) -> EntryRef<'_> {
        EntryRef {
            t_ns: self.times()[entry],
            line: self.line(entry),
            metadata: self.metadata(entry),
            symbols: &self.symbols,
        }
    }

    /// All entries, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = EntryRef<'_>> + ExactSizeIterator {
        (0..self.len()).map(|n| self.get(n))
    }

    /// Bytes of the lines of all entries together. Costs a walk over their lengths.
    pub fn line_bytes(&self) -> u64 {
        self.lines().iter().map(|l| l.len() as u64).sum()
    }

    /// Bytes of names and values of the structured metadata of all entries together, as often as they stand there.
    pub fn metadata_bytes(&self) -> u64 {
        if !self.has_metadata() {
            return 0;
        }
        let len = |symbol| self.symbols.get(symbol).len() as u64;
        let pairs = (0..self.len()).flat_map(|n| self.metadata(n));
        pairs.map(|p| len(p.name) + len(p.value)).sum()
    }

    /// Some of the entries.
    ///
    /// # Panics
    /// When the range reaches beyond the entries.
    #[must_use]
    pub fn slice(&self, entries: Range<usize>) -> Self {
        assert!(
            entries.start <= entries.end && entries.end <= self.len(),
            "entries {entries:?} of {}",
            self.len()
        );
        Self {
            range: self.range.start + entries.start..self.range.start + entries.end,
            ..self.clone()
        }
    }

    /// The entries that are kept, by their numbers. The lines stay where they are; columns are made anew.
    #[must_use]
    pub fn retained(&self, is_kept: impl Fn(usize) -> bool) -> Self {
        let mut columns = EntryColumns::default();
        let has_metadata = self.has_metadata();
        for n in (0..self.len()).filter(|n| is_kept(*n)) {
            columns.t_ns.push(self.times()[n]);
            columns.lines.push(self.lines()[n]);
            if has_metadata {
                columns.pairs.extend_from_slice(self.metadata(n));
                columns.pair_ends.push(columns.pairs.len() as u32);
            }
        }
        if columns.pairs.is_empty() {
            columns.pair_ends.clear();
        }
        Self {
            range: 0..columns.t_ns.len(),
            bytes: self.bytes.clone(),
            columns: Arc::new(columns),
            symbols: Arc::clone(&self.symbols),
        }
    }

    /// The entries with `min_ns <= time < max_ns`. Costs two searches by halving.
    #[must_use]
    pub fn between(&self, min_ns: impl Into<TimestampNs>, max_ns: impl Into<TimestampNs>) -> Self {
        let (min_ns, max_ns) = (min_ns.into(), max_ns.into());
        let times = self.times();
        let start = times.partition_point(|t| *t < min_ns);
        let end = times.partition_point(|t| *t < max_ns).max(start);
        self.slice(start..end)
    }

    /// Bytes of memory that the block keeps: the whole of what slices share.
    pub fn size_bytes(&self) -> usize {
        let c = &*self.columns;
        self.bytes.len()
            + c.t_ns.len() * (size_of::<TimestampNs>() + size_of::<LineRange>())
            + c.pair_ends.len() * size_of::<u32>()
            + c.pairs.len() * size_of::<SymbolPair>()
            + self.symbols.size_bytes()
    }
}
