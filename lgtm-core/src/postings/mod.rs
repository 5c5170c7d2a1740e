//! Set operations over sorted streams of ids, what an index query is made of; and what heads keep in memory to find their series.
//!
//! A [`Postings`] yields ids in ascending order, each once, and can seek. Operations are postings themselves, so that a whole query
//! streams: memory follows the number of lists, not their length. [`List`] is a slice in memory; readers of on-disk lists live in
//! the stores and implement the same trait.
//!
//! A head has [`MemPostings`]: a list of ids per label pair, over strings that an [`Interner`] holds once. A [`RefCache`] finds the id of a
//! label set by its hash, which is all that the write path does for a series it knows.

mod interner;
mod intersect;
mod list;
mod mem;
mod postings;
mod refs;
mod slices;
mod subtract;
mod union;

pub use interner::{Interner, SymbolId};
pub use intersect::{Intersect, intersect};
pub use list::List;
pub use mem::{MemPostings, SeriesId};
pub use postings::{Id, Ids, Postings};
pub use refs::RefCache;
pub use slices::{intersect_slices, subtract_slice};
pub use subtract::{Subtract, subtract};
pub use union::{Union, union};

#[cfg(test)]
mod tests;
