//! A store and what has to be known about it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, PutMultipartOptions};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::storage::retry::Retry;

/// Which store it is, where that makes a difference: Loki's layout on a file system is not the one on S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// In this process, gone with it.
    Memory,
    /// A local directory.
    File,
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl BackendKind {
    /// Whether listings come in the order of names, as S3, GCS and Azure promise.
    pub(in crate::storage) fn lists_by_name(self) -> bool {
        self != Self::File
    }

    /// Lets the back end repeat the parts of an upload by our rule, since nobody above it can (see `guarded_upload.rs`).
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    pub(in crate::storage) fn with_part_retries(
        self,
        options: PutMultipartOptions,
        retry: &Retry,
    ) -> PutMultipartOptions {
        match self {
            Self::Memory | Self::File => options,
            Self::S3 | Self::Gcs | Self::Azure => {
                options.with_retry_policy(Arc::new(super::network::PartRetry::new(retry.clone())))
            }
        }
    }

    /// Without a network back end there is nothing to repeat.
    #[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
    pub(in crate::storage) fn with_part_retries(
        self,
        options: PutMultipartOptions,
        _: &Retry,
    ) -> PutMultipartOptions {
        options
    }
}

/// When an object on a local disk counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalDurability {
    /// Once the operating system has it: survives a crash of the process. The default, as single nodes write to the WAL first.
    #[default]
    Os,
    /// Once file and directory are synced: survives a loss of power. Goes with the WAL's `SyncPolicy::EveryBatch`.
    Fsync,
}

/// An object store, its kind, and where in it we live.
#[derive(Debug, Clone)]
pub struct Backend {
    store: Arc<dyn ObjectStore>,
    kind: BackendKind,
    /// Two back ends with the same place are the same bucket.
    place: String,
    /// The folder of the bucket below which all our prefixes stand.
    root: Path,
    /// Whether `root` is already part of `store`, as for a directory; then it serves only to compare places.
    rooted: bool,
}

impl Backend {
    /// Any store. `kind` says what it behaves like.
    ///
    /// Two of these are taken for the same bucket when they share the store's `Arc`.
    pub fn new(store: Arc<dyn ObjectStore>, kind: BackendKind) -> Self {
        let place = format!("store at {:p}", Arc::as_ptr(&store));
        Self {
            store,
            kind,
            place,
            root: Path::ROOT,
            rooted: false,
        }
    }

    /// A store in memory.
    pub fn memory() -> Self {
        Self::new(Arc::new(InMemory::new()), BackendKind::Memory)
    }

    /// A local directory, which is made if it is missing.
    ///
    /// # Errors
    /// `Unavailable` when the directory cannot be made or read; `InvalidInput` when its name is not UTF-8.
    pub fn file(dir: impl Into<PathBuf>, durability: LocalDurability) -> Result<Self> {
        let dir = dir.into();
        let failed = |e: &dyn std::fmt::Display| {
            Error::Unavailable(format!("storage directory {}: {e}", dir.display()))
        };
        fs::create_dir_all(&dir).map_err(|e| failed(&e))?;
        let full = fs::canonicalize(&dir).map_err(|e| failed(&e))?;
        let root = Path::from_absolute_path(&full).map_err(|e| {
            Error::InvalidInput(format!("storage directory {}: {e}", dir.display()))
        })?;
        // Without the clean-up, folders of deleted blocks and tenants would stay and be listed.
        let store = LocalFileSystem::new_with_prefix(&full)
            .map_err(|e| failed(&e))?
            .with_automatic_cleanup(true)
            .with_fsync(durability == LocalDurability::Fsync);
        Ok(Self {
            store: Arc::new(store),
            kind: BackendKind::File,
            place: "file:".into(),
            root,
            rooted: true,
        })
    }

    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    pub(super) fn cloud(
        store: Arc<dyn ObjectStore>,
        kind: BackendKind,
        place: String,
        root: Path,
    ) -> Self {
        Self {
            store,
            kind,
            place,
            root,
            rooted: false,
        }
    }

    /// Puts another store before this one, e.g. one that injects faults; place and kind stay.
    pub fn wrapped(self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        Self {
            store: wrap(self.store),
            ..self
        }
    }

    /// What kind of store it is.
    pub fn kind(&self) -> BackendKind {
        self.kind
    }

    /// The store, without any prefix or guard.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(in crate::storage) fn place(&self) -> &str {
        &self.place
    }

    /// `prefix` as the store knows it.
    pub(in crate::storage) fn path_in_store(&self, prefix: &str) -> Path {
        let root = if self.rooted {
            Path::ROOT
        } else {
            self.root.clone()
        };
        if prefix.is_empty() {
            root
        } else {
            root.join(prefix)
        }
    }

    /// `prefix` within the place, to be compared with those of other back ends.
    pub(in crate::storage) fn path_in_place(&self, prefix: &str) -> Path {
        let root = self.root.clone();
        if prefix.is_empty() {
            root
        } else {
            root.join(prefix)
        }
    }
}

impl From<InMemory> for Backend {
    fn from(store: InMemory) -> Self {
        Self::new(Arc::new(store), BackendKind::Memory)
    }
}

impl From<Arc<InMemory>> for Backend {
    fn from(store: Arc<InMemory>) -> Self {
        Self::new(store, BackendKind::Memory)
    }
}

impl From<LocalFileSystem> for Backend {
    fn from(store: LocalFileSystem) -> Self {
        Self::new(Arc::new(store), BackendKind::File)
    }
}
