//! A column of a row group, or of some pages of it, decoded: levels, and values as they are compared.
//!
//! Texts with a dictionary stay numbers of its entries; nobody makes texts of them who does not ask for one. Levels may be left out: a value that every
//! span has is as good as an array without them, and levels cost as much as the values.

use std::ops::Range;
use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::error::DecodeError;

use crate::schema::column_memory::{ColumnMemory, KeptEntry};
use crate::schema::file::{Chunk, FileLeaf, Physical};
use crate::schema::hybrid::decode_levels;
use crate::schema::page::{Page, PageEncoding, PageKind, Pages};
use crate::schema::page_scratch::PageScratch;
use crate::schema::page_values::{add_kept, become_indices, broken, plain_texts};
use crate::schema::row_entries::{PackedLevels, PageRows};
use crate::schema::row_pick::RowPick;
use crate::schema::texts::Texts;

/// The values of a column that are there.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnValues {
    /// 32-bit integers; those without a sign keep their bits.
    Int32(Vec<i32>),
    /// 64-bit integers; those without a sign keep their bits.
    Int64(Vec<i64>),
    /// Floats.
    Double(Vec<f64>),
    /// Booleans.
    Bool(Vec<bool>),
    /// Texts or bytes without a dictionary.
    Texts(Texts),
    /// Texts with a dictionary.
    Indices {
        /// What the numbers mean. An entry may occur twice where a writer left its dictionary half-way.
        dictionary: Arc<Texts>,
        /// A number of an entry for each value.
        indices: Vec<u32>,
    },
}

impl ColumnValues {
    /// How many values are there.
    pub fn len(&self) -> usize {
        match self {
            Self::Int32(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Texts(texts) => texts.len(),
            Self::Indices { indices, .. } => indices.len(),
        }
    }

    /// Whether none is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that they hold.
    fn capacity_bytes(&self) -> usize {
        match self {
            Self::Int32(values) => values.capacity() * size_of::<i32>(),
            Self::Int64(values) => values.capacity() * size_of::<i64>(),
            Self::Double(values) => values.capacity() * size_of::<f64>(),
            Self::Bool(values) => values.capacity(),
            Self::Texts(texts) => texts.capacity_bytes(),
            Self::Indices {
                dictionary,
                indices,
            } => dictionary.capacity_bytes() + indices.capacity() * size_of::<u32>(),
        }
    }

    /// Of those from one on keeps these ranges, which ascend and count from there.
    pub(super) fn keep(&mut self, from: usize, ranges: &[Range<usize>]) {
        match self {
            Self::Int32(values) => keep(values, from, ranges),
            Self::Int64(values) => keep(values, from, ranges),
            Self::Double(values) => keep(values, from, ranges),
            Self::Bool(values) => keep(values, from, ranges),
            Self::Texts(texts) => texts.keep(from, ranges),
            Self::Indices { indices, .. } => keep(indices, from, ranges),
        }
    }

    /// A text; empty where there is none.
    #[inline]
    pub fn text(&self, n: usize) -> &[u8] {
        match self {
            Self::Texts(texts) => texts.get(n),
            Self::Indices {
                dictionary,
                indices,
            } => indices
                .get(n)
                .map_or(&[], |at| dictionary.get(*at as usize)),
            _ => &[],
        }
    }

    /// An integer, its sign as the column's bits say; 0 where there is none.
    #[inline]
    pub fn int(&self, n: usize) -> i64 {
        match self {
            Self::Int32(values) => values.get(n).copied().unwrap_or_default().into(),
            Self::Int64(values) => values.get(n).copied().unwrap_or_default(),
            _ => 0,
        }
    }
}

/// A decoded column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The definition level of a value that is there.
    pub max_def: u8,
    /// The deepest repetition level.
    pub max_rep: u8,
    /// Definition levels; none when the column has none, or they were not asked for.
    pub def: Vec<u8>,
    /// Repetition levels; none when the column has none, or they were not asked for.
    pub rep: Vec<u8>,
    /// Entries of levels: values that are there and such that are not.
    pub entries: usize,
    /// Values that are there.
    pub values: ColumnValues,
}

impl Column {
    /// Whether its levels are there, where it has any.
    pub(crate) fn has_levels(&self) -> bool {
        self.max_rep == 0 || self.rep.len() == self.entries
    }

    /// Bytes of memory that it holds.
    pub(crate) fn size_bytes(&self) -> usize {
        self.def.capacity() + self.rep.capacity() + self.values.capacity_bytes()
    }

    /// Leaves its memory to other columns.
    pub(crate) fn give(self, memory: &ColumnMemory) {
        memory.give(self.def);
        memory.give(self.rep);
        match self.values {
            ColumnValues::Int32(values) => memory.give(values),
            ColumnValues::Int64(values) => memory.give(values),
            ColumnValues::Texts(texts) => texts.give(memory),
            ColumnValues::Indices {
                dictionary,
                indices,
            } => {
                if let Some(dictionary) = Arc::into_inner(dictionary) {
                    dictionary.give(memory);
                }
                memory.give(indices);
            }
            ColumnValues::Double(_) | ColumnValues::Bool(_) => {}
        }
    }
}

/// What of a column is wanted beside its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// Both kinds of levels.
    All,
    /// Definition levels: enough for a column with one entry for each span.
    Definition,
    /// Neither.
    None,
}

/// Decodes the pages of one column chunk.
#[derive(Debug)]
pub struct ColumnDecoder<'f> {
    leaf: &'f FileLeaf,
    chunk: &'f Chunk,
    levels: Levels,
    scratch: PageScratch,
    memory: Option<&'f ColumnMemory>,
    /// Which rows are kept; all if this is not there.
    pick: Option<RowPick<'f>>,
    /// For numbers of a dictionary's entries, once there are any.
    indices: Vec<u32>,
    dictionary: Option<Arc<Texts>>,
    column: Column,
}

/// What pages hold together, as their headers say.
#[derive(Debug, Clone, Copy, Default)]
struct PageSums {
    entries: usize,
    /// Those that are there, at most.
    values: usize,
    bytes: usize,
}

impl PageSums {
    fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut out = Self::default();
        let mut pages = Pages::new(bytes);
        while let Some(page) = pages.next()? {
            out.add(&page);
        }
        Ok(out)
    }

    fn add(&mut self, page: &Page<'_>) {
        let nulls = match page.kind {
            PageKind::V1 => 0,
            PageKind::V2 { nulls, .. } => nulls,
            PageKind::Dictionary | PageKind::Other => return,
        };
        self.entries = self.entries.saturating_add(page.values);
        let values = page.values.saturating_sub(nulls);
        self.values = self.values.saturating_add(values);
        self.bytes = self.bytes.saturating_add(page.uncompressed_bytes);
    }
}

impl<'f> ColumnDecoder<'f> {
    /// For a chunk of a leaf.
    pub fn new(leaf: &'f FileLeaf, chunk: &'f Chunk, levels: Levels) -> Self {
        let values = match leaf.physical {
            Physical::Bool => ColumnValues::Bool(Vec::new()),
            Physical::Int32 => ColumnValues::Int32(Vec::new()),
            Physical::Int64 => ColumnValues::Int64(Vec::new()),
            Physical::Double => ColumnValues::Double(Vec::new()),
            Physical::Bytes => ColumnValues::Texts(Texts::default()),
        };
        Self {
            leaf,
            chunk,
            levels,
            scratch: PageScratch::default(),
            memory: None,
            pick: None,
            indices: Vec::new(),
            dictionary: None,
            column: Column {
                max_def: leaf.max_def,
                max_rep: leaf.max_rep,
                def: Vec::new(),
                rep: Vec::new(),
                entries: 0,
                values,
            },
        }
    }

    /// Takes a dictionary that was decoded before; only pages behind it are to come.
    pub fn set_dictionary(&mut self, dictionary: Arc<Texts>) {
        self.dictionary = Some(dictionary);
    }

    /// The dictionary, while no values came.
    pub(crate) fn dictionary(&self) -> Option<&Arc<Texts>> {
        self.dictionary.as_ref()
    }

    /// Decodes pages that lie one after the other: the whole chunk, or its dictionary page first and then some pages.
    ///
    /// # Errors
    /// For bytes that are no pages of this column; what `allowance` refuses. Nothing is made that it was not asked for.
    pub fn pages(&mut self, bytes: &[u8], allowance: &mut Allowance<'_>) -> Result<(), DecodeFail> {
        // What all of them take is taken at once: a vector that grows page by page is copied, and leaves its old memory behind.
        let mut sums = match self.pick {
            None => PageSums::of(bytes)?,
            Some(_) => PageSums::default(),
        };
        let mut pages = Pages::new(bytes);
        while let Some(page) = pages.next()? {
            match page.kind {
                PageKind::Dictionary => self.dictionary_page(page, allowance)?,
                PageKind::V1 | PageKind::V2 { .. } => {
                    let mut rows = None;
                    if let Some(pick) = &mut self.pick {
                        if let Some(count) = page.rows(self.leaf.max_rep) {
                            let wanted = pick.take(count)?;
                            if wanted.is_empty() {
                                continue;
                            }
                            rows = Some((count, wanted));
                        }
                        // What is not kept of a page makes room for the next.
                        sums.add(&page);
                    }
                    self.make_room(&page, sums, allowance)?;
                    sums = PageSums::default();
                    if page.kind == PageKind::V1 {
                        self.page_v1(page, rows, allowance)?;
                    } else {
                        self.page_v2(page, rows, allowance)?;
                    }
                }
                PageKind::Other => {}
            }
        }
        Ok(())
    }

    /// Keeps only some rows; all levels are decoded.
    #[must_use]
    pub(crate) fn picking(mut self, pick: RowPick<'f>) -> Self {
        self.levels = Levels::All;
        self.pick = Some(pick);
        self
    }

    /// Decodes with the memory of another decoder.
    #[must_use]
    pub(crate) fn with(mut self, scratch: PageScratch) -> Self {
        self.scratch = scratch;
        self
    }

    /// Takes memory of columns from there.
    #[must_use]
    pub(crate) fn reusing(mut self, memory: &'f ColumnMemory) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Makes room for what this page and those behind it hold, where that is not done yet.
    fn make_room(
        &mut self,
        page: &Page<'_>,
        sums: PageSums,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let memory = self.memory;
        if self.levels == Levels::All && self.leaf.max_rep > 0 {
            room(&mut self.column.rep, sums.entries, memory, allowance)?;
        }
        if self.levels != Levels::None && self.leaf.max_def > 0 {
            room(&mut self.column.def, sums.entries, memory, allowance)?;
        }
        let is_dictionary = page.encoding == PageEncoding::Dictionary && self.dictionary.is_some();
        match &mut self.column.values {
            ColumnValues::Int32(values) => room(values, sums.values, memory, allowance),
            ColumnValues::Int64(values) => room(values, sums.values, memory, allowance),
            ColumnValues::Indices { indices, .. } => room(indices, sums.values, memory, allowance),
            ColumnValues::Texts(_) if is_dictionary => {
                room(&mut self.indices, sums.values, memory, allowance)
            }
            ColumnValues::Texts(texts) => {
                if let Some(memory) = self.memory
                    && texts.bytes.capacity() == 0
                {
                    texts.bytes = memory.take(sums.bytes);
                }
                room(&mut texts.ends, sums.values, memory, allowance)
            }
            ColumnValues::Double(_) | ColumnValues::Bool(_) => Ok(()),
        }
    }

    /// Whether all rows that are to be kept came.
    ///
    /// # Errors
    /// When there were fewer.
    pub(crate) fn check_picked(&self) -> Result<(), DecodeError> {
        self.pick.as_ref().map_or(Ok(()), RowPick::finish)
    }

    /// The column. Texts with a dictionary are numbers of its entries, also where some pages are without.
    pub fn finish(self) -> Column {
        self.finish_with().0
    }

    /// The column, and memory for another decoder.
    pub(crate) fn finish_with(self) -> (Column, PageScratch) {
        let mut column = self.column;
        if let (Some(dictionary), ColumnValues::Texts(none)) = (self.dictionary, &column.values)
            && none.is_empty()
        {
            let indices = Vec::new();
            column.values = ColumnValues::Indices {
                dictionary,
                indices,
            };
        }
        (column, self.scratch)
    }

    fn dictionary_page(
        &mut self,
        page: Page<'_>,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        if self.leaf.physical != Physical::Bytes || self.column.entries > 0 {
            return Err(broken("a dictionary where none belongs").into());
        }
        let (codec, bytes) = (self.chunk.codec, page.uncompressed_bytes);
        let body = self
            .scratch
            .inflater
            .inflate(codec, page.body, bytes, allowance)?;
        let mut dictionary = Texts::default();
        plain_texts(body, page.values, &mut dictionary, allowance)?;
        self.dictionary = Some(Arc::new(dictionary));
        Ok(())
    }

    fn page_v2(
        &mut self,
        page: Page<'_>,
        rows: Option<PageRows>,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let PageKind::V2 {
            nulls,
            def_bytes,
            rep_bytes,
            is_compressed,
            ..
        } = page.kind
        else {
            return Ok(());
        };
        let mut r = Reader::new("page", page.body);
        let rep = r.take(rep_bytes)?;
        let def = r.take(def_bytes)?;
        let entries = page.values;
        let Some(present) = entries.checked_sub(nulls) else {
            return Err(broken(format!("{nulls} nulls among {entries} values")).into());
        };
        let levels_bytes = rep_bytes + def_bytes;
        let Some(bytes) = page.uncompressed_bytes.checked_sub(levels_bytes) else {
            return Err(broken(format!("levels of {levels_bytes} bytes in a smaller page")).into());
        };
        let kept = match &mut self.pick {
            Some(pick) => {
                let levels = PackedLevels { rep, def, entries };
                let (picker, column) = (&mut self.scratch.picker, &mut self.column);
                let kept = picker.pick(levels, rows, pick, column, allowance)?;
                check_present(kept.count, present)?;
                if kept.wanted.is_empty() {
                    return Ok(());
                }
                Some(kept)
            }
            None => {
                self.all_levels(rep, def, (entries, present), allowance)?;
                None
            }
        };
        let codec = if is_compressed {
            self.chunk.codec
        } else {
            crate::schema::LeafCodec::None
        };
        let body = self
            .scratch
            .inflater
            .inflate(codec, r.rest(), bytes, allowance)?;
        if present > 0 && page.encoding == PageEncoding::Dictionary {
            become_indices(
                &mut self.column.values,
                &mut self.dictionary,
                &mut self.indices,
            )?;
        }
        let values = &mut self.column.values;
        add_kept(page.encoding, body, present, kept, values, allowance)
    }

    /// Appends the levels of a page of which all rows are kept, where they are wanted.
    fn all_levels(
        &mut self,
        rep: &[u8],
        def: &[u8],
        (entries, present): (usize, usize),
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let (leaf, column) = (self.leaf, &mut self.column);
        if self.levels == Levels::All && leaf.max_rep > 0 {
            levels(rep, leaf.max_rep, entries, &mut column.rep, allowance)?;
        }
        if self.levels != Levels::None && leaf.max_def > 0 {
            let there = levels(def, leaf.max_def, entries, &mut column.def, allowance)?;
            check_present(there, present)?;
        } else if leaf.max_def == 0 {
            check_present(entries, present)?;
        }
        column.entries += entries;
        Ok(())
    }

    fn page_v1(
        &mut self,
        page: Page<'_>,
        rows: Option<PageRows>,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let (codec, bytes) = (self.chunk.codec, page.uncompressed_bytes);
        let inflater = &mut self.scratch.inflater;
        let body = inflater.inflate(codec, page.body, bytes, allowance)?;
        let mut r = Reader::new("page", body);
        let entries = page.values;
        let (max_rep, max_def) = (self.leaf.max_rep, self.leaf.max_def);
        let rep = if max_rep > 0 { sized(&mut r)? } else { &[] };
        let def = if max_def > 0 { sized(&mut r)? } else { &[] };
        let rest = r.rest();
        let column = &mut self.column;
        let (present, kept);
        if let Some(pick) = &mut self.pick {
            let levels = PackedLevels { rep, def, entries };
            let picker = &mut self.scratch.picker;
            let picked = picker.pick(levels, rows, pick, column, allowance)?;
            present = picked.count;
            kept = Some(picked);
        } else {
            if self.levels == Levels::All && max_rep > 0 {
                levels(rep, max_rep, entries, &mut column.rep, allowance)?;
            }
            // Only the levels say how many values are there.
            let mut unwanted = Vec::new();
            let out = match self.levels {
                Levels::None => &mut unwanted,
                _ => &mut column.def,
            };
            present = match max_def {
                0 => entries,
                max => levels(def, max, entries, out, allowance)?,
            };
            column.entries += entries;
            kept = None;
        }
        if present > 0 && page.encoding == PageEncoding::Dictionary {
            become_indices(&mut column.values, &mut self.dictionary, &mut self.indices)?;
        }
        let values = &mut column.values;
        add_kept(page.encoding, rest, present, kept, values, allowance)
    }
}

/// Bytes with their length before them.
fn sized<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = r.u32_le()? as usize;
    r.take(len)
}

fn keep<T: Copy>(values: &mut Vec<T>, from: usize, ranges: &[Range<usize>]) {
    let mut len = from;
    for range in ranges {
        let at = |n: usize| n.saturating_add(from).min(values.len());
        let range = at(range.start)..at(range.end);
        let more = range.len();
        values.copy_within(range, len);
        len += more;
    }
    values.truncate(len);
}

fn check_present(there: usize, said: usize) -> Result<(), DecodeError> {
    if there != said {
        return Err(broken(format!(
            "{there} values by levels, {said} by the header"
        )));
    }
    Ok(())
}

/// Makes room for so many entries more, in memory that was used before if there is some.
fn room<T: KeptEntry>(
    vec: &mut Vec<T>,
    entries: usize,
    memory: Option<&ColumnMemory>,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    if vec.capacity() == 0
        && let Some(memory) = memory
    {
        *vec = memory.take(entries);
    }
    Ok(allowance.reserve(vec, entries)?)
}

/// Appends levels; how many are the highest, so that values are there.
fn levels(
    bytes: &[u8],
    max: u8,
    entries: usize,
    out: &mut Vec<u8>,
    allowance: &mut Allowance<'_>,
) -> Result<usize, DecodeFail> {
    allowance.reserve(out, entries)?;
    let from = out.len();
    decode_levels(bytes, max, entries, out)?;
    Ok(count_of(&out[from..], max))
}

/// How often a level occurs, in runs short enough to be counted in bytes.
pub(crate) fn count_of(levels: &[u8], level: u8) -> usize {
    let runs = levels.chunks(255);
    let in_run = |run: &[u8]| run.iter().fold(0u8, |n, l| n + u8::from(*l == level));
    runs.map(|run| usize::from(in_run(run))).sum()
}
