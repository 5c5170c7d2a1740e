//! The immutable unit of storage: a folder of `meta.json`, `index` and `chunks/`, as Prometheus, Thanos, Cortex and Mimir have it.
//!
//! ```text
//! <prefix>/<BlockId>/meta.json  index  chunks/000001 ...  tombstones        (docs/format/block.md)
//! ```
//!
//! * [`BlockWriter`] streams one into an object store, `meta.json` last.
//! * [`BlockReader`] reads one by ranges, from a local folder or an object store.
//! * [`BLOCK_LEFTOVERS`] tells uploads that were never finished.

mod bucket_index;
mod chunk_reader;
mod leftovers;
mod markers;
mod meta;
mod reader;
mod segment;
mod tombstones;
mod writer;

pub use crate::block_id::BlockId;
pub use bucket_index::{BucketIndex, BucketIndexBlock, BucketIndexDeletionMark, UnreadableBlock};
pub use chunk_reader::{ChunkReader, ChunkReaderSettings};
pub use leftovers::BLOCK_LEFTOVERS;
pub use markers::{DeletionMark, NoCompactMark, TenantDeletionMark};
pub use meta::{
    BlockFile, BlockMeta, BlockParent, BlockStats, Compaction, Downsample, IndexSizeStats,
    ThanosMeta,
};
pub use reader::{BlockPages, BlockReader, BlockReaderSettings};
pub use segment::{SegmentEncoder, SegmentPiece};
pub use tombstones::{DeletedInterval, Tombstones};
pub use writer::{BlockWriter, BlockWriterSettings, ExpectedBlock, MetaInput};
