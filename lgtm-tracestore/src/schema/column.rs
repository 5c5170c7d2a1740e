//! A column of a row group, or of some pages of it, decoded: levels, and values as they are compared.
//!
//! Texts with a dictionary stay numbers of its entries; nobody makes texts of them who does not ask for one. Levels may be left out: a value that every
//! span has is as good as an array without them, and levels cost as much as the values.

use std::ops::Range;
use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::error::DecodeError;

use crate::schema::column_memory::{ColumnMemory, KeptEntry};
use crate::schema::delta::decode_deltas;
use crate::schema::file::{Chunk, FileLeaf, Physical};
use crate::schema::hybrid::{decode_indices, decode_levels};
use crate::schema::page::{Inflater, Page, PageEncoding, PageKind, Pages};
use crate::schema::row_pick::{PageStart, RowPick};
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
    inflater: Inflater,
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
            inflater: Inflater::default(),
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
    pub(crate) fn with(mut self, inflater: Inflater) -> Self {
        self.inflater = inflater;
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
    pub(crate) fn finish_with(self) -> (Column, Inflater) {
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
        (column, self.inflater)
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
        let body = self.inflater.inflate(codec, page.body, bytes, allowance)?;
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
        let start = PageStart::of(&self.column);
        if self.levels == Levels::All && self.leaf.max_rep > 0 {
            levels(
                rep,
                self.leaf.max_rep,
                entries,
                &mut self.column.rep,
                allowance,
            )?;
        }
        if self.levels != Levels::None && self.leaf.max_def > 0 {
            let out = &mut self.column.def;
            let there = levels(def, self.leaf.max_def, entries, out, allowance)?;
            check_present(there, present)?;
        } else if self.leaf.max_def == 0 {
            check_present(entries, present)?;
        }
        self.column.entries += entries;
        let kept = keep_levels(&mut self.pick, &mut self.column, start, rows)?;
        if kept.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let codec = if is_compressed {
            self.chunk.codec
        } else {
            crate::schema::LeafCodec::None
        };
        let body = self.inflater.inflate(codec, r.rest(), bytes, allowance)?;
        if present > 0 && page.encoding == PageEncoding::Dictionary {
            become_indices(
                &mut self.column.values,
                &mut self.dictionary,
                &mut self.indices,
            )?;
        }
        let values = &mut self.column.values;
        add_kept(page.encoding, body, (present, kept), values, allowance)
    }

    fn page_v1(
        &mut self,
        page: Page<'_>,
        rows: Option<PageRows>,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let start = PageStart::of(&self.column);
        let (codec, bytes) = (self.chunk.codec, page.uncompressed_bytes);
        let body = self.inflater.inflate(codec, page.body, bytes, allowance)?;
        let mut r = Reader::new("page", body);
        let entries = page.values;
        if self.leaf.max_rep > 0 {
            let len = r.u32_le()? as usize;
            let bytes = r.take(len)?;
            if self.levels == Levels::All {
                levels(
                    bytes,
                    self.leaf.max_rep,
                    entries,
                    &mut self.column.rep,
                    allowance,
                )?;
            }
        }
        let mut present = entries;
        if self.leaf.max_def > 0 {
            // Only the levels say how many values are there.
            let len = r.u32_le()? as usize;
            let bytes = r.take(len)?;
            let mut unwanted = Vec::new();
            let out = match self.levels {
                Levels::None => &mut unwanted,
                _ => &mut self.column.def,
            };
            present = levels(bytes, self.leaf.max_def, entries, out, allowance)?;
        }
        self.column.entries += entries;
        let rest = r.rest();
        let kept = keep_levels(&mut self.pick, &mut self.column, start, rows)?;
        if present > 0 && page.encoding == PageEncoding::Dictionary {
            become_indices(
                &mut self.column.values,
                &mut self.dictionary,
                &mut self.indices,
            )?;
        }
        let values = &mut self.column.values;
        add_kept(page.encoding, rest, (present, kept), values, allowance)
    }
}

/// How many rows a page says it has, and which of them are wanted.
type PageRows = (usize, Vec<Range<usize>>);

/// Of the page whose levels were decoded last, keeps those of the rows that are wanted: which of its values are theirs. `known` is how many rows the
/// page says it has, and those of them that are wanted, where it says so. `None` where all are kept.
fn keep_levels(
    pick: &mut Option<RowPick<'_>>,
    column: &mut Column,
    start: PageStart,
    known: Option<PageRows>,
) -> Result<Option<Vec<Range<usize>>>, DecodeError> {
    let Some(pick) = pick else {
        return Ok(None);
    };
    let count = RowPick::rows_of(column, start)?;
    let wanted = match known {
        Some((said, _)) if said != count => {
            let reason = format!("{count} rows by levels, {said} by the header");
            return Err(broken(reason));
        }
        Some((_, wanted)) => wanted,
        None => pick.take(count)?,
    };
    RowPick::keep_levels(column, start, &wanted).map(Some)
}

/// Appends values of a page, all or those that are kept.
fn add_kept(
    encoding: PageEncoding,
    body: &[u8],
    (count, kept): (usize, Option<Vec<Range<usize>>>),
    values: &mut ColumnValues,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let Some(kept) = kept else {
        return add_values(encoding, body, count, values, allowance);
    };
    // What is behind the last that is kept is not decoded where values stand each for itself.
    let count = match (encoding, kept.last()) {
        (_, None) => return Ok(()),
        (PageEncoding::Dictionary | PageEncoding::Plain, Some(last)) => count.min(last.end),
        _ => count,
    };
    let from = values.len();
    add_values(encoding, body, count, values, allowance)?;
    values.keep(from, &kept);
    Ok(())
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

fn broken(reason: impl Into<String>) -> DecodeError {
    DecodeError::new("column page", 0, reason)
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

/// Appends `count` values of a page.
fn add_values(
    encoding: PageEncoding,
    body: &[u8],
    count: usize,
    values: &mut ColumnValues,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    if count == 0 {
        return Ok(());
    }
    match (values, encoding) {
        (
            ColumnValues::Indices {
                dictionary,
                indices,
            },
            PageEncoding::Dictionary,
        ) => {
            allowance.reserve(indices, count)?;
            decode_indices(body, dictionary.len(), count, indices)?;
        }
        (ColumnValues::Int64(out), PageEncoding::Delta) => {
            allowance.reserve(out, count)?;
            decode_deltas(&mut Reader::new("deltas", body), count, out)?;
        }
        (ColumnValues::Int32(out), PageEncoding::Delta) => {
            allowance.reserve(out, count)?;
            decode_deltas(&mut Reader::new("deltas", body), count, out)?;
        }
        (ColumnValues::Int64(out), PageEncoding::Plain) => {
            let bytes = fixed::<8>(body, count)?;
            allowance.reserve(out, count)?;
            out.extend(bytes.iter().map(|b| i64::from_le_bytes(*b)));
        }
        (ColumnValues::Int32(out), PageEncoding::Plain) => {
            let bytes = fixed::<4>(body, count)?;
            allowance.reserve(out, count)?;
            out.extend(bytes.iter().map(|b| i32::from_le_bytes(*b)));
        }
        (ColumnValues::Double(out), PageEncoding::Plain) => {
            let bytes = fixed::<8>(body, count)?;
            allowance.reserve(out, count)?;
            out.extend(bytes.iter().map(|b| f64::from_le_bytes(*b)));
        }
        (ColumnValues::Bool(out), PageEncoding::Plain) => {
            let packed = Reader::new("booleans", body).take(count.div_ceil(8))?;
            allowance.reserve(out, count)?;
            out.extend((0..count).map(|n| packed[n / 8] >> (n % 8) & 1 == 1));
        }
        (ColumnValues::Bool(out), PageEncoding::Rle) => {
            let mut r = Reader::new("booleans", body);
            let len = r.u32_le()? as usize;
            let mut bits = Vec::new();
            allowance.reserve(&mut bits, count)?;
            decode_levels(r.take(len)?, 1, count, &mut bits)?;
            allowance.reserve(out, count)?;
            out.extend(bits.iter().map(|bit| *bit == 1));
        }
        (ColumnValues::Texts(texts), PageEncoding::Plain) => {
            plain_texts(body, count, texts, allowance)?;
        }
        (ColumnValues::Texts(texts), PageEncoding::DeltaLength) => {
            delta_texts(body, count, texts, allowance)?;
        }
        (
            ColumnValues::Indices {
                dictionary,
                indices,
            },
            PageEncoding::Plain | PageEncoding::DeltaLength,
        ) => {
            // Texts behind those with a dictionary are appended to it.
            let from = dictionary.len();
            let dictionary = Arc::make_mut(dictionary);
            if encoding == PageEncoding::Plain {
                plain_texts(body, count, dictionary, allowance)?;
            } else {
                delta_texts(body, count, dictionary, allowance)?;
            }
            allowance.reserve(indices, count)?;
            indices.extend((from..dictionary.len()).map(|n| n as u32));
        }
        _ => {
            return Err(broken(format!("{encoding:?} is no encoding of the column's type")).into());
        }
    }
    Ok(())
}

/// Makes texts numbers of entries of the dictionary: there must be one, and no text before it.
fn become_indices(
    values: &mut ColumnValues,
    dictionary: &mut Option<Arc<Texts>>,
    indices: &mut Vec<u32>,
) -> Result<(), DecodeError> {
    let ColumnValues::Texts(texts) = values else {
        return Ok(());
    };
    match dictionary.take() {
        Some(dictionary) if texts.is_empty() => {
            *values = ColumnValues::Indices {
                dictionary,
                indices: std::mem::take(indices),
            };
            Ok(())
        }
        _ => Err(broken("indices without a dictionary")),
    }
}

fn fixed<const N: usize>(body: &[u8], count: usize) -> Result<&[[u8; N]], DecodeError> {
    let bytes = Reader::new("values", body).take(count.saturating_mul(N))?;
    Ok(bytes.as_chunks().0)
}

/// Texts with their lengths before them.
fn plain_texts(
    body: &[u8],
    count: usize,
    out: &mut Texts,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("texts", body);
    if count > body.len() / 4 {
        return Err(r
            .error(format!("{count} texts in {} bytes", body.len()))
            .into());
    }
    check_room(out, body.len())?;
    allowance.reserve(&mut out.ends, count)?;
    allowance.reserve(&mut out.bytes, body.len() - 4 * count)?;
    for _ in 0..count {
        let len = r.u32_le()? as usize;
        out.bytes.extend_from_slice(r.take(len)?);
        out.ends.push(out.bytes.len() as u32);
    }
    Ok(())
}

/// Texts with all lengths before them.
fn delta_texts(
    body: &[u8],
    count: usize,
    out: &mut Texts,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("texts", body);
    check_room(out, body.len())?;
    let from = out.ends.len();
    allowance.reserve(&mut out.ends, count)?;
    decode_deltas(&mut r, count, &mut out.ends)?;
    let start = out.bytes.len() as u64;
    let mut end = start;
    let most = start + r.remaining() as u64;
    for length in &mut out.ends[from..] {
        end += u64::from(*length);
        if end > most {
            return Err(broken(format!("texts of more than {} bytes", most - start)).into());
        }
        *length = end as u32;
    }
    let bytes = r.take((end - start) as usize)?;
    allowance.reserve(&mut out.bytes, bytes.len())?;
    out.bytes.extend_from_slice(bytes);
    Ok(())
}

/// Ends are 32 bits.
fn check_room(out: &Texts, more: usize) -> Result<(), DecodeError> {
    if out.bytes.len() as u64 + more as u64 > u64::from(u32::MAX) {
        return Err(broken("texts of more than 4 GiB"));
    }
    Ok(())
}
