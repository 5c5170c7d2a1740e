//! Sections that the Prometheus index and those laid out like it (Loki's) share: symbols, postings lists, the postings offset table.
//!
//! ```text
//! u32 length | u32 count | entries | u32 CRC-32C      (each section; what stands in an entry is its own)
//! ```
//!
//! * [`SymbolTable`] holds all symbols; [`SymbolsReader`] finds some of a table that is too large to be held.
//! * [`PostingsLog`] collects who bears which label while series are written, and hands it back list by list.
//! * [`OffsetTable`] finds the list of a label pair.
//! * [`Windowed`] and [`Section`] are what they read through, once their place is known. The table of contents, the series and the order in
//!   which they stand are each index's own.

mod matching;
mod offset_table;
mod postings;
mod postings_log;
mod postings_tally;
mod section;
mod symbol_stream;
mod symbols;
mod symbols_reader;

pub use matching::{MatchedSeries, PostingsIndex, matching_series};
pub use offset_table::{ListPlace, OFFSET_KEY_COUNT, OffsetTable, ValueOrder, Visits};
pub use postings::{decode_postings, postings_section_len};
pub use postings_log::{Drained, PairKey, PostingsLists, PostingsLog, pair_key};
pub use postings_tally::PostingsTally;
pub use section::{EntryVisitor, Keep, Section, Windowed, memory_exceeded};
pub use symbol_stream::SymbolStream;
pub use symbols::{SymbolTable, SymbolTableBuilder};
pub use symbols_reader::{SymbolRefs, SymbolTexts, SymbolsReader};
