//! XOR chunks: floats, Gorilla-style (encoding 1).

use lgtm_core::DecodeError;
use lgtm_core::codec::{put_svarint, put_uvarint};
use lgtm_core::model::{Sample, TimestampMs};

use super::bits::{BitReader, BitWriter, XorState, fits, low_bits, signed};
use super::chunk::Chunk;
use super::encoding::Encoding;

/// Builds one XOR chunk. Appending allocates only when the buffer grows, in steps of 32 and 64 bytes.
#[derive(Debug, Clone)]
pub struct XorAppender {
    bits: BitWriter,
    first_t_ms: TimestampMs,
    t_ms: TimestampMs,
    delta_ms: i64,
    value: XorState,
    count: u16,
}

impl XorAppender {
    /// An empty chunk.
    pub fn new() -> Self {
        let value = XorState::starting_at(0.0);
        Self {
            bits: BitWriter::default(),
            first_t_ms: TimestampMs::EPOCH,
            t_ms: TimestampMs::EPOCH,
            delta_ms: 0,
            value,
            count: 0,
        }
    }

    /// Appends a sample. Times need not ascend for the encoding; the head sees to it that they do.
    ///
    /// # Panics
    /// When the chunk has 65,535 samples.
    #[inline]
    pub fn append(&mut self, t_ms: impl Into<TimestampMs>, value: f64) {
        let t_ms = t_ms.into();
        if self.count >= 2 {
            let delta_ms = t_ms.wrapping_since(self.t_ms);
            let dod = delta_ms.wrapping_sub(self.delta_ms);
            if dod == 0 {
                self.bits.write(0, 1);
            } else {
                self.write_dod(dod);
            }
            self.delta_ms = delta_ms;
            self.value.write(&mut self.bits, value);
        } else {
            self.append_early(t_ms, value);
        }
        self.t_ms = t_ms;
        self.count = self
            .count
            .checked_add(1)
            .expect("chunks are cut long before 65,535 samples");
    }

    fn write_dod(&mut self, dod: i64) {
        let (prefix, prefix_len, n) = match dod {
            d if fits(d, 14) => (0b10, 2, 14),
            d if fits(d, 17) => (0b110, 3, 17),
            d if fits(d, 20) => (0b1110, 4, 20),
            _ => (0b1111, 4, 64),
        };
        self.bits.write(prefix, prefix_len);
        self.bits.write(low_bits(dod, n), n);
    }

    fn append_early(&mut self, t_ms: TimestampMs, value: f64) {
        let mut varint = Vec::with_capacity(10);
        if self.count == 0 {
            put_svarint(&mut varint, t_ms.get());
            self.bits.write_bytes(&varint);
            self.bits.write(value.to_bits(), 64);
            self.value = XorState::starting_at(value);
            self.first_t_ms = t_ms;
        } else {
            self.delta_ms = t_ms.wrapping_since(self.t_ms);
            put_uvarint(&mut varint, self.delta_ms as u64);
            self.bits.write_bytes(&varint);
            self.value.write(&mut self.bits, value);
        }
    }

    /// Samples in the chunk.
    pub fn sample_count(&self) -> u16 {
        self.count
    }

    /// Bytes of the chunk as it stands.
    pub fn size_bytes(&self) -> usize {
        2 + self.bits.len_bytes()
    }

    /// Time of the first sample; 0 while there is none.
    pub fn first_t_ms(&self) -> TimestampMs {
        self.first_t_ms
    }

    /// Time of the newest sample; 0 while there is none.
    pub fn last_t_ms(&self) -> TimestampMs {
        self.t_ms
    }

    /// The newest sample.
    pub fn last(&self) -> Option<Sample> {
        (self.count > 0).then(|| Sample {
            t_ms: self.t_ms,
            value: self.value.value(),
        })
    }

    /// Appends the chunk's bytes to `out`; the chunk can go on.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_be_bytes());
        self.bits.copy_to(out);
    }

    /// The chunk as it stands, for readers.
    pub fn snapshot(&self) -> Chunk {
        let mut data = Vec::with_capacity(self.size_bytes());
        self.encode_into(&mut data);
        Chunk {
            min_ms: self.first_t_ms,
            max_ms: self.t_ms,
            encoding: Encoding::Xor,
            data: data.into(),
        }
    }

    /// An appender that goes on where an encoded chunk ends.
    ///
    /// # Errors
    /// When `data` is no XOR chunk.
    pub fn resume(data: &[u8]) -> Result<Self, DecodeError> {
        let mut it = XorIter::new(data)?;
        let mut first_t_ms = TimestampMs::EPOCH;
        for n in 0.. {
            match it.next_sample()? {
                Some(s) if n == 0 => first_t_ms = s.t_ms,
                Some(_) => {}
                None => break,
            }
        }
        let bits = BitWriter::resume(&data[2..], it.reader.position());
        Ok(Self {
            bits,
            first_t_ms,
            t_ms: it.t_ms,
            delta_ms: it.delta_ms,
            value: it.value,
            count: it.count,
        })
    }

    /// Heap bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.bits.heap_bytes()
    }
}

impl Default for XorAppender {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads an XOR chunk.
#[derive(Debug, Clone)]
pub struct XorIter<'a> {
    reader: BitReader<'a>,
    t_ms: TimestampMs,
    delta_ms: i64,
    value: XorState,
    read: u16,
    count: u16,
}

impl<'a> XorIter<'a> {
    /// Reads `data`, a chunk without length, encoding byte and checksum. Bytes behind the last sample are ignored.
    ///
    /// # Errors
    /// When not even the sample count is there.
    pub fn new(data: &'a [u8]) -> Result<Self, DecodeError> {
        let count = match data {
            [a, b, ..] => u16::from_be_bytes([*a, *b]),
            _ => return Err(DecodeError::new("xor chunk", 0, "sample count is cut off")),
        };
        let reader = BitReader::new("xor chunk", &data[2..]);
        Ok(Self {
            reader,
            t_ms: TimestampMs::EPOCH,
            delta_ms: 0,
            value: XorState::starting_at(0.0),
            read: 0,
            count,
        })
    }

    /// The next sample; `None` at the end.
    ///
    /// # Errors
    /// When the chunk is cut off or broken.
    #[inline]
    pub fn next_sample(&mut self) -> Result<Option<Sample>, DecodeError> {
        if self.read >= self.count {
            return Ok(None);
        }
        if self.read >= 2 {
            if self.reader.peek() >> 63 == 0 {
                self.reader.skip(1);
            } else {
                let dod = self.read_dod()?;
                self.delta_ms = self.delta_ms.wrapping_add(dod);
            }
            self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
            self.value.read(&mut self.reader)?;
        } else {
            self.read_early()?;
        }
        self.read += 1;
        Ok(Some(Sample {
            t_ms: self.t_ms,
            value: self.value.value(),
        }))
    }

    /// Hands all samples that are left to `sink`, in order. About twice as fast as asking for them one by one: the state stays in
    /// registers, and one load serves a sample.
    ///
    /// # Errors
    /// When the chunk is cut off or broken; what came before has been handed out.
    #[inline]
    pub fn for_each(mut self, mut sink: impl FnMut(i64, f64)) -> Result<(), DecodeError> {
        while self.read < 2 {
            match self.next_sample()? {
                Some(s) => sink(s.t_ms.get(), s.value),
                None => return Ok(()),
            }
        }
        while self.read < self.count {
            self.run(&mut sink);
            // At an unusual sample, or one that is cut off: the careful way, which names what is wrong.
            if let Some(s) = self.next_sample()? {
                sink(s.t_ms.get(), s.value);
            }
        }
        Ok(())
    }

    /// Reads on for as long as samples are of the usual kinds and whole.
    #[inline(always)]
    fn run(&mut self, sink: &mut impl FnMut(i64, f64)) {
        let data = self.reader.data();
        // The last eight bytes again, with zeros behind them, so that a load near the end needs no special care.
        let mut tail = [0; 24];
        let tail_at = data.len().saturating_sub(8);
        tail[..data.len() - tail_at].copy_from_slice(&data[tail_at..]);
        let load = |at: usize| -> Option<u64> {
            let byte = at / 8;
            let word = if byte < tail_at {
                data.get(byte..)?.first_chunk::<8>()?
            } else {
                tail.get(byte - tail_at..)?.first_chunk::<8>()?
            };
            Some(u64::from_be_bytes(*word) << (at % 8))
        };
        let end = data.len() * 8;
        let mut at = self.reader.position();
        let (mut t_ms, mut delta_ms) = (self.t_ms, self.delta_ms);
        let XorState {
            mut bits,
            mut lead,
            mut trail,
        } = self.value;
        // The upper 57 bits of a loaded word are real.
        while self.read < self.count
            && let Some(mut word) = load(at)
        {
            let mut used = 1;
            let mut new_delta_ms = delta_ms;
            if word >> 63 != 0 {
                let (prefix, n) = match word >> 60 {
                    0b1111 => break,
                    0b1110 => (4, 20),
                    0b1100 | 0b1101 => (3, 17),
                    _ => (2, 14),
                };
                let dod = signed(word << prefix >> (64 - n), n);
                new_delta_ms = delta_ms.wrapping_add(dod);
                used = (prefix + n) as usize;
            }
            word <<= used;
            if word >> 63 == 0 {
                used += 1;
            } else {
                let (mut new_lead, mut new_trail) = (lead, trail);
                if word >> 62 == 0b10 {
                    (word, used) = (word << 2, used + 2);
                } else {
                    let n = (word >> 51 & 63) as u8;
                    new_lead = (word >> 57 & 31) as u8;
                    if n == 0 || new_lead + n > 64 {
                        break;
                    }
                    new_trail = 64 - new_lead - n;
                    (word, used) = (word << 13, used + 13);
                }
                if new_lead == 0xff {
                    break;
                }
                let n = 64 - usize::from(new_lead) - usize::from(new_trail);
                if used + n > 57 {
                    let Some(high) = load(at + used) else { break };
                    word = high;
                    if n > 57 {
                        let Some(low) = load(at + used + 32) else {
                            break;
                        };
                        word = high >> 32 << 32 | low >> 32;
                    }
                }
                if at + used + n > end {
                    break;
                }
                bits ^= word >> (64 - n) << new_trail;
                (lead, trail) = (new_lead, new_trail);
                used += n;
            }
            if at + used > end {
                break;
            }
            at += used;
            delta_ms = new_delta_ms;
            t_ms = t_ms.wrapping_add(delta_ms);
            self.read += 1;
            sink(t_ms.get(), f64::from_bits(bits));
        }
        self.reader.seek(at);
        (self.t_ms, self.delta_ms) = (t_ms, delta_ms);
        self.value = XorState { bits, lead, trail };
    }

    fn read_dod(&mut self) -> Result<i64, DecodeError> {
        let (prefix, n) = match self.reader.peek() >> 60 {
            0b1111 => (4, 64),
            0b1110 => (4, 20),
            0b1100 | 0b1101 => (3, 17),
            _ => (2, 14),
        };
        self.reader.skip(prefix);
        Ok(signed(self.reader.read(n)?, n))
    }

    fn read_early(&mut self) -> Result<(), DecodeError> {
        if self.read == 0 {
            self.t_ms = TimestampMs::new(self.reader.svarint()?);
            self.value = XorState::starting_at(f64::from_bits(self.reader.read(64)?));
        } else {
            self.delta_ms = self.reader.uvarint()? as i64;
            self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
            self.value.read(&mut self.reader)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
        let mut a = XorAppender::new();
        samples.iter().for_each(|(t, v)| a.append(*t, *v));
        a.snapshot().data.into()
    }

    fn decode(data: &[u8]) -> Result<Vec<(i64, u64)>, DecodeError> {
        let mut it = XorIter::new(data)?;
        let mut out = Vec::new();
        while let Some(s) = it.next_sample()? {
            out.push((s.t_ms.get(), s.value.to_bits()));
        }
        Ok(out)
    }

    fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
        let t = prop_oneof![any::<i64>(), 0i64..100_000];
        let v = prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (0u32..100).prop_map(f64::from)
        ];
        proptest::collection::vec((t, v), 0..60)
    }

    fn decode_in_bulk(data: &[u8]) -> (Vec<(i64, u64)>, Result<(), DecodeError>) {
        let mut out = Vec::new();
        let done = XorIter::new(data).and_then(|it| it.for_each(|t, v| out.push((t, v.to_bits()))));
        (out, done)
    }

    proptest! {
        #[test]
        fn reading_in_bulk_is_reading_one_by_one(samples in samples(), flip: proptest::sample::Index, bit in 0u8..8, cut: proptest::sample::Index) {
            let mut data = encode(&samples);
            prop_assert_eq!(decode_in_bulk(&data).0, decode(&data)?);
            let at = flip.index(data.len());
            data[at] ^= 1 << bit;
            data.truncate(cut.index(data.len() + 1));
            let (bulk, one_by_one) = (decode_in_bulk(&data), decode(&data));
            prop_assert_eq!(bulk.1.is_ok(), one_by_one.is_ok());
            if let Ok(samples) = one_by_one {
                prop_assert_eq!(bulk.0, samples);
            }
        }

        #[test]
        fn samples_come_back_to_the_bit(samples in samples(), more in samples()) {
            let data = encode(&samples);
            let want: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
            prop_assert_eq!(decode(&data)?, want);
            // Going on after a restart gives the same bytes as never having stopped.
            let mut resumed = XorAppender::resume(&data)?;
            more.iter().for_each(|(t, v)| resumed.append(*t, *v));
            let all: Vec<_> = samples.into_iter().chain(more).collect();
            prop_assert_eq!(resumed.snapshot().data, encode(&all));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = XorAppender::resume(&bytes);
        }

        #[test]
        fn every_truncation_is_an_error(samples in samples()) {
            let data = encode(&samples);
            for cut in 0..data.len() {
                prop_assert!(decode(&data[..cut]).is_err());
            }
        }
    }
}
