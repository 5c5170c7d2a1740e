//! Float samples and the stale marker.

use super::TimestampMs;

/// The bits of the NaN that marks the end of a series. It is a signalling NaN: never pass it through arithmetic.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A value at a time.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub t_ms: TimestampMs,
    /// What. NaN payloads are kept.
    pub value: f64,
}

impl PartialEq for Sample {
    /// Equal times and equal bits: a NaN equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.t_ms == other.t_ms && self.value.to_bits() == other.value.to_bits()
    }
}

/// The stale marker.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the stale marker; other NaNs are not.
#[inline]
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
