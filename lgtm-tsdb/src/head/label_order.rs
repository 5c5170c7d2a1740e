//! In which order series were last sorted.
//!
//! The same large queries come again and again, and sorting a million label sets is most of what such a query costs a head. So a
//! sort leaves behind where each series stands, and the next one takes the series in that order without looking at a label.

use lgtm_core::model::Labels;
use parking_lot::RwLock;

use lgtm_core::postings::SeriesId;

/// Fewer series are sorted faster than they are looked up here.
pub(super) const WORTHWHILE: usize = 4096;
/// Of so many series one may have come since the last sort; where more have, all are sorted anew.
const FEW: usize = 64;
const UNKNOWN: u32 = u32::MAX;

/// Places of the series of a head, by id. A place says where a series stands among those of the same sort, for as long as the id means
/// it: who gives ids to others [forgets](LabelOrder::forget) them first.
#[derive(Debug, Default)]
pub(super) struct LabelOrder(RwLock<Places>);

/// Four bytes a series of a head that was asked for many.
#[derive(Debug, Default)]
struct Places {
    by_id: Vec<u32>,
    /// The first place of each sort, ascending. Each has places of its own, as series of two sorts do not compare.
    begins: Vec<u32>,
    /// The first place that no sort has given.
    next: u32,
}

/// Series as a sort before has arranged them.
#[derive(Debug, Default)]
pub(super) struct Arranged {
    /// In label order.
    pub(super) known: Vec<SeriesId>,
    /// Those that stood elsewhere or nowhere, in no order: few.
    pub(super) others: Vec<SeriesId>,
}

impl Places {
    fn of(&self, id: SeriesId) -> u32 {
        self.by_id.get(id as usize).copied().unwrap_or(UNKNOWN)
    }

    /// The places of the sort that most of `ids` may belong to: of the one in the middle.
    fn sort_of(&self, ids: &[SeriesId]) -> std::ops::Range<u32> {
        let sample = ids.iter().skip(ids.len() / 2).step_by(7).take(64);
        let known = sample.map(|id| self.of(*id)).find(|p| *p != UNKNOWN);
        let Some(place) = known else { return 0..0 };
        let after = self.begins.partition_point(|b| *b <= place);
        let end = self.begins.get(after).copied().unwrap_or(self.next);
        self.begins[after.saturating_sub(1)]..end
    }
}

impl LabelOrder {
    /// Arranges series, if a sort before knew nearly all of them.
    pub(super) fn arrange(&self, ids: &[SeriesId]) -> Option<Arranged> {
        let places = self.0.read();
        let sort = places.sort_of(ids);
        let mut out = Arranged::default();
        let mut known: Vec<(u32, SeriesId)> = Vec::with_capacity(ids.len());
        for id in ids {
            match places.of(*id) {
                place if sort.contains(&place) => known.push((place, *id)),
                _ if out.others.len() < ids.len() / FEW => out.others.push(*id),
                _ => return None,
            }
        }
        drop(places);
        known.sort_unstable();
        out.known = known.into_iter().map(|(_, id)| id).collect();
        Some(out)
    }

    /// Sorts series by their labels, and remembers where they stand if they are many.
    pub(super) fn sort(&self, series: &mut [(Labels, SeriesId)]) {
        series.sort_unstable();
        if series.len() < WORTHWHILE {
            return;
        }
        let count = u32::try_from(series.len()).unwrap_or(UNKNOWN);
        let mut places = self.0.write();
        let end = places.next.checked_add(count);
        if end.is_none_or(|end| end == UNKNOWN) {
            *places = Places::default();
        }
        let begin = places.next;
        places.begins.push(begin);
        for ((_, id), place) in series.iter().zip(begin..UNKNOWN) {
            let id = *id as usize;
            if places.by_id.len() <= id {
                places.by_id.resize(id + 1, UNKNOWN);
            }
            places.by_id[id] = place;
            places.next = place + 1;
        }
    }

    /// Forgets series whose ids will be given to others.
    pub(super) fn forget(&self, dead: &[SeriesId]) {
        let mut places = self.0.write();
        for id in dead {
            if let Some(place) = places.by_id.get_mut(*id as usize) {
                *place = UNKNOWN;
            }
        }
    }

    /// Heap bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        let places = self.0.read();
        (places.by_id.capacity() + places.begins.capacity()) * size_of::<u32>()
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

    fn sorted(order: &LabelOrder, mut series: Vec<(Labels, SeriesId)>) -> Vec<SeriesId> {
        order.sort(&mut series);
        assert!(series.is_sorted());
        series.into_iter().map(|s| s.1).collect()
    }

    #[test]
    fn what_was_sorted_is_arranged_without_labels() {
        let order = LabelOrder::default();
        let many = WORTHWHILE as u32 * 2;
        let ids: Vec<u32> = (0..many).collect();
        assert!(order.arrange(&ids).is_none());
        let wanted = sorted(&order, series("m", 0..many));
        assert_eq!(order.arrange(&ids).unwrap().known, wanted);
        // Some of them, and few that came since.
        let some: Vec<u32> = (100..many + 10).collect();
        let arranged = order.arrange(&some).unwrap();
        let known = wanted.iter().copied().filter(|id| *id >= 100);
        assert_eq!(arranged.known, known.collect::<Vec<_>>());
        assert_eq!(arranged.others, (many..many + 10).collect::<Vec<_>>());
        // Those of another sort do not compare with these.
        let others = sorted(&order, series("a", many..2 * many));
        assert!(order.arrange(&(0..2 * many).collect::<Vec<_>>()).is_none());
        let second: Vec<u32> = (many..2 * many).collect();
        assert_eq!(order.arrange(&second).unwrap().known, others);
        assert_eq!(order.arrange(&ids).unwrap().known, wanted);
        // Ids that will mean others.
        order.forget(&[3, 5]);
        assert_eq!(order.arrange(&ids).unwrap().others, [3, 5]);
        assert!(order.heap_bytes() >= 8 * many as usize);
    }

    #[test]
    fn places_that_run_out_begin_anew() {
        let order = LabelOrder::default();
        order.0.write().next = UNKNOWN - 10;
        let wanted = sorted(&order, series("m", 0..WORTHWHILE as u32));
        assert_eq!(order.0.read().next, WORTHWHILE as u32);
        let ids: Vec<u32> = (0..WORTHWHILE as u32).collect();
        assert_eq!(order.arrange(&ids).unwrap().known, wanted);
    }
}
