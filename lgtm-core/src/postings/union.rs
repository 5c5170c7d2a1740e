//! Ids that stand in any of several lists.

use crate::postings::postings::Postings;

/// The union of `lists`, each id once.
///
/// A binary heap of cursors: an id costs the logarithm of the number of lists that are not at their end.
pub fn union<P: Postings>(lists: Vec<P>) -> Union<P> {
    let mut heap: Vec<_> = lists
        .into_iter()
        .filter_map(|list| Some((list.current()?, list)))
        .collect();
    heap.sort_by_key(|(id, _)| *id);
    Union { heap }
}

/// See [`union`].
#[derive(Debug, Clone)]
pub struct Union<P: Postings> {
    /// A binary min-heap by current id; lists at their end are not in it. `std`'s heap is not used because the top is
    /// moved in place far more often than it leaves.
    heap: Vec<(P::Id, P)>,
}

impl<P: Postings> Union<P> {
    /// Brings the entry at `i`, which has grown, to its place.
    fn sift_down(&mut self, mut i: usize) {
        loop {
            let mut child = 2 * i + 1;
            if child >= self.heap.len() {
                return;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1].0 < self.heap[child].0 {
                child += 1;
            }
            if self.heap[i].0 <= self.heap[child].0 {
                return;
            }
            self.heap.swap(i, child);
            i = child;
        }
    }

    /// After the list on top has moved.
    fn settle_top(&mut self) {
        match self.heap[0].1.current() {
            Some(id) => self.heap[0].0 = id,
            None => {
                self.heap.swap_remove(0);
            }
        }
        self.sift_down(0);
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
        while self.current() == Some(past) {
            self.heap[0].1.advance();
            self.settle_top();
        }
    }

    fn seek(&mut self, target: P::Id) -> Option<P::Id> {
        while self.current()? < target {
            self.heap[0].1.seek(target);
            self.settle_top();
        }
        self.current()
    }

    fn len_bound(&self) -> usize {
        let bounds = self.heap.iter().map(|(_, list)| list.len_bound());
        bounds.fold(0, usize::saturating_add)
    }
}
