//! Batches of whole traces: for what no column tells, events and links of version 3, and for all attributes.

use std::ops::Range;

use lgtm_core::codec::{Allowance, DecodeFail};

use super::decoded::Decoded;
use super::scan_block::ScanBlock;
use super::selection::Selection;
use crate::schema::{ByteSource, RowPlan, RowReader};
use crate::select::{BatchFiller, SpanBatch, WantedColumns};
use crate::trace::Trace;

/// Reads rows as traces and makes a batch of all their spans. `plans` cover the selected rows.
pub(super) fn batch_of_traces(
    block: &ScanBlock,
    plans: &[RowPlan],
    (decoded, selection): (&Decoded, &Selection),
    first_row_id: u64,
    wanted: &WantedColumns,
    source: &(impl ByteSource + ?Sized),
    allowance: &mut Allowance<'_>,
) -> Result<SpanBatch, DecodeFail> {
    let mut filler = BatchFiller::new(wanted.clone());
    let mut bytes = Vec::new();
    for plan in plans {
        let mut reader = RowReader::open(
            &block.file,
            plan,
            block.version,
            &block.dedicated,
            source,
            allowance,
        )?;
        for row in plan.row_numbers() {
            bytes.clear();
            let Some(id) = reader.next(&mut bytes, allowance)? else {
                break;
            };
            let is_wanted = selection
                .rows
                .binary_search_by_key(&row, |(row, _)| u64::from(*row));
            if is_wanted.is_err() {
                continue;
            }
            // In the order of the file: rows are found again by their numbers there.
            let trace = Trace::decode(&bytes, allowance)?;
            let first = decoded.spans().spans_of_row(row as usize).start as u64;
            filler.push(id, &trace, first_row_id + first)?;
        }
    }
    Ok(filler.finish())
}

/// Runs of rows.
pub(super) fn runs(rows: impl Iterator<Item = u32>) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for row in rows.map(u64::from) {
        match out.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => out.push(row..row + 1),
        }
    }
    out
}
