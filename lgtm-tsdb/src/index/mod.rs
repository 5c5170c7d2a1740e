//! The `index` file of a block: which series there are, what they are labelled, where their chunks stand.
//!
//! ```text
//! header | symbols | series | postings lists | postings offset table | TOC        (docs/format/index.md)
//! ```
//!
//! * [`IndexEncoder`] writes one from beginning to end without ever turning back, so that it can stream into an upload.

mod encoder;
mod postings_log;
mod series;
mod symbols;
mod tail;
mod toc;

pub use encoder::{IndexEncoder, IndexEncoderSettings, IndexStats};
pub use series::{ChunkRefMeta, SeriesEntry, SeriesMeta};
pub use symbols::SymbolTable;
pub use tail::IndexTail;
pub use toc::Toc;
