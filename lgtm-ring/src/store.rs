//! A ring's value in a key-value back end, as a map rather than bytes.

use std::sync::Arc;

use lgtm_core::Result;

use crate::instance::{RingCodec, RingDesc};
use crate::kv::{Kv, KvWatch, check_key};

/// One ring's key in a back end. Clones share the back end.
#[derive(Debug, Clone)]
pub struct RingStore {
    kv: Arc<dyn Kv>,
    key: Arc<str>,
}

impl RingStore {
    /// The ring under `key`, e.g. `collectors/ring`.
    ///
    /// # Errors
    /// `InvalidInput` for a key that no back end takes.
    pub fn new(kv: Arc<dyn Kv>, key: &str) -> Result<Self> {
        check_key(key)?;
        Ok(Self {
            kv,
            key: key.into(),
        })
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The ring now; empty when there is none.
    ///
    /// # Errors
    /// Those of the back end; `Corrupt` for bytes that are no ring.
    pub async fn load(&self) -> Result<RingDesc> {
        let value = self.kv.get(&self.key).await?;
        value.map_or_else(|| Ok(RingDesc::new()), |value| RingCodec::decode(&value))
    }

    /// Reads, changes and writes the ring. `change` says whether it changed anything; it may be called again, on a newer value.
    ///
    /// A value that is no ring is not overwritten.
    ///
    /// # Errors
    /// Those of the back end and of `change`; `Corrupt` for bytes that are no ring.
    pub async fn update(
        &self,
        mut change: impl FnMut(&mut RingDesc) -> Result<bool> + Send,
    ) -> Result<()> {
        let mut apply = |value: Option<bytes::Bytes>| {
            let mut ring = match value {
                Some(value) => RingCodec::decode(&value)?,
                None => RingDesc::new(),
            };
            if !change(&mut ring)? {
                return Ok(None);
            }
            RingCodec::encode(&ring).map(Some)
        };
        self.kv.cas(&self.key, &mut apply).await
    }

    /// Removes an instance from the ring, as an operator does with one that will not come back. One that lives comes back with its next
    /// heartbeat. False if it was not there.
    ///
    /// # Errors
    /// As [`RingStore::update`].
    pub async fn forget(&self, id: &str) -> Result<bool> {
        let mut was_there = false;
        self.update(|ring| {
            was_there = ring.remove(id).is_some();
            Ok(was_there)
        })
        .await?;
        Ok(was_there)
    }

    /// Values of the ring's key, as bytes.
    ///
    /// # Errors
    /// Those of the back end.
    pub async fn watch(&self) -> Result<KvWatch> {
        self.kv.watch_key(&self.key).await
    }
}
