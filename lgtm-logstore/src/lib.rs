//! The log store: streams, chunks and their index.
//!
//! ```text
//! wire (pushes read) -> limits (what is taken) -> head (log and memory)
//! schema -> chunk (a stream's entries, packed), index (where is what I match)
//! chunks, heads -> entry (decoded blocks) -> select (the one question) -> logql (text to answer)
//! heads -> bucket (chunks and index files in the object store, written and read)
//! all of it -> components (what a host starts)
//! ```
//!
//! What lies in the object store is what Grafana Loki writes and reads: [`chunk`] has the chunks, their objects and keys, [`index`] the files
//! that find them, [`schema`] the rules by which both are laid out. The pages below `docs/format` describe the bytes.
//!
//! Beside these, in a place of its own, stands what [`skip`] knows of chunks: where a text surely is not, and what was counted already.
//!
//! What is sent comes in through [`wire`], is held against [`limits`] and goes into the [`head`], which answers for it until the object store can.

pub mod bucket;
pub mod chunk;
pub mod components;
pub mod entry;
pub mod head;
pub mod index;
pub mod limits;
pub mod logql;
pub mod schema;
pub mod select;
pub mod skip;
pub mod wire;
