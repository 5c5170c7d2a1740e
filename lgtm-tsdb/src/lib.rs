//! The metrics store.

pub mod chunk;
pub mod limits;
pub mod wire;
