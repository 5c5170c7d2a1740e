//! Label matchers: `=`, `!=`, `=~`, `!~`, with the regular expressions of RE2 as Prometheus 3 uses them.
//!
//! ```text
//! pattern text -> dialect (RE2 to regex-syntax) -> HIR -> expand (what needs no engine) -> Pattern
//! ```

mod dialect;
mod expand;
mod matcher;
mod pattern;

pub use matcher::{MatchOp, Matcher};
