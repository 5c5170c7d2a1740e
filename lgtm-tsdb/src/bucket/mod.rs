//! Lazily reading the many blocks of a bucket.

mod answers;
mod block_entry;
mod block_select;
mod blocks;
mod metrics;
mod open_blocks;

pub(crate) use answers::merge_labels;
pub use blocks::{BucketBlocks, BucketBlocksBuilder, BucketSettings, BucketStats};
