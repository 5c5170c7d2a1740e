//! Writing an object that is larger than memory should hold.

use std::fmt;
use std::mem;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, UploadPart};

use crate::error::{Error, Result};
use crate::storage::fault;
use crate::storage::guarded::Guarded;

/// Collects bytes into parts of equal size and uploads several at a time. Small objects end as one plain request.
///
/// The object appears at [`ObjectWriter::finish`], whole. A writer that is dropped before leaves no object, but parts that a bucket's lifecycle rule
/// must remove; [`ObjectWriter::abort`] removes them.
pub struct ObjectWriter {
    guarded: Guarded,
    location: Path,
    place: String,
    buffer: BytesMut,
    upload: Option<Box<dyn MultipartUpload>>,
    parts: FuturesUnordered<UploadPart>,
    written_bytes: u64,
    failed: bool,
}

impl ObjectWriter {
    pub(super) fn new(guarded: Guarded, location: Path, place: String) -> Self {
        Self {
            guarded,
            location,
            place,
            buffer: BytesMut::new(),
            upload: None,
            parts: FuturesUnordered::new(),
            written_bytes: 0,
            failed: false,
        }
    }

    /// Appends `bytes`. Waits while `upload_concurrency` parts are on their way. Not cancel-safe: after a dropped call only `abort` is of use.
    ///
    /// # Errors
    /// As [`Bucket`](super::Bucket); the parts are given up then, and every further call fails.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.check_usable()?;
        let part_size = self.guarded.settings().part_size.as_usize();
        self.written_bytes += bytes.len() as u64;
        while self.buffer.len() + bytes.len() > part_size {
            let (now, later) = bytes.split_at(part_size - self.buffer.len());
            self.buffer.extend_from_slice(now);
            bytes = later;
            let part = mem::take(&mut self.buffer).freeze();
            if let Err(error) = self.send_part(part).await {
                return Err(self.give_up(error).await);
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes appended so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Sends what is left and makes the object appear.
    ///
    /// # Errors
    /// As [`Bucket`](super::Bucket). After a `Timeout` the object may have appeared; writing it again is safe.
    pub async fn finish(mut self) -> Result<()> {
        self.check_usable()?;
        match self.complete().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// Gives up, removing the parts sent so far.
    ///
    /// # Errors
    /// As [`Bucket`](super::Bucket); the object does not appear in any case.
    pub async fn abort(mut self) -> Result<()> {
        self.parts.clear();
        match self.upload.take() {
            Some(mut upload) => {
                let aborted = upload.abort().await;
                aborted.map_err(|e| fault::store_error("abort upload of", &self.place, &e))
            }
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        let rest = mem::take(&mut self.buffer).freeze();
        if self.upload.is_none() {
            self.guarded
                .put(&self.location, PutPayload::from(rest))
                .await?;
            return Ok(());
        }
        self.send_part(rest).await?;
        while let Some(sent) = self.parts.next().await {
            sent?;
        }
        if let Some(mut upload) = self.upload.take() {
            let done = upload.complete().await;
            if let Err(error) = done {
                self.upload = Some(upload);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn send_part(&mut self, part: Bytes) -> object_store::Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(
                self.guarded
                    .put_multipart_opts(&self.location, Default::default())
                    .await?,
            ),
        };
        self.parts.push(upload.put_part(PutPayload::from(part)));
        while self.parts.len() >= self.guarded.settings().upload_concurrency {
            match self.parts.next().await {
                Some(sent) => sent?,
                None => break,
            }
        }
        Ok(())
    }

    /// Removes the parts and gives the error for the caller; that the removal failed too is only logged.
    async fn give_up(&mut self, error: object_store::Error) -> Error {
        self.failed = true;
        self.parts.clear();
        if let Some(mut upload) = self.upload.take()
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(object = self.place, %error, "parts of a failed upload are left behind");
        }
        fault::store_error("upload", &self.place, &error)
    }

    fn check_usable(&self) -> Result<()> {
        if self.failed {
            return Err(Error::Internal(format!(
                "upload of {} has failed before",
                self.place
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectWriter")
            .field("object", &self.place)
            .field("written_bytes", &self.written_bytes)
            .finish_non_exhaustive()
    }
}
