//! What the pool needs to know of a client.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;

use crate::instance::Instance;

/// A client of one instance.
#[async_trait]
pub trait PoolClient: Debug + Send + Sync + 'static {
    /// Asks the instance whether it serves.
    ///
    /// # Errors
    /// Any error means that it does not.
    async fn check_health(&self) -> Result<()>;
}

/// Makes clients.
pub trait ClientFactory: Debug + Send + Sync + 'static {
    /// What it makes.
    type Client: PoolClient + ?Sized;

    /// A client of `instance`. Does no I/O: the connection is made with the first call.
    ///
    /// # Errors
    /// `InvalidInput` for an address that cannot be dialled.
    fn client(&self, instance: &Instance) -> Result<Arc<Self::Client>>;
}
