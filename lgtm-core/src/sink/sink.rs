//! The trait, and what goes through it.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::Result;
use crate::model::{Exemplar, FloatHistogram, Histogram, Labels, TenantId, TimestampMs};

/// One sample of one series.
#[derive(Debug, Clone)]
pub struct SinkSample {
    /// The series, its name (`__name__`) included.
    pub labels: Labels,
    /// When it was so.
    pub t_ms: TimestampMs,
    /// What it was; a stale marker ends the series.
    pub value: SinkValue,
    /// An observation that went into it.
    pub exemplar: Option<Exemplar>,
}

impl SinkSample {
    /// A float.
    pub fn float(labels: Labels, t_ms: TimestampMs, value: f64) -> Self {
        Self {
            labels,
            t_ms,
            value: SinkValue::Float(value),
            exemplar: None,
        }
    }
}

/// What a sample is.
#[derive(Debug, Clone)]
pub enum SinkValue {
    /// A number.
    Float(f64),
    /// A native histogram that counts in integers.
    Histogram(Box<Histogram>),
    /// A native histogram that counts in floats, as queries make it.
    FloatHistogram(Box<FloatHistogram>),
}

/// What became of samples that were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkReport {
    /// Samples that the tenant's limits or rules of the data refused; all others are stored.
    pub refused: u64,
    /// Why, of the first.
    pub fault: Option<String>,
}

/// Takes samples for a tenant.
#[async_trait]
pub trait SampleSink: Debug + Send + Sync + 'static {
    /// Stores samples, each series at most once in a call. When it returns, they are as durable as what clients push.
    ///
    /// One that failed may have been stored in part; writing it again is harmless.
    ///
    /// # Errors
    /// `RateLimited` for all of them, with the time after which to try again; `Unavailable`, also where the process has no room for some
    /// of them now.
    async fn write(&self, tenant: &TenantId, samples: &[SinkSample]) -> Result<SinkReport>;
}
