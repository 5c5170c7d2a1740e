//! Block folders without `meta.json`: uploads that never ended, or deletions that did not. Readers pass them over; after a while
//! they are deleted.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lgtm_core::Result;
use lgtm_core::storage::store_error;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::block_id::BlockId;

/// A block folder without `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialBlock {
    /// The block's id.
    pub id: BlockId,
    /// When its youngest object was written, milliseconds since the epoch.
    pub last_modified_ms: i64,
    /// Its objects.
    pub objects: Vec<Path>,
}

/// Picks the partial blocks out of a listing of everything under `prefix`. Folders that bear no block id are passed over.
pub fn find_partial_blocks(prefix: &Path, listing: &[ObjectMeta]) -> Vec<PartialBlock> {
    let mut blocks: BTreeMap<BlockId, (bool, PartialBlock)> = BTreeMap::new();
    for object in listing {
        let Some(mut parts) = object.location.prefix_match(prefix) else {
            continue;
        };
        let (Some(folder), Some(first)) = (parts.next(), parts.next()) else {
            continue;
        };
        let Ok(id) = folder.as_ref().parse::<BlockId>() else {
            continue;
        };
        let (has_meta, block) = blocks.entry(id).or_insert_with(|| {
            let block = PartialBlock {
                id,
                last_modified_ms: i64::MIN,
                objects: Vec::new(),
            };
            (false, block)
        });
        *has_meta |= first.as_ref() == "meta.json" && parts.next().is_none();
        let modified_ms = object.last_modified.timestamp_millis();
        block.last_modified_ms = block.last_modified_ms.max(modified_ms);
        block.objects.push(object.location.clone());
    }
    let partial = blocks.into_values().filter(|(has_meta, _)| !has_meta);
    partial.map(|(_, block)| block).collect()
}

/// Deletes the partial blocks under `prefix` to which nothing was added for `min_age_ms`, and returns what it deleted. Choose an
/// age well beyond the longest upload (a day is usual). Marks go last, so that a deletion that was interrupted stays marked.
///
/// Costs one listing of `prefix`, per deleted block one request to see that it is still without `meta.json`, and one per object.
///
/// # Errors
/// What the store returns; blocks before the failing one are deleted. May be repeated.
pub async fn delete_partial_blocks(
    store: &dyn ObjectStore,
    prefix: &Path,
    now_ms: i64,
    min_age_ms: i64,
) -> Result<Vec<PartialBlock>> {
    let listed = store.list(Some(prefix)).try_collect::<Vec<_>>().await;
    let listed = listed.map_err(|e| store_error("list", prefix.as_ref(), &e))?;
    let mut deleted = Vec::new();
    for block in find_partial_blocks(prefix, &listed) {
        if now_ms.saturating_sub(block.last_modified_ms) < min_age_ms {
            continue;
        }
        let meta = prefix.clone().join(block.id.to_string()).join("meta.json");
        match store.head(&meta).await {
            Ok(_) => continue,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(store_error("look for", meta.as_ref(), &e)),
        }
        let is_mark = |path: &&Path| path.filename().is_some_and(|n| n.ends_with("-mark.json"));
        let (marks, rest): (Vec<_>, Vec<_>) = block.objects.iter().partition(is_mark);
        for path in rest.into_iter().chain(marks) {
            match store.delete(path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(store_error("delete", path.as_ref(), &e)),
            }
        }
        deleted.push(block);
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn only_old_folders_without_meta_are_deleted() {
        let store = InMemory::new();
        let (whole, partial) = ("01M81S4Y5HSTNJNYGGEK41NWSC", "01M81S4Y6A12GXSH8NQ3466TZA");
        let names = [
            format!("t/{whole}/meta.json"),
            format!("t/{whole}/index"),
            format!("t/{partial}/index"),
            format!("t/{partial}/chunks/000001"),
            format!("t/{partial}/deletion-mark.json"),
            format!("t/{partial}/debug/meta.json"),
            "t/bucket-index.json.gz".to_owned(),
            "t/markers/x".to_owned(),
            format!("u/{partial}/index"),
        ];
        for name in &names {
            store.put(&name.as_str().into(), "x".into()).await.unwrap();
        }
        let prefix = Path::from("t");
        let now_ms = store.head(&names[0].as_str().into()).await.unwrap();
        let now_ms = now_ms.last_modified.timestamp_millis();
        let none = delete_partial_blocks(&store, &prefix, now_ms, 3_600_000).await;
        assert_eq!(none.unwrap(), []);
        let later = now_ms + 7_200_000;
        let gone = delete_partial_blocks(&store, &prefix, later, 3_600_000).await;
        let gone = gone.unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!(
            (gone[0].id.to_string(), gone[0].objects.len()),
            (partial.to_owned(), 4)
        );
        let left: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(left.len(), 5);
    }
}
