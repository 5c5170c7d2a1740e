//! A side file of our own beside each block: which names and values it has, and where they surely are not (`docs/format/skip_index.md`). Pure.
//!
//! [`SkipBuilder`] is told of each trace of a block while it is written; [`SkipIndex`] reads the file. It never changes an answer: a reader does without
//! what is missing or damaged.
//!
//! Of a name with few values the values are kept, each with the row groups that have it; of others a set of hashes for each row group. What of it would
//! be larger than it may is left out, and may then be anywhere.

mod builder;
mod distinct;
mod groups;
mod index;
mod value;

#[cfg(test)]
mod tests;

pub use builder::{SkipBuilder, SkipOrigin};
pub use groups::GroupSet;
pub use index::SkipIndex;
pub use value::SkipValue;

/// Name of the file in a block's folder.
pub const SKIP_FILE: &str = "lgtm-skip";
