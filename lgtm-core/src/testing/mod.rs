//! Conformance suites of the traits, and parts that fail on purpose. Feature `testing`.

mod bucket_suite;
mod cache_suite;
mod faulty_store;

pub use bucket_suite::bucket_suite;
pub use cache_suite::cache_suite;
pub use faulty_store::{FaultPlan, FaultyStore, StoreFault};
