//! Ids of one list that do not stand in another.

use crate::postings::postings::Postings;

/// The ids of `from` without those of `without`.
pub fn subtract<P, Q>(from: P, without: Q) -> Subtract<P, Q>
where
    P: Postings,
    Q: Postings<Id = P::Id>,
{
    let mut subtract = Subtract { from, without };
    subtract.settle();
    subtract
}

/// See [`subtract`].
#[derive(Debug, Clone)]
pub struct Subtract<P, Q> {
    /// At rest on an id that `without` does not have.
    from: P,
    without: Q,
}

impl<P: Postings, Q: Postings<Id = P::Id>> Subtract<P, Q> {
    fn settle(&mut self) {
        while let Some(id) = self.from.current() {
            if self.without.current().is_none_or(|w| w > id) || self.without.seek(id) != Some(id) {
                return;
            }
            self.from.advance();
        }
    }
}

impl<P: Postings, Q: Postings<Id = P::Id>> Postings for Subtract<P, Q> {
    type Id = P::Id;

    #[inline]
    fn current(&self) -> Option<P::Id> {
        self.from.current()
    }

    fn advance(&mut self) {
        self.from.advance();
        self.settle();
    }

    fn seek(&mut self, target: P::Id) -> Option<P::Id> {
        if self.from.current()? < target {
            self.from.seek(target);
            self.settle();
        }
        self.from.current()
    }

    fn len_bound(&self) -> usize {
        self.from.len_bound()
    }
}
