//! An instance's own record: joining, heartbeats, leaving.
//!
//! ```text
//! PENDING ──join_after──► JOINING ──observe_period, nothing lost──► ACTIVE ──shutdown──► LEAVING ──► gone
//! ```
//!
//! [`Machine`] decides which step is due and what it does to the ring, given the time; it does no I/O, so simulations drive it by hand.
//! [`Lifecycler`] is the service around it. Rules: `docs/format/ring.md`, section "lifecycle".

mod builder;
mod forget;
mod lifecycler;
mod machine;
mod membership;
mod metrics;
mod readiness;
mod settings;
mod steps;
#[cfg(test)]
mod tests;

pub use builder::LifecyclerBuilder;
pub use lifecycler::{Lifecycler, OnStopping};
pub use machine::{Machine, Planned, Step};
pub use membership::{Identity, Membership, Role};
pub use readiness::Readiness;
pub use settings::LifecyclerSettings;
