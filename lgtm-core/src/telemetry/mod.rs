//! Metrics of the program itself: values gathered when somebody asks, and the text in which they are told.

mod exposition;
mod process;

pub use exposition::{Exposition, MetricKind};
pub use process::process_metrics;
