//! Values gossiped between the members of a cluster: no service beside them.
//!
//! ```text
//!   GossipKv (Kv, Service) ── transport (UDP, TCP) ── GossipState ── Membership   SWIM, by the crate foca
//!                                                              ├──── Store        merged values, watchers
//!                                                              └──── Broadcasts   changes that wait to be told
//! ```
//!
//! Everything right of the transport is pure: bytes and time go in, bytes come out. A change is told to a few members, who tell a few
//! members; what got lost is found when two members exchange everything, now and then. Merging makes the order irrelevant.
//!
//! What to expect: a change is everywhere within a second or two (`docs/gossip_convergence.md` has the table). Removed members are remembered for `left_ingesters_timeout`; a
//! member that was cut off for longer may bring one back. The bytes are in `docs/format/gossip.md`. Open `state.rs` first.

mod broadcasts;
mod builder;
mod codecs;
mod gossip;
mod membership;
mod node;
mod packet;
mod pair;
mod refusal;
mod seeds;
mod settings;
mod state;
mod stats;
mod store;
mod transport;

pub use builder::{GossipBuilder, TransportSettings};
pub use codecs::Codecs;
pub use gossip::GossipKv;
pub use node::{MAX_NODE_NAME_BYTES, Node};
pub use refusal::Refusal;
pub use seeds::{Resolver, SystemResolver};
pub use settings::GossipSettings;
pub use state::{GossipOutput, GossipState, Now, WriteOutcome};
pub use stats::GossipStats;
