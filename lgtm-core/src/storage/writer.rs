//! Writing an object that is larger than memory should hold.

use std::fmt;
use std::mem;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::storage::fault;
use crate::storage::guarded::Guarded;
use crate::units::ByteSize;

/// The least part that S3 takes.
const MIN_PART_BYTES: u64 = 5 << 20;

/// Collects bytes into parts of equal size and uploads several at a time, in the background. Small objects end as one plain request.
///
/// The object appears at [`ObjectWriter::finish`], whole. A writer that is dropped before leaves no object, but parts that a bucket's lifecycle rule
/// must remove; [`ObjectWriter::abort`] removes them.
pub struct ObjectWriter {
    guarded: Guarded,
    location: Path,
    place: String,
    buffer: Vec<u8>,
    upload: Option<Box<dyn MultipartUpload>>,
    /// Tasks, so that parts go on while the caller makes the next bytes; they end with the writer.
    parts: JoinSet<object_store::Result<()>>,
    part_size: usize,
    /// Parts that are sent at a time.
    concurrency: usize,
    written_bytes: u64,
    failed: bool,
}

impl ObjectWriter {
    pub(super) fn new(guarded: Guarded, location: Path, place: String) -> Self {
        Self {
            part_size: guarded.settings().part_size.as_usize(),
            concurrency: guarded.settings().upload_concurrency,
            guarded,
            location,
            place,
            buffer: Vec::new(),
            upload: None,
            parts: JoinSet::new(),
            written_bytes: 0,
            failed: false,
        }
    }

    /// Another size of parts than the settings': smaller ones where many objects are written at a time. S3 takes no part below 5 MiB but the
    /// last, and no more than 10 000 of them.
    pub fn part_size(mut self, part_size: ByteSize) -> Self {
        self.part_size = part_size.as_usize().max(1);
        self
    }

    /// That the object will have about so many bytes: it is sent in `parts` parts then, which are no smaller than those of the settings, as far as
    /// `memory` lets: it holds the part that is collected and those on their way, two at least. All parts but the last are of one size, which
    /// some stores want.
    pub fn expecting(mut self, bytes: u64, parts: u64, memory: ByteSize) -> Self {
        let most = (memory.as_u64() / 2).max(MIN_PART_BYTES);
        let least = (self.part_size as u64).min(most);
        // Some more than expected shall not be a part of its own.
        let size = bytes.saturating_add(bytes / 16).div_ceil(parts.max(1));
        let size = size
            .checked_next_multiple_of(1 << 20)
            .map_or(most, |size| size.clamp(least, most));
        self.part_size = usize::try_from(size).unwrap_or(usize::MAX);
        let at_a_time = (memory.as_u64() / size).saturating_sub(1).max(1);
        let at_a_time = usize::try_from(at_a_time).unwrap_or(usize::MAX);
        self.concurrency = self.concurrency.min(at_a_time);
        self
    }

    /// Appends `bytes`. Waits while `upload_concurrency` parts are on their way. Not cancel-safe: after a dropped call only `abort` is of use.
    ///
    /// # Errors
    /// As [`Bucket`](super::Bucket); the parts are given up then, and every further call fails.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.check_usable()?;
        self.written_bytes += bytes.len() as u64;
        while self.buffer.len() + bytes.len() > self.part_size {
            let (now, later) = bytes.split_at(self.part_size - self.buffer.len());
            self.fill(now);
            bytes = later;
            let part = mem::take(&mut self.buffer).into();
            if let Err(error) = self.send_part(part).await {
                return Err(self.give_up(error).await);
            }
        }
        self.fill(bytes);
        Ok(())
    }

    /// Adds to the part that is being collected, which takes no more memory than a part has bytes.
    fn fill(&mut self, bytes: &[u8]) {
        let needed = self.buffer.len() + bytes.len();
        if needed > self.buffer.capacity() && needed > self.part_size / 4 {
            self.buffer
                .reserve_exact(self.part_size - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
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
        // A part that arrived after the end of its upload would stay for ever.
        self.parts.shutdown().await;
        match self.upload.take() {
            Some(mut upload) => {
                let aborted = upload.abort().await;
                aborted.map_err(|e| fault::store_error("abort upload of", &self.place, &e))
            }
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        let rest = Bytes::from(mem::take(&mut self.buffer));
        if self.upload.is_none() {
            self.guarded
                .put(&self.location, PutPayload::from(rest))
                .await?;
            return Ok(());
        }
        self.send_part(rest).await?;
        while !self.parts.is_empty() {
            self.await_part().await?;
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
        let part = upload.put_part(PutPayload::from(part));
        self.parts.spawn(part);
        while self.parts.len() >= self.concurrency {
            self.await_part().await?;
        }
        Ok(())
    }

    /// Waits until one part more is sent.
    async fn await_part(&mut self) -> object_store::Result<()> {
        match self.parts.join_next().await {
            Some(Ok(sent)) => sent,
            Some(Err(source)) => Err(object_store::Error::JoinError { source }),
            None => Ok(()),
        }
    }

    /// Removes the parts and gives the error for the caller; that the removal failed too is only logged.
    async fn give_up(&mut self, error: object_store::Error) -> Error {
        self.failed = true;
        self.parts.shutdown().await;
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
