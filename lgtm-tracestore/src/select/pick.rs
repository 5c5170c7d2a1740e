//! Rows taken out of batches, as a batch of their own.

use hashbrown::HashMap;
use lgtm_core::codec::protobuf::put_bytes_field;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::{Error, Result};

use super::batch::SpanBatch;
use super::column::Column;
use super::field::{Field, Level};
use super::fill_column::{ColumnBuilder, too_much};
use super::request::WantedColumns;
use super::select::WantedRows;
use crate::trace::Value;

/// Batches of more rows are looked through on the compute pool.
const INLINE_ROWS: usize = 500;

/// Rows of batches by their ids, in that order. `missing` tells what it means that one is in none of them.
///
/// # Errors
/// As `missing` says; `LimitExceeded` for more than a batch can hold.
pub(super) fn rows_of(
    batches: &[SpanBatch],
    wanted: &WantedRows,
    missing: impl Fn(u64) -> Error,
) -> Result<SpanBatch> {
    let ids = wanted.row_ids.iter();
    let mut known: HashMap<u64, Option<(usize, usize)>> = ids.map(|id| (*id, None)).collect();
    for (n, batch) in batches.iter().enumerate() {
        for (row, id) in batch.row_ids.iter().enumerate() {
            if let Some(place) = known.get_mut(id) {
                place.get_or_insert((n, row));
            }
        }
    }
    let of = |id: &u64| known.get(id).copied().flatten().ok_or_else(|| missing(*id));
    let places = wanted.row_ids.iter().map(of).collect::<Result<Vec<_>>>()?;
    picked(batches, &places, &wanted.columns)
}

/// The same of batches that were read for it, on the compute pool where they are large.
pub(crate) async fn pick_rows(
    executor: &Executor,
    batches: Vec<SpanBatch>,
    wanted: &WantedRows,
) -> Result<SpanBatch> {
    // What was read a moment ago cannot be read now: the disk failed between.
    let missing =
        |_| Error::Unavailable("a part of a trace could not be read a second time".into());
    if batches.iter().map(SpanBatch::len).sum::<usize>() <= INLINE_ROWS {
        return rows_of(&batches, wanted, missing);
    }
    let wanted = wanted.clone();
    let job = move |_: &CancelToken| rows_of(&batches, &wanted, missing);
    executor.run(job, &CancelToken::new()).await
}

/// The rows at these places (batch, row), in that order, each as a trace of its own; their events and links with them.
fn picked(
    batches: &[SpanBatch],
    places: &[(usize, usize)],
    wanted: &WantedColumns,
) -> Result<SpanBatch> {
    let mut out = SpanBatch::default();
    let (mut events, mut links) = (Vec::new(), Vec::new());
    let count = |n: usize| u32::try_from(n).map_err(|_| too_much());
    for (n, (batch, row)) in places.iter().enumerate() {
        let of = &batches[*batch];
        let mut trace = of.trace_of(*row).clone();
        trace.end_row = count(n + 1)?;
        out.traces.push(trace);
        out.row_ids.extend(of.row_ids.get(*row));
        events.extend(of.below(Level::Event, *row).map(|at| (*batch, at)));
        links.extend(of.below(Level::Link, *row).map(|at| (*batch, at)));
        out.event_ends.push(count(events.len())?);
        out.link_ends.push(count(links.len())?);
    }
    let mut fields: Vec<Field> = wanted.fields.clone();
    if wanted.all_attributes {
        let known = batches.iter().flat_map(|batch| &batch.columns);
        let attributes = known.map(|(field, _)| field);
        let attributes = attributes.filter(|f| matches!(f, Field::Attribute(..)));
        fields.extend(attributes.cloned());
        fields.sort();
        fields.dedup();
    }
    for field in fields {
        if lgtm_core::exec::is_abandoned() {
            break;
        }
        let rows = match field.level() {
            Level::Event => events.as_slice(),
            Level::Link => links.as_slice(),
            Level::Span | Level::Trace => places,
        };
        let columns: Vec<_> = batches.iter().map(|batch| batch.column(&field)).collect();
        if columns.iter().all(Option::is_none) {
            continue;
        }
        let mut builder = ColumnBuilder::default();
        let mut list = Vec::new();
        for (n, (batch, row)) in rows.iter().enumerate() {
            if let Some(column) = columns[*batch] {
                builder.set(count(n)?, value_of(column, *row, &mut list))?;
            }
        }
        let column = builder.finish(count(rows.len())?);
        if !column.is_absent() {
            out.columns.push((field, column));
        }
    }
    Ok(out)
}

/// The value of a row as it was sent; one that no query sees as none.
fn value_of<'a>(column: &'a Column, row: usize, list: &'a mut Vec<u8>) -> Value<'a> {
    if let Some(arrays) = &column.arrays
        && let Some(elements) = arrays.of_row(row)
    {
        list.clear();
        for element in elements {
            let mut item = Vec::new();
            scalar_of(&arrays.elements, element).encode(&mut item);
            put_bytes_field(list, 1, &item);
        }
        return Value::List(list);
    }
    scalar_of(column, row)
}

fn scalar_of(column: &Column, row: usize) -> Value<'_> {
    let text = column.texts.as_ref().and_then(|texts| {
        let code = texts.codes.get(row)?;
        texts.dictionary.get(*code)
    });
    let int = || column.ints.as_ref().and_then(|c| c.get(row));
    let float = || column.floats.as_ref().and_then(|c| c.get(row));
    let bool = || column.bools.as_ref().and_then(|c| c.get(row));
    text.map(Value::Text)
        .or_else(|| int().map(Value::Int))
        .or_else(|| float().map(Value::Double))
        .or_else(|| bool().map(Value::Bool))
        .unwrap_or(Value::Empty)
}
