//! Names of objects: those of a block, in its folder, and those of a tenant.

use crate::block_id::BlockId;

/// Spans, in Parquet.
pub const DATA: &str = "data.parquet";
/// What the block is. It is written last: the block is there with it.
pub const META: &str = "meta.json";
/// The same of a block that is superseded. The object's time says since when.
pub const COMPACTED_META: &str = "meta.compacted.json";
/// The last trace of each row group.
pub const ROW_GROUP_INDEX: &str = "index";
/// There while the block is not to be compacted.
pub const NO_COMPACT: &str = "nocompact.flg";
/// The folder of a tenant's redactions that are under way. Ours: Tempo keeps its own elsewhere, and takes no notice of it.
pub const REDACTIONS: &str = "redactions";
/// A tenant's blocks, as protobuf.
pub const TENANT_INDEX_PROTOBUF: &str = "index.pb.zst";
/// A tenant's blocks, as JSON; for when the other is missing.
pub const TENANT_INDEX_JSON: &str = "index.json.gz";

/// A bloom filter.
pub fn bloom_name(shard: u32) -> String {
    format!("bloom-{shard}")
}

/// Which meta an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaKind {
    /// Of a block that serves.
    Live,
    /// Of a block that is superseded.
    Compacted,
}

/// The block whose meta an object is, by its path below the tenant's folder. Nothing else makes a block: other objects, in its folder or beside
/// it, do not.
pub fn block_of_meta(path: &str) -> Option<(BlockId, MetaKind)> {
    let (block, name) = path.split_once('/')?;
    let kind = match name {
        META => MetaKind::Live,
        COMPACTED_META => MetaKind::Compacted,
        _ => return None,
    };
    Some((block.parse().ok()?, kind))
}
