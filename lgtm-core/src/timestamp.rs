//! Points in time.
//!
//! Metrics count milliseconds, logs and traces nanoseconds. Each has a type, so that one is never taken for the other; what lies between two
//! points is a plain number whose name bears the unit.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// A point in time: ticks since the Unix epoch, of which `PER_SECOND` make a second.
///
/// Adding and subtracting ticks overflows as with integers; where times come from outside use the saturating calls.
///
/// ```
/// use lgtm_core::model::{TimestampMs, TimestampNs};
///
/// let t = TimestampMs::new(1_500);
/// assert_eq!(t.to_ns(), TimestampNs::new(1_500_000_000));
/// assert_eq!((t + 500) - t, 500);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp<const PER_SECOND: i64>(i64);

/// Milliseconds since the Unix epoch, as metrics count.
pub type TimestampMs = Timestamp<1_000>;

/// Nanoseconds since the Unix epoch, as logs and traces count.
pub type TimestampNs = Timestamp<1_000_000_000>;

const NS_PER_MS: i64 = 1_000_000;

impl<const PER_SECOND: i64> Timestamp<PER_SECOND> {
    /// The beginning of 1970.
    pub const EPOCH: Self = Self(0);
    /// Before all others.
    pub const MIN: Self = Self(i64::MIN);
    /// Behind all others.
    pub const MAX: Self = Self(i64::MAX);

    /// So many ticks after the epoch.
    #[inline]
    pub const fn new(ticks: i64) -> Self {
        Self(ticks)
    }

    /// Ticks since the epoch.
    #[inline]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, of the second that this lies in.
    #[inline]
    pub const fn to_seconds(self) -> i64 {
        self.0.div_euclid(PER_SECOND)
    }

    /// Later by so many ticks, or the last point there is.
    #[inline]
    #[must_use]
    pub const fn saturating_add(self, ticks: i64) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    /// Earlier by so many ticks, or the first point there is.
    #[inline]
    #[must_use]
    pub const fn saturating_sub(self, ticks: i64) -> Self {
        Self(self.0.saturating_sub(ticks))
    }

    /// Later by so many ticks; `None` behind the last point there is.
    #[inline]
    pub const fn checked_add(self, ticks: i64) -> Option<Self> {
        match self.0.checked_add(ticks) {
            Some(ticks) => Some(Self(ticks)),
            None => None,
        }
    }

    /// Ticks between two points, whichever is earlier.
    #[inline]
    pub const fn abs_diff(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }

    /// Ticks from `earlier` to this, or as many as can be told.
    #[inline]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Later by so many ticks, around the ends of the number line: for codecs, whose differences come from outside.
    #[inline]
    #[must_use]
    pub const fn wrapping_add(self, ticks: i64) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Earlier by so many ticks, around the ends of the number line.
    #[inline]
    #[must_use]
    pub const fn wrapping_sub(self, ticks: i64) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }

    /// What [`Timestamp::wrapping_add`] adds to `earlier` to come here.
    #[inline]
    pub const fn wrapping_since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The last multiple of `ticks` that is not behind this.
    ///
    /// # Panics
    /// When `ticks` is 0.
    #[inline]
    #[must_use]
    pub const fn floor(self, ticks: i64) -> Self {
        Self(self.0.div_euclid(ticks).saturating_mul(ticks))
    }
}

impl TimestampMs {
    /// The same point, or the nearest one that can be told.
    #[inline]
    pub const fn to_ns(self) -> TimestampNs {
        Timestamp(self.0.saturating_mul(NS_PER_MS))
    }
}

impl TimestampNs {
    /// The millisecond that this lies in.
    #[inline]
    pub const fn to_ms(self) -> TimestampMs {
        Timestamp(self.0.div_euclid(NS_PER_MS))
    }

    /// The first millisecond that does not begin before this.
    #[inline]
    pub const fn to_ms_up(self) -> TimestampMs {
        let begun = self.0.rem_euclid(NS_PER_MS) > 0;
        Timestamp(self.0.div_euclid(NS_PER_MS) + begun as i64)
    }
}

impl<const PER_SECOND: i64> From<i64> for Timestamp<PER_SECOND> {
    #[inline]
    fn from(ticks: i64) -> Self {
        Self(ticks)
    }
}

impl<const PER_SECOND: i64> From<Timestamp<PER_SECOND>> for i128 {
    #[inline]
    fn from(t: Timestamp<PER_SECOND>) -> Self {
        Self::from(t.0)
    }
}

/// Against ticks of its own unit, as literals are.
impl<const PER_SECOND: i64> PartialEq<i64> for Timestamp<PER_SECOND> {
    #[inline]
    fn eq(&self, ticks: &i64) -> bool {
        self.0 == *ticks
    }
}

/// Against ticks of its own unit, as literals are.
impl<const PER_SECOND: i64> PartialOrd<i64> for Timestamp<PER_SECOND> {
    #[inline]
    fn partial_cmp(&self, ticks: &i64) -> Option<Ordering> {
        self.0.partial_cmp(ticks)
    }
}

impl<const PER_SECOND: i64> Add<i64> for Timestamp<PER_SECOND> {
    type Output = Self;

    #[inline]
    fn add(self, ticks: i64) -> Self {
        Self(self.0 + ticks)
    }
}

impl<const PER_SECOND: i64> AddAssign<i64> for Timestamp<PER_SECOND> {
    #[inline]
    fn add_assign(&mut self, ticks: i64) {
        self.0 += ticks;
    }
}

impl<const PER_SECOND: i64> Sub<i64> for Timestamp<PER_SECOND> {
    type Output = Self;

    #[inline]
    fn sub(self, ticks: i64) -> Self {
        Self(self.0 - ticks)
    }
}

impl<const PER_SECOND: i64> SubAssign<i64> for Timestamp<PER_SECOND> {
    #[inline]
    fn sub_assign(&mut self, ticks: i64) {
        self.0 -= ticks;
    }
}

impl<const PER_SECOND: i64> Sub for Timestamp<PER_SECOND> {
    type Output = i64;

    #[inline]
    fn sub(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl<const PER_SECOND: i64> fmt::Display for Timestamp<PER_SECOND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const PER_SECOND: i64> fmt::Debug for Timestamp<PER_SECOND> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_nanoseconds_meet() {
        for (ns, ms, up) in [
            (0, 0, 0),
            (1, 0, 1),
            (999_999, 0, 1),
            (1_000_000, 1, 1),
            (-1, -1, 0),
            (-1_000_000, -1, -1),
        ] {
            let t = TimestampNs::new(ns);
            assert_eq!((t.to_ms().get(), t.to_ms_up().get()), (ms, up), "{ns}");
        }
        assert!(TimestampNs::MAX.to_ms_up().to_ns() >= TimestampNs::MAX);
        assert_eq!(TimestampMs::new(-1).to_seconds(), -1);
        assert_eq!(TimestampNs::new(1_999_999_999).to_seconds(), 1);
        assert_eq!(TimestampMs::MAX.to_ns(), TimestampNs::MAX);
        assert_eq!(TimestampMs::MIN.to_ns(), TimestampNs::MIN);
        assert_eq!(TimestampMs::new(-7).to_ns().get(), -7_000_000);
    }

    #[test]
    fn what_lies_between_saturates() {
        assert_eq!(TimestampMs::MAX.since(TimestampMs::MIN), i64::MAX);
        assert_eq!(TimestampMs::MAX.saturating_add(1), TimestampMs::MAX);
        assert_eq!(TimestampMs::MIN.saturating_sub(1), TimestampMs::MIN);
        assert_eq!(TimestampMs::MAX.wrapping_add(1), TimestampMs::MIN);
        assert_eq!(TimestampMs::MIN.wrapping_sub(1), TimestampMs::MAX);
        assert_eq!(TimestampMs::MIN.wrapping_since(TimestampMs::MAX), 1);
        assert_eq!(TimestampMs::new(-1).floor(10).get(), -10);
        assert_eq!(TimestampMs::new(19).floor(10).get(), 10);
    }
}
