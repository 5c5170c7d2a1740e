//! Reading from many replicas: as many as the quorum needs, not one more than needed, and nobody is waited for in vain.
//!
//! [`read_quorum`] asks the instances of a set. `tracker.rs` holds the rules, without I/O: whom to ask now, when it is enough, when it is
//! hopeless.

mod read_quorum;
#[cfg(test)]
mod tests;
mod tracker;

pub use read_quorum::{ReadOptions, read_quorum, read_quorum_of_all};
pub use tracker::{QuorumTracker, Verdict};
