//! What a compactor has done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64};

use lgtm_core::model::{TenantId, TimestampMs};
use parking_lot::Mutex;

use crate::compact::TableFile;
use crate::index::IndexFileName;

/// What a compactor has done.
#[derive(Debug, Default)]
pub struct CompactionCounts {
    /// Rounds that went through.
    pub rounds: AtomicU64,
    /// Rounds in which something failed.
    pub failed_rounds: AtomicU64,
    /// Tables joined.
    pub tables: AtomicU64,
    /// New files written.
    pub files_written: AtomicU64,
    /// Bytes of these, as they are stored.
    pub bytes_written: AtomicU64,
    /// Superseded files deleted.
    pub files_deleted: AtomicU64,
    /// Side objects made of several.
    pub side_objects_written: AtomicU64,
    /// Side objects deleted, as they were joined or their day has no index files any more.
    pub side_objects_deleted: AtomicU64,
    /// Index files and side objects that could not be read, each as often as it was tried; they stay where they are.
    pub damaged: AtomicU64,
    /// Chunks that left the index as their entries are older than they are kept.
    pub chunks_expired: AtomicU64,
    /// Chunks deleted that no index file named any more.
    pub chunks_deleted: AtomicU64,
    /// Chunks written in the place of others.
    pub chunks_rewritten: AtomicU64,
    /// Small chunks that others were made of.
    pub chunks_merged: AtomicU64,
    /// Delete requests that were done.
    pub delete_requests_processed: AtomicU64,
    /// Lists of chunks that wait for their deletion, as of the last round.
    pub leaving_lists: AtomicU64,
    /// When the last round went through, milliseconds; 0 before.
    pub last_success_ms: AtomicI64,
    tenants: Mutex<TenantRounds>,
}

/// What rounds went through for whom.
#[derive(Debug, Default)]
struct TenantRounds {
    /// The tenants in the tables that were looked at, by day.
    by_day: BTreeMap<i64, BTreeSet<TenantId>>,
    /// Days that failed in this round.
    failed: BTreeSet<i64>,
    /// When the oldest file was written that waits to be joined, seconds.
    oldest_s: Option<i64>,
    last_success_ms: BTreeMap<TenantId, TimestampMs>,
}

impl CompactionCounts {
    /// A round begins.
    pub(super) fn begin_tables(&self) {
        let mut rounds = self.tenants.lock();
        rounds.failed.clear();
        rounds.oldest_s = None;
    }

    /// A table has these files.
    pub(super) fn note_files(&self, day: i64, files: &[TableFile]) {
        let tenants: BTreeSet<TenantId> = files.iter().filter_map(|f| f.tenant.clone()).collect();
        let written_s = |f: &TableFile| match f.path.rsplit('/').next()?.parse() {
            Ok(IndexFileName::Uploaded { created_s, .. }) => Some(created_s),
            _ => None,
        };
        let oldest = files.iter().filter_map(written_s).min();
        let mut rounds = self.tenants.lock();
        rounds.oldest_s = rounds.oldest_s.into_iter().chain(oldest).min();
        match tenants.is_empty() {
            true => drop(rounds.by_day.remove(&day)),
            false => drop(rounds.by_day.insert(day, tenants)),
        }
    }

    /// A table failed in this round.
    pub(super) fn table_failed(&self, day: i64) {
        self.tenants.lock().failed.insert(day);
    }

    /// A round ends, whatever failed; `days` are those that there are.
    pub(super) fn end_tables(&self, days: &BTreeSet<i64>, now_ms: TimestampMs) {
        let mut rounds = self.tenants.lock();
        let rounds = &mut *rounds;
        rounds.by_day.retain(|day, _| days.contains(day));
        let of = |is_failed: bool| -> BTreeSet<&TenantId> {
            let days = rounds.by_day.iter();
            let days = days.filter(|(day, _)| rounds.failed.contains(day) == is_failed);
            days.flat_map(|(_, tenants)| tenants).collect()
        };
        let (good, bad) = (of(false), of(true));
        let last = &mut rounds.last_success_ms;
        last.retain(|tenant, _| good.contains(tenant) || bad.contains(tenant));
        for tenant in good.difference(&bad) {
            last.insert((*tenant).clone(), now_ms);
        }
    }

    /// When a round last went through for each tenant that has joined index files.
    pub fn last_success_by_tenant(&self) -> BTreeMap<TenantId, TimestampMs> {
        self.tenants.lock().last_success_ms.clone()
    }

    /// When the oldest index file was written that waits to be joined, seconds; `None` when none does.
    pub fn oldest_waiting_s(&self) -> Option<i64> {
        self.tenants.lock().oldest_s
    }
}
