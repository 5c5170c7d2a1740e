//! Names of the encodings, and the counter-reset header of histogram chunks.

use lgtm_core::DecodeError;
use lgtm_core::model::CounterResetHint;

/// How the bytes of a chunk are to be read; the number stands in the chunk file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Encoding {
    /// Floats, Gorilla-style.
    Xor = 1,
    /// Native histograms with integer counts.
    Histogram = 2,
    /// Native histograms with float counts.
    FloatHistogram = 3,
    /// Floats with start timestamps; experimental, read only by Prometheus 3.11 and later.
    Xor2 = 4,
    /// [`Encoding::Histogram`] with start timestamps; experimental, read only by Prometheus 3.14 and later.
    HistogramSt = 5,
    /// [`Encoding::FloatHistogram`] with start timestamps; experimental, read only by Prometheus 3.14 and later.
    FloatHistogramSt = 6,
}

impl Encoding {
    /// Whether its values are histograms.
    pub fn is_histogram(self) -> bool {
        !matches!(self, Self::Xor | Self::Xor2)
    }

    /// Whether chunks of it keep start timestamps.
    pub fn keeps_starts(self) -> bool {
        matches!(
            self,
            Self::Xor2 | Self::HistogramSt | Self::FloatHistogramSt
        )
    }
}

impl TryFrom<u8> for Encoding {
    type Error = DecodeError;

    fn try_from(n: u8) -> Result<Self, DecodeError> {
        Ok(match n {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramSt,
            6 => Self::FloatHistogramSt,
            _ => {
                return Err(DecodeError::new(
                    "chunk",
                    0,
                    format!("unknown encoding {n}"),
                ));
            }
        })
    }
}

/// What a histogram chunk says of counter resets, in the top two bits of its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CounterResetHeader {
    /// Nothing is known.
    #[default]
    Unknown,
    /// The chunk goes on where the one before ended.
    NotReset,
    /// The chunk begins with a reset.
    Reset,
    /// The chunk holds gauges.
    Gauge,
}

impl CounterResetHeader {
    pub(super) fn bits(self) -> u8 {
        match self {
            Self::Unknown => 0b00,
            Self::NotReset => 0b01,
            Self::Reset => 0b10,
            Self::Gauge => 0b11,
        }
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b00 => Self::Unknown,
            0b01 => Self::NotReset,
            0b10 => Self::Reset,
            _ => Self::Gauge,
        }
    }

    /// The hint of a sample read back: the first of a chunk may follow a chunk that the reader has not seen.
    pub(super) fn hint(self, first: bool) -> CounterResetHint {
        match self {
            Self::Gauge => CounterResetHint::Gauge,
            _ if first => CounterResetHint::Unknown,
            _ => CounterResetHint::NotReset,
        }
    }
}
