//! What a compactor has done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use lgtm_core::model::TenantId;
use parking_lot::Mutex;

use crate::compact::MergeReport;

/// Why a block was marked for deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkReason {
    /// It was compacted.
    Compaction,
    /// Another block has all its data.
    Redundant,
    /// It is older than its tenant's samples are kept.
    Retention,
}

impl MarkReason {
    pub(super) const ALL: [Self; 3] = [Self::Compaction, Self::Redundant, Self::Retention];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compaction => "compaction",
            Self::Redundant => "redundant",
            Self::Retention => "retention",
        }
    }

    /// What the mark says.
    pub(super) fn details(self) -> &'static str {
        match self {
            Self::Compaction => "source of a compacted block",
            Self::Redundant => "other blocks have all its data",
            Self::Retention => "older than compactor_blocks_retention_period",
        }
    }
}

/// What a tenant had at the last cleaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantCounts {
    /// Whole blocks.
    pub blocks: u64,
    /// Of these marked for deletion.
    pub marked_for_deletion: u64,
    /// Of these marked not to be compacted.
    pub marked_no_compact: u64,
    /// Folders without a `meta.json`.
    pub partial: u64,
    /// Blocks whose `meta.json` cannot be read.
    pub unreadable: u64,
    /// Jobs of the stage that splits, and of the one that merges, that the blocks would make.
    pub split_jobs: u64,
    /// See there.
    pub merge_jobs: u64,
    /// When the bucket index was written last, seconds; 0 before.
    pub index_updated_s: i64,
}

/// What a compactor has done.
#[derive(Debug, Default)]
pub struct CompactionCounts {
    /// Rounds of compaction begun.
    pub runs_started: AtomicU64,
    /// Rounds that went through.
    pub runs_completed: AtomicU64,
    /// Rounds in which something failed.
    pub runs_failed: AtomicU64,
    /// When the last round went through, milliseconds; 0 before.
    pub last_success_ms: AtomicI64,
    /// Jobs begun.
    pub groups_started: AtomicU64,
    /// Jobs done.
    pub groups_completed: AtomicU64,
    /// Jobs that failed.
    pub groups_failed: AtomicU64,
    /// Blocks compacted.
    pub blocks_compacted: AtomicU64,
    /// Blocks written.
    pub blocks_written: AtomicU64,
    /// Samples of these.
    pub samples_written: AtomicU64,
    /// Chunks taken as they were.
    pub chunks_passed: AtomicU64,
    /// Chunks that overlapped others and were encoded anew.
    pub chunks_decoded: AtomicU64,
    /// Chunks that were equal to another.
    pub chunks_dropped: AtomicU64,
    /// Blocks marked for deletion, by [`MarkReason`].
    pub marked_for_deletion: [AtomicU64; 3],
    /// Blocks marked not to be compacted, since they cannot be read.
    pub marked_no_compact: AtomicU64,
    /// Rounds of cleaning begun.
    pub cleanups_started: AtomicU64,
    /// Rounds that went through.
    pub cleanups_completed: AtomicU64,
    /// Rounds in which something failed.
    pub cleanups_failed: AtomicU64,
    /// When the last one went through, milliseconds; 0 before.
    pub cleanup_last_success_ms: AtomicI64,
    /// Blocks deleted, those that were never whole too.
    pub blocks_cleaned: AtomicU64,
    tenants: Mutex<BTreeMap<TenantId, TenantCounts>>,
}

impl CompactionCounts {
    /// What each tenant had at the last cleaning.
    pub fn tenants(&self) -> BTreeMap<TenantId, TenantCounts> {
        self.tenants.lock().clone()
    }

    pub(super) fn note_tenant(&self, tenant: &TenantId, counts: Option<TenantCounts>) {
        let mut tenants = self.tenants.lock();
        match counts {
            Some(counts) => drop(tenants.insert(tenant.clone(), counts)),
            None => drop(tenants.remove(tenant)),
        }
    }

    pub(super) fn keep_tenants(&self, known: &[TenantId]) {
        self.tenants.lock().retain(|t, _| known.contains(t));
    }

    pub(super) fn marked(&self, reason: MarkReason) {
        self.marked_for_deletion[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn compacted(&self, report: &MergeReport, inputs: usize) {
        let add = |count: &AtomicU64, n: u64| count.fetch_add(n, Ordering::Relaxed);
        add(&self.groups_completed, 1);
        add(&self.blocks_compacted, inputs as u64);
        add(&self.blocks_written, report.blocks.len() as u64);
        let samples = report.blocks.iter().map(|m| m.stats.num_samples).sum();
        add(&self.samples_written, samples);
        add(&self.chunks_passed, report.passed_chunks);
        add(&self.chunks_decoded, report.decoded_chunks);
        add(&self.chunks_dropped, report.dropped_chunks);
    }
}
