//! The metrics store.

pub mod block;
pub mod chunk;
pub mod head;
pub mod index;
pub mod limits;
pub mod promql;
pub mod select;
pub mod wire;
