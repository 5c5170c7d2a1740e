//! TraceQL: from the text of a query to its answer.
//!
//! ```text
//! text -> lexer -> parser -> ast -> check -> plan: what to ask holders for
//!                             |
//!   SpanBatch -> eval: which spans -> Search (traces), Metrics (series), TagNames, TagValues
//! ```
//!
//! Everything here is synchronous and knows no holder: batches of columns go in, answers come out. Answers of parts are merged, so that a query may
//! be cut by time and by block. Where the real Tempo gives an answer that depends on how spans are stored, this gives the plain one.

mod anchor;
mod ast;
mod check;
mod dropped;
mod duration;
mod error;
mod eval;
mod format;
mod hits;
mod lexer;
mod metrics;
mod number;
mod parser;
mod plan;
mod redaction_filter;
mod search;
mod tags;
mod trace_filter;
mod value;

pub use ast::{
    Aggregate, AggregateFilter, ArithmeticOp, BinaryOp, CompareFunction, Expr, Hint, MetricsExpr,
    MetricsFunction, MetricsQuery, Pipeline, Query, QueryBody, Relation, RelationForm, SecondStage,
    SpansetExpr, SpansetOp, Stage,
};
pub use error::QueryError;
pub use hits::{SetHit, SpanHit, TraceHit};
pub use metrics::{
    Bucket, Cells, Exemplar, ExemplarSpan, IntervalGrid, LegPartial, Metrics, MetricsAnswer,
    MetricsPartial, MetricsSettings, Series, SeriesKey, SeriesLabels, SumCell,
};
pub use parser::{MAX_QUERY_BYTES, parse};
pub use redaction_filter::RedactionFilter;
pub use search::{Matches, Search, SearchSettings};
pub use tags::{
    INTRINSIC_TAGS, TagNames, TagScope, TagValue, TagValueType, TagValues, tag_field,
    unscoped_tag_fields,
};
pub use trace_filter::{FilterDepth, TraceFilter};
pub use value::AnswerValue;

#[cfg(feature = "http")]
pub(crate) use duration::{format_ns, parse_literal_ns};
