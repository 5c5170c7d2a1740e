//! A component does not run on another's prefix.
//!
//! A small object says whose prefix it is and in which format. It names no instance: equal nodes share it. In block prefixes it hides
//! in `__mimir_cluster/`, which Mimir's and Cortex' listings of tenants leave out; elsewhere it is a plain object at the root, which no
//! listing of folders takes for a tenant.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, Error, Result};
use crate::storage::bucket::{Bucket, PutOutcome};
use crate::storage::data_kind::DataKind;

/// Who owns a prefix, as the marker says. Unknown members are left alone, so that later versions may add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The component's name, e.g. `metricsblocks`.
    pub component: String,
    /// The format of what it stores, e.g. `prometheus-tsdb`.
    pub format: String,
}

impl Owner {
    fn shown(&self) -> String {
        format!("{} in format {}", self.component, self.format)
    }
}

/// Marks `bucket` as its component's, or checks that it is. To be called before anything is written.
///
/// Any number of nodes may call it at the same time; those of the same component and format all succeed. Costs one GET, and a PUT the
/// first time.
///
/// # Errors
/// `Conflict`, naming both owners, when the prefix belongs to another component or format. `Corrupt` when the marker cannot be read as
/// one. Else as [`Bucket`].
pub async fn claim(bucket: &Bucket, format: &str) -> Result<()> {
    let owner = Owner {
        component: bucket.data_kind().as_str().into(),
        format: format.into(),
    };
    let path = marker_path(bucket.data_kind());
    if let Some(found) = read(bucket, path).await? {
        return check(bucket, &owner, &found);
    }
    let json =
        serde_json::to_vec(&owner).map_err(|e| Error::Internal(format!("owner marker: {e}")))?;
    let lost = match bucket.put_if_absent(path, json.clone()).await {
        Ok(PutOutcome::Created) => return Ok(()),
        Ok(PutOutcome::AlreadyExists) => None,
        // A store without conditional writes: two first starts at the same moment are then told apart only by reading back.
        Err(Error::InvalidInput(_)) => bucket.put(path, json).await.err(),
        Err(error) => Some(error),
    };
    // Another node was quicker, or our answer was lost: the marker itself decides.
    match (read(bucket, path).await?, lost) {
        (Some(found), _) => check(bucket, &owner, &found),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::Conflict(format!(
            "{bucket:?}: owner marker {path} came and went"
        ))),
    }
}

/// Claims a bucket once: before anything is written to it, and not again when that went through.
#[derive(Debug)]
pub struct Claim {
    format: &'static str,
    is_ours: AtomicBool,
}

impl Claim {
    /// Of a bucket whose objects are in `format`.
    pub fn new(format: &'static str) -> Self {
        Self {
            format,
            is_ours: AtomicBool::new(false),
        }
    }

    /// [`claim`], unless the bucket is known to be ours.
    ///
    /// # Errors
    /// As [`claim`].
    pub async fn ensure(&self, bucket: &Bucket) -> Result<()> {
        if !self.is_ours.load(Ordering::Acquire) {
            claim(bucket, self.format).await?;
            self.is_ours.store(true, Ordering::Release);
        }
        Ok(())
    }
}

fn marker_path(component: DataKind) -> &'static str {
    match component {
        DataKind::MetricBlocks => "__mimir_cluster/lgtm-owner.json",
        DataKind::MetricRules
        | DataKind::Logs
        | DataKind::LogRules
        | DataKind::LogSkip
        | DataKind::Traces => "lgtm-owner.json",
    }
}

async fn read(bucket: &Bucket, path: &str) -> Result<Option<Owner>> {
    let bytes = match bucket.get(path).await {
        Ok(bytes) => bytes,
        Err(Error::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let owner = serde_json::from_slice(&bytes).map_err(|e| {
        let place = format!("{bucket:?}: {path}");
        Error::corrupt(place, DecodeError::new("owner marker", 0, e.to_string()))
    })?;
    Ok(Some(owner))
}

fn check(bucket: &Bucket, owner: &Owner, found: &Owner) -> Result<()> {
    if owner == found {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "{bucket:?} belongs to {}, refused to {}",
        found.shown(),
        owner.shown()
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::error::ErrorKind;
    use crate::storage::{Backend, BackendKind, Layout};
    use crate::testing::{FaultyStore, StoreFault};

    fn layout_with_logs_at(store: &Arc<InMemory>, prefix: &str) -> Layout {
        let builder = Layout::builder().store(Arc::clone(store));
        builder.prefix(DataKind::Logs, prefix).build().unwrap()
    }

    #[tokio::test]
    async fn equal_nodes_share_a_prefix_and_others_are_refused() {
        let store = Arc::new(InMemory::new());
        let layout = Layout::single_bucket(Arc::clone(&store));
        for component in DataKind::ALL {
            let bucket = layout.bucket(component);
            let (one, two) = tokio::join!(claim(&bucket, "v1"), claim(&bucket, "v1"));
            one.unwrap();
            two.unwrap();
            claim(&bucket, "v1").await.unwrap();
        }
        let error = claim(&layout.bucket(DataKind::Traces), "v2")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(
            error.to_string().contains("v1") && error.to_string().contains("v2"),
            "{error}"
        );

        // The operator swaps prefixes: logs now point at what was traces'.
        let builder = Layout::builder().store(store);
        let swapped = builder
            .prefix(DataKind::Logs, "traces")
            .prefix(DataKind::Traces, "t2")
            .build()
            .unwrap();
        let error = claim(&swapped.bucket(DataKind::Logs), "v1")
            .await
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("belongs to traces in") && message.contains("refused to logs in"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn no_listing_of_tenants_finds_the_marker() {
        let store = Arc::new(InMemory::new());
        let layout = layout_with_logs_at(&store, "logs");
        claim(&layout.bucket(DataKind::Logs), "loki").await.unwrap();
        claim(&layout.bucket(DataKind::MetricBlocks), "tsdb")
            .await
            .unwrap();
        let logs = layout
            .bucket(DataKind::Logs)
            .list_with_delimiter("")
            .await
            .unwrap();
        assert!(logs.folders.is_empty());
        let blocks = layout
            .bucket(DataKind::MetricBlocks)
            .list_with_delimiter("")
            .await
            .unwrap();
        assert_eq!(blocks.folders, ["__mimir_cluster"]);
        assert!(blocks.objects.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_does_not_make_a_node_its_own_rival() {
        let faulty = FaultyStore::new(Arc::new(InMemory::new()), 1);
        // The GET finds nothing, the PUT is done but its answer is lost.
        faulty.script([None, Some(StoreFault::LostAck)]);
        let layout =
            Layout::single_bucket(Backend::new(Arc::new(faulty.clone()), BackendKind::Memory));
        claim(&layout.bucket(DataKind::Logs), "loki").await.unwrap();
        assert_eq!((faulty.requests("put"), faulty.requests("get")), (1, 2));
    }

    #[tokio::test]
    async fn a_marker_that_is_not_one_is_corrupt() {
        let bucket = Layout::single_bucket(Backend::memory()).bucket(DataKind::Logs);
        bucket.put("lgtm-owner.json", "{").await.unwrap();
        assert_eq!(
            claim(&bucket, "x").await.unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        bucket
            .put(
                "lgtm-owner.json",
                r#"{"component":"logs","format":"x","since":3}"#,
            )
            .await
            .unwrap();
        claim(&bucket, "x").await.unwrap();
    }
}
