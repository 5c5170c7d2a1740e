//! What was compacted and cleaned. Names follow Mimir's where the meaning is the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use lgtm_core::telemetry::{Collection, Registry};

use crate::components::Compactor;
use crate::components::compaction_counts::{CompactionCounts, MarkReason};

impl Compactor {
    pub(in crate::components) fn register_metrics(self: &Arc<Self>, registry: &Registry) {
        registry.collect_from(self, |compactor, e| {
            let counts = compactor.counts();
            rounds(counts, e);
            work(counts, e);
            tenants(counts, e);
        });
    }
}

fn read(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}

fn seconds(time_ms: &AtomicI64) -> f64 {
    time_ms.load(Ordering::Relaxed) as f64 / 1000.0
}

fn rounds(counts: &CompactionCounts, e: &mut Collection) {
    for (name, help, value) in [
        (
            "cortex_compactor_runs_started_total",
            "Rounds of compaction begun.",
            &counts.runs_started,
        ),
        (
            "cortex_compactor_runs_completed_total",
            "Rounds of compaction that went through.",
            &counts.runs_completed,
        ),
        (
            "cortex_compactor_block_cleanup_started_total",
            "Rounds of cleaning begun.",
            &counts.cleanups_started,
        ),
        (
            "cortex_compactor_block_cleanup_completed_total",
            "Rounds of cleaning that went through.",
            &counts.cleanups_completed,
        ),
        (
            "cortex_compactor_block_cleanup_failed_total",
            "Rounds of cleaning in which something failed.",
            &counts.cleanups_failed,
        ),
    ] {
        e.counter(name, help, &[], read(value));
    }
    e.counter(
        "cortex_compactor_runs_failed_total",
        "Rounds of compaction in which something failed.",
        &[("reason", "error")],
        read(&counts.runs_failed),
    );
    e.gauge(
        "cortex_compactor_last_successful_run_timestamp_seconds",
        "When the last round of compaction went through.",
        &[],
        seconds(&counts.last_success_ms),
    );
    e.gauge(
        "cortex_compactor_block_cleanup_last_successful_run_timestamp_seconds",
        "When the last round of cleaning went through.",
        &[],
        seconds(&counts.cleanup_last_success_ms),
    );
}

fn work(counts: &CompactionCounts, e: &mut Collection) {
    for (name, help, value) in [
        (
            "cortex_compactor_group_compaction_runs_started_total",
            "Jobs of compaction begun.",
            &counts.groups_started,
        ),
        (
            "cortex_compactor_group_compaction_runs_completed_total",
            "Jobs of compaction done.",
            &counts.groups_completed,
        ),
        (
            "cortex_compactor_group_compactions_failures_total",
            "Jobs of compaction that failed.",
            &counts.groups_failed,
        ),
        (
            "lgtm_compactor_blocks_compacted_total",
            "Blocks that were compacted.",
            &counts.blocks_compacted,
        ),
        (
            "lgtm_compactor_blocks_written_total",
            "Blocks written in their place.",
            &counts.blocks_written,
        ),
        (
            "lgtm_compactor_samples_written_total",
            "Samples of blocks written.",
            &counts.samples_written,
        ),
        (
            "cortex_compactor_blocks_cleaned_total",
            "Blocks deleted, those that were never whole too.",
            &counts.blocks_cleaned,
        ),
    ] {
        e.counter(name, help, &[], read(value));
    }
    for (what, value) in [
        ("passed", &counts.chunks_passed),
        ("encoded", &counts.chunks_decoded),
        ("dropped", &counts.chunks_dropped),
    ] {
        e.counter(
            "lgtm_compactor_chunks_total",
            "Chunks of compacted blocks: passed as they were, encoded anew, dropped as equal to another.",
            &[("how", what)],
            read(value),
        );
    }
    for reason in MarkReason::ALL {
        e.counter(
            "cortex_compactor_blocks_marked_for_deletion_total",
            "Blocks marked for deletion.",
            &[("reason", reason.as_str())],
            read(&counts.marked_for_deletion[reason as usize]),
        );
    }
    e.counter(
        "cortex_compactor_blocks_marked_for_no_compaction_total",
        "Blocks marked not to be compacted, since they cannot be read.",
        &[("reason", "critical")],
        read(&counts.marked_no_compact),
    );
}

fn tenants(counts: &CompactionCounts, e: &mut Collection) {
    let tenants = counts.tenants();
    for (tenant, found) in &tenants {
        let user = [("user", tenant.as_str())];
        for (name, help, value) in [
            (
                "cortex_bucket_blocks_count",
                "Whole blocks in the bucket.",
                found.blocks,
            ),
            (
                "cortex_bucket_blocks_marked_for_deletion_count",
                "Blocks in the bucket that are marked for deletion.",
                found.marked_for_deletion,
            ),
            (
                "lgtm_bucket_blocks_marked_for_no_compaction_count",
                "Blocks in the bucket that are marked not to be compacted.",
                found.marked_no_compact,
            ),
            (
                "cortex_bucket_blocks_partials_count",
                "Blocks in the bucket that are not whole.",
                found.partial,
            ),
            (
                "lgtm_bucket_blocks_unreadable_count",
                "Blocks in the bucket whose meta.json cannot be read.",
                found.unreadable,
            ),
        ] {
            e.gauge(name, help, &user, value as f64);
        }
        e.gauge(
            "cortex_bucket_index_last_successful_update_timestamp_seconds",
            "When the bucket index was written last.",
            &user,
            found.index_updated_s as f64,
        );
        for (stage, jobs) in [("split", found.split_jobs), ("merge", found.merge_jobs)] {
            e.gauge(
                "cortex_bucket_index_estimated_compaction_jobs",
                "Jobs of compaction that the blocks in the bucket would make.",
                &[("user", tenant.as_str()), ("type", stage)],
                jobs as f64,
            );
        }
    }
}
