//! Where a trace surely is not: Tempo's bloom filters beside a block, bit for bit. Pure.
//!
//! ```text
//! id -> shard_of -> bloom-N  [bits][hashes][bits][word]...     docs/format/bloom.md
//! ```
//!
//! [`BloomBuilder`] makes them for a block, [`BloomShard`] asks one.

mod bloom;
mod murmur3;
mod shard;

pub use bloom::{BloomBuilder, BloomOptions, BloomShape, shard_of};
pub use shard::BloomShard;
