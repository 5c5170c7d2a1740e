//! Start timestamps inside the experimental encodings 4 to 6, for reading.

use lgtm_core::DecodeError;

use super::bits::BitReader;

/// Reads the optional start-timestamp field behind each sample.
#[derive(Debug, Clone)]
pub(super) struct StartTimes {
    first_known: bool,
    /// Index of the first sample whose start time is stored because it changed; 0: never.
    changes_at: u16,
    difference: i64,
    start_ms: i64,
}

impl StartTimes {
    pub(super) fn new(header: u8) -> Self {
        Self {
            first_known: header & 0x80 != 0,
            changes_at: u16::from(header & 0x7f),
            difference: 0,
            start_ms: 0,
        }
    }

    /// The start time of sample `n` at `t_ms`, the one before being at `previous_ms`; 0 is "not known".
    pub(super) fn read(
        &mut self,
        r: &mut BitReader<'_>,
        n: u16,
        t_ms: i64,
        previous_ms: i64,
    ) -> Result<i64, DecodeError> {
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
}
