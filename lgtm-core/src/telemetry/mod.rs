//! Metrics that the host hands out and scrapes: no globals, no outside crate.
//!
//! ```text
//! Registry::counter_vec -> Family -> with(["v"]) -> Counter     inc(): one atomic add
//!          ::collect    -> callback, asked at scrape time
//!          ::gather     -> Vec<FamilySnapshot> -> text, or samples for self-monitoring
//! ```
//!
//! [`Registry`] is cloned into every part that counts. Parts register once while they are built, keep the handles, and pay one atomic
//! operation per event. Open `registry.rs` first.

mod collector;
mod counter;
mod exposition;
mod family;
mod gauge;
mod histogram;
mod process;
mod registry;
mod snapshot;

pub use collector::Collection;
pub use counter::Counter;
pub use exposition::{CONTENT_TYPE, encode};
pub use family::{Family, OTHER};
pub use gauge::Gauge;
pub use histogram::Histogram;
pub use process::ProcessCollector;
#[cfg(feature = "http")]
pub(crate) use process::max_open_files;
pub use registry::{Registry, TelemetrySettings};
pub use snapshot::{FamilySnapshot, MetricKind, Sample};
