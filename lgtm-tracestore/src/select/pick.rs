//! Rows taken out of batches, as a batch of their own.

use lgtm_core::Result;
use lgtm_core::codec::protobuf::put_bytes_field;

use super::batch::SpanBatch;
use super::column::Column;
use super::field::{Field, Level};
use super::fill_column::{ColumnBuilder, too_much};
use super::request::WantedColumns;
use crate::trace::Value;

/// The rows at these places (batch, row), in that order, each as a trace of its own; their events and links with them.
pub(super) fn picked(
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
        let rows = match field.level() {
            Level::Event => events.as_slice(),
            Level::Link => links.as_slice(),
            Level::Span | Level::Trace => places,
        };
        let mut builder = ColumnBuilder::default();
        let mut list = Vec::new();
        for (n, (batch, row)) in rows.iter().enumerate() {
            if let Some(column) = batches[*batch].column(&field) {
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
