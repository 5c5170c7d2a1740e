//! Durations as Prometheus writes them: `1h30m`, `15s`, `1d`, `250ms`; `0` stands for none.
//!
//! Use it on a field of a settings struct: `#[serde(with = "lgtm_core::units::duration")] timeout: Duration`. Units are `y` (365 days),
//! `w d h m s ms`, each at most once, the larger first. Sub-millisecond parts of a `Duration` are refused on writing, since
//! they would not read back.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Serializer, ser};

use crate::error::{Error, Result};

/// Milliseconds of each unit, larger first.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads a duration.
///
/// # Errors
/// `InvalidInput`, naming the text and what is wrong with it.
pub fn parse(text: &str) -> Result<Duration> {
    let wrong = |why: &str| {
        Error::InvalidInput(format!(
            "duration {text:?} {why}, expected numbers with units such as 1h30m, 15s or 1d"
        ))
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(wrong("is empty"));
    }
    let mut rest = text;
    let mut units = UNITS.as_slice();
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        let (number, tail) = rest.split_at(digits.ok_or_else(|| wrong("lacks a unit"))?);
        let number: u64 = number
            .parse()
            .map_err(|_| wrong("has no valid number before a unit"))?;
        let end = tail.find(|c: char| c.is_ascii_digit());
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let place = units
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(|| wrong("has an unknown, repeated or misplaced unit"))?;
        let part = number.checked_mul(units[place].1);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| wrong("is too long"))?;
        units = &units[place + 1..];
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration so that [`parse`] reads the same; what is below a millisecond is left out.
///
/// Years and weeks are used only where they leave nothing, as Prometheus does: `90d`, `2w`, `1h30m`.
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (name, size) in UNITS {
        let whole_only = matches!(name, "y" | "w");
        if rest >= size && (!whole_only || (text.is_empty() && rest.is_multiple_of(size))) {
            text.push_str(&format!("{}{name}", rest / size));
            rest %= size;
        }
    }
    text
}

/// For `#[serde(with)]`.
///
/// # Errors
/// When the duration has a part below a millisecond.
pub fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(ser::Error::custom(format!(
            "duration {duration:?} has a part below 1ms"
        )));
    }
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with)]`. The number 0 is read too.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Duration, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as 1h30m, 15s or 1d")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Duration, E> {
            parse(text).map_err(E::custom)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> std::result::Result<Duration, E> {
            parse(&number.to_string()).map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_in_prometheus() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("1y2w3d4h5m6s7ms", 33_019_506_007),
            ("250ms", 250),
            ("721h", 2_595_600_000),
        ] {
            assert_eq!(parse(text).unwrap().as_millis(), ms, "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "1m1h",
            "1m1m",
            "1.5h",
            "-1s",
            "1 h",
            "1H",
            "99999999999999y",
            "1s5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_print_as_in_prometheus() {
        for text in ["15s", "1h30m", "2w", "90d", "1y", "1d1ms", "0s"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(ms: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text: String) {
            let _ = parse(&text);
        }
    }

    #[test]
    fn settings_use_it_by_name() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct S {
            #[serde(with = "crate::units::duration")]
            d: Duration,
        }
        let s: S = serde_json::from_str(r#"{"d":"1h30m"}"#).unwrap();
        assert_eq!(serde_json::to_string(&s).unwrap(), r#"{"d":"1h30m"}"#);
        assert!(serde_json::from_str::<S>(r#"{"d":0}"#).is_ok());
        assert!(serde_json::from_str::<S>(r#"{"d":5}"#).is_err());
        let nanos = S {
            d: Duration::from_nanos(1),
        };
        assert!(serde_json::to_string(&nanos).is_err());
    }
}
