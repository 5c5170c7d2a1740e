//! Checkpoints: what is still needed of the segments before a cut, in one file that replaces them.

use std::io;
use std::sync::Arc;

use super::frame::{Encoder, FILE_HEADER, put_record};
use super::settings::{SyncPolicy, WalSettings};
use super::wal::Shared;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};

/// Records are collected into frames of about this size.
const FRAME_BYTES: usize = 256 << 10;

/// Path of a finished checkpoint.
pub(super) fn checkpoint_path(dir: &str, segment: u64) -> String {
    format!("{dir}/checkpoint.{segment:08}")
}

/// A checkpoint being written. Dropping it unfinished leaves the log as it was.
#[derive(Debug)]
pub struct Checkpoint {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    dir: String,
    /// Segments before this one are replaced.
    segment: u64,
    file: Box<dyn DiskFile>,
    len: u64,
    durable: bool,
    encoder: Encoder,
    body: Vec<u8>,
    frame: Vec<u8>,
    finished: bool,
}

impl Checkpoint {
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        dir: &str,
        segment: u64,
        settings: &WalSettings,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let path = temporary(dir, segment);
        let file = disk.open_append(&path).and_then(|f| {
            f.truncate(0)?;
            f.append(FILE_HEADER)?;
            Ok(f)
        });
        let file = file.map_err(|e| Error::Unavailable(format!("checkpoint {path}: {e}")))?;
        let encoder = Encoder::new(
            settings.compression_level.max(3),
            settings.compress_above.as_u64(),
        );
        Ok(Self {
            disk,
            shared,
            dir: dir.to_owned(),
            segment,
            file,
            len: FILE_HEADER.len() as u64,
            durable: settings.sync != SyncPolicy::Os,
            encoder,
            body: Vec::new(),
            frame: Vec::new(),
            finished: false,
        })
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
        self.len += self.frame.len() as u64;
        self.file
            .append(&self.frame)
            .map_err(|e| Error::Unavailable(format!("checkpoint {:08}: {e}", self.segment)))
    }

    /// Makes the checkpoint valid and removes the segments and the checkpoint that it replaces.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses; unless only removing failed, the log is then as it was.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        let removed = self
            .publish()
            .map_err(|e| Error::Unavailable(format!("checkpoint {:08}: {e}", self.segment)))?;
        let mut state = self.shared.state.lock();
        state.stats.bytes_written += self.len;
        state.stats.size_bytes = (state.stats.size_bytes + self.len).saturating_sub(removed);
        Ok(())
    }

    /// Gives the bytes of what was removed.
    fn publish(&mut self) -> io::Result<u64> {
        // The name must never stand for a file whose bytes a power loss could take.
        if self.durable {
            self.file.sync()?;
        }
        self.disk.rename(
            &temporary(&self.dir, self.segment),
            &checkpoint_path(&self.dir, self.segment),
        )?;
        self.finished = true;
        if self.durable {
            self.disk.sync_dir(&self.dir)?;
        }
        let mut removed = 0;
        for name in self.disk.list(&self.dir)? {
            let number = name
                .strip_prefix("checkpoint.")
                .unwrap_or(&name)
                .parse::<u64>();
            if number.is_ok_and(|n| n < self.segment) {
                let path = format!("{}/{name}", self.dir);
                removed += self
                    .disk
                    .open_read(&path)
                    .and_then(|f| f.size())
                    .unwrap_or(0);
                self.disk.remove(&path)?;
            }
        }
        Ok(removed)
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if !self.finished {
            // If it cannot be removed now, the next start ignores it and the next checkpoint overwrites it.
            let _ = self.disk.remove(&temporary(&self.dir, self.segment));
        }
    }
}

fn temporary(dir: &str, segment: u64) -> String {
    format!("{}.tmp", checkpoint_path(dir, segment))
}
