//! Times on the command line.

use std::time::Duration;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::go::parse_rfc3339_ns;
use lgtm_core::model::{TimeRange, TimestampNs};
use lgtm_core::units::duration;
use lgtm_core::{Error, Result};

use crate::arguments::Arguments;

/// What a range without `-from` goes back.
const DEFAULT_RANGE: Duration = Duration::from_secs(3600);
/// Steps that a range without `-step` has.
const DEFAULT_STEPS: u32 = 100;

/// What `-from`, `-to`, `-time` and `-step` say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) from: TimestampNs,
    pub(crate) to: TimestampNs,
    pub(crate) step: Duration,
    /// Asked at `to` only.
    pub(crate) is_instant: bool,
}

impl Times {
    /// # Errors
    /// `InvalidInput` for what is no time, and a range that ends before it begins.
    pub(crate) fn read(arguments: &Arguments) -> Result<Self> {
        let given = |name: &str| {
            arguments
                .flag(name)
                .map(|text| time(name, text))
                .transpose()
        };
        let now = SystemClock::new().now_ms().to_ns();
        let at = given("time")?;
        let to = given("to")?.or(at).unwrap_or(now);
        let back = i64::try_from(DEFAULT_RANGE.as_nanos()).unwrap_or(i64::MAX);
        let from = given("from")?;
        let is_instant = from.is_none() && (at.is_some() || arguments.flag("to").is_none());
        let from = from.unwrap_or(to.saturating_sub(back));
        if from > to {
            return Err(Error::InvalidInput(format!(
                "the range from {from} ends before it begins, at {to}"
            )));
        }
        let step = match arguments.flag("step") {
            Some(text) => duration::parse(text)
                .map_err(|e| Error::InvalidInput(format!("-step={text}: {e}")))?,
            None => {
                let ns = to.get().saturating_sub(from.get());
                let range = Duration::from_nanos(u64::try_from(ns).unwrap_or(0));
                Duration::from_secs((range / DEFAULT_STEPS).as_secs().max(1))
            }
        };
        if step.is_zero() {
            return Err(Error::InvalidInput("-step must be above 0".into()));
        }
        Ok(Self {
            from,
            to,
            step,
            is_instant,
        })
    }
}

/// What `-from` and `-to` say, both in it; open at an end that is not given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: TimestampNs,
    pub(crate) to: TimestampNs,
}

impl Window {
    /// # Errors
    /// As [`Times::read`].
    pub(crate) fn read(arguments: &Arguments) -> Result<Self> {
        let given = |name: &str| {
            let text = arguments.flag(name);
            text.map(|text| time(name, text)).transpose()
        };
        let from = given("from")?.unwrap_or(TimestampNs::MIN);
        let to = given("to")?.unwrap_or(TimestampNs::MAX);
        if from > to {
            return Err(Error::InvalidInput(format!(
                "the range from {from} ends before it begins, at {to}"
            )));
        }
        Ok(Self { from, to })
    }

    /// In milliseconds.
    pub(crate) fn range_ms(self) -> TimeRange {
        TimeRange::inclusive(self.from.to_ms(), self.to.to_ms())
    }

    pub(crate) fn has(self, t: TimestampNs) -> bool {
        self.from <= t && t <= self.to
    }
}

/// RFC 3339, or seconds since the epoch.
fn time(name: &str, text: &str) -> Result<TimestampNs> {
    if let Some(t) = parse_rfc3339_ns(text) {
        return Ok(t);
    }
    let seconds: Option<f64> = text.parse().ok().filter(|s: &f64| s.is_finite());
    let ns = seconds.map(|s| s * 1e9).filter(|ns| ns.abs() < 9.2e18);
    ns.map(|ns| TimestampNs::new(ns as i64)).ok_or_else(|| {
        Error::InvalidInput(format!(
            "-{name}={text} is neither RFC 3339 nor seconds since 1970"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_or_seconds() {
        let at = |text| time("time", text).map(TimestampNs::get).ok();
        assert_eq!(at("2023-11-14T22:13:20Z"), Some(1_700_000_000_000_000_000));
        assert_eq!(at("1700000000.5"), Some(1_700_000_000_500_000_000));
        assert_eq!(at("yesterday"), None);
        assert_eq!(at("1e300"), None);
    }
}
