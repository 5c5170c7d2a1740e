//! The immutable unit of storage: a folder of `meta.json`, `index` and `chunks/`, as Prometheus, Thanos, Cortex and Mimir have it.
//!
//! ```text
//! <prefix>/<BlockId>/meta.json  index  chunks/000001 ...  tombstones        (docs/format/block.md)
//! ```
//!
//! * [`BlockWriter`] streams one into an object store, `meta.json` last.
//! * [`BlockReader`] reads one by ranges, from a local folder or an object store.
//! * [`find_partial_blocks`] and [`delete_partial_blocks`] deal with uploads that were never finished.

mod bucket_index;
mod chunk_reader;
mod json;
mod markers;
mod meta;
mod partial;
mod reader;
mod segment;
mod tombstones;
mod upload;
mod writer;

pub use crate::block_id::BlockId;
pub use bucket_index::{BucketIndex, BucketIndexBlock, BucketIndexDeletionMark};
pub use chunk_reader::{ChunkReader, ChunkReaderSettings, RawChunk};
pub use markers::{DeletionMark, NoCompactMark, TenantDeletionMark};
pub use meta::{
    BlockFile, BlockMeta, BlockParent, BlockStats, Compaction, Downsample, IndexSizeStats,
    ThanosMeta,
};
pub use partial::{PartialBlock, delete_partial_blocks, find_partial_blocks};
pub use reader::{BlockReader, BlockReaderSettings};
pub use segment::{EncodedChunk, SegmentEncoder, SegmentPiece};
pub use tombstones::{DeletedInterval, Tombstones};
pub use writer::{BlockWriter, BlockWriterSettings, ChunkData, MetaInput};
