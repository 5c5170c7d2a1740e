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
        }
    }

    fn slot(&self, start_ns: u64) -> usize {
        let length = u128::from(self.grid.until_ns() - self.grid.after_ns).max(1);
        let passed = u128::from(start_ns.saturating_sub(self.grid.after_ns));
        (passed * self.max as u128 / length) as usize
    }

    /// Whether a span would be taken. It is asked of every span that counts.
    #[inline]
    pub(super) fn would_take(&self, start_ns: u64, rank: u64) -> bool {
        self.max > 0
            && (self.slots.get(&self.slot(start_ns)))
                .is_none_or(|known| (rank, start_ns) < (known.rank, known.start_ns))
    }

    pub(super) fn offer(&mut self, span: ExemplarSpan) {
        if self.would_take(span.start_ns, span.rank) {
            self.slots.insert(self.slot(span.start_ns), span);
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
