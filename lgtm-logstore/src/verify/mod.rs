//! Whether the logs in a bucket are what their index files say: all checksums, counts, times and references.
//!
//! Open [`verifier`](verifier.rs) first, then `index_check` (an index file against itself), `chunk_check` (a chunk against what names it), `side_check` (side
//! objects against chunks).

mod chunk_check;
mod index_check;
mod side_check;
mod verifier;

pub use verifier::{LogVerifier, VerifiedLogs};
