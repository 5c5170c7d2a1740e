//! A sorted stream of ids.

use std::fmt::Debug;

/// What a posting is: `u32` or `u64`.
pub trait Id: Copy + Ord + Debug + Send + Sync + 'static {}

impl Id for u32 {}
impl Id for u64 {}

/// Ids in strictly ascending order, with a cursor.
///
/// The cursor starts at the first id. Once it has come to the end it stays there. Nothing here fails: a reader of stored bytes checks
/// them (length, checksum) when it is made.
pub trait Postings {
    /// The kind of id.
    type Id: Id;

    /// The id under the cursor; none at the end. Cheap, may be asked again and again.
    fn current(&self) -> Option<Self::Id>;

    /// Moves the cursor to the next id.
    fn advance(&mut self);

    /// Moves the cursor forward to the first id that is `target` or greater, and yields it. Never moves back.
    fn seek(&mut self, target: Self::Id) -> Option<Self::Id>;

    /// At most how many ids are left; what an intersection sorts its lists by. May be far too many, never too few.
    fn len_bound(&self) -> usize;

    /// The ids from the cursor on, as an iterator.
    fn ids(self) -> Ids<Self>
    where
        Self: Sized,
    {
        Ids(self)
    }

    /// Drains into a vector.
    fn collect_ids(self) -> Vec<Self::Id>
    where
        Self: Sized,
    {
        self.ids().collect()
    }
}

impl<P: Postings + ?Sized> Postings for Box<P> {
    type Id = P::Id;

    fn current(&self) -> Option<Self::Id> {
        (**self).current()
    }

    fn advance(&mut self) {
        (**self).advance();
    }

    fn seek(&mut self, target: Self::Id) -> Option<Self::Id> {
        (**self).seek(target)
    }

    fn len_bound(&self) -> usize {
        (**self).len_bound()
    }
}

/// Iterator over [`Postings`].
#[derive(Debug, Clone)]
pub struct Ids<P>(P);

impl<P: Postings> Iterator for Ids<P> {
    type Item = P::Id;

    #[inline]
    fn next(&mut self) -> Option<P::Id> {
        let id = self.0.current()?;
        self.0.advance();
        Some(id)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.0.len_bound()))
    }
}
