//! The ring's value: instances by id, how two copies of it merge, and its bytes.
//!
//! Open `instance.rs` for one record, `desc.rs` for the map, `merge.rs` for the rules by which replicas agree, `open.rs` for what a gossip store holds. Everything here is pure:
//! the time comes in as an argument.

mod codec;
mod conflict;
mod desc;
mod instance;
mod merge;
mod open;
#[cfg(test)]
mod tests;
mod wire;

pub use codec::{MAX_VALUE_BYTES, RING_CODEC_ID, RingCodec};
pub use desc::RingDesc;
pub use instance::{Instance, InstanceState, Stamp};
pub use merge::RemovedTombstones;
