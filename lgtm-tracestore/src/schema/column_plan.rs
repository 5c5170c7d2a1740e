//! Which bytes of a column some rows need: pages that hold none of them are not read.

use std::ops::Range;

use crate::schema::{Chunk, OffsetIndex};

/// Pages of a chunk that are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnPlan {
    /// What is fetched and decoded, in order: the dictionary first.
    pub ranges: Vec<Range<u64>>,
    /// The rows that come of it, in order, counted from the row group's first.
    pub rows: Vec<Range<u64>>,
}

impl ColumnPlan {
    /// All pages.
    pub fn whole(chunk: &Chunk, rows: u64) -> Self {
        let all = 0..rows;
        Self {
            ranges: vec![chunk.range.clone()],
            rows: vec![all],
        }
    }

    /// The pages that hold some of the wanted rows, which are in order and do not overlap. `rows` is the number of the row group's rows.
    pub fn pages(chunk: &Chunk, index: &OffsetIndex, wanted: &[Range<u64>], rows: u64) -> Self {
        let mut out = Self::default();
        let Some(first) = index.pages.first() else {
            return Self::whole(chunk, rows);
        };
        let mut read = 0;
        for wanted in wanted {
            let pages = index.pages_of(wanted);
            let pages = pages.start.max(read)..pages.end;
            if pages.is_empty() {
                continue;
            }
            read = pages.end;
            let end = index
                .pages
                .get(pages.end)
                .map_or(rows, |page| page.first_row);
            let new = index.pages[pages.start].first_row..end;
            let bytes = index.range(&pages);
            match (out.rows.last_mut(), out.ranges.last_mut()) {
                (Some(last), Some(range)) if last.end == new.start && range.end == bytes.start => {
                    last.end = new.end;
                    range.end = bytes.end;
                }
                _ => {
                    out.rows.push(new);
                    out.ranges.push(bytes);
                }
            }
        }
        if chunk.range.start < first.offset && !out.ranges.is_empty() {
            out.ranges.insert(0, chunk.range.start..first.offset);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{LeafCodec, PageLocation};

    #[test]
    fn only_pages_with_wanted_rows_are_read_each_once() {
        let page = |n: u64| PageLocation {
            offset: 100 + 10 * n,
            bytes: 10,
            first_row: 5 * n,
        };
        let index = OffsetIndex {
            pages: (0..6).map(page).collect(),
        };
        let chunk = Chunk {
            range: 90..160,
            first_page: 100,
            is_all_dictionary: false,
            entries: 0,
            codec: LeafCodec::None,
            offset_index: None,
            column_index: None,
            min: None,
            max: None,
            nulls: None,
        };
        let plan = ColumnPlan::pages(&chunk, &index, &[1..2, 3..4, 6..7, 28..29], 30);
        assert_eq!(plan.rows, [0..10, 25..30]);
        assert_eq!(plan.ranges, [90..100, 100..120, 150..160]);
        assert_eq!(
            ColumnPlan::pages(&chunk, &index, &[], 30),
            ColumnPlan::default()
        );
    }
}
