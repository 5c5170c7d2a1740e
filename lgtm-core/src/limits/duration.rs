//! Durations as Prometheus spells them (`1h30m`, `15s`, `250ms`, `1d`), for `#[serde(with = "lgtm_core::limits::duration")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

use crate::error::{Error, Result};

/// Units, largest first: they must come in this order.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration. A bare `0` is no time at all.
///
/// # Errors
/// `InvalidInput` naming the text.
pub fn parse(text: &str) -> Result<Duration> {
    let bad = || Error::InvalidInput(format!("{text:?} is not a duration such as 15s, 5m or 1h30m"));
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut total_ms, mut smaller) = (0u64, 0);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let at = UNITS[smaller..].iter().position(|(unit, _)| *unit == &rest[..letters]).ok_or_else(bad)? + smaller;
        total_ms = number.checked_mul(UNITS[at].1).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(bad)?;
        smaller = at + 1;
        rest = &rest[letters..];
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration, to the millisecond.
pub fn format(duration: Duration) -> String {
    let mut left = duration.as_millis() as u64;
    if left == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    // Years and weeks are read but not written: nobody counts timeouts in them.
    for (unit, ms) in &UNITS[2..] {
        if left >= *ms {
            out.push_str(&format!("{}{unit}", left / ms));
            left %= ms;
        }
    }
    out
}

/// For serde.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For serde.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in [("15s", 15_000), ("1h30m", 5_400_000), ("250ms", 250), ("1d", 86_400_000), ("0", 0)] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for bad in ["", "5", "s", "1s1h", "1x", "-1s", "1.5s", "99999999999999999y"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(format(Duration::from_millis(5_400_250)), "1h30m250ms");
    }
}
