//! One component's place in object storage, which cannot be left.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};

use crate::error::{Error, Result};
use crate::model::TenantId;
use crate::storage::backend::BackendKind;
use crate::storage::data_kind::DataKind;
use crate::storage::fault;
use crate::storage::guarded::Guarded;
use crate::storage::object_path;
use crate::storage::writer::ObjectWriter;
use crate::timestamp::TimestampMs;
use crate::units::ByteSize;

/// The objects of one component. Cloning is cheap.
///
/// Paths are relative to the component's prefix and stand for themselves: nothing is encoded, so the tenant `it's*` is the folder
/// `it's*`. `..`, `.`, leading, trailing and double slashes, backslashes, control characters and whatever percent-decodes to one of
/// these are `InvalidInput`.
///
/// Every request has a deadline, waits for one of the component's slots, is counted in `lgtm_objstore_*`, and is sent again when the
/// failure may pass and the request is idempotent; a store that denies access is left alone for a while (see `StorageSettings`).
/// Errors by kind, for all methods: `InvalidInput` for a path; `NotFound`; `Timeout`, `Unavailable` and `RateLimited` once the repeats
/// are used up, or, at once, when the circuit is open; `Internal` for denied access and what the back end does not explain. They name the object.
///
/// Futures may be dropped at any time; a write dropped under way may have happened. They need a tokio runtime with its timer.
#[derive(Clone)]
pub struct Bucket {
    kind: DataKind,
    /// The prefix with its store's root, for messages.
    place: Arc<str>,
    guarded: Guarded,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Relative to the bucket.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was last written, in milliseconds since the Unix epoch, by the store's clock.
    pub modified_ms: TimestampMs,
    /// Changes when the object does, where the back end gives one.
    pub e_tag: Option<String>,
}

/// One level of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Folders, as paths relative to the bucket without a trailing slash, sorted.
    pub folders: Vec<String>,
    /// Objects, sorted by path.
    pub objects: Vec<ObjectInfo>,
}

/// How a conditional write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object was written.
    Created,
    /// There was one already, which is unchanged.
    AlreadyExists,
}

impl Bucket {
    pub(super) fn new(kind: DataKind, place: &str, guarded: Guarded) -> Self {
        Self {
            kind,
            place: place.into(),
            guarded,
        }
    }

    /// Of what kind the data in it are.
    pub fn data_kind(&self) -> DataKind {
        self.kind
    }

    /// What stores it.
    pub fn kind(&self) -> BackendKind {
        self.guarded.kind()
    }

    /// The same bucket for code that takes an [`ObjectStore`]: below the prefix, guarded and counted alike.
    ///
    /// A body that breaks while it is streamed is taken up again where it stopped.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.guarded.clone())
    }

    /// Reads a whole object into memory.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        let location = object_path::parse_object(path)?;
        let read = async { self.guarded.get(&location).await?.bytes().await };
        read.await.map_err(|e| self.error("get", path, &e))
    }

    /// Reads the bytes `range` of an object, all of them.
    ///
    /// # Errors
    /// `InvalidInput` when the range is reversed or the object ends before it does.
    pub async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let mut parts = self.get_ranges(path, &[range]).await?;
        Ok(parts.swap_remove(0))
    }

    /// Reads several ranges of an object, in the order asked. Those that are close (`coalesce_gap`) share a request.
    ///
    /// # Errors
    /// As [`Bucket::get_range`].
    pub async fn get_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let location = object_path::parse_object(path)?;
        if let Some(bad) = ranges.iter().find(|r| r.start > r.end) {
            return Err(Error::InvalidInput(format!(
                "range {bad:?} of {} is reversed",
                self.place_of(path)
            )));
        }
        let parts = self.guarded.get_ranges(&location, ranges).await;
        parts.map_err(|e| self.error("get range of", path, &e))
    }

    /// Asks for size and date.
    pub async fn head(&self, path: &str) -> Result<ObjectInfo> {
        let location = object_path::parse_object(path)?;
        let meta = self.guarded.head(&location).await;
        meta.map(info).map_err(|e| self.error("head", path, &e))
    }

    /// Whether the object exists. Costs a request: do not ask before a `get`, which says so too.
    pub async fn exists(&self, path: &str) -> Result<bool> {
        match self.head(path).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes an object, or replaces it. Nobody sees half of it.
    pub async fn put(&self, path: &str, bytes: impl Into<PutPayload>) -> Result<()> {
        let location = object_path::parse_object(path)?;
        let put = self.guarded.put(&location, bytes.into()).await;
        put.map(|_| ()).map_err(|e| self.error("put", path, &e))
    }

    /// Writes an object only if there is none.
    ///
    /// Not repeated when the answer was lost, since the second try would meet the first: after a `Timeout` or `Unavailable` read the object to
    /// learn what happened.
    ///
    /// # Errors
    /// `InvalidInput` when the back end has no conditional writes.
    pub async fn put_if_absent(
        &self,
        path: &str,
        bytes: impl Into<PutPayload>,
    ) -> Result<PutOutcome> {
        let location = object_path::parse_object(path)?;
        let put = self
            .guarded
            .put_opts(&location, bytes.into(), PutMode::Create.into())
            .await;
        match put {
            Ok(_) => Ok(PutOutcome::Created),
            // S3 says "precondition failed" where others say "exists".
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(self.error("put", path, &error)),
        }
    }

    /// Memory of an upload whose size is known beforehand ([`StorageSettings::upload_memory`](super::StorageSettings)).
    pub fn upload_memory(&self) -> ByteSize {
        self.guarded.settings().upload_memory
    }

    /// Writes an object piece by piece with bounded memory: `part_size` times `upload_concurrency`.
    ///
    /// # Errors
    /// `InvalidInput` for a path; nothing is sent yet.
    pub fn writer(&self, path: &str) -> Result<ObjectWriter> {
        let (guarded, location, place) = self.object(path)?;
        Ok(ObjectWriter::new(guarded, location, place))
    }

    /// The guarded store, an object's place in it, and its name in messages: what reads or writes one object many times keeps.
    pub(super) fn object(&self, path: &str) -> Result<(Guarded, Path, String)> {
        let location = object_path::parse_object(path)?;
        Ok((self.guarded.clone(), location, self.place_of(path)))
    }

    /// All objects below `prefix` (a folder; empty for all), in the order of their names except on a local disk.
    ///
    /// One request per 1000 objects: not for the path of a query.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let parsed = match object_path::parse_prefix(prefix) {
            Ok(parsed) => parsed,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let this = self.clone();
        let folder = prefix.to_owned();
        let entries = self.guarded.list(some_folder(&parsed));
        entries
            .map(move |meta| meta.map(info).map_err(|e| this.error("list", &folder, &e)))
            .boxed()
    }

    /// The folders and objects directly in the folder `prefix` (empty for the top).
    pub async fn list_with_delimiter(&self, prefix: &str) -> Result<Listing> {
        let parsed = object_path::parse_prefix(prefix)?;
        let found = self.guarded.list_with_delimiter(some_folder(&parsed)).await;
        let found = found.map_err(|e| self.error("list", prefix, &e))?;
        let mut listing = Listing {
            folders: found
                .common_prefixes
                .into_iter()
                .map(String::from)
                .collect(),
            objects: found.objects.into_iter().map(info).collect(),
        };
        listing.folders.sort_unstable();
        listing.objects.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// The tenants that have a folder at the top of the bucket, sorted. Costs a listing of that level; folders whose names are no tenant id
    /// (those of markers) are left out.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        let listing = self.list_with_delimiter("").await?;
        let tenants = listing.folders.iter();
        Ok(tenants.filter_map(|f| TenantId::new(f).ok()).collect())
    }

    /// Deletes an object; one that does not exist is deleted already.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let location = object_path::parse_object(path)?;
        let deleted = self.guarded.delete(&location).await;
        deleted.map_err(|e| self.error("delete", path, &e))
    }

    /// Deletes many objects, by as few requests as the back end can.
    ///
    /// # Errors
    /// The first failure; the others were still tried. Ask again with the same paths.
    pub async fn delete_all(&self, paths: &[&str]) -> Result<()> {
        let locations: Vec<_> = paths
            .iter()
            .map(|p| object_path::parse_object(p))
            .collect::<Result<_>>()?;
        let mut results = self
            .guarded
            .delete_stream(stream::iter(locations).map(Ok).boxed());
        let mut first_failure = None;
        while let Some(result) = results.next().await {
            first_failure = first_failure.or(result.err());
        }
        match first_failure {
            Some(error) => Err(self.error("delete in", "", &error)),
            None => Ok(()),
        }
    }

    /// Copies an object within the bucket, replacing what is at `to`.
    pub async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let (from_location, to_location) = (
            object_path::parse_object(from)?,
            object_path::parse_object(to)?,
        );
        let options = CopyOptions::new().with_mode(CopyMode::Overwrite);
        let copied = self
            .guarded
            .copy_opts(&from_location, &to_location, options)
            .await;
        copied.map_err(|e| self.error("copy", from, &e))
    }

    /// All objects below `prefix`, sorted by path. Memory grows with their number.
    pub async fn list_sorted(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut objects: Vec<_> = self.list(prefix).try_collect().await?;
        objects.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    fn place_of(&self, path: &str) -> String {
        match (&*self.place, path) {
            ("", path) => path.to_owned(),
            (place, "") => place.to_owned(),
            (place, path) => format!("{place}/{path}"),
        }
    }

    fn error(&self, operation: &str, path: &str, error: &object_store::Error) -> Error {
        fault::store_error(operation, &self.place_of(path), error)
    }
}

fn some_folder(prefix: &Path) -> Option<&Path> {
    (!prefix.is_root()).then_some(prefix)
}

fn info(meta: ObjectMeta) -> ObjectInfo {
    ObjectInfo {
        path: meta.location.into(),
        size_bytes: meta.size,
        modified_ms: meta.last_modified.timestamp_millis().into(),
        e_tag: meta.e_tag,
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Bucket({} in {}: {:?})",
            self.kind,
            self.guarded,
            self.kind()
        )
    }
}
