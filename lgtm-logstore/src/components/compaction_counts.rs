//! What a compactor has done.

use std::sync::atomic::{AtomicI64, AtomicU64};

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
}
