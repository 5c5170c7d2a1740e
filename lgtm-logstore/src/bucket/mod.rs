//! What is in the object store: index files and chunks, read lazily, and written so that a real Loki reads them.
//!
//! * [`BucketChunks`] knows which index files there are (no query lists anything), opens those that a query needs, and answers
//!   [`Select`](crate::select::Select) out of the chunks that they name. What is damaged or gone is counted, named in the answer's
//!   warnings and tried again later; the rest is served.
//! * [`BucketWriter`] puts chunks into the store, then the index files that name them, and has [`BucketChunks`] know these at once.
//! * Beside them stand [side files](crate::skip): `side_files` finds them, `screen` leaves out chunks that surely have nothing of interest, `counted`
//!   those that were counted already.
//!
//! Open [`bucket_chunks`](bucket_chunks.rs) first, then `tables`, `open_files`, `streams` (which chunks), `sweep` (in which order they are
//! read), `answers`; of writing `writer`, then `pending_index`.

mod answers;
mod bucket_chunks;
mod chunk_source;
mod chunk_wish;
mod counted;
mod due_blocks;
mod index_file;
mod known_streams;
mod metrics;
mod open_files;
mod pending_index;
mod pending_side;
mod ranged_chunk;
mod rewriter;
mod screen;
mod settings;
mod side_cache;
mod side_files;
mod side_parts;
mod stored_index;
mod streams;
mod sweep;
mod tables;
mod volume;
mod writer;

#[cfg(test)]
mod ranged_tests;
#[cfg(test)]
mod tests;

pub use bucket_chunks::{BucketChunks, BucketChunksBuilder, BucketStats};
pub(crate) use chunk_source::object_name;
pub(crate) use rewriter::{ChunkRewriter, packed_anew};
pub use settings::{BucketSettings, BucketWriterSettings};
pub use side_files::SideStats;
pub use stored_index::{StoredIndex, key_of_object, list_index_files};
pub use writer::{BucketWriter, ChunkPacker, PackedChunk, WrittenIndex};
