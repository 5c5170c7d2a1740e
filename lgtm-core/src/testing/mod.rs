//! Conformance suites of the traits, and parts that fail on purpose. Feature `testing`.

mod cache_suite;

pub use cache_suite::cache_suite;
