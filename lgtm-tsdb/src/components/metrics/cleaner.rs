//! What broken uploads have left.

use std::sync::Arc;

use lgtm_core::telemetry::Registry;

use crate::components::BlocksCleaner;

impl BlocksCleaner {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, |cleaner, e| {
            e.counter(
                "cortex_compactor_blocks_cleaned_total",
                "Partial blocks deleted.",
                &[],
                cleaner.deleted() as f64,
            );
        });
    }
}
