//! Lazily reading the many blocks of a bucket.

mod block_postings;
mod block_select;
mod blocks;

pub(crate) use blocks::object_path;
pub use blocks::{BucketBlocks, BucketSettings, BucketStats};
