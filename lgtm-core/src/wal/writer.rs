//! The thread that writes groups of records.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::frame::{Encoder, FILE_HEADER};
use super::names::segment_path;
use super::settings::{SyncPolicy, WalSettings};
use super::shared::{Shared, State, Trouble};
use crate::disk::{Disk, DiskFile};

/// Names in a row that may be taken by others before a new segment is given up.
const MAX_TAKEN_NAMES: u64 = 1000;

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: String,
    settings: WalSettings,
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
    /// The writer of the log in `dir`, whose segment was just made.
    pub(super) fn new(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        dir: &str,
        settings: WalSettings,
        segment: u64,
        file: Box<dyn DiskFile>,
    ) -> Self {
        let encoder = Encoder::new(settings.compression_level, settings.compress_above.as_u64());
        let last_sync = shared.clock.monotonic();
        Self {
            shared,
            disk,
            dir: dir.to_owned(),
            settings,
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
        }
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
        let trouble = match self.shared.state.lock().trouble.clone() {
            Trouble::None => Trouble::Closed,
            trouble => trouble,
        };
        self.shared.set_trouble(trouble);
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
            if let Err(e) = self.write(&[&frame]) {
                self.fail(e, frame, upto);
                return true;
            }
            if !self.wrote(upto) {
                return false;
            }
            tracing::info!("the write-ahead log can be written again");
            self.shared.set_trouble(Trouble::None);
        }
        let (mut group, upto, cuts_wanted) = {
            let mut state = self.shared.state.lock();
            let group = std::mem::replace(&mut state.group, std::mem::take(&mut self.spare_group));
            (group, state.appended, state.cuts_wanted)
        };
        if !group.is_empty() {
            self.shared.room.notify_waiters();
            let mut frame = std::mem::take(&mut self.frame);
            let rest = self.encoder.begin(&group, &mut frame);
            if let Err(e) = self.write(&[&frame, rest]) {
                frame.extend_from_slice(rest);
                self.fail(e, frame, upto);
                return true;
            }
            // A buffer that one huge group has blown up is not kept.
            group.clear();
            if group.capacity() <= 4 << 20 {
                self.spare_group = group;
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
                if self.unsynced && self.shared.clock.monotonic() - self.last_sync >= every =>
            {
                self.sync()
            }
            _ => true,
        }
    }

    /// Appends the parts of a frame; on error the file is as it was.
    fn write(&mut self, frame: &[&[u8]]) -> io::Result<()> {
        let len = frame.iter().map(|part| part.len() as u64).sum::<u64>();
        if len == 0 {
            return Ok(());
        }
        if self.file_len >= self.settings.segment_size.as_u64() {
            self.roll()?;
        }
        if let Err(e) = self.file.append_parts(frame) {
            // Half a frame in the middle of a segment would be taken for damage.
            if self.file.truncate(self.file_len).is_err() {
                self.roll()?;
            }
            return Err(e);
        }
        self.file_len += len;
        self.unsynced = true;
        let mut state = self.shared.state.lock();
        state.stats.bytes_written += len;
        state.stats.size_bytes += len;
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
        let begin = self.shared.clock.monotonic();
        if let Err(e) = self.file.sync() {
            tracing::error!(segment = self.segment, error = %e, "sync of the write-ahead log failed; it takes nothing until it is opened anew");
            self.shared.set_trouble(Trouble::Poisoned(e.to_string()));
            return false;
        }
        self.last_sync = self.shared.clock.monotonic();
        self.unsynced = false;
        let mut state = self.shared.state.lock();
        state.stats.syncs += 1;
        state.stats.sync_time += self.last_sync - begin;
        true
    }

    /// Keeps what could not be written and lets everybody know.
    fn fail(&mut self, e: io::Error, frame: Vec<u8>, upto: u64) {
        self.stuck = Some((frame, upto));
        if self.shared.state.lock().trouble == Trouble::None {
            tracing::error!(segment = self.segment, error = %e, "write-ahead log cannot be written; new writes are refused until it can");
        }
        self.shared.set_trouble(Trouble::Failing(e.to_string()));
    }

    /// Closes the segment and begins the next.
    fn roll(&mut self) -> io::Result<()> {
        if self.settings.sync != SyncPolicy::Os && self.unsynced {
            self.file.sync()?;
            self.unsynced = false;
        }
        let next = self.segment + 1;
        (self.segment, self.file) =
            create_segment(&*self.disk, &self.dir, next, self.settings.sync)?;
        self.file_len = FILE_HEADER.len() as u64;
        let mut state = self.shared.state.lock();
        state.stats.segment = self.segment;
        state.stats.size_bytes += self.file_len;
        Ok(())
    }
}

/// Makes the next segment, of number `from` or, where somebody else's file or folder bears that name, the first one behind it.
pub(super) fn create_segment(
    disk: &dyn Disk,
    dir: &str,
    from: u64,
    sync: SyncPolicy,
) -> io::Result<(u64, Box<dyn DiskFile>)> {
    let mut number = from;
    let file = loop {
        match disk.create_new(&segment_path(dir, number)) {
            Ok(file) => break file,
            Err(e)
                if e.kind() == io::ErrorKind::AlreadyExists && number - from < MAX_TAKEN_NAMES =>
            {
                tracing::warn!(
                    segment = number,
                    "the name of the next segment of the log is taken; it gets the one behind it"
                );
                number += 1;
            }
            Err(e) => return Err(e),
        }
    };
    let begun = file.append(FILE_HEADER).and_then(|()| {
        if sync != SyncPolicy::Os {
            file.sync()?;
            disk.sync_dir(dir)?;
        }
        Ok(())
    });
    if let Err(e) = begun {
        // If it cannot be removed, half a header is an empty segment to any reader, and the next try takes another name.
        let _ = disk.remove(&segment_path(dir, number));
        return Err(e);
    }
    Ok((number, file))
}
