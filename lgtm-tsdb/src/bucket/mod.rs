//! Lazily reading the many blocks of a bucket.

mod block_select;
mod blocks;

pub use blocks::{BucketBlocks, BucketSettings, BucketStats};
