//! Limits by tenant, exchangeable while the process runs.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::model::TenantId;

/// The limits of every tenant: a default, and tenants that have their own.
#[derive(Debug)]
pub struct Overrides<L> {
    table: RwLock<Table<L>>,
}

#[derive(Debug)]
struct Table<L> {
    default: Arc<L>,
    tenants: HashMap<TenantId, Arc<L>>,
}

impl<L> Overrides<L> {
    /// The same limits for everybody.
    pub fn fixed(default: L) -> Self {
        Self::new(default, HashMap::new())
    }

    /// A default and the tenants that differ.
    pub fn new(default: L, tenants: HashMap<TenantId, L>) -> Self {
        Self { table: RwLock::new(Table::new(default, tenants)) }
    }

    /// The limits of a tenant. Cheap: a lock for reading and one count.
    pub fn for_tenant(&self, tenant: &TenantId) -> Arc<L> {
        let table = self.table.read();
        Arc::clone(table.tenants.get(tenant).unwrap_or(&table.default))
    }

    /// Puts other limits into force, all at once.
    pub fn replace(&self, default: L, tenants: HashMap<TenantId, L>) {
        *self.table.write() = Table::new(default, tenants);
    }
}

impl<L> Table<L> {
    fn new(default: L, tenants: HashMap<TenantId, L>) -> Self {
        Self { default: Arc::new(default), tenants: tenants.into_iter().map(|(t, l)| (t, Arc::new(l))).collect() }
    }
}
