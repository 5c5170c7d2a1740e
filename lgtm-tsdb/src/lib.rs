//! The metrics store.

pub mod block;
mod block_id;
pub mod bucket;
pub mod chunk;
pub mod components;
pub mod head;
#[cfg(feature = "http")]
pub mod http;
pub mod index;
pub mod limits;
pub mod promql;
pub mod select;
pub mod wire;
pub use components::Tsdb;
