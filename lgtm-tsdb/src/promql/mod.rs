//! From text to answer. So far the language is plain selectors (`up{job="api"}`, `up[5m]`, `offset`), numbers and strings;
//! everything else is refused with the position of what is not known yet.

mod ast;
mod engine;
mod eval;
mod lexer;
mod parser;

pub use ast::{Expr, Selector};
pub use engine::{Engine, EngineSettings, InstantQuery, QueryValue, RangeQuery};
pub use eval::{Point, Series};
pub use parser::{ParseError, parse, parse_duration_ms};
