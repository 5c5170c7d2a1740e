//! How one run of entries of a stream is packed: chunks, the objects that hold them, and their keys (`docs/format/chunk.md`,
//! `docs/format/chunk_object.md`).
//!
//! * [`ChunkBuilder`] takes entries one by one and compresses them block by block; [`HeadBlock`] is its open end.
//!   A [`BuilderSnapshot`] is what a reader sees of it.
//! * [`Chunk`] reads all versions: block by block, or only what the chunk knows of its metadata.
//! * [`Chunk::open_parts`] and [`ObjectHead::decode_front`] are for who reads parts of an object by ranges, and [`ChunkLayout`] and
//!   [`decode_symbols`] below them.
//! * [`ObjectMeta`], [`encode_object`], [`ObjectHead`] wrap a chunk into an object, which a [`ChunkKey`] names.

mod block;
mod builder;
mod builder_state;
mod chunk;
mod encoding;
mod format;
mod head;
mod key;
mod layout;
mod object;
mod object_meta;
mod parts;
mod snapshot;
mod stream_chunk;
mod symbols;

pub use block::decode_block;
pub use builder::{Appended, BlockObserver, ChunkBuilder, ChunkSettings, FinishedChunk};
pub use chunk::{Chunk, ChunkCodec, ChunkEntries, ChunkLimits, DamagedBlock};
pub use encoding::ChunkEncoding;
pub use format::ChunkFormat;
pub use head::HeadBlock;
pub use key::{ChunkKey, KeyForm};
pub use layout::{BlockPlace, ChunkHeader, ChunkLayout, ChunkTrailer};
pub use object::{ObjectHead, encode_object, read_object};
pub use object_meta::ObjectMeta;
pub use snapshot::{BuilderSnapshot, PackedBlock};
pub use stream_chunk::StreamChunk;
pub use symbols::decode_symbols;

#[cfg(test)]
mod tests;
