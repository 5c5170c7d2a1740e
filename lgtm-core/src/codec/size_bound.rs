//! How many bytes may come out of what is sent.

use crate::error::Error;

/// Most bytes that a request may have once it is decompressed, and what a refusal says beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeBound {
    /// The bound, in bytes.
    pub max_bytes: usize,
    /// Behind every message: the setting's name, an id that clients know. Empty for none.
    pub hint: &'static str,
}

impl SizeBound {
    /// A bound without a hint.
    pub fn new(max_bytes: usize) -> Self {
        let hint = "";
        Self { max_bytes, hint }
    }

    /// That `what` came, which is more; `LimitExceeded`.
    pub fn exceeded(&self, what: &str) -> Error {
        let Self { max_bytes, hint } = self;
        let gap = if hint.is_empty() { "" } else { " " };
        Error::LimitExceeded(format!("{what}, the limit is {max_bytes}{gap}{hint}"))
    }
}
