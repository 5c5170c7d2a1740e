//! One component's part of the object storage.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};

use super::component::Component;
use crate::error::{Error, Result};

/// Everything below one component's prefix. Paths are relative to it and cannot leave it.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    component: Component,
}

impl Bucket {
    pub(super) fn new(store: Arc<dyn ObjectStore>, component: Component, prefix: &str) -> Self {
        Self {
            store: Arc::new(PrefixStore::new(store, prefix)),
            component,
        }
    }

    /// Whose it is.
    pub fn component(&self) -> Component {
        self.component
    }

    /// The store itself, seeing nothing but this prefix.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// A path in the bucket. It is taken as it is, never encoded anew: tenant ids may hold `*`, `!` and `'`.
    ///
    /// # Errors
    /// `InvalidInput` when a segment is empty, `.` or `..`, or holds signs that no object path may.
    pub fn path(text: &str) -> Result<Path> {
        Path::parse(text).map_err(|e| Error::InvalidInput(format!("object path {text:?}: {e}")))
    }

    /// A whole object.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, path: &Path) -> Result<Bytes> {
        let got = self
            .store
            .get(path)
            .await
            .map_err(|e| storage_error(path, e))?;
        got.bytes().await.map_err(|e| storage_error(path, e))
    }

    /// Writes a whole object, replacing an older one.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        self.store
            .put(path, bytes.into())
            .await
            .map(drop)
            .map_err(|e| storage_error(path, e))
    }

    /// Names of the folders right below a folder, in order; the whole bucket for `None`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn folders(&self, below: Option<&Path>) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(below).await;
        let listed = listed.map_err(|e| storage_error(below.unwrap_or(&Path::default()), e))?;
        let mut names: Vec<String> = listed
            .common_prefixes
            .iter()
            .filter_map(|p| p.filename().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Paths and sizes of all objects below a folder.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self, below: &Path) -> Result<Vec<(Path, u64)>> {
        let mut found = Vec::new();
        let mut list = self.store.list(Some(below));
        while let Some(object) = list.next().await {
            let object = object.map_err(|e| storage_error(below, e))?;
            found.push((object.location, object.size));
        }
        Ok(found)
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn delete(&self, path: &Path) -> Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(storage_error(path, e)),
        }
    }
}

/// The error of an operation on an object.
pub(super) fn storage_error(path: &Path, e: object_store::Error) -> Error {
    match e {
        object_store::Error::NotFound { .. } => Error::NotFound(format!("object {path}")),
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            Error::Conflict(format!("object {path}: {e}"))
        }
        object_store::Error::InvalidPath { .. } => {
            Error::InvalidInput(format!("object {path}: {e}"))
        }
        e => Error::Unavailable(format!("object {path}: {e}")),
    }
}
