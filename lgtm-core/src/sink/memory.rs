//! A sink that keeps what comes.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::error::Result;
use crate::model::TenantId;
use crate::sink::sink::{SampleSink, SinkReport, SinkSample};

/// Keeps everything, refuses nothing. Without a bound: whoever uses it takes out what came.
#[derive(Debug, Default)]
pub struct MemorySink(Mutex<HashMap<TenantId, Vec<SinkSample>>>);

impl MemorySink {
    /// What came for a tenant since the last call, in the order of the writes.
    pub fn take(&self, tenant: &TenantId) -> Vec<SinkSample> {
        self.0.lock().remove(tenant).unwrap_or_default()
    }
}

#[async_trait]
impl SampleSink for MemorySink {
    async fn write(&self, tenant: &TenantId, samples: &[SinkSample]) -> Result<SinkReport> {
        let mut tenants = self.0.lock();
        tenants
            .entry(tenant.clone())
            .or_default()
            .extend_from_slice(samples);
        Ok(SinkReport::default())
    }
}
