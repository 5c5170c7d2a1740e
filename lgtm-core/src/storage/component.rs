//! The parts of the system that own data in object storage.

use std::fmt;

/// A component with data of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// Metric blocks, as Mimir lays them out.
    MetricBlocks,
    /// Recording and alerting rules of metrics.
    MetricRules,
    /// Log chunks and their index, as Loki lays them out.
    Logs,
    /// Rules of logs.
    LogRules,
    /// Skip data of logs.
    LogSkip,
    /// Trace blocks, as Tempo lays them out.
    Traces,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::MetricBlocks,
        Self::MetricRules,
        Self::Logs,
        Self::LogRules,
        Self::LogSkip,
        Self::Traces,
    ];

    /// The prefix in a shared bucket unless another is set; also the component's name in metrics. Mimir allows letters and
    /// digits only.
    pub fn default_prefix(self) -> &'static str {
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

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.default_prefix())
    }
}
