//! Where is what I match: Loki's TSDB index files (`docs/format/index.md`).
//!
//! * [`IndexEncoder`] writes a file from beginning to end, [`IndexTail`] what stands behind its series.
//! * [`IndexReader`] answers by ranged reads in bounded memory; [`SeriesFilter`] skips what is of other times or other shards.
//! * [`IndexFileName`] tells who wrote a file; [`pack`] and [`unpack`] are the gzip around it in the store, [`IndexUnpacker`] makes
//!   files of it that can be read.
//!
//! Symbols, postings and offset table are [`lgtm_core::index`]'s.

mod chunk_meta;
mod encoder;
mod file_name;
mod fingerprint_offsets;
mod fingerprint_range;
mod packed;
mod reader;
mod series;
mod series_reader;
mod tail;
mod toc;
mod unpacker;
mod version;

pub use chunk_meta::{ChunkMeta, sort_chunks};
pub use encoder::{IndexEncoder, IndexEncoderSettings, IndexStats};
pub use file_name::{IndexFileName, TENANT_LABEL};
pub use fingerprint_offsets::FingerprintOffsets;
pub use fingerprint_range::FingerprintRange;
pub use packed::{pack, unpack, unpack_into};
pub use reader::{IndexReader, IndexReaderSettings};
pub use series::{SeriesEntries, SeriesEntry, SeriesFilter, SeriesMeta};
pub use series_reader::LabelsOf;
pub use tail::IndexTail;
pub use toc::IndexToc;
pub use unpacker::IndexUnpacker;
pub use version::IndexVersion;
