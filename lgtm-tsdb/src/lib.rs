//! The metrics store.

pub mod chunk;
pub mod head;
pub mod limits;
pub mod promql;
pub mod select;
pub mod wire;
