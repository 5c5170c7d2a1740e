//! Where components put the samples that they make: recording rules, the metrics-generator, a process' own metrics.
//!
//! [`SampleSink`] is all that such a component knows of the metrics store, whose distributor implements it. [`MemorySink`] keeps what
//! comes, for tests and for embedders without that store.

mod memory;
mod sink;

pub use memory::MemorySink;
pub use sink::{SampleSink, SinkReport, SinkSample, SinkValue};
