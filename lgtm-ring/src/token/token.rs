//! One point on the circle.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A point on the circle of 2^32 keys: the hash of a key, or a place where an instance's range ends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Token(pub u32);

impl Token {
    /// Keys from `self` (inclusive) clockwise up to `to` (exclusive): 1 to 2^32, since from a token to itself is the whole circle.
    pub fn distance(self, to: Token) -> u64 {
        let ahead = to.0.wrapping_sub(self.0);
        if ahead == 0 {
            1 << 32
        } else {
            u64::from(ahead)
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
