//! The caches of a process, and what each layer takes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::cache::cache::Cache;
use crate::cache::instrumented::Instrumented;
use crate::cache::prefixed::Prefixed;
use crate::cache::settings::{CacheParts, CacheSettings};
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::service::Service;

/// Caches by name. One is made when the first layer asks for it; layers that name the same share it, each with keys of its own.
///
/// As a service it closes them at the end.
#[derive(Debug)]
pub struct Caches {
    settings: BTreeMap<String, CacheSettings>,
    parts: CacheParts,
    made: Mutex<BTreeMap<String, Arc<dyn Cache>>>,
}

impl Caches {
    /// None are made yet.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not plain and for settings out of bounds.
    pub fn new(settings: BTreeMap<String, CacheSettings>, parts: CacheParts) -> Result<Self> {
        Self::validate(&settings)?;
        Ok(Self {
            settings,
            parts,
            made: Mutex::default(),
        })
    }

    /// Checks names and settings.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(settings: &BTreeMap<String, CacheSettings>) -> Result<()> {
        for (name, settings) in settings {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
                return Err(Error::InvalidInput(format!(
                    "caches: the name {name:?} must be 1 to 64 letters, digits, - and _"
                )));
            }
            settings
                .validate()
                .map_err(|e| Error::InvalidInput(format!("caches.{name}: {e}")))?;
        }
        Ok(())
    }

    /// Of the cache called `cache` the part that belongs to `layer`: with keys that no other layer has, and told of in the metrics under the
    /// layer's name. `version` is raised when what the layer stores is written in another way. `None` for an empty name.
    ///
    /// # Errors
    /// `InvalidInput` if there is no cache of that name.
    pub fn layer(&self, layer: &str, version: u32, cache: &str) -> Result<Option<Arc<dyn Cache>>> {
        if cache.is_empty() {
            return Ok(None);
        }
        let shared = self.cache(layer, cache)?;
        let prefixed = Prefixed::new(format!("{layer}@{version}/"), shared);
        let clock = Arc::clone(&self.parts.clock);
        let told = Instrumented::new(layer, Arc::new(prefixed), clock, &self.parts.registry)?;
        Ok(Some(Arc::new(told)))
    }

    fn cache(&self, layer: &str, name: &str) -> Result<Arc<dyn Cache>> {
        let mut made = self.made.lock();
        if let Some(cache) = made.get(name) {
            return Ok(Arc::clone(cache));
        }
        let settings = self.settings.get(name).ok_or_else(|| {
            let known = self.settings.keys().map(String::as_str);
            let near = did_you_mean(name, known);
            Error::InvalidInput(format!(
                "{layer}: there is no cache called {name:?}{near}; those of the setting caches can be used"
            ))
        })?;
        let cache = settings.build(name, &self.parts)?;
        made.insert(name.to_owned(), Arc::clone(&cache));
        Ok(cache)
    }
}

#[async_trait]
impl Service for Caches {
    fn name(&self) -> &str {
        "caches"
    }

    async fn stop(&self) -> Result<()> {
        let made: Vec<_> = self.made.lock().values().cloned().collect();
        for cache in made {
            cache.close().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::runtime::Handle;

    use super::*;
    use crate::cache::CacheExt;
    use crate::clock::ManualClock;
    use crate::telemetry::Registry;

    fn caches(names: &[&str]) -> Result<Caches> {
        let settings = names
            .iter()
            .map(|name| (String::from(*name), CacheSettings::default()));
        let parts = CacheParts {
            clock: Arc::new(ManualClock::default()),
            registry: Registry::new(),
            runtime: Handle::current(),
            folder: "unused".into(),
        };
        Caches::new(settings.collect(), parts)
    }

    #[tokio::test]
    async fn layers_share_a_cache_and_not_their_keys() {
        let caches = caches(&["shared"]).unwrap();
        let layer = |layer, version| caches.layer(layer, version, "shared").unwrap().unwrap();
        let (a, b) = (layer("a", 1), layer("b", 1));
        a.set("k", Bytes::from_static(b"v"), None).await;
        assert_eq!(b.get("k").await, None);
        assert_eq!(layer("a", 2).get("k").await, None, "of another version");
        assert!(a.get("k").await.is_some());
        assert_eq!((a.stats().requests, b.stats().requests), (1, 1));
        assert_eq!(a.stats().items, 1);
        assert!(caches.layer("c", 1, "").unwrap().is_none());
        caches.stop().await.unwrap();
    }

    #[tokio::test]
    async fn faults_are_named() {
        let text = |caches: Result<Caches>| caches.unwrap_err().to_string();
        assert!(text(caches(&["a/b"])).contains("a/b"));
        let known = caches(&["shared"]).unwrap();
        let error = known.layer("metrics.results", 1, "sharde").unwrap_err();
        assert!(error.to_string().contains("did you mean"), "{error}");
    }
}
