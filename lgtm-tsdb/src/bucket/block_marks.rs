//! Blocks deleted in two steps: a mark says that a block is not needed any more, and later its objects go.

use lgtm_core::model::TenantId;
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, ErrorKind, Result};

use super::tenant_blocks::MARKERS_FOLDER;
use crate::block::{DeletionMark, NoCompactMark};
use crate::block_id::BlockId;

/// Marks a block for deletion. A mark that is there already may be written again.
///
/// # Errors
/// Those of the store.
pub async fn mark_for_deletion(
    bucket: &Bucket,
    tenant: &TenantId,
    mark: &DeletionMark,
) -> Result<()> {
    put_twice(
        bucket,
        tenant,
        mark.id,
        DeletionMark::FILE_NAME,
        mark.encode()?,
    )
    .await
}

/// Marks a block that is not to be compacted.
///
/// # Errors
/// Those of the store.
pub async fn mark_no_compact(
    bucket: &Bucket,
    tenant: &TenantId,
    mark: &NoCompactMark,
) -> Result<()> {
    put_twice(
        bucket,
        tenant,
        mark.id,
        NoCompactMark::FILE_NAME,
        mark.encode()?,
    )
    .await
}

/// Those who look for marks list one folder; it has each mark first.
async fn put_twice(
    bucket: &Bucket,
    tenant: &TenantId,
    id: BlockId,
    name: &str,
    bytes: Vec<u8>,
) -> Result<()> {
    bucket
        .put(&global_path(tenant, id, name), bytes.clone())
        .await?;
    bucket.put(&format!("{tenant}/{id}/{name}"), bytes).await
}

fn global_path(tenant: &TenantId, id: BlockId, name: &str) -> String {
    format!("{tenant}/{MARKERS_FOLDER}/{id}-{name}")
}

/// Reads the deletion mark of a block again, before it is acted upon.
///
/// # Errors
/// `Corrupt`; those of the store.
pub async fn deletion_time_s(
    bucket: &Bucket,
    tenant: &TenantId,
    id: BlockId,
) -> Result<Option<i64>> {
    for path in [
        global_path(tenant, id, DeletionMark::FILE_NAME),
        format!("{tenant}/{id}/{}", DeletionMark::FILE_NAME),
    ] {
        match bucket.get(&path).await {
            Ok(bytes) => {
                let mark = DeletionMark::decode(&bytes).map_err(|e| Error::corrupt(path, e))?;
                return Ok((mark.id == id).then_some(mark.deletion_time_s));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Deletes all objects of a block: what makes it a block first, its marks last, so that a deletion that breaks off is taken up again.
///
/// # Errors
/// Those of the store; ask again.
pub async fn delete_block(bucket: &Bucket, tenant: &TenantId, id: BlockId) -> Result<()> {
    let folder = format!("{tenant}/{id}");
    bucket.delete(&format!("{folder}/meta.json")).await?;
    let objects = bucket.list_sorted(&folder).await?;
    let paths = objects.iter().map(|o| o.path.as_str());
    let is_mark = |path: &&str| path.ends_with("-mark.json");
    let (marks, rest): (Vec<&str>, Vec<&str>) = paths.partition(is_mark);
    bucket.delete_all(&rest).await?;
    bucket.delete_all(&marks).await?;
    bucket
        .delete(&global_path(tenant, id, NoCompactMark::FILE_NAME))
        .await?;
    bucket
        .delete(&global_path(tenant, id, DeletionMark::FILE_NAME))
        .await
}
