//! Log entries as they are once decoded: what chunk readers and heads make, and what queries read.
//!
//! [`EntryBlock`] holds a run of entries of one stream in one buffer with columns beside it; [`EntryRef`] is a look at one of them.
//! Names and values of structured metadata are numbers into a [`SymbolList`] that many blocks share. Nothing is allocated per entry.
//!
//! The labels of a stream are [`Labels`](lgtm_core::model::Labels) and stand beside its blocks, not in them.

mod block;
mod builder;
mod disjoint;
mod entry_ref;
mod merge;
mod metadata_name;
mod symbols;

pub use block::{EntryBlock, LineRange, SymbolPair};
pub use builder::EntryBlockBuilder;
pub use disjoint::{DisjointBlocks, disjoint};
pub use entry_ref::EntryRef;
pub use merge::{detached, distinct};
pub use metadata_name::{is_normal_metadata_name, normal_metadata_name};
pub use symbols::{SharedSymbols, SymbolList, SymbolListBuilder};
