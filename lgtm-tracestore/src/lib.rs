//! The trace store: Parquet blocks with bloom filters.

pub mod block;
pub mod block_id;
pub mod bloom;
pub mod bucket;
pub mod head;
pub mod limits;
pub mod schema;
pub mod select;
pub mod trace;
pub mod traceql;
pub mod wire;
