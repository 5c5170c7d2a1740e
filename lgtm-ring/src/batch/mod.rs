//! Writing many keys to their replicas at once.
//!
//! [`do_batch`] asks each instance once for all its keys and returns as soon as every key has its quorum; slower instances still get the
//! data. `tracker.rs` holds the rules, without I/O. Vectors: `golden/ring/do_batch.json`.

mod do_batch;
#[cfg(test)]
mod tests;
mod tracker;

pub use do_batch::{Batch, BatchFailure, do_batch, is_client_error};
pub use tracker::{BatchOutcome, BatchTracker, ErrorFamily};
