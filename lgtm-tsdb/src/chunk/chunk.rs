//! A chunk, owned and borrowed.

use bytes::Bytes;
use lgtm_core::model::TimestampMs;

use super::encoding::{CounterResetHeader, Encoding};
use super::iter::sample_count;

/// A finished run of samples of one series: from the appender to the block, and from any holder to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Time of the first sample, milliseconds.
    pub min_ms: TimestampMs,
    /// Time of the last sample, milliseconds; inclusive.
    pub max_ms: TimestampMs,
    /// How `data` is to be read.
    pub encoding: Encoding,
    /// The chunk as the block format has it, without length, encoding byte and checksum.
    pub data: Bytes,
}

/// A [`Chunk`] whose bytes are somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef<'a> {
    /// Time of the first sample, milliseconds.
    pub min_ms: TimestampMs,
    /// Time of the last sample, milliseconds; inclusive.
    pub max_ms: TimestampMs,
    /// How `data` is to be read.
    pub encoding: Encoding,
    /// As [`Chunk::data`].
    pub data: &'a [u8],
}

impl Chunk {
    /// The same, borrowed.
    pub fn borrowed(&self) -> ChunkRef<'_> {
        ChunkRef {
            min_ms: self.min_ms,
            max_ms: self.max_ms,
            encoding: self.encoding,
            data: &self.data,
        }
    }

    /// Samples that it says it has; 0 of what is too short to say.
    pub fn sample_count(&self) -> u16 {
        self.borrowed().sample_count()
    }

    /// The chunk, saying nothing of whether it begins with a counter reset: for one that comes to stand behind another than it was written
    /// behind. Chunks of floats and gauges stay as they are.
    #[must_use]
    pub fn with_reset_unknown(mut self) -> Self {
        // Count and header share the first two bytes where starts are kept, else the header stands behind the count.
        let at = match self.encoding {
            Encoding::Xor | Encoding::Xor2 => return self,
            Encoding::Histogram | Encoding::FloatHistogram => 2,
            Encoding::HistogramSt | Encoding::FloatHistogramSt => 0,
        };
        let Some(&byte) = self.data.get(at) else {
            return self;
        };
        let header = CounterResetHeader::from_bits(byte >> 6);
        if matches!(
            header,
            CounterResetHeader::NotReset | CounterResetHeader::Reset
        ) {
            let mut data = self.data.to_vec();
            data[at] = byte & 0x3f | CounterResetHeader::Unknown.bits() << 6;
            self.data = data.into();
        }
        self
    }
}

impl ChunkRef<'_> {
    /// As [`Chunk::sample_count`].
    pub fn sample_count(&self) -> u16 {
        sample_count(self.encoding, self.data).unwrap_or(0)
    }
}
