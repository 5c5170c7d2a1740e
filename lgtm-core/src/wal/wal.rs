//! The log itself: the group being collected, and who waits for what.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::checkpoint::Checkpoint;
use super::frame::put_record;
use super::replay::WalReplay;
use super::settings::WalSettings;
use super::writer::Writer;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::{Error, Result};

/// A position in the log: everything appended up to some moment. Positions of one process grow; they mean nothing to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Lsn(pub(super) u64);

/// Why the log does not take writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Trouble {
    #[default]
    None,
    /// A write failed and is tried again; what was accepted is kept.
    Failing(String),
    /// A sync failed: what the disk holds is not known any more, until the log is opened anew.
    Poisoned(String),
    Closed,
}

impl Trouble {
    fn check(&self) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Failing(e) => Err(Error::Unavailable(format!(
                "write-ahead log cannot be written, trying again: {e}"
            ))),
            Self::Poisoned(e) => Err(Error::Unavailable(format!(
                "write-ahead log is poisoned by a failed sync: {e}"
            ))),
            Self::Closed => Err(Error::Unavailable("write-ahead log is closed".into())),
        }
    }
}

/// What the log has done so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WalStats {
    /// Bytes written, headers included.
    pub bytes_written: u64,
    /// Frames written.
    pub frames: u64,
    /// Records appended.
    pub records: u64,
    /// Syncs done.
    pub syncs: u64,
    /// Time spent in syncs.
    pub sync_time: Duration,
    /// Bytes of all segments and the checkpoint.
    pub size_bytes: u64,
    /// Number of the segment being written.
    pub segment: u64,
    /// A write failed and is being tried again.
    pub failing: bool,
    /// A sync failed; the log must be opened anew.
    pub poisoned: bool,
}

/// What appenders and the writer share.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) group: Vec<u8>,
    pub(super) appended: u64,
    pub(super) trouble: Trouble,
    /// Segments to begin: raised by checkpoints, lowered by the writer.
    pub(super) cuts_wanted: u64,
    pub(super) closing: bool,
    pub(super) stats: WalStats,
}

/// How far the writer is; what committers wait for.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) written: u64,
    pub(super) cuts: u64,
    pub(super) segment: u64,
    pub(super) trouble: Trouble,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) work: Condvar,
    pub(super) progress: watch::Sender<Progress>,
}

/// The write-ahead log. Dropping it writes what was appended and joins its thread.
#[derive(Debug)]
pub struct Wal {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: String,
    settings: WalSettings,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Wal {
    /// Opens the log in `dir`. New records go into a new segment; the old ones are read through the [`WalReplay`].
    ///
    /// # Errors
    /// `InvalidInput` for bad settings, `Unavailable` when the disk refuses.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        settings: WalSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, WalReplay)> {
        settings.validate()?;
        let io = |e: std::io::Error| Error::Unavailable(format!("write-ahead log in {dir}: {e}"));
        disk.create_dir_all(dir).map_err(io)?;
        let replay = WalReplay::find(Arc::clone(&disk), dir).map_err(io)?;
        let segment = replay.next_segment();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            progress: watch::Sender::new(Progress {
                segment,
                ..Progress::default()
            }),
        });
        shared.state.lock().stats.size_bytes = replay.total_bytes();
        let writer = Writer::open(
            Arc::clone(&shared),
            Arc::clone(&disk),
            dir,
            settings.clone(),
            clock,
            segment,
        )
        .map_err(io)?;
        let thread = std::thread::Builder::new()
            .name("wal-writer".into())
            .spawn(move || writer.run())
            .map_err(io)?;
        Ok((
            Self {
                shared,
                disk,
                dir: dir.to_owned(),
                settings,
                thread: Some(thread),
            },
            replay,
        ))
    }

    /// Puts records behind all others, together: they are written as one, so that damage takes all or none of them. They are in
    /// memory only until [`Wal::commit`]; but once this returned `Ok` they will be written if ever the disk allows, and before
    /// anything appended later.
    ///
    /// # Errors
    /// `Unavailable` while the disk refuses, when the log is poisoned, or when too many bytes wait. Then none is taken.
    pub fn append_all<P: AsRef<[u8]>>(&self, records: &[(u8, P)]) -> Result<Lsn> {
        let bytes: u64 = records.iter().map(|r| r.1.as_ref().len() as u64).sum();
        let mut state = self.shared.state.lock();
        state.trouble.check()?;
        let waiting = state.group.len() as u64;
        if waiting + bytes > self.settings.max_buffered.as_u64() {
            return Err(Error::Unavailable(format!(
                "{waiting} bytes wait to be written to the log, max_buffered is {}",
                self.settings.max_buffered
            )));
        }
        let was_empty = state.group.is_empty();
        for (kind, payload) in records {
            put_record(&mut state.group, *kind, payload.as_ref());
        }
        state.appended += records.len() as u64;
        state.stats.records += records.len() as u64;
        let lsn = Lsn(state.appended);
        drop(state);
        if was_empty {
            self.shared.work.notify_one();
        }
        Ok(lsn)
    }

    /// [`Wal::append_all`] of one record.
    ///
    /// # Errors
    /// As [`Wal::append_all`].
    pub fn append(&self, kind: u8, payload: &[u8]) -> Result<Lsn> {
        self.append_all(&[(kind, payload)])
    }

    /// Whether an append would be taken now.
    ///
    /// # Errors
    /// `Unavailable`, saying why not.
    pub fn check_writable(&self) -> Result<()> {
        let state = self.shared.state.lock();
        state.trouble.check()?;
        // Half: requests that were let in must find room for their records.
        let (waiting, max) = (
            state.group.len() as u64,
            self.settings.max_buffered.as_u64(),
        );
        if waiting > max / 2 {
            return Err(Error::Unavailable(format!(
                "{waiting} bytes wait to be written to the log, max_buffered is {max}"
            )));
        }
        Ok(())
    }

    /// The position behind everything appended so far.
    pub fn end(&self) -> Lsn {
        Lsn(self.shared.state.lock().appended)
    }

    /// Waits until everything up to `lsn` is written, and synced where the policy says so. May be dropped at any time.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses. The records are kept and may be written later all the same.
    pub async fn commit(&self, lsn: Lsn) -> Result<()> {
        if self.shared.progress.borrow().written >= lsn.0 {
            return Ok(());
        }
        let mut progress = self.shared.progress.subscribe();
        let reached = progress
            .wait_for(|p| p.written >= lsn.0 || p.trouble != Trouble::None)
            .await;
        let reached =
            reached.map_err(|_| Error::Unavailable("write-ahead log is closed".into()))?;
        if reached.written >= lsn.0 {
            Ok(())
        } else {
            reached.trouble.check()
        }
    }

    /// Begins a new segment and waits for it. Gives its number: records appended from now on are in it or later ones.
    async fn cut(&self) -> Result<u64> {
        let mut progress = self.shared.progress.subscribe();
        let wanted = {
            let mut state = self.shared.state.lock();
            state.trouble.check()?;
            state.cuts_wanted += 1;
            state.cuts_wanted
        };
        self.shared.work.notify_one();
        let reached = progress
            .wait_for(|p| p.cuts >= wanted || p.trouble != Trouble::None)
            .await;
        let reached =
            reached.map_err(|_| Error::Unavailable("write-ahead log is closed".into()))?;
        if reached.cuts < wanted {
            reached.trouble.check()?;
        }
        Ok(reached.segment)
    }

    /// Cuts the log and begins a checkpoint of what stands before the cut. Only one at a time makes sense.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses.
    pub async fn begin_checkpoint(&self) -> Result<Checkpoint> {
        let segment = self.cut().await?;
        Checkpoint::create(
            Arc::clone(&self.disk),
            &self.dir,
            segment,
            &self.settings,
            Arc::clone(&self.shared),
        )
    }

    /// Bytes of all segments and the checkpoint.
    pub fn size_bytes(&self) -> u64 {
        self.shared.state.lock().stats.size_bytes
    }

    /// What the log has done so far.
    pub fn stats(&self) -> WalStats {
        let state = self.shared.state.lock();
        WalStats {
            failing: matches!(state.trouble, Trouble::Failing(_)),
            poisoned: matches!(state.trouble, Trouble::Poisoned(_)),
            ..state.stats.clone()
        }
    }

    /// Writes what was appended and ends the thread. Nothing can be appended afterwards.
    pub fn close(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer panicked");
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}
