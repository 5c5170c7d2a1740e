//! What all parts of one query share: where data comes from, what is on, how much may be used, what was noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::TenantId;
use lgtm_core::vector::StepGrid;
use parking_lot::Mutex;

use crate::promql::annotations::{Annotations, Note};
use crate::promql::plan::Node;
use crate::promql::query_error::{QueryError, Result};
use crate::select::{QueryBudget, Select, merge_warnings};

/// What of the language is on, and what it is run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Switches {
    /// How far back an instant looks, milliseconds.
    pub(crate) lookback_ms: i64,
    /// Whether names are dropped at the end of the query rather than where they cease to be right.
    pub(crate) delayed_names: bool,
    /// Whether start timestamps count.
    pub(crate) start_timestamps: bool,
    /// Whether the query asks for a range.
    pub(crate) is_range: bool,
    /// Batches that are computed at the same time.
    pub(crate) parallelism: usize,
}

/// How much one query may hold. Zero means no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Values in memory.
    pub(crate) max_points: u64,
    /// Bytes in memory.
    pub(crate) max_bytes: u64,
    /// The setting that `max_bytes` comes from.
    pub(crate) max_bytes_setting: &'static str,
}

/// Bytes of one value per step, whatever the limits are: beyond it nothing is made, as even the address of it might not fit.
const MAX_ROW_BYTES: usize = 1 << 38;

/// What a query holds and has held.
#[derive(Debug)]
pub(crate) struct Usage {
    limits: Limits,
    points: AtomicU64,
    bytes: AtomicU64,
    peak_points: AtomicU64,
    peak_bytes: AtomicU64,
    read: AtomicU64,
}

impl Usage {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            points: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            peak_points: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }

    /// Counts samples that windows or instants looked at.
    pub(crate) fn note_read(&self, samples: u64) {
        self.read.fetch_add(samples, Ordering::Relaxed);
    }

    /// Samples looked at, most values held, most bytes held.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (
            load(&self.read),
            load(&self.peak_points),
            load(&self.peak_bytes),
        )
    }
}

/// Memory that a query holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    usage: Arc<Usage>,
    points: u64,
    bytes: u64,
}

impl Charge {
    pub(crate) fn none(usage: &Arc<Usage>) -> Self {
        Self {
            usage: Arc::clone(usage),
            points: 0,
            bytes: 0,
        }
    }

    /// Another one of the same query that holds nothing.
    pub(crate) fn empty(&self) -> Self {
        Self::none(&self.usage)
    }

    /// Takes more.
    ///
    /// # Errors
    /// `Execution`, naming the limit.
    pub(crate) fn grow(&mut self, points: u64, bytes: u64) -> Result<()> {
        // What is given back later must be what was taken; nobody has half of all the memory that can be numbered.
        let bytes = bytes.min(u64::MAX / 1024);
        self.points += points;
        self.bytes += bytes;
        let u = &self.usage;
        let points = u.points.fetch_add(points, Ordering::Relaxed) + points;
        let bytes = u
            .bytes
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        u.peak_points.fetch_max(points, Ordering::Relaxed);
        u.peak_bytes.fetch_max(bytes, Ordering::Relaxed);
        if u.limits.max_points > 0 && points > u.limits.max_points {
            return Err(QueryError::execution(format!(
                "query processing would load too many samples into memory in query execution: more than {} (max_samples)",
                u.limits.max_points
            )));
        }
        if u.limits.max_bytes > 0 && bytes > u.limits.max_bytes {
            return Err(QueryError::execution(format!(
                "the query exceeded the maximum allowed estimated amount of memory consumed by a single query (limit: {} bytes) (err-mimir-max-estimated-memory-consumption-per-query). To adjust it, configure {}",
                u.limits.max_bytes, u.limits.max_bytes_setting
            )));
        }
        Ok(())
    }

    /// Sees to it that at least so many bytes are held.
    ///
    /// # Errors
    /// As [`Charge::grow`].
    pub(crate) fn hold(&mut self, bytes: u64) -> Result<()> {
        match bytes.checked_sub(self.bytes) {
            None | Some(0) => Ok(()),
            Some(more) => self.grow(0, more),
        }
    }

    /// Takes over what `other` holds.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.points += std::mem::take(&mut other.points);
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.usage.points.fetch_sub(self.points, Ordering::Relaxed);
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What all parts of one query share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) source: Arc<dyn Select>,
    pub(crate) tenant: TenantId,
    pub(crate) budget: Arc<QueryBudget>,
    pub(crate) executor: Executor,
    pub(crate) cancel: CancelToken,
    pub(crate) switches: Switches,
    pub(crate) usage: Arc<Usage>,
    pub(crate) notes: Mutex<Annotations>,
    /// What the holders of data could not bring: the answer is not whole.
    pub(crate) missing: Mutex<Vec<String>>,
}

impl Context {
    /// Takes the memory that evaluating a node takes whatever the data: what there is per step before there is a value. A grid of
    /// more steps than fit is refused here, before anything is made for it.
    pub(crate) fn room_for(&self, node: &Node, grid: StepGrid) -> Result<Charge> {
        let mut charge = Charge::none(&self.usage);
        let row = (grid.len() as u64).saturating_mul(size_of::<f64>() as u64);
        charge.grow(0, row.saturating_mul(node.rows()))?;
        match usize::try_from(row) {
            Ok(bytes) if bytes <= MAX_ROW_BYTES => Ok(charge),
            _ => Err(QueryError::execution(format!(
                "{} steps are more than a query can have",
                grid.len()
            ))),
        }
    }

    pub(crate) fn note(&self, note: Note, pos: usize) {
        self.notes.lock().add(note, pos);
    }

    /// Notes what holders of data could not bring.
    pub(crate) fn note_missing(&self, warnings: Vec<String>) {
        if !warnings.is_empty() {
            merge_warnings(&mut self.missing.lock(), warnings);
        }
    }

    pub(crate) fn merge_notes(&self, notes: Annotations) {
        if !notes.is_empty() {
            self.notes.lock().merge(notes);
        }
    }

    /// Runs `work` on the compute pool, or here when it is small: handing it over would take longer.
    pub(crate) async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        cost: usize,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        /// Cells and samples that can be computed in about a tenth of a millisecond.
        const SMALL: usize = 10_000;
        if cost <= SMALL {
            return work(self);
        }
        let ctx = Arc::clone(self);
        self.executor.run(move |_| work(&ctx), &self.cancel).await
    }
}
