//! Checkpoints: what is still needed of the segments before a cut, in one file that replaces them.

use std::io;
use std::sync::Arc;

use super::frame::{Encoder, FILE_HEADER, put_record};
use super::names::{FileName, checkpoint_path, unfinished_path};
use super::settings::{SyncPolicy, WalSettings};
use super::shared::Shared;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};

/// Records are collected into frames of about this size.
const FRAME_BYTES: usize = 256 << 10;

/// A checkpoint being written. Dropping it unfinished leaves the log as it was.
///
/// Compresses and writes on the caller's thread, milliseconds at a time: not a thread of an async runtime.
#[derive(Debug)]
pub struct Checkpoint {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    dir: String,
    /// Segments before this one are replaced.
    segment: u64,
    /// Made with the first frame.
    file: Option<Box<dyn DiskFile>>,
    len: u64,
    durable: bool,
    encoder: Encoder,
    body: Vec<u8>,
    frame: Vec<u8>,
    finished: bool,
}

impl Checkpoint {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: &str,
        segment: u64,
        settings: &WalSettings,
        shared: Arc<Shared>,
    ) -> Self {
        let encoder = Encoder::new(
            settings.compression_level.max(3),
            settings.compress_above.as_u64(),
        );
        Self {
            disk,
            shared,
            dir: dir.to_owned(),
            segment,
            file: None,
            len: 0,
            durable: settings.sync != SyncPolicy::Os,
            encoder,
            body: Vec::new(),
            frame: Vec::new(),
            finished: false,
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses: drop the checkpoint.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        put_record(&mut self.body, kind, payload);
        if self.body.len() >= FRAME_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        self.encoder.encode(&self.body, &mut self.frame);
        self.body.clear();
        let frame = std::mem::take(&mut self.frame);
        let written = self.file().and_then(|f| f.append(&frame));
        self.len += frame.len() as u64;
        self.frame = frame;
        written.map_err(|e| self.unavailable(&e))
    }

    fn unavailable(&self, e: &io::Error) -> Error {
        Error::Unavailable(format!(
            "checkpoint {}: {e}",
            checkpoint_path(&self.dir, self.segment)
        ))
    }

    /// The file, which is made anew by the first who wants it.
    fn file(&mut self) -> io::Result<&dyn DiskFile> {
        if self.file.is_none() {
            let path = unfinished_path(&self.dir, self.segment);
            match self.disk.remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let file = self.disk.create_new(&path)?;
            file.append(FILE_HEADER)?;
            self.len = FILE_HEADER.len() as u64;
            self.file = Some(file);
        }
        self.file
            .as_deref()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes the checkpoint valid and removes the segments and the checkpoint that it replaces. What cannot be removed goes with the
    /// next one.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses: then the old log is there as it was, and what it refers to is still needed.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.publish().map_err(|e| self.unavailable(&e))?;
        let removed = self.remove_replaced();
        let mut state = self.shared.state.lock();
        state.stats.bytes_written += self.len;
        state.stats.size_bytes = (state.stats.size_bytes + self.len).saturating_sub(removed);
        Ok(())
    }

    fn publish(&mut self) -> io::Result<()> {
        let durable = self.durable;
        let file = self.file()?;
        // The name must never stand for a file whose bytes a power loss could take.
        if durable {
            file.sync()?;
        }
        self.disk.rename(
            &unfinished_path(&self.dir, self.segment),
            &checkpoint_path(&self.dir, self.segment),
        )?;
        self.finished = true;
        if durable {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Gives the bytes of what was removed.
    fn remove_replaced(&self) -> u64 {
        let names = self.disk.list(&self.dir).unwrap_or_else(|e| {
            tracing::warn!(dir = self.dir, error = %e, "the log's folder cannot be listed; old segments go with the next checkpoint");
            Vec::new()
        });
        let mut removed = 0;
        for name in names {
            let (number, is_of_log) = match FileName::parse(&name) {
                FileName::Segment(n) | FileName::Checkpoint(n) => (n, true),
                FileName::Unfinished(n) => (n, false),
                FileName::Other | FileName::Foreign => continue,
            };
            if number >= self.segment {
                continue;
            }
            let path = format!("{}/{name}", self.dir);
            let size = self.disk.open_read(&path).and_then(|f| f.size());
            match self.disk.remove(&path) {
                Ok(()) if is_of_log => removed += size.unwrap_or(0),
                Ok(()) => {}
                Err(e) => {
                    tracing::warn!(file = path, error = %e, "replaced part of the log cannot be removed; it goes with the next checkpoint");
                }
            }
        }
        removed
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if !self.finished && self.file.is_some() {
            // If it cannot be removed now, the next start ignores it and the next checkpoint removes it.
            let _ = self.disk.remove(&unfinished_path(&self.dir, self.segment));
        }
    }
}
