//! All keys of a user below one prefix.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::Result;

use crate::kv::kv::{Kv, check_key};
use crate::kv::watch::KvWatch;

/// A store that puts a prefix before every key, e.g. `collectors/`, and takes it off what comes back.
#[derive(Debug, Clone)]
pub struct PrefixedKv {
    inner: Arc<dyn Kv>,
    prefix: String,
}

impl PrefixedKv {
    /// `inner` below `prefix`. The prefix is put down as it is: give it its slash.
    pub fn new(inner: Arc<dyn Kv>, prefix: impl Into<String>) -> Self {
        Self {
            inner,
            prefix: prefix.into(),
        }
    }

    fn full(&self, key: &str) -> Result<String> {
        check_key(key)?;
        Ok(format!("{}{key}", self.prefix))
    }
}

#[async_trait]
impl Kv for PrefixedKv {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.inner.get(&self.full(key)?).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let full = format!("{}{prefix}", self.prefix);
        let keys = self.inner.list(&full).await?;
        let own = keys.iter().filter_map(|k| k.strip_prefix(&self.prefix));
        Ok(own.map(str::to_owned).collect())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(&self.full(key)?).await
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        self.inner.cas(&self.full(key)?, change).await
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        let watch = self.inner.watch_key(&self.full(key)?).await?;
        Ok(watch.without_prefix(self.prefix.len()))
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        let full = format!("{}{prefix}", self.prefix);
        let watch = self.inner.watch_prefix(&full).await?;
        Ok(watch.without_prefix(self.prefix.len()))
    }
}
