//! What appenders, the writer, checkpoints and the replay share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, watch};

use super::wal::WalStats;
use crate::clock::Clock;
use crate::error::{Error, Result};

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
    pub(super) fn check(&self) -> Result<()> {
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

/// What is waiting to be written, and why it waits.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) group: Vec<u8>,
    /// Bytes that may come into `group` beside those that are there.
    pub(super) reserved: u64,
    pub(super) appended: u64,
    pub(super) trouble: Trouble,
    /// Since when (monotonic) nothing is taken, be it for trouble or for lack of room.
    pub(super) refusing_since: Option<Duration>,
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
    /// Told when room may have come, or will not.
    pub(super) room: Notify,
    pub(super) clock: Arc<dyn Clock>,
    /// Whether everything that the log held when it was opened has been read.
    pub(super) is_replayed: AtomicBool,
}

impl Shared {
    pub(super) fn new(clock: Arc<dyn Clock>, segment: u64, size_bytes: u64) -> Self {
        let progress = Progress {
            segment,
            ..Progress::default()
        };
        let state = State {
            stats: WalStats {
                segment,
                size_bytes,
                ..WalStats::default()
            },
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: watch::Sender::new(progress),
            room: Notify::new(),
            clock,
            is_replayed: AtomicBool::new(false),
        }
    }

    /// Lets everybody know what is wrong, or that all is well again.
    pub(super) fn set_trouble(&self, trouble: Trouble) {
        let mut state = self.state.lock();
        state.refusing_since = match trouble {
            Trouble::None => None,
            _ => (state.refusing_since).or_else(|| Some(self.clock.monotonic())),
        };
        state.trouble = trouble.clone();
        drop(state);
        self.progress.send_modify(|p| p.trouble = trouble);
        self.room.notify_waiters();
    }
}
