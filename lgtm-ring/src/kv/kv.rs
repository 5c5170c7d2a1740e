//! What a key-value back end promises.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::{Error, Result};

use crate::kv::watch::KvWatch;

/// Tries of a compare-and-set before it gives up with `Conflict`. Ten, as operators of rings know it: with more contenders than that
/// on one key, waiting for the next heartbeat is better than fighting on.
pub const MAX_CAS_ATTEMPTS: usize = 10;

/// The longest key, in bytes. A bound that every back end can keep.
pub const MAX_KEY_BYTES: usize = 512;

/// Values under text keys, shared by the members of a cluster.
///
/// What `testing::kv_suite` does not check is not promised. In particular a reader may be behind, and two readers may see different
/// values for a while: a gossip store converges, it does not agree.
///
/// Every method fails with `InvalidInput` for a key that [`check_key`] refuses, `Unavailable` or `Timeout` when the back end cannot
/// be reached.
#[async_trait]
pub trait Kv: Debug + Send + Sync + 'static {
    /// The value of `key`. Cancel-safe.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// The keys that begin with `prefix`, sorted. Cancel-safe.
    async fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes `key`; one that is not there is fine. A write that timed out may have happened.
    async fn delete(&self, key: &str) -> Result<()>;

    /// Read, change, write, atomically as far as the back end can.
    ///
    /// `change` gets the current value and yields the new one, or `None` to leave all as it is. It is called again, on the newer
    /// value, when somebody else was faster. Dropping the future leaves the write done or not done, never half.
    ///
    /// # Errors
    /// Those of `change`; `Conflict` after [`MAX_CAS_ATTEMPTS`].
    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()>;

    /// The value of `key` now, if there is one, then each newer one. Values in between may be skipped and the
    /// same one may come twice; the newest never is skipped.
    async fn watch_key(&self, key: &str) -> Result<KvWatch>;

    /// As [`Kv::watch_key`], for all keys that begin with `prefix`.
    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch>;
}

#[async_trait]
impl<K: Kv + ?Sized> Kv for Arc<K> {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        (**self).get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        (**self).list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        (**self).delete(key).await
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        (**self).cas(key, change).await
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        (**self).watch_key(key).await
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        (**self).watch_prefix(prefix).await
    }
}

/// Checks a key: 1 to [`MAX_KEY_BYTES`] bytes, no control characters.
///
/// # Errors
/// `InvalidInput`, naming the key and the rule.
pub fn check_key(key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::InvalidInput("key is empty".into()));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(Error::InvalidInput(format!(
            "key of {} bytes, at most {MAX_KEY_BYTES} are allowed",
            key.len()
        )));
    }
    if key.chars().any(char::is_control) {
        return Err(Error::InvalidInput(format!(
            "key {key:?} has a control character"
        )));
    }
    Ok(())
}

/// The error of a compare-and-set that others always won.
pub(crate) fn too_many_conflicts(key: &str) -> Error {
    Error::Conflict(format!(
        "key {key:?} was changed by others {MAX_CAS_ATTEMPTS} times while it was being written"
    ))
}
