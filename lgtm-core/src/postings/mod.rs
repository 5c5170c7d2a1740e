//! Set operations over sorted streams of ids: what an index query is made of.
//!
//! A [`Postings`] yields ids in ascending order, each once, and can seek. Operations are postings themselves, so that a whole query
//! streams: memory follows the number of lists, not their length. [`List`] is a slice in memory; readers of on-disk lists live in
//! the stores and implement the same trait.

mod intersect;
mod list;
mod postings;
mod subtract;
mod union;

pub use intersect::{Intersect, intersect};
pub use list::List;
pub use postings::{Id, Ids, Postings};
pub use subtract::{Subtract, subtract};
pub use union::{Union, union};

#[cfg(test)]
mod tests;
