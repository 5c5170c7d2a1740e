//! What tenants may do, by signal. A signal is a field in both structs and a line in `kept_by`.

use lgtm_core::limits::{Overrides, RuntimeConfigBuilder};
use serde::{Deserialize, Serialize};

/// What a tenant may do that has no overrides, by signal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SignalLimits {
    /// Metrics.
    pub(crate) metrics: lgtm_tsdb::limits::Limits,
    /// Logs.
    pub(crate) logs: lgtm_logstore::limits::Limits,
    /// Traces, in the groups of Tempo's overrides.
    pub(crate) traces: lgtm_tracestore::limits::Limits,
}

/// What every tenant may do now, by signal: what components read.
#[derive(Debug, Clone, Default)]
pub(crate) struct LimitsInForce {
    pub(crate) metrics: Overrides<lgtm_tsdb::limits::Limits>,
    pub(crate) logs: Overrides<lgtm_logstore::limits::Limits>,
    pub(crate) traces: Overrides<lgtm_tracestore::limits::Limits>,
}

impl SignalLimits {
    /// Has the overrides of each signal kept, beginning with these limits.
    pub(super) fn kept_by(
        &self,
        builder: RuntimeConfigBuilder,
        now: &LimitsInForce,
    ) -> RuntimeConfigBuilder {
        builder
            .limits("metrics", self.metrics.clone(), &now.metrics)
            .limits("logs", self.logs.clone(), &now.logs)
            .limits("traces", self.traces.clone(), &now.traces)
    }
}
