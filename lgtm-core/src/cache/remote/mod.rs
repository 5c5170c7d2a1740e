//! What caches on other machines share: values leave through a bounded queue, a server that fails is left alone for a while, and every failure
//! is counted by its reason.

mod breaker;
mod failure;
mod remote_cache;
mod write_back;

pub(super) use breaker::Breaker;
pub use breaker::BreakerSettings;
pub(super) use failure::{Failure, RemoteCounts, RemoteOperation};
pub(super) use remote_cache::{RemoteCache, RemoteStore};
pub(super) use write_back::Write;
pub use write_back::WriteBackSettings;
