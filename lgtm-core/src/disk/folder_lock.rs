//! One owner a folder.

use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::disk::{Disk, DiskLock};
use crate::error::{Error, ErrorKind, Result};
use crate::timestamp::TimestampMs;

/// Seconds of the last year that can be spelled.
const YEAR_9999_S: u64 = 253_402_300_799;

/// A folder that is ours until every clone of this is dropped, or the process ends.
#[derive(Debug, Clone)]
pub struct FolderLock {
    _lock: Arc<dyn DiskLock>,
}

/// How often a folder that is another's is tried again, and after how long each time: a second in all.
const TRIES: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(20);

/// Calls `open`, which takes a folder, again for up to a second while the folder is another's. A store that was dropped lets go of its folder when
/// the work that it had under way ends, some milliseconds later: whoever opens it anew waits that long.
///
/// # Errors
/// Those of `open`; `Conflict` when the folder is still another's after that second.
pub async fn open_when_free<T>(mut open: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..TRIES {
        match open() {
            Err(e) if e.kind() == ErrorKind::Conflict => tokio::time::sleep(BETWEEN).await,
            done => return done,
        }
    }
    open()
}

impl FolderLock {
    /// Takes the folder `dir`, which is made if need be. `now_ms` is the time that others are told as the beginning.
    ///
    /// # Errors
    /// `Conflict`, naming folder and holder, when it is somebody else's, in this process or in another; `Unavailable` when the disk
    /// refuses or knows no locks.
    pub fn take(disk: &dyn Disk, dir: &str, now_ms: TimestampMs) -> Result<Self> {
        let since_s = u64::try_from(now_ms.to_seconds()).unwrap_or(0);
        let since = UNIX_EPOCH + Duration::from_secs(since_s.min(YEAR_9999_S));
        let holder = format!(
            "process {} since {}",
            std::process::id(),
            humantime::format_rfc3339_seconds(since)
        );
        match disk.lock(dir, &holder) {
            Ok(lock) => Ok(Self { _lock: lock.into() }),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::Conflict(format!(
                "{e}; a data folder has one owner: stop it first, or give this one a folder of its own"
            ))),
            Err(e) => Err(Error::Unavailable(format!("lock of folder {dir}: {e}"))),
        }
    }
}
