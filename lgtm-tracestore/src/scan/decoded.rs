//! The decoded columns of some rows of a row group.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use super::field_plan::{LeafSet, Owner};
use super::scan_block::ScanBlock;
use crate::schema::{
    AttributeLeaves, ByteSource, Column, ColumnDecoder, ColumnMemory, ColumnPlan, ColumnValues,
    KeyedAttributes, LeafIndex, Levels, OffsetIndex, SpanRows, Texts,
};

/// Columns, and what lies in what. All columns have the same rows.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    columns: HashMap<LeafIndex, Column>,
    /// Dictionaries that all values of their columns are in, of columns that are not decoded.
    dictionaries: HashMap<LeafIndex, Texts>,
    /// By list of attributes, which its column of keys stands for, and key.
    keyed: HashMap<(LeafIndex, Vec<u8>), KeyedList>,
    /// Where memory comes from, and goes.
    memory: Arc<ColumnMemory>,
    spans: SpanRows,
    /// Of spans and of links: where those of each span begin, and where the last ends.
    events: Vec<u32>,
    links: Vec<u32>,
}

/// The attributes of a list that have one key.
#[derive(Debug)]
pub(super) struct KeyedList {
    pub(super) found: KeyedAttributes,
    /// Where their texts lie, once these are decoded.
    pub(super) texts: Option<Vec<Range<u32>>>,
}

/// Which pages of a leaf hold the rows.
#[derive(Debug, Clone, Default)]
pub(super) struct PagePlan {
    pub(super) rows: Vec<Range<u64>>,
    pub(super) leaves: HashMap<LeafIndex, ColumnPlan>,
}

pub(super) fn bad(reason: impl Into<String>) -> DecodeError {
    DecodeError::new("row group", 0, reason)
}

fn fetched<'s>(
    source: &'s (impl ByteSource + ?Sized),
    range: &Range<u64>,
) -> Result<&'s [u8], DecodeError> {
    let missing = || bad(format!("bytes {range:?} were not fetched"));
    source.bytes(range).ok_or_else(missing)
}

impl PagePlan {
    /// Plans the pages of leaves by their offset indexes, which were fetched. Chunks without one are read whole.
    pub(super) fn new(
        block: &ScanBlock,
        group: usize,
        rows: Vec<Range<u64>>,
        leaves: &LeafSet,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let mut out = Self {
            rows,
            leaves: HashMap::new(),
        };
        let count = block.file.row_groups.get(group).map_or(0, |g| g.rows);
        for leaf in leaves.keys() {
            let Some((_, chunk)) = block.file.chunk(group, *leaf) else {
                continue;
            };
            if !has_values(block, group, *leaf) {
                continue;
            }
            let plan = match &chunk.offset_index {
                Some(range) => {
                    let index = OffsetIndex::decode(fetched(source, range)?, allowance)?;
                    let all = 0..index.pages.len();
                    let bytes = index.range(&all);
                    let is_inside = bytes.is_empty()
                        || chunk.range.start <= bytes.start && bytes.end <= chunk.range.end;
                    let is_of_group = index
                        .pages
                        .last()
                        .is_none_or(|p| p.first_row < count.max(1));
                    if !is_inside || !is_of_group {
                        return Err(
                            bad("an offset index that names pages outside its chunk").into()
                        );
                    }
                    ColumnPlan::pages(chunk, &index, &out.rows, count)
                }
                None => ColumnPlan::whole(chunk, count),
            };
            out.leaves.insert(*leaf, plan);
        }
        Ok(out)
    }

    /// What is to be fetched.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        self.leaves
            .values()
            .flat_map(|plan| plan.ranges.clone())
            .collect()
    }

    /// How many rows are wanted.
    pub(super) fn len(&self) -> u64 {
        self.rows.iter().map(|r| r.end - r.start).sum()
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        let memory = &self.memory;
        self.columns.drain().for_each(|(_, c)| c.give(memory));
        self.dictionaries.drain().for_each(|(_, d)| d.give(memory));
        std::mem::take(&mut self.spans).give(memory);
        for starts in [&mut self.events, &mut self.links] {
            memory.give(std::mem::take(starts));
        }
    }
}

impl Decoded {
    /// Nothing yet, in memory that others left.
    pub(super) fn reusing(memory: Arc<ColumnMemory>) -> Self {
        let mut out = Self::default();
        out.memory = memory;
        out
    }

    pub(super) fn memory(&self) -> &Arc<ColumnMemory> {
        &self.memory
    }

    /// Decodes whole chunks, those that are not there yet. Levels come where they are needed.
    pub(super) fn add_whole(
        &mut self,
        block: &ScanBlock,
        group: usize,
        leaves: &LeafSet,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let rows = block.file.row_groups.get(group).map_or(0, |g| g.rows);
        for (&leaf, &with_levels) in leaves {
            let with_levels = with_levels || block.guide == Some(leaf);
            let is_there = self
                .columns
                .get(&leaf)
                .is_some_and(|c| !with_levels || c.max_rep == 0 || c.rep.len() == c.entries);
            let Some((file_leaf, chunk)) = block.file.chunk(group, leaf) else {
                continue;
            };
            if is_there || !has_values(block, group, leaf) {
                continue;
            }
            let levels = if with_levels {
                Levels::All
            } else {
                Levels::None
            };
            let memory = Arc::clone(&self.memory);
            let decoder = ColumnDecoder::new(file_leaf, chunk, levels).reusing(&memory);
            let mut decoder = decoder.with(memory.take_inflater());
            // The dictionary may have been fetched, or decoded, apart.
            let pieces = if let Some(texts) = self.dictionaries.remove(&leaf) {
                decoder.set_dictionary(texts);
                let mut pages = split(chunk);
                pages.retain(|piece| piece.start >= chunk.first_page);
                pages
            } else if source.bytes(&chunk.range).is_some() {
                vec![chunk.range.clone()]
            } else {
                split(chunk)
            };
            for piece in pieces {
                decoder.pages(fetched(source, &piece)?, allowance)?;
            }
            let (column, inflater) = decoder.finish_with();
            memory.give_inflater(inflater);
            if let Some(before) = self.columns.insert(leaf, column) {
                before.give(&memory);
            }
        }
        self.find_spans(block, rows, allowance)
    }

    /// Decodes pages and keeps the rows that were planned.
    pub(super) fn of_pages(
        block: &ScanBlock,
        group: usize,
        plan: &PagePlan,
        memory: &Arc<ColumnMemory>,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let mut out = Self::reusing(Arc::clone(memory));
        for (leaf, of_leaf) in &plan.leaves {
            let Some((file_leaf, chunk)) = block.file.chunk(group, *leaf) else {
                continue;
            };
            let decoder = ColumnDecoder::new(file_leaf, chunk, Levels::All).reusing(memory);
            let mut decoder = decoder.with(memory.take_inflater());
            for range in of_leaf.ranges.iter().filter(|range| !range.is_empty()) {
                decoder.pages(fetched(source, range)?, allowance)?;
            }
            let (mut column, inflater) = decoder.finish_with();
            memory.give_inflater(inflater);
            column.keep_rows(&of_leaf.rows, &plan.rows)?;
            out.columns.insert(*leaf, column);
        }
        out.find_spans(block, plan.len(), allowance)?;
        Ok(out)
    }

    fn find_spans(
        &mut self,
        block: &ScanBlock,
        rows: u64,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        if let Some(guide) = block.guide.and_then(|leaf| self.columns.get(&leaf))
            && self.spans.rows() == 0
        {
            self.spans = SpanRows::new_in(guide, &self.memory, allowance)?;
            if self.spans.rows() as u64 != rows {
                let has = self.spans.rows();
                return Err(bad(format!(
                    "{has} rows by the levels of spans, {rows} by the footer"
                ))
                .into());
            }
        }
        Ok(())
    }

    /// Finds which events and links belong to which span, where they are wanted.
    pub(super) fn find_below(
        &mut self,
        block: &ScanBlock,
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        for owner in [Owner::Event, Owner::Link] {
            let leaf = guide_of(block, owner);
            let known = if owner == Owner::Event {
                &mut self.events
            } else {
                &mut self.links
            };
            if let Some(column) = leaf.and_then(|leaf| self.columns.get(&leaf))
                && known.is_empty()
            {
                *known = starts(column, Owner::Span.depth(), self.spans.len(), allowance)?;
            }
        }
        Ok(())
    }

    /// Finds the attributes with a key, and their texts, as far as keys and texts are decoded.
    pub(super) fn add_key(
        &mut self,
        list: &AttributeLeaves,
        key: &[u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let Some((leaf, keys)) = list.key.and_then(|l| Some((l, self.columns.get(&l)?))) else {
            return Ok(());
        };
        let of_key = (leaf, key.to_vec());
        let mut keyed = match self.keyed.remove(&of_key) {
            Some(keyed) => keyed,
            None => KeyedList {
                found: KeyedAttributes::find(keys, key, allowance)?,
                texts: None,
            },
        };
        if let Some(texts) = list.text.and_then(|leaf| self.columns.get(&leaf))
            && keyed.texts.is_none()
        {
            keyed.texts = Some(if texts.values.is_empty() {
                Vec::new()
            } else {
                keyed.found.places(texts, keys, allowance)?
            });
        }
        self.keyed.insert(of_key, keyed);
        Ok(())
    }

    /// What was found of a key in a list of attributes.
    pub(super) fn keyed(&self, list: &AttributeLeaves, key: &[u8]) -> Option<&KeyedList> {
        self.keyed.get(&(list.key?, key.to_vec()))
    }

    /// Whether all attributes with a key are known to be texts: no other column has values of them.
    pub(super) fn is_text(&self, list: &AttributeLeaves, key: &[u8]) -> bool {
        let keyed = self.keyed(list, key);
        keyed.is_some_and(|keyed| {
            let texts = keyed.texts.as_ref();
            texts.is_some_and(|texts| {
                texts.len() == keyed.found.len() && texts.iter().all(|place| !place.is_empty())
            })
        })
    }

    /// Decodes dictionaries that were fetched, those that are not there yet.
    pub(super) fn add_dictionaries(
        &mut self,
        block: &ScanBlock,
        group: usize,
        leaves: &[LeafIndex],
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        for leaf in leaves {
            let Some((file_leaf, chunk)) = block.file.chunk(group, *leaf) else {
                continue;
            };
            if self.has_dictionary(*leaf) {
                continue;
            }
            let memory = Arc::clone(&self.memory);
            let decoder = ColumnDecoder::new(file_leaf, chunk, Levels::None).reusing(&memory);
            let mut decoder = decoder.with(memory.take_inflater());
            let bytes = fetched(source, &(chunk.range.start..chunk.first_page))?;
            decoder.pages(bytes, allowance)?;
            let (column, inflater) = decoder.finish_with();
            memory.give_inflater(inflater);
            if let ColumnValues::Indices { dictionary, .. } = column.values {
                self.dictionaries.insert(*leaf, dictionary);
            }
        }
        Ok(())
    }

    /// Whether the dictionary of a column is there, with the column or without it.
    pub(super) fn has_dictionary(&self, leaf: LeafIndex) -> bool {
        self.dictionaries.contains_key(&leaf) || self.columns.contains_key(&leaf)
    }

    /// The dictionary of a column that is not decoded, where it is there.
    pub(super) fn dictionary(&self, leaf: LeafIndex) -> Option<&Texts> {
        self.dictionaries.get(&leaf)
    }

    /// Whether a list of attributes may have a key: `true` where neither its keys nor their dictionary is decoded.
    pub(super) fn may_have_key(&self, list: &AttributeLeaves, key: &[u8]) -> bool {
        if let Some(texts) = list.key.and_then(|leaf| self.dictionaries.get(&leaf)) {
            return texts.iter().any(|k| k == key);
        }
        match self.column(list.key).map(|keys| &keys.values) {
            Some(ColumnValues::Indices { dictionary, .. }) => dictionary.iter().any(|k| k == key),
            Some(ColumnValues::Texts(keys)) if keys.is_empty() => false,
            _ => true,
        }
    }

    pub(super) fn column(&self, leaf: Option<LeafIndex>) -> Option<&Column> {
        self.columns.get(&leaf?)
    }

    pub(super) fn spans(&self) -> &SpanRows {
        &self.spans
    }

    /// Where the events or links of each span begin, and where the last ends.
    pub(super) fn below(&self, owner: Owner) -> &[u32] {
        match owner {
            Owner::Event => &self.events,
            Owner::Link => &self.links,
            _ => &[],
        }
    }

    /// How many of them there are.
    pub(super) fn count(&self, owner: Owner) -> usize {
        match owner {
            Owner::Trace => self.spans.rows(),
            Owner::Resource => self.spans.resources(),
            Owner::Scope => self.spans.scopes(),
            Owner::Span => self.spans.len(),
            owner => self.below(owner).last().map_or(0, |end| *end as usize),
        }
    }
}

/// Whether some row has a value in a column: what nobody has is neither read nor decoded. The column whose levels say what lies in what always is.
pub(super) fn has_values(block: &ScanBlock, group: usize, leaf: LeafIndex) -> bool {
    let Some((file_leaf, chunk)) = block.file.chunk(group, leaf) else {
        return true;
    };
    // Where no flag is set it is as if there were none.
    let is_flag = block.array_flags.contains(&leaf);
    if is_flag && chunk.max.as_deref() == Some(&[0]) {
        return false;
    }
    block.guide == Some(leaf)
        || file_leaf.max_def == 0
        || chunk.nulls.is_none_or(|nulls| nulls < chunk.entries)
}

/// The dictionary and the pages of a chunk.
pub(super) fn split(chunk: &crate::schema::Chunk) -> Vec<Range<u64>> {
    let parts = [
        chunk.range.start..chunk.first_page,
        chunk.first_page..chunk.range.end,
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// The leaf whose levels say which events or links a span has.
pub(super) fn guide_of(block: &ScanBlock, owner: Owner) -> Option<LeafIndex> {
    let span = &block.file.positions.span;
    match owner {
        Owner::Event => span.events.name.or(span.events.since_start),
        Owner::Link => span.links.trace_id.or(span.links.span_id),
        _ => None,
    }
}

/// Where the values of each owner of a depth begin in a column with levels, and where the last ends.
pub(super) fn starts(
    column: &Column,
    depth: u8,
    owners: usize,
    allowance: &mut Allowance<'_>,
) -> Result<Vec<u32>, DecodeFail> {
    let has_levels = |levels: &[u8], max: u8| max == 0 || levels.len() == column.entries;
    if !has_levels(&column.rep, column.max_rep) || !has_levels(&column.def, column.max_def) {
        return Err(bad("a column without levels").into());
    }
    let mut out = Vec::new();
    allowance.reserve(&mut out, owners + 1)?;
    let mut value = 0;
    let level = |levels: &[u8], n: usize| levels.get(n).copied().unwrap_or(0);
    for n in 0..column.entries {
        let (rep, def) = (level(&column.rep, n), level(&column.def, n));
        if rep <= depth && def >= depth {
            if out.len() == owners {
                return Err(bad("a column has values of more owners than there are").into());
            }
            out.push(value);
        }
        value += u32::from(def == column.max_def);
    }
    if out.len() != owners {
        let has = out.len();
        return Err(bad(format!("a column has values of {has} owners of {owners}")).into());
    }
    out.push(value);
    Ok(out)
}
