//! Ids that stand in all of several lists.

use crate::postings::postings::Postings;

/// The intersection of `lists`; of none it is empty.
///
/// The list that is probably shortest leads, the others seek after it.
pub fn intersect<P: Postings>(mut lists: Vec<P>) -> Intersect<P> {
    lists.sort_by_key(Postings::len_bound);
    let mut intersect = Intersect { lists };
    intersect.settle();
    intersect
}

/// See [`intersect`].
#[derive(Debug, Clone)]
pub struct Intersect<P> {
    /// Shortest first. At rest all stand on the same id, or the first is at its end.
    lists: Vec<P>,
}

impl<P: Postings> Intersect<P> {
    /// Moves on until all agree.
    fn settle(&mut self) {
        let Some((lead, others)) = self.lists.split_first_mut() else {
            return;
        };
        let Some(mut target) = lead.current() else {
            return;
        };
        'next: loop {
            for other in others.iter_mut() {
                match other.seek(target) {
                    Some(id) if id == target => {}
                    Some(id) => {
                        // The lead alone says which ids are candidates: it is the one with the fewest.
                        match lead.seek(id) {
                            Some(id) => target = id,
                            None => return,
                        }
                        continue 'next;
                    }
                    None => {
                        // Nothing more can agree: bring the lead to its end.
                        self.lists.clear();
                        return;
                    }
                }
            }
            return;
        }
    }
}

impl<P: Postings> Postings for Intersect<P> {
    type Id = P::Id;

    #[inline]
    fn current(&self) -> Option<P::Id> {
        self.lists.first()?.current()
    }

    fn advance(&mut self) {
        if let Some(lead) = self.lists.first_mut() {
            lead.advance();
            self.settle();
        }
    }

    fn seek(&mut self, target: P::Id) -> Option<P::Id> {
        if self.current()? < target {
            self.lists.first_mut()?.seek(target);
            self.settle();
        }
        self.current()
    }

    fn len_bound(&self) -> usize {
        self.lists.iter().map(P::len_bound).min().unwrap_or(0)
    }
}
