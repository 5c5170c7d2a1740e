//! Which component keeps its data where.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;

use super::bucket::Bucket;
use super::component::Component;
use crate::error::{Error, Result};

/// One prefix of one bucket for every component.
#[derive(Debug, Clone)]
pub struct Layout {
    store: Arc<dyn ObjectStore>,
    prefixes: BTreeMap<Component, String>,
}

impl Layout {
    /// All components in one bucket, each below its default prefix.
    pub fn single_bucket(store: Arc<dyn ObjectStore>) -> Self {
        let prefixes = Component::ALL
            .iter()
            .map(|c| (*c, c.default_prefix().to_owned()))
            .collect();
        Self { store, prefixes }
    }

    /// The same with other prefixes for some components.
    ///
    /// # Errors
    /// `InvalidInput` when a prefix has other signs than letters and digits, or is another component's too.
    pub fn with_prefixes(mut self, prefixes: BTreeMap<Component, String>) -> Result<Self> {
        self.prefixes.extend(prefixes);
        let mut owners: BTreeMap<&str, Component> = BTreeMap::new();
        for (component, prefix) in &self.prefixes {
            // Without slashes no prefix can lie inside another.
            if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(Error::InvalidInput(format!(
                    "prefix {prefix:?} of component {component} may hold letters and digits only"
                )));
            }
            if let Some(other) = owners.insert(prefix, *component) {
                return Err(Error::InvalidInput(format!(
                    "components {other} and {component} share the prefix {prefix:?}"
                )));
            }
        }
        Ok(self)
    }

    /// The part of the storage that belongs to a component.
    pub fn bucket(&self, component: Component) -> Bucket {
        Bucket::new(
            Arc::clone(&self.store),
            component,
            &self.prefixes[&component],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_components_share_a_prefix() {
        let layout = || Layout::single_bucket(Arc::new(object_store::memory::InMemory::new()));
        let with = |c, p: &str| layout().with_prefixes(BTreeMap::from([(c, p.to_owned())]));
        assert!(with(Component::Logs, "mylogs").is_ok());
        let error = with(Component::Logs, "traces").unwrap_err().to_string();
        assert!(error.contains("logs and traces"), "{error}");
        assert!(with(Component::Logs, "a/b").is_err());
        assert!(with(Component::Logs, "").is_err());
    }
}
