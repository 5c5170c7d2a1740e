//! From text to answer. So far the language is plain selectors (`up{job="api"}`, `up[5m]`, `offset`), numbers and strings;
//! everything else is refused with the position of what is not known yet.

mod annotations;
mod ast;
mod engine;
mod eval;
mod functions;
mod histogram;
mod lexer;
mod number;
mod options;
mod parser;
mod signature;

pub use ast::{
    Aggregate, AggregateOp, AtModifier, Binary, BinaryOp, Call, Cardinality, DurationExpr, Edges,
    Expr, Length, MatrixSelector, NumberLiteral, Paren, Span, StringLiteral, Subquery, Unary,
    UnaryOp, ValueType, VectorMatching, VectorSelector,
};
pub use engine::{Engine, EngineSettings, InstantQuery, QueryValue, RangeQuery};
pub use eval::{Point, Series};
pub use options::ParserOptions;
pub use parser::{ParseError, parse, parse_duration_ms};
pub use signature::{Arity, Function};
