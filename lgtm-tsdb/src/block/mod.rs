//! The immutable unit of storage: a folder of `meta.json`, `index` and `chunks/`, as Prometheus, Thanos, Cortex and Mimir have it.
//!
//! ```text
//! <prefix>/<BlockId>/meta.json  index  chunks/000001 ...  tombstones        (docs/format/block.md)
//! ```
//!
//! * [`BlockWriter`] streams one into an object store, `meta.json` last.
//! * [`BlockReader`] reads one by ranges, from a local folder or an object store.
//! * [`find_partial_blocks`] and [`delete_partial_blocks`] deal with uploads that were never finished.

mod id;
mod json;
mod meta;
mod segment;
mod tombstones;
mod writer;

pub use id::BlockId;
pub use meta::{
    BlockFile, BlockMeta, BlockParent, BlockStats, Compaction, Downsample, IndexSizeStats,
    ThanosMeta,
};
pub use segment::{EncodedChunk, SegmentEncoder, SegmentPiece};
pub use tombstones::{DeletedInterval, Tombstones};
pub use writer::{BlockWriter, ChunkData, MetaInput};
