//! The immutable unit in object storage. So far what stands around its data: what it is (`meta.json`), which traces its row groups end with
//! (`index`), and the list of a tenant's blocks. Pure.

mod meta;
mod names;
mod row_group_index;
mod tenant_index;
#[cfg(test)]
mod tests;
mod time;
mod trace_source;

pub use meta::{BlockMeta, CompactedBlockMeta, block_range};
pub use names::{
    COMPACTED_META, DATA, META, MetaKind, NO_COMPACT, REDACTIONS, ROW_GROUP_INDEX,
    TENANT_INDEX_JSON, TENANT_INDEX_PROTOBUF, block_of_meta, bloom_name,
};
pub use row_group_index::RowGroupIndex;
pub use tenant_index::TenantIndex;
pub use trace_source::{NoFeed, TraceFeed, TraceSource};
