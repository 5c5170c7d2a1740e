//! Streams the files of a block into a store, and takes them away again when the block fails.
//!
//! A file is a single `put` while it is small and becomes a multipart upload once it has outgrown one part.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lgtm_core::storage::store_error;
use lgtm_core::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};

use crate::block::meta::BlockFile;
use crate::block::segment::SegmentPiece;

/// An object being written.
#[derive(Debug)]
struct ObjectUpload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    part_bytes: usize,
    concurrency: usize,
    buffered: BytesMut,
    multipart: Option<WriteMultipart>,
    size: u64,
}

impl ObjectUpload {
    fn new(store: Arc<dyn ObjectStore>, path: Path, part_bytes: usize, concurrency: usize) -> Self {
        Self {
            store,
            path,
            part_bytes,
            concurrency: concurrency.max(1),
            buffered: BytesMut::new(),
            multipart: None,
            size: 0,
        }
    }

    /// Adds bytes; waits while `concurrency` parts are under way.
    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        let fail = |e| store_error("write", self.path.as_ref(), &e);
        self.size += bytes.len() as u64;
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            None if self.buffered.len() + bytes.len() <= self.part_bytes => {
                self.buffered.extend_from_slice(&bytes);
                return Ok(());
            }
            None => {
                let upload = self.store.put_multipart(&self.path).await.map_err(fail)?;
                let upload = WriteMultipart::new_with_chunk_size(upload, self.part_bytes);
                let multipart = self.multipart.insert(upload);
                multipart.put(std::mem::take(&mut self.buffered).freeze());
                multipart
            }
        };
        // A part at a time, so that a long piece (a symbol table) does not start all of its parts at once.
        while !bytes.is_empty() {
            let waited = multipart.wait_for_capacity(self.concurrency).await;
            waited.map_err(fail)?;
            multipart.put(bytes.split_to(self.part_bytes.min(bytes.len())));
        }
        Ok(())
    }

    /// Makes the object visible; returns its size.
    async fn finish(self) -> Result<u64> {
        let done = match self.multipart {
            Some(multipart) => multipart.finish().await,
            None => {
                let payload = self.buffered.freeze().into();
                self.store.put(&self.path, payload).await
            }
        };
        match done {
            Ok(_) => Ok(self.size),
            Err(e) => Err(store_error("write", self.path.as_ref(), &e)),
        }
    }

    /// Gives up what was uploaded so far. A failure is of no consequence: stores drop stale uploads themselves.
    async fn abort(self) {
        if let Some(multipart) = self.multipart
            && let Err(error) = multipart.abort().await
        {
            tracing::warn!(path = %self.path, %error, "cannot abort a multipart upload");
        }
    }
}

/// Sizes of uploads.
#[derive(Debug, Clone, Copy)]
pub(super) struct UploadSettings {
    pub(super) part_bytes: usize,
    pub(super) concurrency: usize,
}

/// The files of one block on their way into its folder.
#[derive(Debug)]
pub(super) struct BlockUpload {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    settings: UploadSettings,
    index: Option<ObjectUpload>,
    segment: Option<ObjectUpload>,
    /// What is complete, in the order of completion: chunks, then index.
    files: Vec<BlockFile>,
    /// What may stand in the store: completed, or tried with unknown outcome.
    attempted: Vec<String>,
}

impl BlockUpload {
    pub(super) fn new(store: Arc<dyn ObjectStore>, folder: Path, settings: UploadSettings) -> Self {
        Self {
            store,
            folder,
            settings,
            index: None,
            segment: None,
            files: Vec::new(),
            attempted: Vec::new(),
        }
    }

    pub(super) fn files(&self) -> &[BlockFile] {
        &self.files
    }

    pub(super) async fn write_index(&mut self, bytes: Bytes) -> Result<()> {
        if self.index.is_none() {
            self.index = Some(self.open("index"));
        }
        match &mut self.index {
            Some(upload) => upload.write(bytes).await,
            None => Ok(()),
        }
    }

    pub(super) async fn finish_index(&mut self) -> Result<()> {
        let upload = self.index.take();
        let upload = upload.ok_or_else(|| Error::Internal("an index without a byte".into()))?;
        self.complete("index".to_owned(), upload).await
    }

    pub(super) async fn write_segment(&mut self, piece: SegmentPiece) -> Result<()> {
        let name = format!("chunks/{:06}", piece.segment);
        let mut upload = match self.segment.take() {
            Some(upload) => upload,
            None => self.open(&name),
        };
        let written = upload.write(piece.bytes).await;
        if piece.is_last && written.is_ok() {
            return self.complete(name, upload).await;
        }
        self.segment = Some(upload);
        written
    }

    pub(super) async fn put_meta(&mut self, bytes: Vec<u8>) -> Result<()> {
        let mut upload = self.open("meta.json");
        upload.write(bytes.into()).await?;
        self.attempted.push("meta.json".to_owned());
        upload.finish().await.map(|_| ())
    }

    fn open(&self, name: &str) -> ObjectUpload {
        let UploadSettings {
            part_bytes,
            concurrency,
        } = self.settings;
        let path = self.path(name);
        ObjectUpload::new(Arc::clone(&self.store), path, part_bytes, concurrency)
    }

    async fn complete(&mut self, rel_path: String, upload: ObjectUpload) -> Result<()> {
        self.attempted.push(rel_path.clone());
        let size_bytes = upload.finish().await?;
        self.files.push(BlockFile {
            rel_path,
            size_bytes,
            ..BlockFile::default()
        });
        Ok(())
    }

    fn path(&self, name: &str) -> Path {
        let parts = name.split('/');
        parts.fold(self.folder.clone(), |path, part| path.join(part))
    }

    /// Ends what is under way and deletes what may stand, `meta.json` first. Failures are logged.
    pub(super) async fn abort(mut self) {
        let open = [self.index.take(), self.segment.take()];
        for upload in open.into_iter().flatten() {
            upload.abort().await;
        }
        for name in self.attempted.iter().rev() {
            let path = self.path(name);
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!(%path, %error, "cannot delete a part of a block"),
            }
        }
    }
}
