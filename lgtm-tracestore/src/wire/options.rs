//! How a tenant's requests are read.

/// What a tenant's limits say about the reading of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushOptions {
    /// Bytes of a key or a text of an attribute, at any depth; longer ones are cut at a character. 0: any.
    pub max_attribute_bytes: usize,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            max_attribute_bytes: 2048,
        }
    }
}
