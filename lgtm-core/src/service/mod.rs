//! Lifecycles: what a host starts, in which order, and how it ends.
//!
//! A component is a [`Service`]. [`Services`] starts each after what it depends on and stops it only after all that depend on it have
//! ended; when one fails, all are stopped. [`ServicesStatus`] answers `/services` and `/ready`. [`Targets`] turns the names that an
//! operator gives (`read`, `metrics-ingester`, …) into the set of modules to start. [`CompactionProgress`] tells how far a compactor is.

mod compaction_progress;
mod graph;
mod lifecycle;
mod service;
mod services;
mod status;
mod targets;

pub use compaction_progress::{CompactionProgress, TenantProgress};
pub use service::{Service, ServiceState};
pub use services::Services;
pub use status::{ServiceReport, ServicesStatus};
pub use targets::Targets;
