//! How an answer ended.
//!
//! ```text
//! end = { warnings = 1, repeated; inspected_traces = 2; inspected_spans = 3; inspected_bytes = 4; total_blocks = 5; total_block_bytes = 6;
//!         backend_reads = 7; backend_bytes = 8 }
//! ```

use lgtm_core::Result;
use lgtm_core::codec::protobuf::{put_message, put_varint_field};
use lgtm_core::rpc::messages::{Field, put_text, walk};

use crate::select::{FetchStats, SelectEnd};

/// Appends it as a field of that number.
pub(super) fn put_end(out: &mut Vec<u8>, number: u64, end: &SelectEnd) {
    put_message(out, number, |out| {
        end.warnings.iter().for_each(|w| put_text(out, 1, w));
        let mut stats = end.stats;
        for (n, stat) in fields(&mut stats).into_iter().enumerate() {
            put_varint_field(out, 2 + n as u64, *stat);
        }
    });
}

/// The statistics in the order of their numbers.
fn fields(stats: &mut FetchStats) -> [&mut u64; 7] {
    [
        &mut stats.inspected_traces,
        &mut stats.inspected_spans,
        &mut stats.inspected_bytes,
        &mut stats.total_blocks,
        &mut stats.total_block_bytes,
        &mut stats.backend_reads,
        &mut stats.backend_bytes,
    ]
}

/// Reads such a field.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn end(field: Field<'_>) -> Result<SelectEnd> {
    let mut out = SelectEnd::default();
    walk("end", field.bytes()?, |number, field| {
        if number == 1 {
            out.warnings.push(field.string()?);
        } else if let Some(stat) = number
            .checked_sub(2)
            .and_then(|n| fields(&mut out.stats).into_iter().nth(n as usize))
        {
            *stat = field.number()?;
        }
        Ok(())
    })?;
    Ok(out)
}
