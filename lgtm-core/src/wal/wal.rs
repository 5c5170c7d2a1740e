//! The log itself: the group being collected, and who waits for what.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::checkpoint::Checkpoint;
use super::frame::put_record;
use super::replay::{ReplayProgress, WalReplay};
use super::reservation::too_large;
use super::settings::{SyncPolicy, WalSettings};
use super::shared::{Shared, Trouble};
use super::writer::{Writer, create_segment};
use crate::clock::Clock;
use crate::disk::{Disk, FolderLock};
use crate::error::{Error, Result};

/// A position in the log: everything appended up to some moment. Positions of one process grow; they mean nothing to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Lsn(pub(super) u64);

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

/// Why the log takes nothing, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, in words.
    pub reason: String,
    /// How long ago that began.
    pub lasted: Duration,
}

/// Whether whoever keeps data over a log can serve: not before the log is read back, nor while it takes nothing.
///
/// # Errors
/// `Unavailable`, in words for the operator: how far the replay is, or why writes are refused and for how long.
pub fn check_log_ready(
    is_replayed: bool,
    refusal: Option<Refusal>,
    progress: Option<ReplayProgress>,
) -> Result<()> {
    Err(Error::Unavailable(match (is_replayed, refusal, progress) {
        (true, None, _) => return Ok(()),
        (true, Some(Refusal { reason, lasted }), _) => {
            format!("writes are refused since {} s: {reason}", lasted.as_secs())
        }
        (false, _, Some(at)) => format!(
            "the ingester is replaying its write-ahead log: {} of {} bytes",
            at.done_bytes, at.total_bytes
        ),
        (false, _, None) => "the ingester is opening its write-ahead log".into(),
    }))
}

/// The write-ahead log. Dropping it writes what was appended and joins its thread.
///
/// # Checkpoints
/// A checkpoint replaces what stands before a cut. It is a barrier, and its writer keeps these rules:
/// 1. Whatever a record says is in the writer's memory before the record is appended. So memory, walked after the cut, holds all that the old
///    segments hold and somebody still needs.
/// 2. What the checkpoint's records refer to outside the log (files of chunks, say) stands there as durably as the log's sync policy asks
///    before [`Checkpoint::finish`]; that is, it is flushed after the walk, not before.
/// 3. Such things are removed only when neither memory nor the last finished checkpoint refers to them: after `finish`, and only what nobody
///    referred to when the walk began.
/// 4. A checkpoint that was dropped or whose `finish` failed has changed nothing: the old segments and all they refer to are needed as before.
///
/// The log itself sees to it that no checkpoint begins before the old segments were read to their end, as it would drop them unread.
#[derive(Debug)]
pub struct Wal {
    pub(super) shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: String,
    pub(super) settings: WalSettings,
    thread: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<FolderLock>>,
}

impl Wal {
    /// Bytes that a record takes beside its payload, at most.
    pub const RECORD_OVERHEAD: u64 = 11;

    /// Opens the log in `dir`, which nobody else can open until this one is closed. New records go into a new segment; the old ones are
    /// read through the [`WalReplay`].
    ///
    /// # Errors
    /// `InvalidInput` for bad settings, `Conflict`, naming the holder, when the folder is open already, `Unavailable` when the disk refuses.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        settings: WalSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, WalReplay)> {
        settings.validate()?;
        let io = |e: std::io::Error| Error::Unavailable(format!("write-ahead log in {dir}: {e}"));
        disk.create_dir_all(dir).map_err(io)?;
        if settings.sync != SyncPolicy::Os
            && let Some((above, _)) = dir.rsplit_once('/').or(Some((".", dir)))
        {
            // The folder's own name must survive a power loss too.
            disk.sync_dir(above).map_err(io)?;
        }
        let lock = FolderLock::take(&*disk, dir, clock.now_ms())?;
        let mut replay = WalReplay::find(Arc::clone(&disk), dir).map_err(io)?;
        let next = replay.next_segment();
        let (segment, file) = create_segment(&*disk, dir, next, settings.sync).map_err(io)?;
        let shared = Arc::new(Shared::new(clock, segment, replay.total_bytes()));
        replay.tell_when_done(&shared);
        let writer = Writer::new(
            Arc::clone(&shared),
            Arc::clone(&disk),
            dir,
            settings.clone(),
            segment,
            file,
        );
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
                thread: Mutex::new(Some(thread)),
                lock: Mutex::new(Some(lock)),
            },
            replay,
        ))
    }

    /// Puts records behind all others, together: they are written as one, so that damage takes all or none of them. They are in
    /// memory only until [`Wal::commit`]; but once this returned `Ok` they will be written if ever the disk allows, and before
    /// anything appended later.
    ///
    /// Who has taken something that must be logged asks for room first: [`Wal::reserve`].
    ///
    /// # Errors
    /// `Unavailable` while the disk refuses, when the log is poisoned, or when too many bytes wait; `LimitExceeded` when the records are
    /// larger than the buffer, so that there will never be room. Then none is taken.
    pub fn append_all<P: AsRef<[u8]>>(&self, records: &[(u8, P)]) -> Result<Lsn> {
        let bytes: u64 = records.iter().map(|r| r.1.as_ref().len() as u64).sum();
        let max = self.settings.max_buffered.as_u64();
        if bytes > max {
            return Err(too_large(bytes, max));
        }
        let mut state = self.shared.state.lock();
        state.trouble.check()?;
        let waiting = state.group.len() as u64 + state.reserved;
        if waiting + bytes > max {
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
        let waiting = state.group.len() as u64 + state.reserved;
        let max = self.settings.max_buffered.as_u64();
        if waiting >= max {
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

    /// Cuts the log and begins a checkpoint of what stands before the cut. Only one at a time makes sense. May be dropped at any time.
    ///
    /// # Errors
    /// `Conflict` while the log was not read to its end since it was opened, as what stands in it would be lost; `Unavailable` when the
    /// disk refuses.
    pub async fn begin_checkpoint(&self) -> Result<Checkpoint> {
        if !self.shared.is_replayed.load(Ordering::Acquire) {
            return Err(Error::Conflict(format!(
                "the write-ahead log in {} was not read to its end: a checkpoint would drop what it holds",
                self.dir
            )));
        }
        let segment = self.cut().await?;
        Ok(Checkpoint::new(
            Arc::clone(&self.disk),
            &self.dir,
            segment,
            &self.settings,
            Arc::clone(&self.shared),
        ))
    }

    /// Why the log takes nothing now, and for how long; `None` while it does.
    pub fn refusal(&self) -> Option<Refusal> {
        let state = self.shared.state.lock();
        let since = state.refusing_since?;
        // Whoever found no room may have gone, and the room come since.
        if state.trouble == Trouble::None && state.group.is_empty() && state.reserved == 0 {
            return None;
        }
        let reason = match state.trouble.check() {
            Err(e) => e.to_string(),
            Ok(()) => format!(
                "{} bytes wait to be written to the log, max_buffered is {}",
                state.group.len(),
                self.settings.max_buffered
            ),
        };
        let lasted = self.shared.clock.monotonic().saturating_sub(since);
        Some(Refusal { reason, lasted })
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

    /// Writes what was appended, ends the thread and gives the folder up. Nothing can be appended afterwards. Blocks as long as the last
    /// write takes.
    pub fn close(&self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer panicked");
        }
        self.lock.lock().take();
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}
