//! Which bytes some rows need: of each leaf that a trace is made of the dictionary, and the pages that hold them.

use std::ops::Range;
use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail};

use crate::schema::file::{BlockFile, Chunk, FileLeaf};
use crate::schema::source::{ByteSource, fetched};
use crate::schema::{LeafIndex, Leaves, OffsetIndex, Texts};

/// Where some rows of a row group lie.
#[derive(Debug, Clone)]
pub struct RowPlan {
    pub(crate) row_group: usize,
    /// Rows, counted from the row group's first.
    pub(crate) rows: Range<u64>,
    pub(crate) leaves: Vec<LeafPlan>,
}

/// Where the rows of a leaf lie.
#[derive(Debug, Clone)]
pub(crate) struct LeafPlan {
    pub(crate) leaf: LeafIndex,
    /// The dictionary, when it lies apart, and the pages.
    pub(crate) pieces: [Range<u64>; 2],
    /// The first row of the first page.
    pub(crate) first_row: u64,
    /// The dictionary, when somebody has it decoded; then its piece is empty.
    pub(crate) dictionary: Option<Arc<Texts>>,
}

impl RowPlan {
    /// All rows of a row group: whole chunks.
    pub fn row_group(file: &BlockFile, row_group: usize) -> Self {
        let rows = file.row_groups.get(row_group).map_or(0, |group| group.rows);
        let whole = |leaf| {
            let (_, chunk) = file.chunk(row_group, leaf).filter(has_values)?;
            Some(LeafPlan {
                leaf,
                pieces: [0..0, chunk.range.clone()],
                first_row: 0,
                dictionary: None,
            })
        };
        let leaves = leaves_of_traces(&file.positions).into_iter();
        Self {
            row_group,
            rows: 0..rows,
            leaves: leaves.filter_map(whole).collect(),
        }
    }

    /// Ranges of the offset indexes that [`RowPlan::rows`] reads. They lie together.
    pub fn index_ranges(file: &BlockFile, row_group: usize) -> Vec<Range<u64>> {
        let leaves = leaves_of_traces(&file.positions).into_iter();
        let index = |leaf| {
            let (_, chunk) = file.chunk(row_group, leaf).filter(has_values)?;
            chunk.offset_index.clone()
        };
        leaves.filter_map(index).collect()
    }

    /// Some rows of a row group: the pages that hold them. Chunks without an offset index are read whole.
    ///
    /// # Errors
    /// For indexes that are none, that name pages outside their chunk, or that were not fetched; what `allowance` refuses.
    pub fn rows(
        file: &BlockFile,
        row_group: usize,
        rows: Range<u64>,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let mut out = Self::row_group(file, row_group);
        out.rows = rows.start.min(out.rows.end)..rows.end.min(out.rows.end);
        for plan in &mut out.leaves {
            let Some((_, chunk)) = file.chunk(row_group, plan.leaf) else {
                continue;
            };
            let Some(range) = &chunk.offset_index else {
                continue;
            };
            let index = OffsetIndex::decode(fetched(source, range)?, allowance)?;
            let pages = index.pages_of(&out.rows);
            let Some(first) = index.pages.first() else {
                continue;
            };
            let range = index.range(&pages);
            let is_inside = chunk.range.start <= first.offset
                && (range.is_empty()
                    || (first.offset <= range.start && range.end <= chunk.range.end));
            if !is_inside {
                let reason = "an offset index that names pages outside its chunk";
                return Err(lgtm_core::error::DecodeError::new("offset index", 0, reason).into());
            }
            plan.first_row = index
                .pages
                .get(pages.start)
                .map_or(0, |page| page.first_row);
            plan.pieces = [chunk.range.start..first.offset, range];
        }
        Ok(out)
    }

    /// Leaves out dictionaries that lie apart and that somebody has decoded.
    pub(crate) fn without(&mut self, known: impl Fn(LeafIndex) -> Option<Arc<Texts>>) {
        for plan in &mut self.leaves {
            if plan.pieces[0].is_empty() {
                continue;
            }
            plan.dictionary = known(plan.leaf);
            if plan.dictionary.is_some() {
                plan.pieces[0] = 0..0;
            }
        }
    }

    /// The rows, counted from the row group's first.
    pub fn row_numbers(&self) -> Range<u64> {
        self.rows.clone()
    }

    /// What is to be fetched.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let pieces = self.leaves.iter().flat_map(|plan| plan.pieces.clone());
        pieces.filter(|range| !range.is_empty()).collect()
    }
}

/// Whether some row has a value: what nobody has need not be read.
fn has_values((leaf, chunk): &(&FileLeaf, &Chunk)) -> bool {
    leaf.max_def == 0 || chunk.nulls.is_none_or(|nulls| nulls < chunk.entries)
}

/// The leaves that a trace is made of. Those that follow from others are left out.
fn leaves_of_traces(all: &Leaves) -> Vec<LeafIndex> {
    let mut out = vec![
        all.trace_id,
        all.service_name,
        all.resource_dropped,
        all.scope_name,
        all.scope_version,
        all.scope_dropped,
    ];
    out.extend(all.resource_known);
    let span = &all.span;
    out.extend([
        span.span_id,
        span.parent_span_id,
        span.name,
        span.kind,
        span.trace_state,
        span.start,
        span.duration,
        span.status_code,
        span.status_message,
        span.dropped_attributes,
        span.dropped_events,
        span.dropped_links,
        span.http_method,
        span.http_url,
        span.http_status_code,
    ]);
    let (events, links) = (&span.events, &span.links);
    out.extend([events.time, events.since_start, events.name, events.dropped]);
    out.extend([
        links.trace_id,
        links.span_id,
        links.trace_state,
        links.dropped,
        links.encoded,
    ]);
    for list in [
        &all.resource_attributes,
        &all.scope_attributes,
        &span.attributes,
        &events.attributes,
        &links.attributes,
    ] {
        out.extend([
            list.key,
            list.is_array,
            list.text,
            list.int,
            list.double,
            list.boolean,
            list.unsupported,
            list.map_json,
            list.array_json,
        ]);
    }
    for own in [&all.resource_dedicated, &span.dedicated, &events.dedicated] {
        out.extend(own.text.iter().chain(&own.int));
    }
    let mut out: Vec<_> = out.into_iter().flatten().collect();
    out.sort_unstable();
    out
}
