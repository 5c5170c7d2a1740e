//! Spans that stand for others: few, spread over the range, and the same ones whatever the order of the parts.

use std::collections::{BTreeMap, HashSet};

use super::super::value::AnswerValue;
use super::grid::IntervalGrid;
use super::partial::{ExemplarSpan, LegPartial, SeriesKey, SeriesLabels};
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

/// What decides between spans. Those of one trace that begin together are told apart by what is told of them, so that their order does not matter.
fn order(span: &ExemplarSpan) -> (u64, u64, &SeriesKey, Option<u64>, &SeriesLabels) {
    let value = span.value.map(f64::to_bits);
    (span.rank, span.start_ns, &span.key, value, &span.labels)
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

    /// Number of the piece that a time lies in.
    fn number_of(&self, start_ns: u64) -> usize {
        let after_ns = self.grid.after_ns;
        let length = (self.grid.until_ns() - after_ns).max(1);
        let passed = start_ns.saturating_sub(after_ns);
        match passed.checked_mul(self.max as u64) {
            Some(scaled) => (scaled / length) as usize,
            None => (u128::from(passed) * self.max as u128 / u128::from(length)) as usize,
        }
    }

    /// When a piece begins.
    fn edge_ns(&self, number: usize) -> u64 {
        let after_ns = self.grid.after_ns;
        let length = (self.grid.until_ns() - after_ns).max(1);
        let edge = match (number as u64).checked_mul(length) {
            Some(scaled) => Some(scaled.div_ceil(self.max as u64)),
            None => (number as u128 * u128::from(length))
                .div_ceil(self.max as u128)
                .try_into()
                .ok(),
        };
        edge.and_then(|edge| after_ns.checked_add(edge))
            .unwrap_or(u64::MAX)
    }

    fn look_at(&mut self, start_ns: u64) {
        if self.last.from_ns <= start_ns && start_ns < self.last.until_ns {
            return;
        }
        let number = self.number_of(start_ns);
        let known = self.slots.get(&number);
        self.last = LastSlot {
            number,
            from_ns: self.edge_ns(number),
            until_ns: self.edge_ns(number + 1),
            known: known.map(|span| (span.rank, span.start_ns)),
        };
    }

    /// The highest rank that a span of one of these times may have to be taken; `None` where none is. What is taken later only lowers it.
    pub(super) fn highest_rank(&self, starts_ns: impl Iterator<Item = u64>) -> Option<u64> {
        if self.max == 0 {
            return None;
        }
        let (first, last) = starts_ns.fold((u64::MAX, 0), |(first, last), start_ns| {
            (first.min(start_ns), last.max(start_ns))
        });
        if first > last {
            return None;
        }
        let (first, last) = (self.number_of(first), self.number_of(last));
        let known = self.slots.range(first..=last);
        let (count, highest) = known.fold((0, 0), |(n, highest), (_, span)| {
            (n + 1, span.rank.max(highest))
        });
        Some(if count > last - first {
            highest
        } else {
            u64::MAX
        })
    }

    /// Whether a span may be taken. It is asked of every span that counts.
    #[inline]
    pub(super) fn would_take(&mut self, start_ns: u64, rank: u64) -> bool {
        if self.max == 0 {
            return false;
        }
        self.look_at(start_ns);
        let known = self.last.known;
        known.is_none_or(|known| (rank, start_ns) <= known)
    }

    pub(super) fn offer(&mut self, span: ExemplarSpan) {
        if !self.would_take(span.start_ns, span.rank) {
            return;
        }
        let known = self.slots.get(&self.last.number);
        if known.is_none_or(|known| order(&span) < order(known)) {
            self.last.known = Some((span.rank, span.start_ns));
            self.slots.insert(self.last.number, span);
        }
    }

    /// The span of each piece. A trace may stand for several pieces: which of them it gives up is not known before all parts are there.
    pub(super) fn of_part(self) -> Vec<ExemplarSpan> {
        self.slots.into_values().collect()
    }

    /// At most one a trace.
    fn chosen(self) -> Vec<ExemplarSpan> {
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
