//! Which codec reads the value of which key.

use std::sync::Arc;

use lgtm_core::{Error, Result};

use crate::kv::codec::ValueCodec;

/// Codecs by the beginning of the key. The longest that fits is the one.
#[derive(Debug, Clone, Default)]
pub struct Codecs(Vec<(String, Arc<dyn ValueCodec>)>);

impl Codecs {
    /// No codec yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One codec for all keys.
    pub fn single(codec: Arc<dyn ValueCodec>) -> Self {
        Self::new().with("", codec)
    }

    /// Adds the codec of the keys that begin with `prefix`.
    #[must_use]
    pub fn with(mut self, prefix: impl Into<String>, codec: Arc<dyn ValueCodec>) -> Self {
        self.0.push((prefix.into(), codec));
        self
    }

    /// Checks that there is one, that names are usable, and that no prefix has two.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(super) fn validate(&self) -> Result<()> {
        if self.0.is_empty() {
            return Err(Error::InvalidInput(
                "a gossip store needs at least one codec".into(),
            ));
        }
        for (n, (prefix, codec)) in self.0.iter().enumerate() {
            if codec.id().is_empty() || codec.id().len() > 255 {
                return Err(Error::InvalidInput(format!(
                    "codec id {:?} must have 1 to 255 bytes",
                    codec.id()
                )));
            }
            if self.0[..n].iter().any(|(other, _)| other == prefix) {
                return Err(Error::InvalidInput(format!(
                    "two codecs for keys that begin with {prefix:?}"
                )));
            }
        }
        Ok(())
    }

    /// The codec for values of `key`.
    pub(super) fn of_key(&self, key: &str) -> Option<&Arc<dyn ValueCodec>> {
        let fitting = self.0.iter().filter(|(prefix, _)| key.starts_with(prefix));
        fitting.max_by_key(|(prefix, _)| prefix.len()).map(|c| &c.1)
    }
}
