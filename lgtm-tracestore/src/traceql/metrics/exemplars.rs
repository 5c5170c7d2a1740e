//! Spans that stand for others: few, spread over the range, and the same ones whatever the order of the parts.

use std::collections::{BTreeMap, HashSet};

use super::super::value::AnswerValue;
use super::grid::IntervalGrid;
use super::partial::{ExemplarSpan, LegPartial};
use crate::trace::TraceId;

/// Chooses exemplars: the range is cut into as many pieces as there may be, and of each piece the span of least rank stays.
#[derive(Debug)]
pub(super) struct ExemplarChoice {
    grid: IntervalGrid,
    max: usize,
    slots: BTreeMap<usize, ExemplarSpan>,
    last: LastSlot,
}

/// The piece of the range that was looked at last. Spans beside each other are of one time.
#[derive(Debug, Default)]
struct LastSlot {
    number: usize,
    /// The times that it has, `[from_ns, until_ns)`.
    from_ns: u64,
    until_ns: u64,
    /// Rank and start of the span that stands for it.
    known: Option<(u64, u64)>,
}

/// Decides between traces: as good as chance, and everywhere the same.
pub(super) fn rank_of(id: TraceId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes())
}

impl ExemplarChoice {
    pub(super) fn new(grid: IntervalGrid, max: usize) -> Self {
        Self {
            grid,
            max,
            slots: BTreeMap::new(),
            last: LastSlot::default(),
        }
    }

    fn look_at(&mut self, start_ns: u64) {
        if self.last.from_ns <= start_ns && start_ns < self.last.until_ns {
            return;
        }
        let after_ns = self.grid.after_ns;
        let length = u128::from(self.grid.until_ns() - after_ns).max(1);
        let (passed, max) = (
            u128::from(start_ns.saturating_sub(after_ns)),
            self.max as u128,
        );
        let number = passed * max / length;
        let edge_ns = |number: u128| {
            let edge = u128::from(after_ns) + (number * length).div_ceil(max);
            u64::try_from(edge).unwrap_or(u64::MAX)
        };
        let known = self.slots.get(&(number as usize));
        self.last = LastSlot {
            number: number as usize,
            from_ns: edge_ns(number),
            until_ns: edge_ns(number + 1),
            known: known.map(|span| (span.rank, span.start_ns)),
        };
    }

    /// Whether a span would be taken. It is asked of every span that counts.
    #[inline]
    pub(super) fn would_take(&mut self, start_ns: u64, rank: u64) -> bool {
        if self.max == 0 {
            return false;
        }
        self.look_at(start_ns);
        let known = self.last.known;
        known.is_none_or(|known| (rank, start_ns) < known)
    }

    pub(super) fn offer(&mut self, span: ExemplarSpan) {
        if self.would_take(span.start_ns, span.rank) {
            self.last.known = Some((span.rank, span.start_ns));
            self.slots.insert(self.last.number, span);
        }
    }

    /// At most one a trace.
    pub(super) fn chosen(self) -> Vec<ExemplarSpan> {
        let mut traces = HashSet::new();
        let spans = self.slots.into_values();
        spans.filter(|span| traces.insert(span.rank)).collect()
    }
}

impl LegPartial {
    /// Those that stay when all parts are there.
    pub(super) fn choose_exemplars(&mut self, grid: IntervalGrid, max: usize) -> Vec<ExemplarSpan> {
        let mut choice = ExemplarChoice::new(grid, max);
        self.exemplars.drain(..).for_each(|span| choice.offer(span));
        choice.chosen()
    }
}

/// The label that names a trace.
pub(super) fn trace_label(id: TraceId) -> (String, AnswerValue) {
    ("trace:id".to_owned(), AnswerValue::Text(id.short_hex()))
}
