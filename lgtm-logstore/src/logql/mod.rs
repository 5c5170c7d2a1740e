//! From text to answer: the whole of LogQL.
//!
//! The text half: `lexer` cuts a query, `parser` makes the tree of `ast` and checks it, `format` writes it again, `pretty` over several lines.
//!
//! The other half runs it: `plan` compiles pipelines (`pipeline`, `template`, `pattern`) and places windows, `eval` sends blocks of entries
//! through them on the compute pool, `engine` bounds, times and reports all of it.
//!
//! How queries are cut for the query-frontend: `shard` (by series, and long ranges by time), `splitter`.

mod answer;
mod answer_json;
mod arithmetic;
mod ast;
mod engine;
mod entry_filter;
mod error;
mod eval;
mod format;
mod lexer;
mod parser;
mod pattern;
mod pipeline;
mod plan;
mod plan_cache;
mod pretty;
mod query;
mod query_error;
mod settings;
mod shard;
mod splitter;
mod tail_query;
mod template;
mod units;
mod usage;
mod value_kind;

pub use answer::{Answer, AnswerEntry, AnswerStream, Point, QueryStats, QueryValue, Series};
pub use answer_json::LabelEncoding;
#[cfg(feature = "http")]
pub(crate) use answer_json::{AnswerPrinter, push_entry, push_labels};
pub use ast::{
    BinaryExpr, BinaryOp, CompareOp, Conversion, Expr, FieldPath, GroupingClause, LabelFilter,
    LabelFormat, LabelPick, LabelReplace, LabelReplaceArguments, Leg, LegJoin, LineFilter,
    LineFilterOp, LineOperand, LogExpr, LogfmtStage, MatchSide, MetricExpr, RangeAggregation,
    RangeOp, Stage, Unwrap, VectorAggregation, VectorMatching, VectorOp,
};
pub use engine::{Engine, EngineCounts};
pub use error::ParseError;
pub use parser::{parse, parse_selector, parse_with};
pub use query::{Direction, MaxSeries, Query, QueryOptions, QueryRange, QueryTime};
pub use query_error::QueryError;
pub use settings::{EngineSettings, ParserSettings};
pub use splitter::LogqlSplitter;
pub use value_kind::ValueKind;

pub(crate) use entry_filter::EntryFilter;
pub(crate) use pipeline::{FieldProbe, LineForm, StreamLabels, json_paths};
pub(crate) use splitter::each_range;
pub(crate) use tail_query::{TailQuery, TailScratch};
pub(crate) use value_kind::short_bytes;
