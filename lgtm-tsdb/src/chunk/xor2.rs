//! Reading XOR2 chunks (encoding 4, experimental in Prometheus 3.11): floats with start timestamps.

use lgtm_core::DecodeError;
use lgtm_core::model::{STALE_NAN_BITS, Sample};

use super::bits::{BitReader, XorState};
use super::start_time::StartTimes;

/// Reads an XOR2 chunk.
#[derive(Debug, Clone)]
pub(super) struct Xor2Iter<'a> {
    reader: BitReader<'a>,
    starts: StartTimes,
    t_ms: i64,
    delta_ms: i64,
    baseline: XorState,
    read: u16,
    count: u16,
}

impl<'a> Xor2Iter<'a> {
    pub(super) fn new(data: &'a [u8]) -> Result<Self, DecodeError> {
        let [a, b, header, ..] = data else {
            return Err(DecodeError::new("xor2 chunk", 0, "header is cut off"));
        };
        Ok(Self {
            reader: BitReader::new("xor2 chunk", &data[3..]),
            starts: StartTimes::new(*header),
            t_ms: 0,
            delta_ms: 0,
            baseline: XorState::starting_at(0.0),
            read: 0,
            count: u16::from_be_bytes([*a, *b]),
        })
    }

    /// The next sample and its start time.
    pub(super) fn next_sample(&mut self) -> Result<Option<(Sample, i64)>, DecodeError> {
        if self.read >= self.count {
            return Ok(None);
        }
        let previous_ms = self.t_ms;
        let bits = match self.read {
            0 => {
                self.t_ms = self.reader.svarint()?;
                let bits = self.reader.read(64)?;
                if bits != STALE_NAN_BITS {
                    self.baseline.bits = bits;
                }
                bits
            }
            1 => {
                self.delta_ms = self.reader.uvarint()? as i64;
                self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
                self.value_a()?
            }
            _ => self.joint()?,
        };
        let start_ms = self
            .starts
            .read(&mut self.reader, self.read, self.t_ms, previous_ms)?;
        self.reader.check()?;
        self.read += 1;
        Ok(Some((
            Sample {
                t_ms: self.t_ms,
                value: f64::from_bits(bits),
            },
            start_ms,
        )))
    }

    /// The control that tells of time and value together.
    fn joint(&mut self) -> Result<u64, DecodeError> {
        let ones = self.reader.peek().leading_ones().min(5);
        self.reader
            .skip(if ones == 5 { 5 } else { ones as usize + 1 });
        let (dod, follows) = match ones {
            0 => (0, Follows::Same),
            1 => (0, Follows::B),
            2 => (twos_complement(self.reader.read(13)?, 13), Follows::A),
            3 => (twos_complement(self.reader.read(20)?, 20), Follows::A),
            4 => (self.reader.read(64)? as i64, Follows::A),
            _ => (0, Follows::Stale),
        };
        self.delta_ms = self.delta_ms.wrapping_add(dod);
        self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
        match follows {
            Follows::Same => Ok(self.baseline.bits),
            Follows::A => self.value_a(),
            Follows::B => {
                let fresh = self.reader.read(1)? == 1;
                self.changed(fresh)
            }
            Follows::Stale => Ok(STALE_NAN_BITS),
        }
    }

    fn value_a(&mut self) -> Result<u64, DecodeError> {
        let ones = self.reader.peek().leading_ones().min(3);
        self.reader
            .skip(if ones == 3 { 3 } else { ones as usize + 1 });
        match ones {
            0 => Ok(self.baseline.bits),
            1 => self.changed(false),
            2 => self.changed(true),
            _ => Ok(STALE_NAN_BITS),
        }
    }

    /// The xor, in the window there is or in a fresh one.
    fn changed(&mut self, fresh: bool) -> Result<u64, DecodeError> {
        if fresh {
            let lead = self.reader.read(5)? as u8;
            let n = match self.reader.read(6)? as u8 {
                0 => 64,
                n => n,
            };
            if lead + n > 64 {
                return Err(self.reader.error(format!(
                    "float window of {n} bits behind {lead} zeros exceeds 64 bits"
                )));
            }
            (self.baseline.lead, self.baseline.trail) = (lead, 64 - lead - n);
        } else if self.baseline.lead == 0xff {
            return Err(self
                .reader
                .error("float refers to a window before there is one"));
        }
        let n = 64 - u32::from(self.baseline.lead) - u32::from(self.baseline.trail);
        self.baseline.bits ^= self.reader.read(n)? << self.baseline.trail;
        Ok(self.baseline.bits)
    }
}

enum Follows {
    Same,
    A,
    B,
    Stale,
}

fn twos_complement(bits: u64, n: u32) -> i64 {
    (bits << (64 - n)) as i64 >> (64 - n)
}
