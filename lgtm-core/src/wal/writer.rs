//! The thread that writes groups of records.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::frame::{Encoder, FILE_HEADER};
use super::settings::{SyncPolicy, WalSettings};
use super::wal::{Shared, State, Trouble};
use crate::clock::Clock;
use crate::disk::{Disk, DiskFile};

/// Path of a segment.
pub(super) fn segment_path(dir: &str, number: u64) -> String {
    format!("{dir}/{number:08}")
}

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: String,
    settings: WalSettings,
    clock: Arc<dyn Clock>,
    encoder: Encoder,
    segment: u64,
    file: Box<dyn DiskFile>,
    file_len: u64,
    unsynced: bool,
    last_sync: Duration,
    /// The group that could not be written, encoded, and the position behind it.
    stuck: Option<(Vec<u8>, u64)>,
    spare_group: Vec<u8>,
    frame: Vec<u8>,
    cuts: u64,
}

impl Writer {
    pub(super) fn open(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        dir: &str,
        settings: WalSettings,
        clock: Arc<dyn Clock>,
        segment: u64,
    ) -> io::Result<Self> {
        let file = create_segment(&*disk, dir, segment, settings.sync)?;
        let encoder = Encoder::new(settings.compression_level, settings.compress_above.as_u64());
        let last_sync = clock.monotonic();
        Ok(Self {
            shared,
            disk,
            dir: dir.to_owned(),
            settings,
            clock,
            encoder,
            segment,
            file,
            file_len: FILE_HEADER.len() as u64,
            unsynced: false,
            last_sync,
            stuck: None,
            spare_group: Vec::new(),
            frame: Vec::new(),
            cuts: 0,
        })
    }

    /// Until the log is closed or poisoned.
    pub(super) fn run(mut self) {
        loop {
            let mut state = self.shared.state.lock();
            if self.stuck.is_none() && state.group.is_empty() && state.cuts_wanted == self.cuts {
                if state.closing {
                    break;
                }
                self.wait(&mut state);
            } else if self.stuck.is_some() && !state.closing {
                // Give the disk time; a closing log tries once more and gives up.
                let interval = self.settings.retry_interval;
                self.shared.work.wait_for(&mut state, interval);
            }
            let closing = state.closing;
            drop(state);
            if !self.step() || (closing && self.stuck.is_some()) {
                break;
            }
        }
        if self.unsynced && !matches!(self.settings.sync, SyncPolicy::Os) {
            self.sync();
        }
        let mut state = self.shared.state.lock();
        if state.trouble == Trouble::None {
            state.trouble = Trouble::Closed;
        }
        let trouble = state.trouble.clone();
        drop(state);
        self.shared.progress.send_modify(|p| p.trouble = trouble);
    }

    fn wait(&self, state: &mut parking_lot::MutexGuard<'_, State>) {
        match self.settings.sync {
            SyncPolicy::Interval(every) if self.unsynced => {
                self.shared.work.wait_for(state, every);
            }
            _ => self.shared.work.wait(state),
        }
    }

    /// One round: what is stuck, then the group, then cuts and syncs. False ends the thread.
    fn step(&mut self) -> bool {
        if let Some((frame, upto)) = self.stuck.take() {
            if let Err(e) = self.write(&frame) {
                self.fail(e, frame, upto);
                return true;
            }
            if !self.wrote(upto) {
                return false;
            }
            tracing::info!("the write-ahead log can be written again");
            self.shared.state.lock().trouble = Trouble::None;
            self.shared
                .progress
                .send_modify(|p| p.trouble = Trouble::None);
        }
        let (mut group, upto, cuts_wanted) = {
            let mut state = self.shared.state.lock();
            let group = std::mem::replace(&mut state.group, std::mem::take(&mut self.spare_group));
            (group, state.appended, state.cuts_wanted)
        };
        if !group.is_empty() {
            let mut frame = std::mem::take(&mut self.frame);
            self.encoder.encode(&group, &mut frame);
            // A buffer that one huge group has blown up is not kept.
            group.clear();
            if group.capacity() <= 4 << 20 {
                self.spare_group = group;
            }
            if let Err(e) = self.write(&frame) {
                self.fail(e, frame, upto);
                return true;
            }
            if frame.capacity() <= 4 << 20 {
                self.frame = frame;
            }
            if !self.wrote(upto) {
                return false;
            }
        }
        if self.cuts < cuts_wanted {
            if let Err(e) = self.roll() {
                self.fail(e, Vec::new(), upto);
                return true;
            }
            self.cuts = cuts_wanted;
            let (cuts, segment) = (self.cuts, self.segment);
            self.shared
                .progress
                .send_modify(|p| (p.cuts, p.segment) = (cuts, segment));
        }
        match self.settings.sync {
            SyncPolicy::Interval(every)
                if self.unsynced && self.clock.monotonic() - self.last_sync >= every =>
            {
                self.sync()
            }
            _ => true,
        }
    }

    /// Appends a frame; on error the file is as it was.
    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        if frame.is_empty() {
            return Ok(());
        }
        if self.file_len >= self.settings.segment_size.as_u64() {
            self.roll()?;
        }
        if let Err(e) = self.file.append(frame) {
            // Half a frame in the middle of a segment would be taken for damage.
            if self.file.truncate(self.file_len).is_err() {
                self.roll()?;
            }
            return Err(e);
        }
        self.file_len += frame.len() as u64;
        self.unsynced = true;
        let mut state = self.shared.state.lock();
        state.stats.bytes_written += frame.len() as u64;
        state.stats.size_bytes += frame.len() as u64;
        state.stats.frames += 1;
        Ok(())
    }

    /// Tells the committers; syncs first where the policy says so. False when the log is poisoned.
    fn wrote(&mut self, upto: u64) -> bool {
        if self.settings.sync == SyncPolicy::EveryBatch && !self.sync() {
            return false;
        }
        self.shared.progress.send_modify(|p| p.written = upto);
        true
    }

    fn sync(&mut self) -> bool {
        let begin = self.clock.monotonic();
        if let Err(e) = self.file.sync() {
            tracing::error!(segment = self.segment, error = %e, "sync of the write-ahead log failed; it takes nothing until it is opened anew");
            let trouble = Trouble::Poisoned(e.to_string());
            self.shared.state.lock().trouble = trouble.clone();
            self.shared.progress.send_modify(|p| p.trouble = trouble);
            return false;
        }
        self.last_sync = self.clock.monotonic();
        self.unsynced = false;
        let mut state = self.shared.state.lock();
        state.stats.syncs += 1;
        state.stats.sync_time += self.last_sync - begin;
        true
    }

    /// Keeps what could not be written and lets everybody know.
    fn fail(&mut self, e: io::Error, frame: Vec<u8>, upto: u64) {
        self.stuck = Some((frame, upto));
        let mut state = self.shared.state.lock();
        if state.trouble == Trouble::None {
            tracing::error!(segment = self.segment, error = %e, "write-ahead log cannot be written; new writes are refused until it can");
        }
        state.trouble = Trouble::Failing(e.to_string());
        let trouble = state.trouble.clone();
        drop(state);
        self.shared.progress.send_modify(|p| p.trouble = trouble);
    }

    /// Closes the segment and begins the next.
    fn roll(&mut self) -> io::Result<()> {
        if self.settings.sync != SyncPolicy::Os && self.unsynced {
            self.file.sync()?;
            self.unsynced = false;
        }
        let file = create_segment(&*self.disk, &self.dir, self.segment + 1, self.settings.sync)?;
        self.file = file;
        self.segment += 1;
        self.file_len = FILE_HEADER.len() as u64;
        let mut state = self.shared.state.lock();
        state.stats.segment = self.segment;
        state.stats.size_bytes += self.file_len;
        Ok(())
    }
}

fn create_segment(
    disk: &dyn Disk,
    dir: &str,
    number: u64,
    sync: SyncPolicy,
) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.open_append(&segment_path(dir, number))?;
    // A try before may have left half a header.
    file.truncate(0)?;
    file.append(FILE_HEADER)?;
    if sync != SyncPolicy::Os {
        file.sync()?;
        disk.sync_dir(dir)?;
    }
    Ok(file)
}
