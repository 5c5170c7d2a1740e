//! How queries are read and run.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Bounds of the parser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParserSettings {
    /// Bytes of a query's text; a longer one is refused before it is looked at. Loki's number.
    pub max_query_bytes: usize,
    /// How high the tree of a query may be: nested parentheses and calls, operators, filters and stages in a row. 500 is far above what
    /// a person or a dashboard writes.
    pub max_depth: usize,
}

impl Default for ParserSettings {
    fn default() -> Self {
        Self {
            max_query_bytes: 131_072,
            max_depth: 500,
        }
    }
}

/// How queries run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// A query that takes longer is ended. Loki's default.
    #[serde(with = "lgtm_core::units::duration")]
    pub timeout: Duration,
    /// Series that any answer may have; 0 (default) is no limit beside the tenant's `max_query_series`.
    pub max_series: usize,
    /// Steps that a range query may have. Loki's number.
    pub max_steps: usize,
    /// Memory that one query may take, blocks that it looks at and its answer included; 0 is no limit. 1 GiB holds 100,000 series of 1,000 steps or 5,000 lines of
    /// 200 KB.
    pub max_memory: ByteSize,
    /// Memory that all queries of the process may take together, answers until they are printed included; one that needs more is
    /// answered 503. 0 is no limit. 2 GiB: two queries at their own bound, or thousands of usual ones.
    pub max_memory_total: ByteSize,
    /// Batches of blocks of one query that are computed at the same time. 2 lets a large query use two cores and leaves the others to
    /// other queries.
    pub parallelism: usize,
    /// What one template may print for one entry; a longer text is an error of that entry. 1 MiB is four times the largest line that
    /// Loki takes by default.
    pub max_template_bytes: ByteSize,
    /// Whether `approx_topk` is on; here it gives the exact answer. Off, as in Loki.
    pub approx_topk: bool,
    /// Bounds of the parser.
    pub parser: ParserSettings,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            max_series: 0,
            max_steps: 11_000,
            max_memory: ByteSize::gib(1),
            max_memory_total: ByteSize::gib(2),
            parallelism: 2,
            max_template_bytes: ByteSize::mib(1),
            approx_topk: false,
            parser: ParserSettings::default(),
        }
    }
}

impl EngineSettings {
    /// Checks that what must be more than nothing is.
    ///
    /// # Errors
    /// `InvalidInput`, naming every setting that is wrong.
    pub fn validate(&self) -> Result<()> {
        let faults: Vec<&str> = [
            ("timeout", self.timeout.is_zero()),
            ("max_steps", self.max_steps == 0),
            ("parallelism", self.parallelism == 0),
            ("max_template_bytes", self.max_template_bytes.as_u64() == 0),
            ("parser.max_query_bytes", self.parser.max_query_bytes == 0),
            ("parser.max_depth", self.parser.max_depth == 0),
        ]
        .into_iter()
        .filter_map(|(name, zero)| zero.then_some(name))
        .collect();
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::InvalidInput(format!(
                "logs querier: {} must be more than 0",
                faults.join(", ")
            ))),
        }
    }
}
