//! Lazily reading the many blocks of a bucket.

mod answers;
mod block_entry;
mod block_marks;
mod block_select;
mod block_sync;
mod blocks;
mod known_postings;
mod metrics;
mod open_blocks;
mod tenant_blocks;

pub(crate) use answers::merge_labels;
pub use block_marks::{delete_block, deletion_time_s, mark_for_deletion, mark_no_compact};
pub use blocks::{BucketBlocks, BucketBlocksBuilder, BucketSettings, BucketStats};
pub use tenant_blocks::{BlockScanner, MARKERS_FOLDER, StoredBlock, TenantBlocks};
