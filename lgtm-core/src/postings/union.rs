//! Ids that stand in any of several lists.

use crate::postings::postings::Postings;

/// The union of `lists`, each id once.
///
/// A binary heap of cursors: an id costs the logarithm of the number of lists that are not at their end.
pub fn union<P: Postings>(lists: Vec<P>) -> Union<P> {
    let heads = lists.iter().enumerate();
    let mut heap: Vec<_> = heads
        .filter_map(|(i, list)| Some((list.current()?, i)))
        .collect();
    // Sorted is a heap.
    heap.sort_unstable();
    Union { heap, lists }
}

/// See [`union`].
#[derive(Debug, Clone)]
pub struct Union<P: Postings> {
    /// A binary min-heap of current ids and the places of their lists; lists at their end are not in it. `std`'s heap is not
    /// used because the top is moved in place far more often than it leaves.
    heap: Vec<(P::Id, usize)>,
    lists: Vec<P>,
}

impl<P: Postings> Union<P> {
    /// Puts `entry` in the place of the top, which is free to be overwritten.
    fn replace_top(&mut self, entry: (P::Id, usize)) {
        let heap = &mut self.heap[..];
        let mut hole = 0;
        loop {
            let left = 2 * hole + 1;
            let Some(&first) = heap.get(left) else {
                break;
            };
            let (child, least) = match heap.get(left + 1) {
                Some(&second) if second.0 < first.0 => (left + 1, second),
                _ => (left, first),
            };
            if entry.0 <= least.0 {
                break;
            }
            heap[hole] = least;
            hole = child;
        }
        heap[hole] = entry;
    }

    /// After the list on top has moved to `now`.
    fn settle_top(&mut self, now: Option<P::Id>) {
        if let Some(id) = now {
            let list = self.heap[0].1;
            self.replace_top((id, list));
        } else if let Some(last) = self.heap.pop()
            && !self.heap.is_empty()
        {
            self.replace_top(last);
        }
    }
}

impl<P: Postings> Postings for Union<P> {
    type Id = P::Id;

    #[inline]
    fn current(&self) -> Option<P::Id> {
        self.heap.first().map(|(id, _)| *id)
    }

    fn advance(&mut self) {
        let Some(past) = self.current() else {
            return;
        };
        while let Some(&(id, list)) = self.heap.first()
            && id == past
        {
            let list = &mut self.lists[list];
            list.advance();
            let now = list.current();
            self.settle_top(now);
        }
    }

    fn seek(&mut self, target: P::Id) -> Option<P::Id> {
        while let Some(&(id, list)) = self.heap.first()
            && id < target
        {
            let now = self.lists[list].seek(target);
            self.settle_top(now);
        }
        self.current()
    }

    fn len_bound(&self) -> usize {
        let bounds = self.heap.iter().map(|&(_, i)| self.lists[i].len_bound());
        bounds.fold(0, usize::saturating_add)
    }
}
