//! What users and other crates test with: the conformance suite of key-value back ends, simulated clusters, invariants of rings, members
//! driven by hand.

mod invariants;
mod kv_suite;
mod mergeable;
mod ring_node;
pub mod sim;
mod tokio_clock;

pub use invariants::{
    Violation, every_key_has_an_owner, no_token_has_two_owners, quorums_meet, replicas_agree,
    the_forgotten_stay_away,
};
pub use kv_suite::{concurrent_counters, kv_suite};
pub use mergeable::{LwwCodec, LwwEntry, LwwMap};
pub use ring_node::{Disk, RingNode};
pub use tokio_clock::TokioClock;
