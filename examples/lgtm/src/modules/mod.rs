//! What the process can run: for each signal a table of modules, of which `-target` names those to be made.

mod cluster;
mod leave;
mod logs;
mod metrics;
mod module;
mod parts;
mod ring_parts;
mod targets;
mod traces;

pub(crate) use cluster::{Cluster, GRPC_SERVER, RingOfCluster};
pub(crate) use leave::OwnPlace;
pub(crate) use module::Module;
pub(crate) use parts::{Compaction, Flush, Parts};
pub(crate) use targets::{Spread, selected};
