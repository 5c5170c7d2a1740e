//! Limits per tenant, replaced while they are read.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::model::TenantId;

/// The limits of every tenant: a default, and what differs from it. Clones share the same limits.
///
/// Reading takes a read lock for as long as a map lookup lasts; a request reads once and keeps the [`Arc`].
#[derive(Debug, Clone)]
pub struct Overrides<L>(Arc<RwLock<Arc<Table<L>>>>);

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

    /// `default` for everybody but those in `tenants`.
    pub fn new(default: L, tenants: HashMap<TenantId, L>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Table::new(
            default, tenants,
        )))))
    }

    /// The limits of a tenant, as they are now.
    pub fn for_tenant(&self, tenant: &TenantId) -> Arc<L> {
        let table = self.0.read();
        table.tenants.get(tenant).unwrap_or(&table.default).clone()
    }

    /// The limits of tenants that have no entry.
    pub fn default_limits(&self) -> Arc<L> {
        self.0.read().default.clone()
    }

    /// Tenants that have limits of their own, for `/runtime_config` and metrics; in no order.
    pub fn overridden(&self) -> Vec<(TenantId, Arc<L>)> {
        let table = self.0.read().clone();
        let entries = table.tenants.iter();
        entries.map(|(t, l)| (t.clone(), l.clone())).collect()
    }

    /// Puts new limits in the place of all old ones at once. Requests under way keep those they have read.
    pub fn replace(&self, default: L, tenants: HashMap<TenantId, L>) {
        let table = Arc::new(Table::new(default, tenants));
        let old = std::mem::replace(&mut *self.0.write(), table);
        // Freed without the lock.
        drop(old);
    }
}

impl<L> Table<L> {
    fn new(default: L, tenants: HashMap<TenantId, L>) -> Self {
        let tenants = tenants.into_iter().map(|(t, l)| (t, Arc::new(l)));
        Self {
            default: Arc::new(default),
            tenants: tenants.collect(),
        }
    }
}

impl<L: Default> Default for Overrides<L> {
    fn default() -> Self {
        Self::fixed(L::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_own_limits_or_the_default() {
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let overrides = Overrides::new(1, HashMap::from([(a.clone(), 2)]));
        let shared = overrides.clone();
        assert_eq!(
            (*overrides.for_tenant(&a), *overrides.for_tenant(&b)),
            (2, 1)
        );
        let held = overrides.for_tenant(&a);
        overrides.replace(3, HashMap::from([(b.clone(), 4)]));
        assert_eq!((*shared.for_tenant(&a), *shared.for_tenant(&b)), (3, 4));
        assert_eq!(*held, 2, "a request keeps what it read");
        assert_eq!(shared.overridden().len(), 1);
        assert_eq!(*Overrides::<u8>::default().default_limits(), 0);
    }
}
