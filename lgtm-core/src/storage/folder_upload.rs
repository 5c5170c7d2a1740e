//! Streams the objects of a folder into a bucket, and takes them away again when one of them fails.
//!
//! What reads such folders takes one that lacks its last object for none at all: this makes a block appear whole or not at all.

use crate::error::{Error, Result};
use crate::storage::bucket::Bucket;
use crate::storage::writer::ObjectWriter;
use crate::units::ByteSize;

/// About how large an object will be, and in how many parts it shall go; see [`ObjectWriter::expecting`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedObject {
    /// Bytes.
    pub bytes: u64,
    /// Parts, if memory lets.
    pub parts: u64,
    /// Memory for parts.
    pub memory: ByteSize,
}

/// A folder on its way into a bucket: objects side by side ([`FolderUpload::write`], [`FolderUpload::finish`]), and at the end the one that
/// makes it visible ([`FolderUpload::publish`]).
///
/// Memory is that of an [`ObjectWriter`] for every object under way. After an error, or a call that was dropped, only [`FolderUpload::abort`]
/// is of use. An upload that is dropped leaves what it had completed: a folder without its last object, which
/// [`delete_leftovers`](super::delete_leftovers) removes.
#[derive(Debug)]
pub struct FolderUpload {
    bucket: Bucket,
    folder: String,
    part_size: Option<ByteSize>,
    /// Objects of which is known about how large they will be.
    expected: Vec<(String, ExpectedObject)>,
    /// Objects under way, a handful at most.
    open: Vec<(String, ObjectWriter)>,
    /// What may stand in the store: completed, or tried with unknown outcome.
    attempted: Vec<String>,
    /// The last object, if it may stand.
    published: Option<String>,
}

impl FolderUpload {
    /// An upload into `folder` of `bucket`. Sends nothing yet.
    pub fn new(bucket: Bucket, folder: impl Into<String>) -> Self {
        Self {
            bucket,
            folder: folder.into(),
            part_size: None,
            expected: Vec::new(),
            open: Vec::new(),
            attempted: Vec::new(),
            published: None,
        }
    }

    /// Another size of parts than the bucket's; see [`ObjectWriter::part_size`].
    pub fn part_size(mut self, part_size: ByteSize) -> Self {
        self.part_size = Some(part_size);
        self
    }

    /// That the object `name`, of which no byte was written yet, will be about so large.
    pub fn expect(&mut self, name: &str, expected: ExpectedObject) {
        self.expected.push((name.to_owned(), expected));
    }

    /// Adds bytes to the object `name`, a path below the folder. Waits only while `upload_concurrency` parts of it are on their way.
    ///
    /// # Errors
    /// As [`Bucket`], possibly for an earlier part. Not cancel-safe.
    pub async fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let at = match self.open.iter().position(|(open, _)| open == name) {
            Some(at) => at,
            None => {
                let mut writer = self.bucket.writer(&self.path(name))?;
                let expected = self.expected.iter().rfind(|(of, _)| of == name);
                if let Some((_, of)) = expected {
                    writer = writer.expecting(of.bytes, of.parts, of.memory);
                } else if let Some(size) = self.part_size {
                    writer = writer.part_size(size);
                }
                self.open.push((name.to_owned(), writer));
                self.open.len() - 1
            }
        };
        self.open[at].1.write(bytes).await
    }

    /// Completes the object `name`; returns its size in bytes.
    ///
    /// # Errors
    /// `Internal` for one of which no byte was written; as [`Bucket`].
    pub async fn finish(&mut self, name: &str) -> Result<u64> {
        let at = self.open.iter().position(|(open, _)| open == name);
        let at =
            at.ok_or_else(|| Error::Internal(format!("{} without a byte", self.path(name))))?;
        let (name, writer) = self.open.swap_remove(at);
        let size = writer.written_bytes();
        self.attempted.push(name);
        writer.finish().await?;
        Ok(size)
    }

    /// Puts the last object, which makes the folder visible to those who wait for it. All others must be finished.
    ///
    /// # Errors
    /// `Internal` while one is not; as [`Bucket`]. After a `Timeout` it may stand; [`FolderUpload::abort`] deletes it first.
    pub async fn publish(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        if let Some((open, _)) = self.open.first() {
            let open = self.path(open);
            return Err(Error::Internal(format!("{open} is not finished")));
        }
        self.published = Some(name.to_owned());
        self.bucket.put(&self.path(name), bytes).await
    }

    /// Ends what is under way and deletes what may stand, the last object first: where that cannot be deleted the folder stays whole. Failures are
    /// logged.
    pub async fn abort(mut self) {
        for (name, writer) in std::mem::take(&mut self.open) {
            if let Err(error) = writer.abort().await {
                tracing::warn!(folder = self.folder, name, %error, "cannot abort an upload");
            }
        }
        if let Some(name) = &self.published
            && let Err(error) = self.bucket.delete(&self.path(name)).await
        {
            tracing::warn!(folder = self.folder, name, %error, "cannot delete the last object of a folder; it stays whole");
            return;
        }
        for name in self.attempted.iter().rev() {
            if let Err(error) = self.bucket.delete(&self.path(name)).await {
                tracing::warn!(folder = self.folder, name, %error, "cannot delete a part of a folder");
            }
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use std::sync::Arc;

    use super::*;
    use crate::storage::{Backend, BackendKind, DataKind, Layout, RetrySettings, StorageSettings};
    use crate::testing::{FaultyStore, StoreFault};

    #[tokio::test]
    async fn the_last_object_waits_for_the_others_and_goes_first() {
        let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::Traces);
        let mut upload = FolderUpload::new(bucket.clone(), "t/b").part_size(ByteSize::bytes(4));
        upload.write("data", b"0123456789").await.unwrap();
        let early = upload.publish("meta.json", b"{}".to_vec()).await;
        assert!(early.is_err(), "data is not finished");
        assert!(upload.finish("index").await.is_err(), "there is none");
        assert_eq!(upload.finish("data").await.unwrap(), 10);
        upload.publish("meta.json", b"{}".to_vec()).await.unwrap();
        assert_eq!(bucket.get("t/b/data").await.unwrap(), "0123456789");
        assert_eq!(bucket.list_sorted("t").await.unwrap().len(), 2);
        upload.abort().await;
        assert_eq!(bucket.list_sorted("t").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_folder_whose_last_object_cannot_be_deleted_stays_whole() {
        let store = FaultyStore::new(Arc::new(InMemory::new()), 1);
        let retry = RetrySettings {
            max_attempts: 1,
            ..RetrySettings::default()
        };
        let settings = StorageSettings {
            retry,
            ..StorageSettings::default()
        };
        let objects = Backend::new(Arc::new(store.clone()), BackendKind::Memory);
        let layout = Layout::builder().store(objects).settings(settings).build();
        let bucket = layout.unwrap().bucket(DataKind::Traces);
        let mut upload = FolderUpload::new(bucket.clone(), "t/b");
        upload.write("data", b"0123456789").await.unwrap();
        upload.finish("data").await.unwrap();
        store.script([Some(StoreFault::LostAck), Some(StoreFault::Reset)]);
        let lost = upload.publish("meta.json", b"{}".to_vec()).await;
        assert!(lost.is_err());
        upload.abort().await;
        assert_eq!(bucket.list_sorted("t").await.unwrap().len(), 2);
    }

    /// What a block of traces of half a gigabyte consists of.
    #[tokio::test]
    async fn a_large_folder_of_known_size_goes_up_in_few_requests() {
        let memory = Backend::memory();
        let store = FaultyStore::new(Arc::clone(memory.store()), 1);
        let backend = memory.wrapped(|_| Arc::new(store.clone()));
        let layout = Layout::builder()
            .store(Backend::memory())
            .store_for(DataKind::Traces, backend)
            .build();
        let bucket = layout.unwrap().bucket(DataKind::Traces);
        let mut upload = FolderUpload::new(bucket.clone(), "t/b");
        let (data, side) = (512_000_000, 20_000_000);
        for (name, bytes, parts, memory) in [
            ("data", data, 2, ByteSize::mib(512)),
            ("side", side, 1, ByteSize::bytes(4 * side)),
        ] {
            let expected = ExpectedObject {
                bytes,
                parts,
                memory,
            };
            upload.expect(name, expected);
            let piece = vec![5; 4_000_000];
            for _ in 0..bytes / 4_000_000 {
                upload.write(name, &piece).await.unwrap();
            }
            assert_eq!(upload.finish(name).await.unwrap(), bytes);
        }
        for name in ["bloom-0", "bloom-1", "bloom-2", "index"] {
            upload.write(name, b"x").await.unwrap();
            upload.finish(name).await.unwrap();
        }
        upload.publish("meta.json", b"{}".to_vec()).await.unwrap();
        assert_eq!(store.requests("multipart_part"), 2);
        assert!(store.all_requests() <= 10, "{}", store.all_requests());
    }
}
