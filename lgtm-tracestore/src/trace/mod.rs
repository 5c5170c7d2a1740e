//! What a trace is: identifiers, and spans by scope and resource as OpenTelemetry has them. Pure.
//!
//! A trace that is kept or sent is bytes: the protobuf message `Trace { repeated ResourceSpans = 1 }`, which is also what an OTLP request is.
//! [`Trace`] is how they are looked at: every text of it borrows from those bytes. Whoever reads a trace out of a block writes such bytes
//! too, so that there is one shape between all doors and all holders.
//!
//! Texts are bytes: senders and other writers cut them where a length ends, within a character too.

mod combine;
mod decode;
mod dedicated_columns;
mod distinct;
mod encode;
mod id;
mod json;
mod llm;
mod nested_set;
mod printer;
mod rebatch;
mod shared_ids;
mod span;
mod span_token;
mod summary;
#[cfg(test)]
mod tests;
mod value;

pub use combine::{CombineBound, Combined, Combiner};
pub use dedicated_columns::{
    ColumnKind, ColumnOption, ColumnScope, DedicatedColumn, DedicatedColumns,
};
pub use id::{SpanId, TraceId};
pub use nested_set::{NestedSet, NestedSets};
pub use printer::{TraceForm, TracePrinter};
pub use shared_ids::SharedIds;
pub use span::{Event, Link, ResourceSpans, ScopeSpans, Span, SpanKind, StatusCode, Trace};
pub use span_token::{query_token, storage_token};
pub use summary::{ServiceStats, TraceSummary};
pub use value::{Attribute, Value, Values};
