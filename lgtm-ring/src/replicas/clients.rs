//! Who the instances of a ring are.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use lgtm_core::{Error, Result};

use crate::instance::Instance;

/// Knows how to reach the instances of a ring, each of which is a `C` to its callers.
pub trait InstancePool<C: ?Sized>: Debug + Send + Sync + 'static {
    /// The client of an instance. Does no I/O.
    ///
    /// # Errors
    /// `InvalidInput` for an address that cannot be reached, `LimitExceeded` when there are too many.
    fn instance(&self, instance: &Instance) -> Result<Arc<C>>;
}

/// The components of this process by their addresses, which are asked directly, and whoever knows the others.
#[derive(Debug)]
pub struct LocalClients<C: ?Sized> {
    here: HashMap<String, Arc<C>>,
    elsewhere: Option<Arc<dyn InstancePool<C>>>,
}

impl<C: ?Sized> Default for LocalClients<C> {
    fn default() -> Self {
        Self {
            here: HashMap::new(),
            elsewhere: None,
        }
    }
}

impl<C: ?Sized> LocalClients<C> {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a component of this process, at the address that it has in the ring.
    #[must_use]
    pub fn with(mut self, address: &str, component: Arc<C>) -> Self {
        self.here.insert(address.to_owned(), component);
        self
    }

    /// Has `pool` know all others.
    #[must_use]
    pub fn elsewhere(mut self, pool: Arc<dyn InstancePool<C>>) -> Self {
        self.elsewhere = Some(pool);
        self
    }
}

impl<C: ?Sized + Debug + Send + Sync + 'static> InstancePool<C> for LocalClients<C> {
    fn instance(&self, instance: &Instance) -> Result<Arc<C>> {
        match (self.here.get(&instance.addr), &self.elsewhere) {
            (Some(component), _) => Ok(Arc::clone(component)),
            (None, Some(pool)) => pool.instance(instance),
            (None, None) => Err(Error::InvalidInput(format!(
                "instance {} at {} is not in this process",
                instance.id, instance.addr
            ))),
        }
    }
}
