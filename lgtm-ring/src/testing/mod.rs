//! What users and other crates test with: the conformance suite of key-value back ends, simulated clusters.

mod kv_suite;
mod mergeable;
pub mod sim;

pub use kv_suite::{concurrent_counters, kv_suite};
pub use mergeable::{LwwCodec, LwwEntry, LwwMap};
