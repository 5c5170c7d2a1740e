//! How queries run.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::options::ParserOptions;

/// How queries run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How far back an instant looks for a sample. Prometheus' default.
    #[serde(with = "lgtm_core::units::duration")]
    pub lookback_delta: Duration,
    /// A query that takes longer is ended. Prometheus' default.
    #[serde(with = "lgtm_core::units::duration")]
    pub timeout: Duration,
    /// Values that one query may hold in memory; 0 is no limit. Prometheus' default.
    pub max_samples: u64,
    /// Memory that the values of one query may take, whoever asks; 0 is no limit. The default lets the default of `max_samples` through.
    pub max_memory: ByteSize,
    /// Memory that all queries of the process may take together, answers until they are printed included; one that needs more is
    /// answered 503. 0 is no limit. 4 GiB: two queries at their own bound, or thousands of usual ones; however many tenants ask, the
    /// process does not grow beyond it.
    pub max_memory_total: ByteSize,
    /// Distance of the steps of a subquery that gives none. Prometheus' default evaluation interval.
    #[serde(with = "lgtm_core::units::duration")]
    pub default_subquery_step: Duration,
    /// Batches of series of one query that are computed at the same time. 2 lets a large query use two cores and leaves the others
    /// to other queries.
    pub parallelism: usize,
    /// Whether a metric's name is dropped at the end of the query rather than by the function that makes it wrong
    /// (`promql-delayed-name-removal`). Off, as in Prometheus.
    pub delayed_name_removal: bool,
    /// Whether start timestamps tell of counter resets (`use-start-timestamps`). Off, as in Prometheus.
    pub start_timestamps: bool,
    /// Syntax that Prometheus hides behind flags, and bounds of a query's text.
    pub parser: ParserOptions,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            lookback_delta: Duration::from_secs(300),
            timeout: Duration::from_secs(120),
            max_samples: 50_000_000,
            max_memory: ByteSize::gib(2),
            max_memory_total: ByteSize::gib(4),
            default_subquery_step: Duration::from_secs(60),
            parallelism: 2,
            delayed_name_removal: false,
            start_timestamps: false,
            parser: ParserOptions::default(),
        }
    }
}

impl EngineSettings {
    /// Everything that Prometheus hides behind flags, on: what its test scripts run with.
    pub fn everything() -> Self {
        Self {
            delayed_name_removal: true,
            start_timestamps: true,
            parser: ParserOptions::everything(),
            ..Self::default()
        }
    }

    /// Checks that lengths of time and the parallelism are more than nothing.
    ///
    /// # Errors
    /// `InvalidInput`, naming every setting that is wrong.
    pub fn validate(&self) -> Result<()> {
        let faults: Vec<&str> = [
            ("lookback_delta", self.lookback_delta.is_zero()),
            ("timeout", self.timeout.is_zero()),
            (
                "default_subquery_step",
                self.default_subquery_step.as_millis() == 0,
            ),
            ("parallelism", self.parallelism == 0),
        ]
        .into_iter()
        .filter_map(|(name, zero)| zero.then_some(name))
        .collect();
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(format!(
                "metrics.querier: {} must be more than 0",
                faults.join(", ")
            )))
        }
    }
}
