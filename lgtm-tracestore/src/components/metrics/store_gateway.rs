//! What is kept of blocks.

use std::sync::Arc;

use lgtm_core::telemetry::{Collection, Registry};

use crate::bucket::BucketSelect;

impl BucketSelect {
    /// Has `registry` tell what is kept of blocks.
    pub fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, Self::metrics);
    }

    fn metrics(&self, e: &mut Collection) {
        e.gauge(
            "lgtm_traces_column_cache_bytes",
            "Bytes of decoded columns that are kept for the next query.",
            &[],
            self.column_cache().size_bytes() as f64,
        );
    }
}
