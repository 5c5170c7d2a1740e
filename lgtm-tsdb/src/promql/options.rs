//! What of the language is on, and how much of it one query may hold.

use serde::{Deserialize, Serialize};

/// Switches and bounds of the parser.
///
/// The switches are off by default, as they are in Prometheus, where each is a flag of `--enable-feature`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParserOptions {
    /// Functions and aggregations that Prometheus calls experimental (`promql-experimental-functions`).
    pub experimental_functions: bool,
    /// Arithmetic in ranges, steps and offsets, `[5m * 2]` (`promql-duration-expr`).
    pub duration_expressions: bool,
    /// `anchored` and `smoothed` (`promql-extended-range-selectors`).
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left` and `fill_right` (`promql-binop-fill-modifiers`).
    pub fill_modifiers: bool,
    /// Bytes of a query's text; a longer one is refused before it is looked at. 1 MiB is far above any query that a person or a
    /// dashboard writes.
    pub max_query_bytes: usize,
    /// How high the tree of a query may be: nested parentheses and calls, and operators in a row. 500 keeps a recursive walk well
    /// inside a thread's stack of 2 MiB.
    pub max_depth: usize,
    /// Bytes of one regular expression in a matcher. 64 KiB holds thousands of alternatives.
    pub max_regex_bytes: usize,
}

impl Default for ParserOptions {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            duration_expressions: false,
            extended_range_selectors: false,
            fill_modifiers: false,
            max_query_bytes: 1 << 20,
            max_depth: 500,
            max_regex_bytes: 64 << 10,
        }
    }
}

impl ParserOptions {
    /// The default bounds, with all switches on.
    pub fn everything() -> Self {
        Self {
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
            ..Self::default()
        }
    }
}
