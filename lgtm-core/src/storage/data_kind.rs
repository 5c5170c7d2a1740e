//! What a prefix holds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of data with a place of its own in object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataKind {
    /// Prometheus TSDB blocks, as Mimir, Cortex and Thanos lay them out.
    MetricBlocks,
    /// Recording and alerting rules over metrics.
    MetricRules,
    /// Log chunks and their index, as Loki lays them out.
    Logs,
    /// Recording and alerting rules over logs.
    LogRules,
    /// What is known about logs beyond Loki's own index, to skip chunks unread.
    LogSkip,
    /// Trace blocks, as Tempo lays them out.
    Traces,
}

impl DataKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::MetricBlocks,
        Self::MetricRules,
        Self::Logs,
        Self::LogRules,
        Self::LogSkip,
        Self::Traces,
    ];

    /// The name: the default prefix, and the label `component` of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MetricBlocks => "metricsblocks",
            Self::MetricRules => "metricsrules",
            Self::Logs => "logs",
            Self::LogRules => "logsrules",
            Self::LogSkip => "logsskip",
            Self::Traces => "traces",
        }
    }
}

impl fmt::Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
