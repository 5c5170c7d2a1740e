//! What is in the object store: blocks written, listed and read.
//!
//! ```text
//! head ── merged traces ──> block_upload ──> data.parquet, bloom-N, index, meta.json (last)
//! block_list: which blocks a tenant has      open_block: one of them; a trace by its id, or all traces of row groups
//! ```

mod block_caches;
mod block_list;
mod block_upload;
mod departures;
mod open_block;
mod places;
mod select;
mod settings;
mod skip_cache;
#[cfg(test)]
mod tests;

pub use block_caches::BlockCaches;
pub use block_list::{BlockList, TenantBlocks, UnfinishedBlock};
pub use block_upload::{BlockSpec, BlockUpload};
pub use departures::Departures;
pub use open_block::{BlockTraces, OpenBlock};
pub use select::BucketSelect;
pub use settings::BucketSettings;
