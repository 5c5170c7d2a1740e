//! Index files and chunks by their names, for who looks at a bucket from outside.

use lgtm_core::Result;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{BackendKind, Bucket};

use super::tables::Tables;
use crate::chunk::ChunkKey;
use crate::schema::SchemaPeriods;

/// Index files that a bucket may have.
const MAX_INDEX_FILES: usize = 10_000_000;
const LIST_CONCURRENCY: usize = 8;

/// An index file in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredIndex {
    /// The object.
    pub path: String,
    /// The day of its table, counted from 1970.
    pub day: i64,
    /// Whose it is; `None`: of several tenants, told apart by a label.
    pub tenant: Option<TenantId>,
}

/// All index files of a bucket, by day and tenant.
///
/// # Errors
/// Those of the store.
pub async fn list_index_files(
    bucket: &Bucket,
    periods: &SchemaPeriods,
) -> Result<Vec<StoredIndex>> {
    let tables = Tables::new(
        bucket.clone(),
        periods.clone(),
        MAX_INDEX_FILES,
        LIST_CONCURRENCY,
    );
    tables.sync_all().await?;
    let files = tables.all().into_iter().map(|file| StoredIndex {
        path: file.path.clone(),
        day: file.day,
        tenant: file.tenant.clone(),
    });
    Ok(files.collect())
}

/// The key of the chunk that an object is, by its name; `None` for what is no chunk.
pub fn key_of_object(bucket: &Bucket, path: &str) -> Option<ChunkKey> {
    match bucket.kind() {
        BackendKind::File => ChunkKey::from_file_name(path).ok(),
        _ => path.parse().ok(),
    }
}
