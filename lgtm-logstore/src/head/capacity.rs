//! What all heads of a process hold together, and may hold.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::PushRule;

/// Streams and bytes of open chunks, counted over all tenants.
#[derive(Debug)]
pub(super) struct HeadCapacity {
    streams: AtomicU64,
    /// 0: no bound.
    max_streams: u64,
    /// The part of what the others leave that one tenant may hold.
    tenant_share: f64,
    open_bytes: AtomicU64,
    max_open_bytes: u64,
}

impl HeadCapacity {
    pub(super) fn new(max_streams: u64, tenant_share: f64, max_open_bytes: u64) -> Self {
        Self {
            streams: AtomicU64::new(0),
            max_streams,
            tenant_share,
            open_bytes: AtomicU64::new(0),
            max_open_bytes,
        }
    }

    /// Whether a tenant that holds `own` streams may have one more.
    pub(super) fn check_streams(&self, own: u64) -> Result<(), (PushRule, String)> {
        let used = self.streams.load(Ordering::Relaxed);
        let max = self.max_streams;
        if max == 0 {
            return Ok(());
        }
        if used >= max {
            let message =
                format!("the process holds {used} streams of all tenants, max_streams is {max}");
            return Err((PushRule::StreamCapacity, message));
        }
        let left = max.saturating_sub(used.saturating_sub(own));
        // Who has none is to be let in.
        let share = ((left as f64 * self.tenant_share) as u64).max(1);
        if own >= share {
            let message = format!(
                "the tenant holds {own} streams, which is its share of the {max} streams of max_streams"
            );
            return Err((PushRule::StreamCapacity, message));
        }
        Ok(())
    }

    pub(super) fn stream_made(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn streams_forgotten(&self, count: u64) {
        self.streams.fetch_sub(count, Ordering::Relaxed);
    }

    /// Streams of all tenants.
    pub(super) fn streams(&self) -> u64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Notes that open chunks which took `before` bytes take `after`.
    pub(super) fn open_bytes_changed(&self, before: usize, after: usize) {
        if after >= before {
            (self.open_bytes).fetch_add((after - before) as u64, Ordering::Relaxed)
        } else {
            (self.open_bytes).fetch_sub((before - after) as u64, Ordering::Relaxed)
        };
    }

    /// Bytes of open chunks.
    pub(super) fn open_bytes(&self) -> u64 {
        self.open_bytes.load(Ordering::Relaxed)
    }

    /// Whether open chunks should become smaller.
    pub(super) fn is_over(&self) -> bool {
        self.open_bytes() > self.max_open_bytes
    }

    /// What relief brings open chunks down to: so far below the bound that it pays.
    pub(super) fn relieved_bytes(&self) -> u64 {
        self.max_open_bytes / 8 * 7
    }

    /// Whether pushes must wait, since relief does not keep up or the disk refuses it.
    pub(super) fn is_exhausted(&self) -> bool {
        self.open_bytes() > self.max_open_bytes.saturating_mul(2)
    }

    pub(super) fn max_open_bytes(&self) -> u64 {
        self.max_open_bytes
    }
}
