//! What all heads of a process hold in memory together, and may hold.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of traces that are not packed yet, counted over all tenants.
#[derive(Debug)]
pub(super) struct HeadCapacity {
    bytes: AtomicU64,
    max_bytes: u64,
}

impl HeadCapacity {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            max_bytes,
        }
    }

    pub(super) fn took(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn gave(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes held now.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether traces should be cut early.
    pub(super) fn is_over(&self) -> bool {
        self.bytes() > self.max_bytes
    }

    /// What relief brings the bytes down to: so far below the bound that it pays.
    pub(super) fn relieved_bytes(&self) -> u64 {
        self.max_bytes / 4 * 3
    }

    /// Whether pushes must wait, since relief does not keep up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.bytes() > self.max_bytes.saturating_mul(2)
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}
