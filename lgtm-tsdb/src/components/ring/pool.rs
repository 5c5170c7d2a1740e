//! Who the instances of a ring are.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use lgtm_core::{Error, Result};
use lgtm_ring::instance::Instance;

use crate::components::clients::{IngesterClient, StoreGatewayClient};

/// Knows how to reach the instances of a ring.
pub trait IngesterPool: Debug + Send + Sync + 'static {
    /// The client of an instance. Does no I/O.
    ///
    /// # Errors
    /// `InvalidInput` for an address that cannot be reached, `LimitExceeded` when there are too many.
    fn ingester(&self, instance: &Instance) -> Result<Arc<dyn IngesterClient>>;
}

/// Knows how to reach the store-gateways of a ring.
pub trait StoreGatewayPool: Debug + Send + Sync + 'static {
    /// The client of an instance. Does no I/O.
    ///
    /// # Errors
    /// As [`IngesterPool::ingester`].
    fn store_gateway(&self, instance: &Instance) -> Result<Arc<dyn StoreGatewayClient>>;
}

/// The ingesters of this process by their addresses, which are asked directly, and whoever knows the others.
#[derive(Debug, Default)]
pub struct LocalIngesters {
    here: HashMap<String, Arc<dyn IngesterClient>>,
    elsewhere: Option<Arc<dyn IngesterPool>>,
}

impl LocalIngesters {
    /// No ingester yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an ingester of this process, at the address that it has in the ring.
    #[must_use]
    pub fn with(mut self, address: &str, ingester: Arc<dyn IngesterClient>) -> Self {
        self.here.insert(address.to_owned(), ingester);
        self
    }

    /// Has `pool` know all others.
    #[must_use]
    pub fn elsewhere(mut self, pool: Arc<dyn IngesterPool>) -> Self {
        self.elsewhere = Some(pool);
        self
    }
}

impl IngesterPool for LocalIngesters {
    fn ingester(&self, instance: &Instance) -> Result<Arc<dyn IngesterClient>> {
        match (self.here.get(&instance.addr), &self.elsewhere) {
            (Some(ingester), _) => Ok(Arc::clone(ingester)),
            (None, Some(pool)) => pool.ingester(instance),
            (None, None) => Err(Error::InvalidInput(format!(
                "instance {} at {} is not in this process",
                instance.id, instance.addr
            ))),
        }
    }
}
