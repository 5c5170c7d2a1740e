//! Who has gone that may have written blocks which nobody here knows.

use std::fmt::Debug;

/// Tells which holders of recent data have gone for good.
pub trait Departures: Debug + Send + Sync + 'static {
    /// The latest of them, a few dozen at most, each by a name that no other one ever bears.
    fn departed(&self) -> Vec<String>;
}
