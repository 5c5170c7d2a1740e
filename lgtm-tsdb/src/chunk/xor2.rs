//! XOR2 chunks (encoding 4, experimental in Prometheus 3.11): floats with start timestamps.

use lgtm_core::DecodeError;
use lgtm_core::codec::{put_svarint, put_uvarint};
use lgtm_core::model::{STALE_NAN_BITS, Sample, TimestampMs};

use super::bits::{BitReader, BitWriter, XorState, low_bits};
use super::chunk::Chunk;
use super::encoding::Encoding;
use super::sample_time::SampleTime;
use super::start_time::StartTimes;

/// Builds one XOR2 chunk.
#[derive(Debug, Clone)]
pub struct Xor2Appender {
    bits: BitWriter,
    starts: StartTimes,
    first_t_ms: TimestampMs,
    t_ms: TimestampMs,
    delta_ms: i64,
    /// The newest value that is no stale marker: what values are xored with.
    baseline: XorState,
    count: u16,
}

impl Xor2Appender {
    /// An empty chunk.
    pub fn new() -> Self {
        Self {
            bits: BitWriter::default(),
            starts: StartTimes::default(),
            first_t_ms: TimestampMs::EPOCH,
            t_ms: TimestampMs::EPOCH,
            delta_ms: 0,
            baseline: XorState::starting_at(0.0),
            count: 0,
        }
    }

    /// Appends a sample.
    ///
    /// # Panics
    /// When the chunk has 65,535 samples.
    pub fn append(&mut self, at: SampleTime, value: f64) {
        let SampleTime { t_ms, start_ms } = at;
        let bits = value.to_bits();
        let previous_ms = self.t_ms;
        match self.count {
            0 => {
                let mut varint = Vec::with_capacity(10);
                put_svarint(&mut varint, t_ms.get());
                self.bits.write_bytes(&varint);
                self.bits.write(bits, 64);
                if bits != STALE_NAN_BITS {
                    self.baseline.bits = bits;
                }
                self.first_t_ms = t_ms;
            }
            1 => {
                self.delta_ms = t_ms.wrapping_since(self.t_ms);
                let mut varint = Vec::with_capacity(10);
                put_uvarint(&mut varint, self.delta_ms as u64);
                self.bits.write_bytes(&varint);
                self.write_a(bits);
            }
            _ => {
                let delta_ms = t_ms.wrapping_since(self.t_ms);
                let dod = delta_ms.wrapping_sub(self.delta_ms);
                self.delta_ms = delta_ms;
                self.write_joint(dod, bits);
            }
        }
        self.t_ms = t_ms;
        self.starts
            .write(&mut self.bits, self.count, t_ms, previous_ms, start_ms);
        self.count = self
            .count
            .checked_add(1)
            .expect("chunks are cut long before 65,535 samples");
    }

    fn write_joint(&mut self, dod: i64, bits: u64) {
        match dod {
            0 if bits == STALE_NAN_BITS => return self.bits.write(0b1_1111, 5),
            0 if bits == self.baseline.bits => return self.bits.write(0, 1),
            0 => {
                self.bits.write(0b10, 2);
                return self.write_changed(bits, ((0, 1), (1, 1)));
            }
            -0x1000..=0xfff => {
                self.bits.write(0b110, 3);
                self.bits.write(low_bits(dod, 13), 13);
            }
            -0x8_0000..=0x7_ffff => {
                self.bits.write(0b1110, 4);
                self.bits.write(low_bits(dod, 20), 20);
            }
            _ => {
                self.bits.write(0b1_1110, 5);
                self.bits.write(dod as u64, 64);
            }
        }
        self.write_a(bits);
    }

    fn write_a(&mut self, bits: u64) {
        if bits == STALE_NAN_BITS {
            self.bits.write(0b111, 3);
        } else if bits == self.baseline.bits {
            self.bits.write(0, 1);
        } else {
            self.write_changed(bits, ((0b10, 2), (0b110, 3)));
        }
    }

    /// The xor: behind the first control in the window there is, behind the second in a fresh one.
    fn write_changed(&mut self, bits: u64, (reuse, fresh): ((u64, u32), (u64, u32))) {
        let w = &mut self.bits;
        let base = &mut self.baseline;
        let d = bits ^ base.bits;
        base.bits = bits;
        let lead = (d.leading_zeros() as u8).min(31);
        let trail = d.trailing_zeros() as u8;
        if base.lead != 0xff && lead >= base.lead && trail >= base.trail {
            w.write(reuse.0, reuse.1);
        } else {
            (base.lead, base.trail) = (lead, trail);
            let n = 64 - u64::from(lead) - u64::from(trail);
            w.write(fresh.0, fresh.1);
            w.write(u64::from(lead) << 6 | n & 63, 11);
        }
        let n = 64 - u32::from(base.lead) - u32::from(base.trail);
        w.write(d >> base.trail, n);
    }

    /// Samples in the chunk.
    pub fn sample_count(&self) -> u16 {
        self.count
    }

    /// Bytes of the chunk as it stands.
    pub fn size_bytes(&self) -> usize {
        3 + self.bits.len_bytes()
    }

    /// Time of the first sample; 0 while there is none.
    pub fn first_t_ms(&self) -> TimestampMs {
        self.first_t_ms
    }

    /// Time of the newest sample; 0 while there is none.
    pub fn last_t_ms(&self) -> TimestampMs {
        self.t_ms
    }

    /// The chunk as it stands, for readers.
    pub fn snapshot(&self) -> Chunk {
        let mut data = Vec::with_capacity(self.size_bytes());
        data.extend_from_slice(&self.count.to_be_bytes());
        data.push(self.starts.header());
        self.bits.copy_to(&mut data);
        Chunk {
            min_ms: self.first_t_ms,
            max_ms: self.t_ms,
            encoding: Encoding::Xor2,
            data: data.into(),
        }
    }

    /// An appender that goes on where an encoded chunk ends.
    ///
    /// # Errors
    /// When `data` is no XOR2 chunk.
    pub fn resume(data: &[u8]) -> Result<Self, DecodeError> {
        let mut it = Xor2Iter::new(data)?;
        let mut first_t_ms = None;
        while let Some((s, _)) = it.next_sample()? {
            first_t_ms.get_or_insert(s.t_ms);
        }
        Ok(Self {
            bits: BitWriter::resume(&data[3..], it.reader.position()),
            starts: it.starts.going_on(it.count),
            first_t_ms: first_t_ms.unwrap_or(TimestampMs::EPOCH),
            t_ms: it.t_ms,
            delta_ms: it.delta_ms,
            baseline: it.baseline,
            count: it.count,
        })
    }
}

impl Default for Xor2Appender {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads an XOR2 chunk.
#[derive(Debug, Clone)]
pub(super) struct Xor2Iter<'a> {
    reader: BitReader<'a>,
    starts: StartTimes,
    t_ms: TimestampMs,
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
            t_ms: TimestampMs::EPOCH,
            delta_ms: 0,
            baseline: XorState::starting_at(0.0),
            read: 0,
            count: u16::from_be_bytes([*a, *b]),
        })
    }

    /// The next sample and its start time.
    pub(super) fn next_sample(&mut self) -> Result<Option<(Sample, TimestampMs)>, DecodeError> {
        if self.read >= self.count {
            return Ok(None);
        }
        let previous_ms = self.t_ms;
        let bits = match self.read {
            0 => {
                self.t_ms = TimestampMs::new(self.reader.svarint()?);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Time, bits of the value, start time.
    type Row = (i64, u64, i64);

    fn encode(rows: &[Row]) -> Vec<u8> {
        let mut a = Xor2Appender::new();
        append(&mut a, rows);
        a.snapshot().data.into()
    }

    fn append(a: &mut Xor2Appender, rows: &[Row]) {
        for (t_ms, bits, start_ms) in rows.iter().copied() {
            a.append(
                SampleTime {
                    t_ms: t_ms.into(),
                    start_ms: start_ms.into(),
                },
                f64::from_bits(bits),
            );
        }
    }

    fn decode(data: &[u8]) -> Result<Vec<Row>, DecodeError> {
        let mut it = Xor2Iter::new(data)?;
        let mut out = Vec::new();
        while let Some((s, start_ms)) = it.next_sample()? {
            out.push((s.t_ms.get(), s.value.to_bits(), start_ms.get()));
        }
        Ok(out)
    }

    fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
        let t = prop_oneof![any::<i64>(), 0i64..100_000, Just(15_000)];
        let bits = prop_oneof![
            any::<u64>(),
            (0u32..3).prop_map(|v| f64::from(v).to_bits()),
            Just(STALE_NAN_BITS)
        ];
        let start = prop_oneof![4 => Just(7_000i64), 1 => Just(0), 1 => any::<i64>()];
        proptest::collection::vec((t, bits, start), 0..most)
    }

    proptest! {
        #[test]
        fn samples_and_starts_come_back_to_the_bit(rows in rows(150), more in rows(150)) {
            let data = encode(&rows);
            prop_assert_eq!(&decode(&data)?, &rows);
            // Going on after a restart gives the same bytes as never having stopped.
            let mut resumed = Xor2Appender::resume(&data)?;
            append(&mut resumed, &more);
            let all: Vec<_> = rows.into_iter().chain(more).collect();
            prop_assert_eq!(resumed.snapshot().data, encode(&all));
        }

        #[test]
        fn a_chunk_that_is_resumed_reads_as_it_was_appended(mut data: Vec<u8>, more in rows(150)) {
            // The count of arbitrary bytes is far too large.
            if let [a, b, ..] = data.as_mut_slice() {
                (*a, *b) = (0, *b % 8);
            }
            if let Ok(mut resumed) = Xor2Appender::resume(&data) {
                let mut all = decode(&data)?;
                append(&mut resumed, &more);
                all.extend(more);
                prop_assert_eq!(decode(&resumed.snapshot().data)?, all);
            }
        }

        #[test]
        fn every_truncation_is_an_error(rows in rows(30)) {
            let data = encode(&rows);
            for cut in 0..data.len() {
                prop_assert!(decode(&data[..cut]).is_err());
            }
        }
    }
}
