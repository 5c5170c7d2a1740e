//! A row group, looked into whole. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;
use lgtm_core::storage::Fault;

use crate::block::BlockMeta;
use crate::schema::{
    BlockFile, BlockVersion, ByteSource, Chunk, Column, ColumnDecoder, ColumnValues, FetchedRanges,
    FileLeaf, Levels, OffsetIndex, RowPlan, RowReader, decode_column_index,
};
use crate::select::{AttributeScope, CompareOp, Condition, Field, Literal, SpanFilter, Test};
use crate::skip::SkipIndex;
use crate::trace::{Attribute, Trace, TraceId, Value};

/// Different attributes of a row group that are looked up in the side file.
const MAX_LOOKUPS: usize = 10_000;
/// Faults that are told of a row group; more of the same say nothing new.
const MAX_FAULTS: usize = 1000;

/// A row group to be looked into.
#[derive(Debug)]
pub(super) struct GroupCheck {
    pub(super) file: Arc<BlockFile>,
    pub(super) number: usize,
    pub(super) version: BlockVersion,
    pub(super) meta: BlockMeta,
    pub(super) skip: Option<Arc<SkipIndex>>,
}

/// What is in a row group.
#[derive(Debug, Default)]
pub(super) struct GroupFacts {
    pub(super) ids: Vec<TraceId>,
    pub(super) spans: u64,
    /// First start and last end of a span, nanoseconds.
    pub(super) times: Option<(i64, i64)>,
    pub(super) faults: Vec<(Fault, String)>,
    /// What the side file says and is not so.
    pub(super) side_faults: Vec<String>,
}

impl GroupFacts {
    fn add(&mut self, fault: Fault, detail: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push((fault, detail));
        }
    }
}

impl GroupCheck {
    /// Decodes all columns, then all traces.
    pub(super) fn look(
        &self,
        source: &FetchedRanges,
        allowance: &mut Allowance<'_>,
    ) -> Result<GroupFacts, DecodeFail> {
        let mut facts = GroupFacts::default();
        for (leaf, at) in self.file.leaves.iter().zip(0..) {
            let Some((_, chunk)) = self.file.chunk(self.number, at) else {
                continue;
            };
            // One column after the other: what one takes is free for the next.
            let mut grow = |_| Ok(());
            let mut of_column = Allowance::new(super::block_check::MAX_GROUP_BYTES, &mut grow);
            match self.column(leaf, chunk, source, &mut of_column, &mut facts) {
                Ok(()) => {}
                Err(DecodeFail::Broken(e)) => {
                    facts.add(Fault::Damaged, format!("column {}: {e}", leaf.path));
                }
                Err(e) => return Err(e),
            }
        }
        // Traces of columns that cannot be read would only say the same again.
        if facts.faults.iter().all(|(f, _)| *f != Fault::Damaged) {
            self.traces(source, allowance, &mut facts)?;
        }
        Ok(facts)
    }

    fn column(
        &self,
        leaf: &FileLeaf,
        chunk: &Chunk,
        source: &FetchedRanges,
        allowance: &mut Allowance<'_>,
        facts: &mut GroupFacts,
    ) -> Result<(), DecodeFail> {
        let bytes = bytes_of(source, &chunk.range)?;
        let mut decoder = ColumnDecoder::new(leaf, chunk, Levels::All);
        decoder.pages(bytes, allowance)?;
        let column = decoder.finish();
        let path = &leaf.path;
        let rows = match column.max_rep {
            0 => column.entries,
            _ => column.rep.iter().filter(|level| **level == 0).count(),
        };
        let told = self.file.row_groups[self.number].rows;
        if rows as u64 != told {
            let detail = format!("column {path} has {rows} rows, the footer says {told}");
            facts.add(Fault::WrongCount, detail);
        }
        let values = column.values.len();
        if column.entries as u64 != chunk.entries {
            let detail = format!(
                "column {path} has {} entries, the footer says {}",
                column.entries, chunk.entries
            );
            facts.add(Fault::WrongCount, detail);
        }
        let nulls = (column.entries - values.min(column.entries)) as u64;
        if let Some(told) = chunk.nulls.filter(|told| *told != nulls) {
            let detail = format!("column {path} has {nulls} nulls, the footer says {told}");
            facts.add(Fault::WrongCount, detail);
        }
        if let Some(value) = out_of_bounds(&column, chunk) {
            let detail = format!("column {path} has the value {value}, outside of its bounds");
            facts.add(Fault::WrongLookup, detail);
        }
        self.page_indexes(path, chunk, source, allowance, facts)
    }

    /// The places of pages, and their bounds, against the chunk.
    fn page_indexes(
        &self,
        path: &str,
        chunk: &Chunk,
        source: &FetchedRanges,
        allowance: &mut Allowance<'_>,
        facts: &mut GroupFacts,
    ) -> Result<(), DecodeFail> {
        let Some(range) = &chunk.offset_index else {
            return Ok(());
        };
        let offsets = OffsetIndex::decode(bytes_of(source, range)?, allowance)?;
        let all = offsets.range(&(0..offsets.pages.len()));
        if !offsets.pages.is_empty() && (all.start != chunk.first_page || all.end > chunk.range.end)
        {
            let detail = format!(
                "column {path} has its pages in {}..{}, its offset index says {all:?}",
                chunk.first_page, chunk.range.end
            );
            facts.add(Fault::Dangling, detail);
        }
        if !offsets.pages.is_sorted_by_key(|p| p.first_row) {
            let detail = format!("column {path}: the first rows of its pages do not ascend");
            facts.add(Fault::WrongOrder, detail);
        }
        let Some(range) = &chunk.column_index else {
            return Ok(());
        };
        let bounds = decode_column_index(bytes_of(source, range)?, allowance)?;
        if bounds.len() != offsets.pages.len() {
            let detail = format!(
                "column {path} has {} pages by its offset index, {} by its column index",
                offsets.pages.len(),
                bounds.len()
            );
            facts.add(Fault::Disagreement, detail);
        }
        Ok(())
    }

    fn traces(
        &self,
        source: &FetchedRanges,
        allowance: &mut Allowance<'_>,
        facts: &mut GroupFacts,
    ) -> Result<(), DecodeFail> {
        let plan = RowPlan::row_group(&self.file, self.number);
        let dedicated = &self.meta.dedicated_columns;
        let mut rows = RowReader::open(
            &self.file,
            &plan,
            self.version,
            dedicated,
            source,
            allowance,
        )?;
        let mut lookups = HashSet::new();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let mut grow = |_| Ok(());
            let max = super::block_check::MAX_GROUP_BYTES;
            let mut of_trace = Allowance::new(max, &mut grow);
            let Some(id) = rows.next(&mut bytes, &mut of_trace)? else {
                return Ok(());
            };
            let trace = Trace::decode(&bytes, &mut of_trace)?;
            self.trace(id, &trace, &mut lookups, facts);
            if let Some(before) = facts.ids.last()
                && *before >= id
            {
                let detail = format!("trace {id} stands behind {before}");
                facts.add(Fault::WrongOrder, detail);
            }
            facts.ids.push(id);
        }
    }

    fn trace(
        &self,
        id: TraceId,
        trace: &Trace<'_>,
        lookups: &mut HashSet<u64>,
        facts: &mut GroupFacts,
    ) {
        for resource in &trace.resources {
            self.attributes(
                AttributeScope::Resource,
                &resource.attributes,
                lookups,
                facts,
            );
        }
        let mut spans = 0;
        for (_, _, span) in trace.spans() {
            spans += 1;
            self.attributes(AttributeScope::Span, &span.attributes, lookups, facts);
            let start = i64::try_from(span.start_ns).unwrap_or(i64::MAX);
            let end = i64::try_from(span.end_ns).unwrap_or(i64::MAX).max(start);
            facts.times = Some(match facts.times {
                None => (start, end),
                Some((first, last)) => (first.min(start), last.max(end)),
            });
        }
        if spans == 0 {
            facts.add(Fault::WrongCount, format!("trace {id} has no span"));
        }
        facts.spans += spans;
    }

    /// Looks attributes up in the side file, each once.
    fn attributes(
        &self,
        scope: AttributeScope,
        attributes: &[Attribute<'_>],
        lookups: &mut HashSet<u64>,
        facts: &mut GroupFacts,
    ) {
        let Some(skip) = &self.skip else {
            return;
        };
        for attribute in attributes {
            let (Ok(name), Value::Text(text)) = (str::from_utf8(attribute.key), &attribute.value)
            else {
                continue;
            };
            let Ok(text) = str::from_utf8(text) else {
                continue;
            };
            let mut hash = xxhash_rust::xxh3::Xxh3::with_seed(scope as u64);
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update(text.as_bytes());
            if lookups.len() >= MAX_LOOKUPS || !lookups.insert(hash.digest()) {
                continue;
            }
            let filter = SpanFilter::Test(Condition {
                field: Field::attribute(scope, name),
                test: Test::Compare(CompareOp::Equal, Literal::Text(text.to_owned())),
            });
            if !skip.groups_of(&filter).contains(self.number)
                && facts.side_faults.len() < MAX_FAULTS
            {
                let text: String = text.chars().take(100).collect();
                let detail = format!("it says that no span has {name} = {text:?}");
                facts.side_faults.push(detail);
            }
        }
    }
}

fn bytes_of<'a>(
    source: &'a FetchedRanges,
    range: &std::ops::Range<u64>,
) -> Result<&'a [u8], DecodeError> {
    if range.is_empty() {
        return Ok(&[]);
    }
    source
        .bytes(range)
        .ok_or_else(|| DecodeError::new("row group", range.start, "bytes that were not fetched"))
}

/// A value outside of the bounds that the footer tells, in words. Numbers without a sign, which look negative here, are passed over.
fn out_of_bounds(column: &Column, chunk: &Chunk) -> Option<String> {
    match &column.values {
        ColumnValues::Texts(all) => text_out_of_bounds(all.iter(), chunk),
        ColumnValues::Indices {
            dictionary,
            indices,
        } => {
            let mut used = vec![false; dictionary.len()];
            for n in indices {
                if let Some(used) = used.get_mut(*n as usize) {
                    *used = true;
                }
            }
            let of_use = (0..dictionary.len()).filter(|n| used[*n]);
            text_out_of_bounds(of_use.map(|n| dictionary.get(n)), chunk)
        }
        ColumnValues::Int32(all) => int_out_of_bounds(all.iter().map(|v| i64::from(*v)), chunk),
        ColumnValues::Int64(all) => int_out_of_bounds(all.iter().copied(), chunk),
        ColumnValues::Double(_) | ColumnValues::Bool(_) => None,
    }
}

fn text_out_of_bounds<'t>(
    mut texts: impl Iterator<Item = &'t [u8]>,
    chunk: &Chunk,
) -> Option<String> {
    let (min, max) = (chunk.min.as_deref(), chunk.max.as_deref());
    let is_out = |text: &[u8]| min.is_some_and(|m| text < m) || max.is_some_and(|m| text > m);
    let found = texts.find(|text| is_out(text))?;
    let shown = String::from_utf8_lossy(&found[..found.len().min(100)]);
    Some(format!("{shown:?}"))
}

fn int_out_of_bounds(mut values: impl Iterator<Item = i64>, chunk: &Chunk) -> Option<String> {
    let bound = |bytes: &Option<Vec<u8>>| bytes.as_deref().and_then(int);
    let (min, max) = (bound(&chunk.min), bound(&chunk.max));
    if min.is_some_and(|m| m < 0) || max.is_some_and(|m| m < 0) {
        return None;
    }
    let is_out = |v: i64| v >= 0 && (min.is_some_and(|m| v < m) || max.is_some_and(|m| v > m));
    values.find(|v| is_out(*v)).map(|v| v.to_string())
}

/// A bound of a column of numbers.
fn int(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        4 => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        8 => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}
