//! The log store: streams, chunks and their index.
//!
//! ```text
//! chunks, heads -> entry (decoded blocks) -> select (the one question) -> logql (text to answer)
//! ```

pub mod entry;
