//! From text to answer.
//!
//! The text half is the whole language of Prometheus 3.14: `lexer` and `token` cut a query, `parser` makes the tree of `ast` and
//! checks its types against `signature`, `format` and `json` write it again. Syntax that Prometheus hides behind flags is switched
//! on in [`ParserOptions`].
//!
//! The other half runs it: `plan` resolves times and lengths, `eval` walks the plan, with the arithmetic of `functions` and
//! `histogram`; `engine` bounds, times and reports all of it.

mod annotations;
mod answer;
mod answer_json;
mod ast;
mod embedded;
mod engine;
mod error;
mod eval;
mod format;
mod functions;
pub mod histogram;
mod json;
mod lexer;
mod long_range;
mod number;
mod options;
mod parser;
mod plan;
mod query;
mod query_error;
mod settings;
mod settle;
mod shard;
mod signature;
mod splitter;
mod token;

pub use answer::{Answer, FloatPoints, Point, QueryStats, QueryValue, Series};
#[cfg(feature = "http")]
pub(crate) use answer_json::buckets;
pub use ast::{
    Aggregate, AggregateOp, AtModifier, Binary, BinaryOp, Call, Cardinality, DurationExpr, Edges,
    Expr, Length, MatrixSelector, NumberLiteral, Paren, Span, StringLiteral, Subquery, Unary,
    UnaryOp, ValueType, VectorMatching, VectorSelector,
};
pub use embedded::EmbeddedLegs;
pub use engine::{Engine, EngineBuilder, EngineCounts};
pub use error::{ParseError, line_and_column};
pub use long_range::split_long_ranges;
pub use options::ParserOptions;
pub use parser::{parse, parse_duration_ms, parse_selector, parse_with};
pub use query::{Query, QueryKind, QueryOptions};
pub use query_error::QueryError;
pub use settings::EngineSettings;
pub use settle::{is_final_before, settle};
pub use shard::{EMBEDDED_METRIC, LEG_LABEL, Legs, ShardedQuery, shard_query};
pub use signature::{Arity, Function};
pub use splitter::{FrontendAnswer, PromqlSplitter};
