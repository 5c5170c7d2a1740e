//! The metrics store.

pub mod block;
pub mod index;
