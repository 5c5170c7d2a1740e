//! Start timestamps inside the experimental encodings 4 to 6: an optional field behind each sample.

use lgtm_core::DecodeError;
use lgtm_core::codec::put_svarint;
use lgtm_core::model::TimestampMs;

use super::bits::{BitReader, BitWriter};

/// The header has seven bits for the index of the first stored start, so that from this sample on every start is stored.
const LAST_INDEX: u16 = 127;

/// What reader and writer of a chunk know of its start times so far; 0 is "not known".
#[derive(Debug, Clone, Default)]
pub(super) struct StartTimes {
    first_known: bool,
    /// Index of the first sample whose start time is stored because it changed; 0: never.
    changes_at: u16,
    /// From the start time to the time of the sample before.
    difference: i64,
    start_ms: TimestampMs,
}

impl StartTimes {
    /// For reading a chunk with this header.
    pub(super) fn new(header: u8) -> Self {
        Self {
            first_known: header & 0x80 != 0,
            changes_at: u16::from(header & 0x7f),
            difference: 0,
            start_ms: TimestampMs::EPOCH,
        }
    }

    /// The chunk's header as it is after the samples so far.
    pub(super) fn header(&self) -> u8 {
        u8::from(self.first_known) << 7 | self.changes_at as u8
    }

    /// The start time of sample `n` at `t_ms`, the one before being at `previous_ms`; 0 is "not known".
    pub(super) fn read(
        &mut self,
        r: &mut BitReader<'_>,
        n: u16,
        t_ms: TimestampMs,
        previous_ms: TimestampMs,
    ) -> Result<TimestampMs, DecodeError> {
        if n == 0 {
            if self.first_known {
                self.start_ms = t_ms.wrapping_sub(r.svarint()?);
            }
        } else if self.changes_at != 0 && n >= self.changes_at {
            let x = r.vbi()?;
            self.difference = if n == self.changes_at {
                x
            } else {
                self.difference.wrapping_add(x)
            };
            self.start_ms = previous_ms.wrapping_sub(self.difference);
        }
        Ok(self.start_ms)
    }

    /// Writes the start time of sample `n`, where [`StartTimes::read`] looks for it.
    pub(super) fn write(
        &mut self,
        w: &mut BitWriter,
        n: u16,
        t_ms: TimestampMs,
        previous_ms: TimestampMs,
        start_ms: TimestampMs,
    ) {
        if n == 0 {
            self.first_known = start_ms != 0;
            if self.first_known {
                let mut varint = Vec::with_capacity(10);
                put_svarint(&mut varint, t_ms.wrapping_since(start_ms));
                w.write_bytes(&varint);
            }
        } else {
            let difference = previous_ms.wrapping_since(start_ms);
            if self.changes_at != 0 {
                w.vbi(difference.wrapping_sub(self.difference));
                self.difference = difference;
            } else if start_ms != self.start_ms || n == LAST_INDEX {
                self.changes_at = n;
                w.vbi(difference);
                self.difference = difference;
            }
        }
        self.start_ms = start_ms;
    }

    /// For writing on behind `count` samples that were read.
    pub(super) fn going_on(mut self, count: u16) -> Self {
        if self.changes_at >= count {
            // Said of a sample that is not there: nothing was stored yet.
            self.changes_at = 0;
        }
        if count == 0 {
            self.first_known = false;
        }
        self
    }
}
