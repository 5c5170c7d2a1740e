//! The one question that any holder of spans answers: the spans of a range that may pass a filter, as batches of columns.
//!
//! What goes in ([`SpanRequest`]) and what comes out ([`SpanBatch`], and [`SelectEnd`] at the end) is plain data. A batch has a column for each field
//! that was asked for, by type: texts as numbers into a dictionary, integers, floats and bools as they are, arrays aside. A Parquet reader fills one
//! without making texts; [`BatchFiller`] makes one of decoded traces. [`Select`] is what holders implement.

mod batch;
mod column;
mod decoded;
mod end;
mod field;
mod fill;
mod fill_column;
mod literal;
mod patterns;
mod pick;
mod recent;
mod request;
mod select;

pub use batch::{ServiceCount, SpanBatch, TraceRow};
pub use column::{ArrayColumn, Column, NumberColumn, TextColumn, TextDictionary};
pub use decoded::{DecodedBatches, TraceBytes, TraceReader};
pub(crate) use decoded::{batch_of_traces, without_copies_of};
pub use end::{FetchStats, SelectEnd};
pub use field::{AttributeScope, Field, Intrinsic, Level, ends_a_name};
pub use fill::BatchFiller;
pub(crate) use fill_column::alike;
pub use literal::Literal;
pub(crate) use patterns::Patterns;
pub(crate) use pick::pick_rows;
pub use recent::{RECENT_BYTES, RecentRequest, RecentTrace, RecentTraces};
pub use request::{
    CompareOp, Condition, SpanFilter, SpanRequest, StartRange, Test, TraceRange, WantedColumns,
    WantedOfTraces,
};
pub use select::{Places, ReadyBatches, Select, SpanBatches, TraceSpot, WantedRows};
