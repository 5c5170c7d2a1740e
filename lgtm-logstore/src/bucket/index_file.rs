//! An index file as the list knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use lgtm_core::Error;
use lgtm_core::model::{TenantId, TimestampMs};
use parking_lot::Mutex;

use crate::index::IndexReader;

/// An index file on the list, open or not.
#[derive(Debug)]
pub(super) struct IndexFile {
    /// In the bucket.
    pub(super) path: String,
    /// The day of its table.
    pub(super) day: i64,
    /// Whose it is; `None`: of several tenants, told apart by a label.
    pub(super) tenant: Option<TenantId>,
    /// Written by this process, perhaps after the listing that lacks it.
    pub(super) is_own: bool,
    pub(super) reader: tokio::sync::Mutex<Option<Arc<IndexReader>>>,
    /// When the reader was last asked for, on the counter of all files.
    pub(super) used: AtomicU64,
    /// Its object is gone: compaction has put another in its place.
    pub(super) is_gone: AtomicBool,
    fault: Mutex<Option<FileFault>>,
}

/// Why a file is set aside.
#[derive(Debug, Clone)]
struct FileFault {
    text: String,
    /// On the host's clock, milliseconds: from then on a query tries the file again.
    retry_at_ms: TimestampMs,
}

impl IndexFile {
    pub(super) fn new(path: String, day: i64, tenant: Option<TenantId>) -> Self {
        Self {
            path,
            day,
            tenant,
            is_own: false,
            reader: tokio::sync::Mutex::default(),
            used: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
            fault: Mutex::default(),
        }
    }

    /// A file of several tenants that this process has just written.
    pub(super) fn written(path: String, day: i64) -> Self {
        Self {
            is_own: true,
            ..Self::new(path, day, None)
        }
    }

    /// Why the file is set aside, unless it is time to try it again.
    pub(super) fn fault(&self, now_ms: TimestampMs) -> Option<String> {
        let mut fault = self.fault.lock();
        if fault.as_ref().is_some_and(|f| now_ms >= f.retry_at_ms) {
            *fault = None;
        }
        fault.as_ref().map(|f| f.text.clone())
    }

    /// Why the file is set aside.
    pub(super) fn known_fault(&self) -> Option<String> {
        self.fault.lock().as_ref().map(|f| f.text.clone())
    }

    /// Sets the file aside until `retry_at_ms`.
    pub(super) fn set_aside(&self, error: &Error, retry_at_ms: TimestampMs) {
        let text = error.to_string();
        let before = self.fault.lock().replace(FileFault {
            text: text.clone(),
            retry_at_ms,
        });
        if before.is_none_or(|f| f.text != text) {
            tracing::error!(
                file = self.path,
                error = text,
                "index file set aside: it cannot be read; the others serve, and answers that lack it say so"
            );
        }
    }

    /// Gives the file another chance.
    pub(super) fn forgive(&self) {
        *self.fault.lock() = None;
    }

    /// Lets go of the reader.
    pub(super) async fn reread(&self) {
        *self.reader.lock().await = None;
    }

    /// What an answer without the file says.
    pub(super) fn warning(&self, fault: &str) -> String {
        format!(
            "index file {} cannot be read, entries may be missing: {fault}",
            self.path
        )
    }
}
