//! What a registry holds at one moment.

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only grows, until the process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts per bucket.
    Histogram,
}

impl MetricKind {
    /// The word in a `# TYPE` line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric with all its label sets.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilySnapshot {
    /// The name, e.g. `lgtm_objstore_operations_total`.
    pub name: String,
    /// What it means, in words.
    pub help: String,
    /// What the numbers mean.
    pub kind: MetricKind,
    /// The numbers, in the order of their labels; a histogram's buckets come before its sum and count.
    pub samples: Vec<Sample>,
}

/// One number with its name and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name; a histogram's samples end in `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// Label names and values, in the order the metric was registered with; `le` of a bucket is last.
    pub labels: Vec<(String, String)>,
    /// The number.
    pub value: f64,
}

impl Sample {
    pub(super) fn new(name: &str, labels: &[(String, String)], value: f64) -> Self {
        Self {
            name: name.into(),
            labels: labels.to_vec(),
            value,
        }
    }
}
