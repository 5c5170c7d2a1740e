//! A component does not run on another's prefix.
//!
//! A small object says whose prefix it is and in which format. It names no instance: equal nodes share it. In block prefixes it hides
//! in `__mimir_cluster/`, which Mimir's and Cortex' listings of tenants leave out; elsewhere it is a plain object at the root, which no
//! listing of folders takes for a tenant.

use serde::{Deserialize, Serialize};

use crate::error::{DecodeError, Error, Result};
use crate::storage::bucket::{Bucket, PutOutcome};
use crate::storage::component::Component;

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
        component: bucket.component().as_str().into(),
        format: format.into(),
    };
    let path = marker_path(bucket.component());
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

fn marker_path(component: Component) -> &'static str {
    match component {
        Component::MetricBlocks => "__mimir_cluster/lgtm-owner.json",
        Component::MetricRules
        | Component::Logs
        | Component::LogRules
        | Component::LogSkip
        | Component::Traces => "lgtm-owner.json",
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
