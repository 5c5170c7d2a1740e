//! In which order series were last sorted.
//!
//! The same large queries come again and again, and sorting a million label sets is most of what such a query costs a head. So a
//! sort leaves behind where each series stood, and the next one begins with the series in that order: a stable sort of what is
//! in order already is one comparison a series.

use std::sync::Arc;

use lgtm_core::model::Labels;
use lgtm_core::postings::SeriesId;
use parking_lot::RwLock;

/// Fewer series are sorted faster than they are looked up here.
const WORTHWHILE: usize = 4096;
const UNKNOWN: u32 = u32::MAX;

/// Places of the series of a head, by id. They are hints: a series that came since has none and a reused id has one that is wrong, which
/// costs time and never the order.
#[derive(Debug, Default)]
pub(super) struct LabelOrder(RwLock<Places>);

/// Four bytes a series of a head that was asked for many. Whoever sorts works on what was there when it began, so that nobody waits for a
/// sort.
#[derive(Debug, Clone, Default)]
struct Places {
    by_id: Arc<Vec<u32>>,
    /// The first place that no sort has given. Each sort gives places of its own, so that those of two metrics do not mingle.
    next: u32,
}

impl Places {
    fn of(&self, id: SeriesId) -> u32 {
        self.by_id.get(id as usize).copied().unwrap_or(UNKNOWN)
    }

    /// Whether the hints were worth little: series stand elsewhere, or have no place, in many spots.
    fn misled(&self, sorted: &[(Labels, SeriesId)]) -> bool {
        let places = sorted.iter().map(|(_, id)| self.of(*id));
        let bad = places.clone().zip(places.skip(1));
        let bad = bad.filter(|(a, b)| a >= b || *b == UNKNOWN);
        bad.count() > sorted.len() / 64
    }

    fn learn(&mut self, sorted: &[(Labels, SeriesId)]) {
        let count = u32::try_from(sorted.len()).unwrap_or(UNKNOWN);
        if self
            .next
            .checked_add(count)
            .is_none_or(|end| end == UNKNOWN)
        {
            *self = Self::default();
        }
        let by_id = Arc::make_mut(&mut self.by_id);
        for ((_, id), place) in sorted.iter().zip(self.next..UNKNOWN) {
            let id = *id as usize;
            if by_id.len() <= id {
                by_id.resize(id + 1, UNKNOWN);
            }
            by_id[id] = place;
            self.next = place + 1;
        }
    }
}

impl LabelOrder {
    /// Sorts series by their labels.
    pub(super) fn sort(&self, series: &mut [(Labels, SeriesId)]) {
        if series.len() < WORTHWHILE {
            series.sort_unstable();
            return;
        }
        let mut places = self.0.read().clone();
        series.sort_by_cached_key(|(_, id)| places.of(*id));
        series.sort_by(|a, b| a.0.cmp(&b.0));
        if places.misled(series) {
            // Of two who learn at once one is forgotten: it will be learnt again.
            places.learn(series);
            *self.0.write() = places;
        }
    }

    /// Heap bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.read().by_id.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(metric: &str, ids: std::ops::Range<u32>) -> Vec<(Labels, SeriesId)> {
        let labels = |id: u32| {
            let path = id.wrapping_mul(2_654_435_761).to_string();
            Labels::from_pairs([("__name__", metric), ("path", &path)]).unwrap()
        };
        ids.map(|id| (labels(id), id)).collect()
    }

    fn sorted_with(order: &LabelOrder, mut series: Vec<(Labels, SeriesId)>) {
        order.sort(&mut series);
        assert!(series.is_sorted());
    }

    #[test]
    fn a_sort_is_learnt_once_and_wrong_hints_do_no_harm() {
        let order = LabelOrder::default();
        let many = WORTHWHILE as u32 * 2;
        sorted_with(&order, series("m", 0..many));
        let learnt = order.0.read().next;
        assert_eq!(learnt, many);
        // The same again, some more, and another metric beside it.
        sorted_with(&order, series("m", 0..many));
        sorted_with(&order, series("m", 0..many + 10));
        assert_eq!(order.0.read().next, learnt, "nothing new is worth learning");
        sorted_with(&order, series("a", many..2 * many));
        let mut both = series("m", 0..many);
        both.extend(series("a", many..2 * many));
        sorted_with(&order, both);
        assert_eq!(order.0.read().next, 2 * many);
        // Ids that mean other series now.
        sorted_with(&order, series("m", 1000..many + 1000));
        sorted_with(&order, series("z", 0..many));
        assert!(order.heap_bytes() >= 8 * many as usize);
    }

    #[test]
    fn places_that_run_out_begin_anew() {
        let order = LabelOrder::default();
        order.0.write().next = UNKNOWN - 10;
        sorted_with(&order, series("m", 0..WORTHWHILE as u32));
        assert_eq!(order.0.read().next, WORTHWHILE as u32);
    }
}
