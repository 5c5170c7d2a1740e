//! Room in the log's buffer, asked for before anything is taken that must be logged.
//!
//! A store takes samples into memory and then appends their records. Were the append refused, memory would be ahead of the log: the
//! samples could be read, would be lost with the process, and their sender had been told no. So the room comes first, and with it an
//! append cannot fail. Should the disk fail in between, the records wait in the buffer, in order, and are written when it is well.

use std::time::Duration;

use super::frame::put_record;
use super::wal::{Lsn, Wal};
use crate::error::{Error, Result};

/// How long a request waits for room. A disk that works writes a full buffer within a second; a sender that waits longer had better try
/// elsewhere.
const ROOM_WAIT: Duration = Duration::from_secs(2);

/// Room for records that are to come. Dropping it gives the rest back.
#[derive(Debug)]
pub struct Reservation<'a> {
    wal: &'a Wal,
    bytes: u64,
}

impl Wal {
    /// Sets room aside for `bytes` of records: payloads, and [`Wal::RECORD_OVERHEAD`] for each. Waits for it up to two seconds, which needs a
    /// runtime with time. May be dropped at any time.
    ///
    /// # Errors
    /// `LimitExceeded`, at once, when the buffer could never hold so much; `Unavailable` while the disk refuses, when the log is poisoned
    /// or closed, and when no room came.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation<'_>> {
        let max = self.settings.max_buffered.as_u64();
        if bytes > max {
            return Err(too_large(bytes, max));
        }
        if let Some(room) = self.try_reserve(bytes)? {
            return Ok(room);
        }
        let waited = tokio::time::timeout(ROOM_WAIT, self.wait_for_room(bytes)).await;
        waited.unwrap_or_else(|_| {
            let waiting = self.shared.state.lock().group.len();
            Err(Error::Unavailable(format!(
                "{waiting} bytes wait to be written to the log, max_buffered is {max}: no room for {bytes} more within {ROOM_WAIT:?}"
            )))
        })
    }

    async fn wait_for_room(&self, bytes: u64) -> Result<Reservation<'_>> {
        loop {
            let mut room = std::pin::pin!(self.shared.room.notified());
            // Registered before looking, so that what is told in between is not missed.
            room.as_mut().enable();
            if let Some(room) = self.try_reserve(bytes)? {
                return Ok(room);
            }
            room.await;
        }
    }

    fn try_reserve(&self, bytes: u64) -> Result<Option<Reservation<'_>>> {
        let mut state = self.shared.state.lock();
        state.trouble.check()?;
        let taken = state.group.len() as u64 + state.reserved;
        if taken + bytes > self.settings.max_buffered.as_u64() {
            let now = self.shared.clock.monotonic();
            state.refusing_since.get_or_insert(now);
            return Ok(None);
        }
        state.refusing_since = None;
        state.reserved += bytes;
        Ok(Some(Reservation { wal: self, bytes }))
    }
}

/// Why something can never be logged.
pub(super) fn too_large(bytes: u64, max: u64) -> Error {
    Error::LimitExceeded(format!(
        "{bytes} bytes of records are more than the log's buffer holds: max_buffered is {max}"
    ))
}

impl Reservation<'_> {
    /// Bytes of room left.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts records behind all others, together: they are written as one, so that damage takes all or none of them. They are in memory
    /// only until [`Wal::commit`], but will be written if ever the disk allows, and before anything appended later.
    ///
    /// Cannot fail: what the log cannot write, [`Wal::commit`] tells.
    ///
    /// # Panics
    /// With debug assertions, when the records need more room than was reserved; without them they are taken all the same.
    pub fn append_all<P: AsRef<[u8]>>(&mut self, records: &[(u8, P)]) -> Lsn {
        let mut state = self.wal.shared.state.lock();
        let before = state.group.len();
        for (kind, payload) in records {
            put_record(&mut state.group, *kind, payload.as_ref());
        }
        let used = (state.group.len() - before) as u64;
        debug_assert!(
            used <= self.bytes,
            "{used} bytes of records, {} reserved",
            self.bytes
        );
        let given = used.min(self.bytes);
        self.bytes -= given;
        state.reserved -= given;
        state.appended += records.len() as u64;
        state.stats.records += records.len() as u64;
        let lsn = Lsn(state.appended);
        drop(state);
        if before == 0 && used > 0 {
            self.wal.shared.work.notify_one();
        }
        lsn
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.wal.shared.state.lock().reserved -= self.bytes;
            self.wal.shared.room.notify_waiters();
        }
    }
}
