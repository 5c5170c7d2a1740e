//! Numbers and durations: how they are read, and how they are written so that they read the same.
//! Source: Go's integer and floating-point literals, <https://go.dev/ref/spec#Integer_literals>, and Prometheus' durations.

use super::quote::quote;

/// Nanoseconds that a duration may have, at most.
const MAX_DURATION_NS: u64 = i64::MAX as u64;

/// Nanoseconds of each unit, larger first.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000_000_000),
    ("w", 7 * 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

/// Reads a number token: an integer in Go's spelling (`017` is octal, `0x1f`, `1_000`), else a decimal number, `inf` or `nan`.
pub(super) fn parse_number(text: &str) -> Result<f64, String> {
    let wrong = |why: &str| {
        let shown = quote(text);
        format!("error parsing number: strconv.ParseFloat: parsing {shown}: {why}")
    };
    if text.eq_ignore_ascii_case("inf") {
        return Ok(f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    if !underscores_separate_digits(text) {
        return Err(wrong("invalid syntax"));
    }
    let plain = text.replace('_', "");
    if let Some(hex) = plain
        .strip_prefix("0x")
        .or_else(|| plain.strip_prefix("0X"))
    {
        let value = i64::from_str_radix(hex, 16)
            .ok()
            .filter(|_| !hex.starts_with(['+', '-']));
        return value
            .map(|n| n as f64)
            .ok_or_else(|| wrong("invalid syntax"));
    }
    if plain.len() > 1
        && plain.starts_with('0')
        && plain.bytes().all(|b| (b'0'..=b'7').contains(&b))
    {
        // Too large for an octal integer, it is a decimal number.
        if let Ok(octal) = i64::from_str_radix(&plain, 8) {
            return Ok(octal as f64);
        }
    }
    let value: f64 = plain.parse().map_err(|_| wrong("invalid syntax"))?;
    if value.is_infinite() {
        return Err(wrong("value out of range"));
    }
    Ok(value)
}

/// Whether each underscore stands between two digits, or between the prefix and a digit.
fn underscores_separate_digits(text: &str) -> bool {
    let hex = text.starts_with("0x") || text.starts_with("0X");
    let is_digit = |b: Option<&u8>| match b {
        Some(b) if hex => b.is_ascii_hexdigit(),
        Some(b) => b.is_ascii_digit(),
        None => false,
    };
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'_')
        .all(|(n, _)| {
            let before = n.checked_sub(1);
            let after_prefix = hex && n == 2;
            (after_prefix || before.is_some_and(|n| is_digit(bytes.get(n))))
                && is_digit(bytes.get(n + 1))
        })
}

/// Reads a duration token, `1h30m`, in nanoseconds.
pub(super) fn parse_duration_ns(text: &str) -> Result<u64, String> {
    const OUT_OF_RANGE: &str = "duration out of range";
    let invalid = || format!("not a valid duration string: {}", quote(text));
    let (mut rest, mut units, mut total) = (text, UNITS.as_slice(), 0u64);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(invalid)?;
        let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (unit, tail) = rest.split_at(end);
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(format!(
                "unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            ));
        }
        let place = units
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(invalid)?;
        let part = count.checked_mul(units[place].1).ok_or(OUT_OF_RANGE)?;
        total = total
            .checked_add(part)
            .filter(|ns| *ns <= MAX_DURATION_NS)
            .ok_or(OUT_OF_RANGE)?;
        (rest, units) = (tail, &units[place + 1..]);
    }
    Ok(total)
}

/// Nanoseconds in seconds.
pub(super) fn ns_to_seconds(ns: u64) -> f64 {
    (ns / 1_000_000_000) as f64 + (ns % 1_000_000_000) as f64 / 1e9
}

/// Seconds in whole milliseconds, as the engine counts. What is below a millisecond is cut off, unless it is no more than the
/// error of the number itself.
pub(super) fn seconds_to_ms(seconds: f64) -> i64 {
    let ms = seconds * 1e3;
    let whole = ms.round();
    if (ms - whole).abs() < 1e-3 {
        whole as i64
    } else {
        ms as i64
    }
}

/// Whether seconds are too many for a duration.
pub(super) fn is_out_of_range(seconds: f64) -> bool {
    const MAX_SECONDS: f64 = 9_223_372_036.854_776;
    !(-MAX_SECONDS..=MAX_SECONDS).contains(&seconds)
}

/// Writes a duration: `1h30m`. Years and weeks only where they leave nothing: `90d`, `2w`.
pub(super) fn format_ms(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let length = std::time::Duration::from_millis(ms.unsigned_abs());
    format!("{sign}{}", lgtm_core::units::duration::format(length))
}

/// Writes a number without exponent, with as few digits as tell it from its neighbours.
pub(super) fn format_plain(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    value.to_string()
}

/// As [`format_plain`], with an exponent where the number is large or small: `1e+06`.
pub(super) fn format_short(value: f64) -> String {
    let text = format!("{value:e}");
    match text
        .split_once('e')
        .map(|(digits, exponent)| (digits, exponent.parse::<i32>()))
    {
        Some((digits, Ok(exponent))) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format_plain(value),
    }
}

/// As [`format_short`], with two significant digits at most.
pub(super) fn format_two_digits(value: f64) -> String {
    let rounded = format!("{value:.1e}").parse().unwrap_or(value);
    if rounded != 0.0 && f64::abs(rounded) >= 100.0 && f64::is_finite(rounded) {
        let text = format!("{rounded:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{digits}e+{exponent:0>2}");
    }
    format_short(rounded)
}

/// As OpenMetrics writes bounds and quantiles: a whole number ends in `.0`.
pub(super) fn format_open_metrics(value: f64) -> String {
    let text = format_short(value);
    match text.contains(['.', 'e', 'N', 'I']) {
        true => text,
        false => text + ".0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("017", 15.0),
            ("089", 89.0),
            ("0x1F", 31.0),
            ("0X_1f", 31.0),
            ("1_000", 1000.0),
            ("1_2.5_0e+1_0", 12.5e10),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e-400", 0.0),
            (
                "0777777777777777777777777",
                777_777_777_777_777_777_777_777.0,
            ),
        ] {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        for (text, why) in [
            ("1e400", "value out of range"),
            ("1_", "invalid syntax"),
            ("0xffffffffffffffff", "invalid syntax"),
            ("0x1e+5", "invalid syntax"),
            (".5.5", "invalid syntax"),
        ] {
            let error = parse_number(text).unwrap_err();
            assert!(error.ends_with(why), "{text}: {error}");
        }
        assert_eq!(
            parse_number("1e400").unwrap_err(),
            "error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range"
        );
    }

    #[test]
    fn durations_are_read_as_prometheus_reads_them() {
        for (text, wanted) in [
            ("1h30m", Ok(5400)),
            ("1y2w3d", Ok((365 + 14 + 3) * 86_400)),
            ("5hs", Err("unknown unit \"hs\" in duration \"5hs\"")),
            ("1m1h", Err("not a valid duration string: \"1m1h\"")),
            ("1m1m", Err("not a valid duration string: \"1m1m\"")),
            ("300y", Err("duration out of range")),
            ("99999999999999y", Err("duration out of range")),
        ] {
            let wanted = wanted
                .map(|s: u64| s * 1_000_000_000)
                .map_err(str::to_owned);
            assert_eq!(parse_duration_ns(text), wanted, "{text}");
        }
    }

    #[test]
    fn seconds_are_cut_to_milliseconds() {
        for (seconds, ms) in [
            (300.0, 300_000),
            (0.0015, 1),
            (-0.0015, -1),
            (0.0004, 0),
            // 35y1ms, which floating point has not exactly.
            (1_103_760_000.001, 1_103_760_000_001),
        ] {
            assert_eq!(seconds_to_ms(seconds), ms, "{seconds}");
        }
    }

    #[test]
    fn short_numbers_have_an_exponent_from_a_million_on() {
        for (value, text) in [
            (5.0, "5"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_short(value), text);
        }
    }

    #[test]
    fn other_spellings_of_numbers() {
        assert_eq!(format_two_digits(0.123_456), "0.12");
        assert_eq!(format_two_digits(123.0), "1.2e+02");
        assert_eq!(format_open_metrics(1.0), "1.0");
        assert_eq!(format_open_metrics(0.99), "0.99");
    }

    proptest! {
        #[test]
        fn written_numbers_read_the_same(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let value = value.abs();
            prop_assert_eq!(parse_number(&format_plain(value)), Ok(value));
            prop_assert_eq!(parse_number(&format_short(value)), Ok(value));
        }

        #[test]
        fn written_durations_read_the_same(ms in 0i64..9_000_000_000_000) {
            prop_assert_eq!(parse_duration_ns(&format_ms(ms)), Ok(ms as u64 * 1_000_000));
        }
    }
}
