//! Several replicas as one: what the stores of all signals do with a ring.
//!
//! ```text
//! write: tokens -> Replicas::push: do_batch, PushTally -> InstancePool -> a client, here or elsewhere
//! read:  Replicas::ask, begin: read_quorum, and who is left when a replica breaks off; Copies: counts that several tell
//! own:   owned_jobs, DividedLimits, HealthyDistributors, ReplayedLog: what a component does with its own place in a ring
//! gone:  DepartedIngesters: after whose departure the object store has to be looked at
//! ```
//!
//! Open `replicas.rs` first. What a question means, and how answers are joined, is the store's.

mod clients;
mod copies;
mod departed_ingesters;
mod membership;
mod push_tally;
#[cfg(feature = "rpc")]
mod remote;
#[allow(
    clippy::module_inception,
    reason = "the file that bears the folder's name holds its main concept"
)]
mod replicas;
mod reserve;
mod settings;

pub use clients::{InstancePool, LocalClients};
pub use copies::Copies;
pub use departed_ingesters::DepartedIngesters;
pub use membership::{DividedLimits, HealthyDistributors, OwnsJob, ReplayedLog, owned_jobs};
pub use push_tally::{PushAnswer, Pushed};
#[cfg(feature = "rpc")]
pub use remote::{RemoteCalls, RemoteClients, RemoteComponent};
pub use replicas::{Begun, ReplicaParts, Replicas};
pub use reserve::is_terminal;
pub use settings::ReplicationSettings;
