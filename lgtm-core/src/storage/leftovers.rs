//! Folders that lack the object that completes them: uploads that never ended, or deletions that did not. Readers pass them over; after a
//! while they are deleted.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::TenantId;
use crate::storage::bucket::{Bucket, ObjectInfo};
use crate::timestamp::TimestampMs;

/// What tells a leftover.
#[derive(Debug, Clone, Copy)]
pub struct LeftoverRule {
    /// Whether a tenant's folder of this name is one of those meant (a block's id); others are passed over.
    pub is_folder: fn(&str) -> bool,
    /// The object that makes a folder complete.
    pub complete_by: &'static str,
    /// Whether an object of this name goes last (a mark), so that a deletion that was interrupted stays marked.
    pub is_last: fn(&str) -> bool,
}

/// A folder without the object that completes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its name, below the tenant's.
    pub folder: String,
    /// When its youngest object was written, milliseconds since the epoch.
    pub last_modified_ms: TimestampMs,
    /// Paths of its objects in the bucket.
    pub objects: Vec<String>,
}

/// Deletes the leftovers of a tenant to which nothing was added for `min_age_ms`, and returns what it deleted. Choose an age well beyond
/// the longest upload (a day is usual).
///
/// Costs one listing of the tenant's objects, per deleted folder one request to see that it is still incomplete, and one per object.
///
/// # Errors
/// As [`Bucket`]; folders before the failing one are deleted. May be repeated.
pub async fn delete_leftovers(
    bucket: &Bucket,
    tenant: &TenantId,
    rule: &LeftoverRule,
    now_ms: TimestampMs,
    min_age_ms: i64,
) -> Result<Vec<Leftover>> {
    let listed = bucket.list_sorted(tenant.as_str()).await?;
    let mut deleted = Vec::new();
    for leftover in find(tenant, rule, &listed) {
        if now_ms.since(leftover.last_modified_ms) < min_age_ms {
            continue;
        }
        let whole = format!("{tenant}/{}/{}", leftover.folder, rule.complete_by);
        if bucket.exists(&whole).await? {
            continue;
        }
        let is_last = |path: &&String| path.rsplit('/').next().is_some_and(rule.is_last);
        let (last, rest): (Vec<_>, Vec<_>) = leftover.objects.iter().partition(is_last);
        for path in rest.into_iter().chain(last) {
            bucket.delete(path).await?;
        }
        deleted.push(leftover);
    }
    Ok(deleted)
}

/// Picks the leftovers out of a listing of all objects of a tenant.
fn find(tenant: &TenantId, rule: &LeftoverRule, listing: &[ObjectInfo]) -> Vec<Leftover> {
    let mut folders: BTreeMap<&str, (bool, Leftover)> = BTreeMap::new();
    for object in listing {
        let below = object.path.strip_prefix(tenant.as_str());
        let Some((folder, name)) = below
            .and_then(|path| path.strip_prefix('/'))
            .and_then(|path| path.split_once('/'))
            .filter(|(folder, _)| (rule.is_folder)(folder))
        else {
            continue;
        };
        let (is_complete, leftover) = folders.entry(folder).or_insert_with(|| {
            let leftover = Leftover {
                folder: folder.to_owned(),
                last_modified_ms: TimestampMs::MIN,
                objects: Vec::new(),
            };
            (false, leftover)
        });
        *is_complete |= name == rule.complete_by;
        leftover.last_modified_ms = leftover.last_modified_ms.max(object.modified_ms);
        leftover.objects.push(object.path.clone());
    }
    let left = folders.into_values().filter(|(complete, _)| !complete);
    left.map(|(_, leftover)| leftover).collect()
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::storage::{DataKind, Layout};

    #[tokio::test]
    async fn only_old_folders_that_are_incomplete_are_deleted() {
        let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::MetricBlocks);
        let names = [
            "t/b1/meta.json",
            "t/b1/index",
            "t/b2/index",
            "t/b2/chunks/000001",
            "t/b2/deletion-mark.json",
            "t/b2/debug/meta.json",
            "t/bucket-index.json.gz",
            "t/markers/x",
            "u/b2/index",
            "tt/b2/index",
        ];
        for name in names {
            bucket.put(name, "x").await.unwrap();
        }
        let rule = LeftoverRule {
            is_folder: |name| name.starts_with('b'),
            complete_by: "meta.json",
            is_last: |name| name.ends_with("-mark.json"),
        };
        let tenant = TenantId::new("t").unwrap();
        let delete = async |now_ms| {
            let deleted = delete_leftovers(&bucket, &tenant, &rule, now_ms, 3_600_000).await;
            deleted.unwrap()
        };
        let now_ms = bucket.head(names[0]).await.unwrap().modified_ms;
        assert_eq!(delete(now_ms).await, []);
        let gone = delete(now_ms + 7_200_000).await;
        assert_eq!(gone.len(), 1);
        assert_eq!((&*gone[0].folder, gone[0].objects.len()), ("b2", 4));
        assert_eq!(bucket.list_sorted("").await.unwrap().len(), 6);
    }
}
