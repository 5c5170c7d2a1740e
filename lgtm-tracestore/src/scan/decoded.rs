//! The decoded columns of some rows of a row group.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use super::column_cache::{GroupColumns, KeyedList, Part, PartName};
use super::field_plan::{LeafSet, Owner};
use super::scan_block::ScanBlock;
use crate::schema::{
    AttributeLeaves, ByteSource, Column, ColumnDecoder, ColumnMemory, ColumnPlan, ColumnValues,
    KeyedAttributes, LeafIndex, Levels, OffsetIndex, RowPick, SpanRows, Texts,
};

/// Columns, and what lies in what. All columns have the same rows.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    columns: HashMap<LeafIndex, Arc<Column>>,
    /// Dictionaries that all values of their columns are in, of columns that are not decoded.
    dictionaries: HashMap<LeafIndex, Arc<Texts>>,
    /// By list of attributes, which its column of keys stands for, and key.
    keyed: HashMap<(LeafIndex, Vec<u8>), KeyedList>,
    /// Where memory comes from, and goes.
    memory: Arc<ColumnMemory>,
    spans: Arc<SpanRows>,
    /// Of spans and of links: where those of each span begin, and where the last ends.
    events: Arc<Vec<u32>>,
    links: Arc<Vec<u32>>,
    /// Where others find what was decoded of whole chunks, and left the same.
    kept: Option<GroupColumns>,
    /// Bytes of what was found there.
    recalled_bytes: usize,
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
                None => ColumnPlan {
                    ranges: split(chunk),
                    ..ColumnPlan::whole(chunk, count)
                },
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
        let columns = self.columns.drain().map(|(_, c)| Part::Column(c));
        let dictionaries = self.dictionaries.drain();
        let dictionaries = dictionaries.map(|(_, d)| Part::Dictionary(d));
        let spans = Part::Spans(std::mem::take(&mut self.spans));
        let below = [&mut self.events, &mut self.links];
        let below = below.map(|starts| Part::Below(std::mem::take(starts)));
        let parts = columns.chain(dictionaries).chain([spans]).chain(below);
        parts.for_each(|part| part.give(&self.memory));
    }
}

impl Decoded {
    /// Nothing yet, in memory that others left.
    pub(super) fn reusing(memory: Arc<ColumnMemory>) -> Self {
        let mut out = Self::default();
        out.memory = memory;
        out
    }

    /// Nothing yet, where others may have left what they decoded of the same row group.
    pub(super) fn sharing(&mut self, kept: GroupColumns) {
        self.kept = Some(kept);
    }

    /// Whether a column is there, or was left by others.
    pub(super) fn recall(&mut self, leaf: LeafIndex, with_levels: bool) -> bool {
        let fits = |column: &Column| !with_levels || column.has_levels();
        if self.columns.get(&leaf).is_some_and(|c| fits(c)) {
            return true;
        }
        let kept = self.kept.as_ref();
        let Some(Part::Column(column)) = kept.and_then(|k| k.get(PartName::Column(leaf))) else {
            return false;
        };
        let is_fit = fits(&column);
        if is_fit {
            self.recalled_bytes += column.size_bytes();
            self.put_column(leaf, column);
        }
        is_fit
    }

    /// Whether the dictionary of a column is there, with the column or without it, or was left by others.
    pub(super) fn recall_dictionary(&mut self, leaf: LeafIndex) -> bool {
        if self.has_dictionary(leaf) || self.recall(leaf, false) {
            return true;
        }
        let kept = self.kept.as_ref();
        let Some(Part::Dictionary(texts)) = kept.and_then(|k| k.get(PartName::Dictionary(leaf)))
        else {
            return false;
        };
        self.recalled_bytes += texts.capacity_bytes();
        self.dictionaries.insert(leaf, texts);
        true
    }

    /// Bytes of columns and dictionaries that were found with others, so far.
    pub(super) fn recalled_bytes(&self) -> usize {
        self.recalled_bytes
    }

    /// Bytes of the columns and dictionaries that are there.
    pub(super) fn size_bytes(&self) -> usize {
        let columns = self.columns.values().map(|column| column.size_bytes());
        let dictionaries = self.dictionaries.values();
        let dictionaries = dictionaries.map(|texts| texts.capacity_bytes());
        columns.sum::<usize>() + dictionaries.sum::<usize>()
    }

    /// Whether what is decoded of whole chunks is left to others.
    pub(super) fn is_shared(&self) -> bool {
        self.kept.as_ref().is_some_and(GroupColumns::has_room)
    }

    /// Whether others asked for some rows of these columns too, so that all of them are worth to be kept.
    pub(super) fn is_asked_again(&self, leaves: &LeafSet, file_bytes: u64) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| kept.is_asked_again(leaves.keys().copied().collect(), file_bytes))
    }

    fn put_column(&mut self, leaf: LeafIndex, column: Arc<Column>) {
        if let Some(before) = self.columns.insert(leaf, column) {
            Part::Column(before).give(&self.memory);
        }
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
            let Some((file_leaf, chunk)) = block.file.chunk(group, leaf) else {
                continue;
            };
            if !has_values(block, group, leaf) || self.recall(leaf, with_levels) {
                continue;
            }
            let levels = if with_levels {
                Levels::All
            } else {
                Levels::None
            };
            let memory = Arc::clone(&self.memory);
            let decoder = ColumnDecoder::new(file_leaf, chunk, levels).reusing(&memory);
            let mut decoder = decoder.with(memory.take_scratch());
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
            let (column, scratch) = decoder.finish_with();
            memory.give_scratch(scratch);
            let column = Arc::new(column);
            if let Some(kept) = &self.kept {
                kept.put(PartName::Column(leaf), Part::Column(Arc::clone(&column)));
                kept.forget(PartName::Dictionary(leaf));
            }
            self.put_column(leaf, column);
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
            let decoder = decoder.with(memory.take_scratch());
            let mut decoder = decoder.picking(RowPick::of_runs(&of_leaf.rows, &plan.rows));
            for range in of_leaf.ranges.iter().filter(|range| !range.is_empty()) {
                decoder.pages(fetched(source, range)?, allowance)?;
            }
            decoder.check_picked()?;
            let (column, scratch) = decoder.finish_with();
            memory.give_scratch(scratch);
            out.columns.insert(*leaf, Arc::new(column));
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
            let kept = self.kept.as_ref();
            if let Some(Part::Spans(spans)) = kept.and_then(|k| k.get(PartName::Spans)) {
                self.spans = spans;
                return Ok(());
            }
            self.spans = Arc::new(SpanRows::new_in(guide, &self.memory, allowance)?);
            if self.spans.rows() as u64 != rows {
                let has = self.spans.rows();
                return Err(bad(format!(
                    "{has} rows by the levels of spans, {rows} by the footer"
                ))
                .into());
            }
            if let Some(kept) = kept {
                kept.put(PartName::Spans, Part::Spans(Arc::clone(&self.spans)));
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
                let kept = self.kept.as_ref();
                if let Some(Part::Below(starts)) = kept.and_then(|k| k.get(PartName::Below(owner)))
                {
                    *known = starts;
                    continue;
                }
                let found = starts(column, Owner::Span.depth(), self.spans.len(), allowance)?;
                *known = Arc::new(found);
                if let Some(kept) = kept {
                    kept.put(PartName::Below(owner), Part::Below(Arc::clone(known)));
                }
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
        let name = || PartName::Keyed(leaf, key.to_vec());
        let kept = self.kept.as_ref();
        let mut is_new = false;
        let known = self.keyed.remove(&of_key);
        let known = known.or_else(|| match kept?.get(name())? {
            Part::Keyed(keyed) => Some(keyed),
            _ => None,
        });
        let mut keyed = match known {
            Some(keyed) => keyed,
            None => {
                is_new = true;
                KeyedList {
                    found: Arc::new(KeyedAttributes::find(keys, key, allowance)?),
                    texts: None,
                }
            }
        };
        if let Some(texts) = list.text.and_then(|leaf| self.columns.get(&leaf))
            && keyed.texts.is_none()
        {
            is_new = true;
            keyed.texts = Some(Arc::new(if texts.values.is_empty() {
                Vec::new()
            } else {
                keyed.found.places(texts, keys, allowance)?
            }));
        }
        if let Some(kept) = kept.filter(|_| is_new) {
            kept.put(name(), Part::Keyed(keyed.clone()));
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
            if self.recall_dictionary(*leaf) {
                continue;
            }
            let memory = Arc::clone(&self.memory);
            let decoder = ColumnDecoder::new(file_leaf, chunk, Levels::None).reusing(&memory);
            let mut decoder = decoder.with(memory.take_scratch());
            let bytes = fetched(source, &(chunk.range.start..chunk.first_page))?;
            decoder.pages(bytes, allowance)?;
            let (column, scratch) = decoder.finish_with();
            memory.give_scratch(scratch);
            if let ColumnValues::Indices { dictionary, .. } = column.values {
                if let Some(kept) = &self.kept {
                    let part = Part::Dictionary(Arc::clone(&dictionary));
                    kept.put(PartName::Dictionary(*leaf), part);
                }
                self.dictionaries.insert(*leaf, dictionary);
            }
        }
        Ok(())
    }

    /// Whether the dictionary of a column is there, with the column or without it.
    pub(super) fn has_dictionary(&self, leaf: LeafIndex) -> bool {
        self.dictionaries.contains_key(&leaf) || self.columns.contains_key(&leaf)
    }

    /// The dictionary of a column that all its values are in, where it is there.
    pub(super) fn dictionary(&self, leaf: LeafIndex) -> Option<&Texts> {
        if let Some(texts) = self.dictionaries.get(&leaf) {
            return Some(texts);
        }
        match &self.columns.get(&leaf)?.values {
            ColumnValues::Indices { dictionary, .. } => Some(dictionary),
            _ => None,
        }
    }

    /// Whether a list of attributes may have a key: `true` where neither its keys nor their dictionary is decoded.
    pub(super) fn may_have_key(&self, list: &AttributeLeaves, key: &[u8]) -> bool {
        if let Some(texts) = list.key.and_then(|leaf| self.dictionary(leaf)) {
            return texts.iter().any(|k| k == key);
        }
        let keys = self.column(list.key);
        keys.is_none_or(
            |keys| !matches!(&keys.values, ColumnValues::Texts(keys) if keys.is_empty()),
        )
    }

    pub(super) fn column(&self, leaf: Option<LeafIndex>) -> Option<&Column> {
        self.columns.get(&leaf?).map(|column| &**column)
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
