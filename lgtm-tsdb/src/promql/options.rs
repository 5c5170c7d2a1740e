//! What of the language is on, and how much of it one query may hold.

use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Switches and bounds of the parser.
///
/// Most switches are off by default, as they are in Prometheus, where each is a flag of `--enable-feature`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParserOptions {
    /// Functions and aggregations that Prometheus calls experimental (`promql-experimental-functions`).
    pub experimental_functions: bool,
    /// Arithmetic in ranges, steps and offsets, `[5m * 2]`. On, as in Prometheus 3.14, which has no flag for it any more.
    pub duration_expressions: bool,
    /// The modifiers `anchored` and `smoothed` (`promql-extended-range-selectors`).
    pub extended_range_selectors: bool,
    /// The modifiers `fill`, `fill_left` and `fill_right` (`promql-binop-fill-modifiers`).
    pub fill_modifiers: bool,
    /// Bytes of a query's text; a longer one is refused before it is looked at. 1 MiB is far above any query that a person or a
    /// dashboard writes.
    pub max_query_bytes: usize,
    /// How high the tree of a query may be: nested parentheses and calls, and operators in a row. 500 keeps a recursive walk well
    /// inside a thread's stack of 2 MiB.
    pub max_depth: usize,
    /// Bytes of one regular expression in a matcher. 512 KiB holds a dashboard's variable of 10,000 hosts.
    pub max_regex_bytes: usize,
    /// Matchers of one selector, in queries, `match[]` and remote reads. Each is asked of postings or of every series that the others
    /// leave; 1000 is far above what a dashboard writes.
    pub max_matchers: usize,
    /// Selectors of one request that asks for series, labels, exemplars or a remote read. Each is a search of its own; 100 is far above
    /// what Grafana and Prometheus send.
    pub max_selectors: usize,
}

impl Default for ParserOptions {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            fill_modifiers: false,
            max_query_bytes: 1 << 20,
            max_depth: 500,
            max_regex_bytes: 512 << 10,
            max_matchers: 1000,
            max_selectors: 100,
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

    /// Checks the number of matchers of one selector.
    ///
    /// # Errors
    /// `InvalidInput`, naming the bound.
    pub fn check_matchers(&self, count: usize) -> Result<()> {
        bounded("a selector", "matchers", count, self.max_matchers)
    }

    /// Checks the number of selectors of one request.
    ///
    /// # Errors
    /// `InvalidInput`, naming the bound.
    pub fn check_selectors(&self, count: usize) -> Result<()> {
        bounded("a request", "selectors", count, self.max_selectors)
    }
}

fn bounded(of: &str, what: &str, count: usize, max: usize) -> Result<()> {
    if count <= max {
        Ok(())
    } else {
        Err(Error::InvalidInput(format!(
            "{of} has {count} {what} or more, the bound (metrics.querier.parser.max_{what}) is {max}"
        )))
    }
}
