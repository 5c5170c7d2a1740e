//! What all parts of one query share: where data comes from, what is on, how much may be used, what was noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::exec::{CancelToken, Executor, move_to_pool};
use lgtm_core::limits::QueryMemory;
use lgtm_core::model::{TenantId, merge_warnings};
use lgtm_core::vector::StepGrid;
use parking_lot::Mutex;

use crate::promql::annotations::{Annotations, Note};
use crate::promql::plan::Node;
use crate::promql::query_error::{QueryError, Result};
use crate::select::{QueryBudget, Select};

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
pub(crate) struct EvalBounds {
    /// Values in memory.
    pub(crate) max_points: u64,
    /// Bytes in memory.
    pub(crate) max_bytes: u64,
    /// The setting that `max_bytes` comes from.
    pub(crate) max_bytes_setting: &'static str,
}

/// The cost of what takes more than about a quarter of a millisecond, in cells, samples and units of eight bytes of labels: it goes to
/// the compute pool.
pub(super) const LARGE: usize = 25_000;

/// Bytes of one value per step, whatever the limits are: beyond it nothing is made, as even the address of it might not fit.
const MAX_ROW_BYTES: usize = 1 << 38;

/// What a query holds and has held.
#[derive(Debug)]
pub(crate) struct Usage {
    limits: EvalBounds,
    points: AtomicU64,
    bytes: AtomicU64,
    peak_points: AtomicU64,
    peak_bytes: AtomicU64,
    read: AtomicU64,
    /// What of `bytes` is counted for the process, a little more than there is so that not each grain is counted there.
    reserved: AtomicU64,
    process: Arc<QueryMemory>,
}

/// What is counted for the process at a time.
const PIECE_BYTES: u64 = 64 << 10;

impl Usage {
    pub(crate) fn new(limits: EvalBounds, process: Arc<QueryMemory>) -> Self {
        Self {
            limits,
            process,
            reserved: AtomicU64::new(0),
            points: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            peak_points: AtomicU64::new(0),
            peak_bytes: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }

    /// Sees to it that `bytes` are counted for the process.
    fn reserve(&self, bytes: u64) -> Result<()> {
        let mut have = self.reserved.load(Ordering::Relaxed);
        while bytes > have {
            let want = bytes.next_multiple_of(PIECE_BYTES);
            match self.exchange(have, want) {
                Ok(()) => {
                    return self.process.grow(want - have).map_err(|refused| {
                        self.reserved.fetch_sub(want - have, Ordering::Relaxed);
                        QueryError::from(refused)
                    });
                }
                Err(now) => have = now,
            }
        }
        Ok(())
    }

    /// Gives back to the process what is far more than `bytes`.
    fn give_back(&self, bytes: u64) {
        let want = bytes.next_multiple_of(PIECE_BYTES);
        let mut have = self.reserved.load(Ordering::Relaxed);
        while have > want + 16 * PIECE_BYTES {
            match self.exchange(have, want) {
                Ok(()) => return self.process.shrink(have - want),
                Err(now) => have = now,
            }
        }
    }

    fn exchange(&self, have: u64, want: u64) -> Result<(), u64> {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let swapped = self
            .reserved
            .compare_exchange_weak(have, want, success, failure);
        swapped.map(|_| ())
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

impl Drop for Usage {
    fn drop(&mut self) {
        self.process.shrink(*self.reserved.get_mut());
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
    /// `Execution`, naming the limit of the query; `Unavailable` when all queries together hold what they may.
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
                "the query exceeded the maximum allowed estimated amount of memory consumed by a single query (limit: {} bytes). To adjust it, configure {}",
                u.limits.max_bytes, u.limits.max_bytes_setting
            )));
        }
        u.reserve(bytes)
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
        if self.points > 0 {
            self.usage.points.fetch_sub(self.points, Ordering::Relaxed);
        }
        if self.bytes > 0 {
            let before = self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            self.usage.give_back(before.saturating_sub(self.bytes));
        }
    }
}

/// Memory that grows by one series after the other: counted in pieces, as who counts looks at what all threads of the query share.
#[derive(Debug)]
pub(crate) struct Growing {
    charge: Charge,
    points: u64,
    bytes: u64,
}

impl Growing {
    /// Begins with nothing.
    pub(crate) fn none(charge: &Charge) -> Self {
        Self {
            charge: charge.empty(),
            points: 0,
            bytes: 0,
        }
    }

    /// Another one of the same query that holds nothing.
    pub(crate) fn empty(&self) -> Self {
        Self::none(&self.charge)
    }

    /// Takes more. What is beyond a bound is seen within 16 KiB.
    ///
    /// # Errors
    /// As [`Charge::grow`].
    pub(crate) fn add(&mut self, points: u64, bytes: u64) -> Result<()> {
        self.points += points;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes < 16 << 10 {
            return Ok(());
        }
        self.count()
    }

    fn count(&mut self) -> Result<()> {
        let (points, bytes) = (
            std::mem::take(&mut self.points),
            std::mem::take(&mut self.bytes),
        );
        self.charge.grow(points, bytes)
    }

    /// Takes over what `other` holds.
    ///
    /// # Errors
    /// As [`Charge::grow`].
    pub(crate) fn join(&mut self, other: Self) -> Result<()> {
        self.charge.join(other.finish()?);
        Ok(())
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Charge::grow`].
    pub(crate) fn finish(mut self) -> Result<Charge> {
        self.count()?;
        Ok(self.charge)
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
    pub(crate) async fn room_for(&self, node: &Node, grid: StepGrid) -> Result<Charge> {
        let mut charge = Charge::none(&self.usage);
        let row = (grid.len() as u64).saturating_mul(size_of::<f64>() as u64);
        let rows = row.saturating_mul(node.rows());
        charge.grow(0, rows)?;
        if rows >= (LARGE * size_of::<f64>()) as u64 {
            move_to_pool().await;
        }
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
        if cost < LARGE {
            return work(self);
        }
        let ctx = Arc::clone(self);
        self.executor.run(move |_| work(&ctx), &self.cancel).await
    }
}
