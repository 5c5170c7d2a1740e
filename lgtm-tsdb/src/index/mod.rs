//! The `index` file of a block: which series there are, what they are labelled, where their chunks stand.
//!
//! ```text
//! header | symbols | series | postings lists | postings offset table | TOC        (docs/format/index.md)
//! ```
//!
//! * [`IndexEncoder`] writes one from beginning to end without ever turning back, so that it can stream into an upload.
//! * [`IndexReader`] answers from one by ranged reads, over anything that is a [`ReadAt`](lgtm_core::storage::ReadAt).

mod encoder;
mod header;
mod reader;
mod series;
mod series_reader;
mod tail;
mod toc;

pub use encoder::{IndexEncoder, IndexEncoderSettings, IndexStats};
pub use header::IndexHeader;
pub use reader::{IndexReader, IndexReaderSettings};
pub use series::{ChunkRefMeta, SeriesEntries, SeriesEntry, SeriesMeta};
pub use series_reader::LabelsOf;
pub use tail::IndexTail;
pub use toc::Toc;
