//! What the index of a column's pages says of each of them.
//!
//! The `parquet` crate (60.1) has an index of its own, but takes a page of a column in a list for empty when it has as many nulls as rows, and leaves
//! out the index when an empty one has not. A reader that believes the first passes over values that are there.

use parquet::basic::{BoundaryOrder, Type as Physical};
use parquet::errors::Result;
use parquet::file::metadata::ColumnIndexBuilder;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;

/// Bytes of a bound in the index, as Tempo cuts them.
const BOUND_BYTES: usize = 16;

/// What the index says of a page.
#[derive(Debug, Default)]
pub(crate) struct PageFacts {
    is_null: bool,
    nulls: i64,
    nans: Option<i64>,
    /// Below and above all values; `None` where that is not known.
    pub(crate) bounds: Option<(Vec<u8>, Vec<u8>)>,
}

impl PageFacts {
    /// Of a page with so many entries of levels.
    pub(crate) fn new(entries: u32, nulls: u32, statistics: Option<&Statistics>) -> Self {
        let bounds = statistics.and_then(|s| {
            let (min, max) = (s.min_bytes_opt()?, s.max_bytes_opt()?);
            Some(match s.physical_type() {
                Physical::BYTE_ARRAY => (
                    min[..min.len().min(BOUND_BYTES)].to_vec(),
                    above(max, BOUND_BYTES),
                ),
                _ => (min.to_vec(), max.to_vec()),
            })
        });
        Self {
            is_null: nulls == entries,
            nulls: nulls.into(),
            nans: statistics
                .and_then(Statistics::nan_count_opt)
                .map(|n| n as i64),
            bounds,
        }
    }
}

/// A bound of at most so many bytes that is not below `max`, if there is one.
pub(crate) fn above(max: &[u8], bytes: usize) -> Vec<u8> {
    if max.len() <= bytes {
        return max.to_vec();
    }
    let cut = &max[..bytes];
    match cut.iter().rposition(|b| *b < u8::MAX) {
        Some(last) => {
            let mut out = cut[..=last].to_vec();
            out[last] += 1;
            out
        }
        None => max.to_vec(),
    }
}

/// The index of a chunk's pages; none where some page's values have no bounds, floats that are no numbers.
pub(crate) fn column_index(
    physical: Physical,
    pages: &[PageFacts],
) -> Result<Option<ColumnIndexMetaData>> {
    let mut out = ColumnIndexBuilder::new(physical);
    let nothing = (Vec::new(), Vec::new());
    let mut last: Option<&(Vec<u8>, Vec<u8>)> = None;
    let mut is_ascending = physical == Physical::BYTE_ARRAY;
    for page in pages {
        let bounds = match &page.bounds {
            _ if page.is_null => &nothing,
            Some(bounds) => bounds,
            None => return Ok(None),
        };
        let nans = match physical {
            Physical::DOUBLE => page.nans.or(Some(0)),
            _ => None,
        };
        out.append(
            page.is_null,
            bounds.0.clone(),
            bounds.1.clone(),
            page.nulls,
            nans,
        );
        if !page.is_null {
            is_ascending &= last.is_none_or(|last| last.0 <= bounds.0 && last.1 <= bounds.1);
            last = Some(bounds);
        }
    }
    if is_ascending {
        out.set_boundary_order(BoundaryOrder::ASCENDING);
    }
    Ok(Some(out.build()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_bound_is_rounded_up() {
        assert_eq!(above(b"short", BOUND_BYTES), b"short");
        assert_eq!(
            above(b"0123456789abcdefg", BOUND_BYTES),
            b"0123456789abcdeg"
        );
        let mut high = [0xff; 20];
        high[3] = 7;
        assert_eq!(above(&high, BOUND_BYTES), [0xff, 0xff, 0xff, 8]);
        assert_eq!(above(&[0xff; 20], BOUND_BYTES), [0xff; 20]);
    }
}
