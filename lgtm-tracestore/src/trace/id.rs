//! Identifiers of traces and spans.

use std::fmt;

use lgtm_core::error::{Error, Result};

/// Identifies a trace: 16 bytes, shorter ones padded with zeros on the left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TraceId([u8; 16]);

/// Identifies a span within its trace: 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// From its bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From at most 16 bytes, padded with zeros on the left; `None` for more.
    pub fn from_short(bytes: &[u8]) -> Option<Self> {
        let mut padded = [0; 16];
        let from = padded.len().checked_sub(bytes.len())?;
        padded[from..].copy_from_slice(bytes);
        Some(Self(padded))
    }

    /// From 1 to 32 hexadecimal digits of any case, padded with zeros on the left.
    ///
    /// # Errors
    /// `InvalidInput` for another length or another character, in the words that Tempo's API has for it.
    pub fn from_hex(text: &str) -> Result<Self> {
        if let Some((at, c)) = (text.chars().enumerate()).find(|(_, c)| !c.is_ascii_hexdigit()) {
            let (position, c) = (at + 1, c.escape_default());
            return Err(Error::InvalidInput(format!(
                "trace IDs can only contain hex characters: invalid character '{c}' at position {position}"
            )));
        }
        if text.len() > 32 {
            return Err(Error::InvalidInput(
                "trace IDs can't be larger than 128 bits".into(),
            ));
        }
        match u128::from_str_radix(text, 16) {
            Ok(id) => Ok(Self(id.to_be_bytes())),
            Err(_) => Err(Error::InvalidInput("trace ID is empty".into())),
        }
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether all bytes are zero, which no trace's are.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }

    /// As hexadecimal digits without leading zeros, which is how Tempo prints ids in answers to searches.
    pub fn short_hex(&self) -> String {
        format!("{:x}", u128::from_be_bytes(self.0))
    }
}

impl SpanId {
    /// From its bytes.
    pub const fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// From bytes of any length: the first eight, zeros where there are fewer. Blocks of others may hold such ids.
    pub fn from_any(bytes: &[u8]) -> Self {
        let mut id = [0; 8];
        let len = bytes.len().min(8);
        id[..len].copy_from_slice(&bytes[..len]);
        Self(id)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}
