//! Durations and sizes as labels and queries spell them.
//! Source: the documentation of Go's `time.ParseDuration` and of `go-humanize`.

use std::borrow::Cow;

use lgtm_core::go::{parse_duration_ns, quote};

/// Reads a duration as Go does: `1h15m30.918s`, `-3s`, `.25s`, `0`. Nanoseconds.
///
/// # Errors
/// In the words of `time.ParseDuration`.
pub(crate) fn parse_go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = |t: &str| t.bytes().take_while(u8::is_ascii_digit).count();
        let whole_len = digits(rest);
        let whole: u64 = match whole_len {
            0 => 0,
            n => rest[..n].parse().map_err(|_| invalid())?,
        };
        rest = &rest[whole_len..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let n = digits(after);
            fraction = &after[..n];
            rest = &after[n..];
            if whole_len == 0 && n == 0 {
                return Err(invalid());
            }
        } else if whole_len == 0 {
            return Err(invalid());
        }
        let end = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (unit, tail) = rest.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let unit = unit_ns(unit).ok_or_else(|| {
            format!(
                "time: unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            )
        })?;
        rest = tail;
        let part = whole.checked_mul(unit).ok_or_else(invalid)?;
        let fraction = match fraction {
            "" => 0,
            f => format!("0.{f}")
                .parse::<f64>()
                .map_or(0, |v| (v * unit as f64) as u64),
        };
        total = total
            .checked_add(part)
            .and_then(|t| t.checked_add(fraction))
            .filter(|t| *t <= i64::MAX as u64)
            .ok_or_else(invalid)?;
    }
    let ns = total as i64;
    Ok(if negative { -ns } else { ns })
}

fn unit_ns(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Reads a duration literal of a query: Prometheus' text, else Go's.
///
/// # Errors
/// Those of the latter.
pub(crate) fn parse_literal_duration(text: &str) -> Result<i64, String> {
    match parse_duration_ns(text) {
        Ok(ns) if !text.is_empty() => i64::try_from(ns).map_err(|e| e.to_string()),
        _ => parse_go_duration(text),
    }
}

/// Writes a duration as Go does, without parts that are zero at the end: `1h30m`, `250ms`.
pub(crate) fn format_duration(ns: i64) -> String {
    let mut out = String::new();
    if ns < 0 {
        out.push('-');
    }
    let mut rest = ns.unsigned_abs();
    if rest == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in [
        ("h", 3_600_000_000_000u64),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ] {
        if rest >= size {
            out.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    out
}

/// Writes a duration as Go does, down to the seconds: `1h30m0s`, `1.5s`; one below a second as [`format_duration`].
pub(crate) fn format_go_duration(ns: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let rest = ns.unsigned_abs();
    if rest < SECOND {
        return format_duration(ns);
    }
    let mut out = String::from(if ns < 0 { "-" } else { "" });
    let seconds = rest / SECOND;
    if seconds >= 3600 {
        out.push_str(&format!("{}h", seconds / 3600));
    }
    if seconds >= 60 {
        out.push_str(&format!("{}m", seconds / 60 % 60));
    }
    out.push_str(&format!("{}", seconds % 60));
    if !rest.is_multiple_of(SECOND) {
        let fraction = format!(".{:09}", rest % SECOND);
        out.push_str(fraction.trim_end_matches('0'));
    }
    out.push('s');
    out
}

/// Writes a range as Prometheus does: in years or weeks where it is whole ones, else in the units from days on.
pub(crate) fn format_range(ns: i64) -> String {
    const MS: i64 = 1_000_000;
    const DAY: i64 = 86_400_000 * MS;
    if ns <= 0 || ns % MS != 0 {
        return format_duration(ns);
    }
    for (unit, size) in [("y", 365 * DAY), ("w", 7 * DAY)] {
        if ns % size == 0 {
            return format!("{}{unit}", ns / size);
        }
    }
    match (ns / DAY, ns % DAY) {
        (0, rest) => format_duration(rest),
        (days, 0) => format!("{days}d"),
        (days, rest) => format!("{days}d{}", format_duration(rest)),
    }
}

/// Reads a size: `10KB` is 10,000, `10KiB` 10,240; any letter case, decimals and commas are fine.
///
/// # Errors
/// In the words of `humanize.ParseBytes`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.replace(',', "");
    let value: f64 = number.parse().map_err(|_| {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            quote(&number)
        )
    })?;
    let unit = unit.trim().to_lowercase();
    let size: u64 = match unit.as_str() {
        "" | "b" => 1,
        "kb" | "k" => 1_000,
        "mb" | "m" => 1_000_000,
        "gb" | "g" => 1_000_000_000,
        "tb" | "t" => 1_000_000_000_000,
        "pb" | "p" => 1_000_000_000_000_000,
        "eb" | "e" => 1_000_000_000_000_000_000,
        "kib" | "ki" => 1 << 10,
        "mib" | "mi" => 1 << 20,
        "gib" | "gi" => 1 << 30,
        "tib" | "ti" => 1 << 40,
        "pib" | "pi" => 1 << 50,
        "eib" | "ei" => 1 << 60,
        _ => return Err(format!("unhandled size name: {unit}")),
    };
    let bytes = value * size as f64;
    if bytes >= u64::MAX as f64 {
        return Err(format!("too large: {text}"));
    }
    Ok(bytes as u64)
}

/// Reads a number as Go's `strconv.ParseFloat`: no octal, hexadecimal with an exponent only, underscores between
/// digits.
///
/// # Errors
/// In its words.
pub(crate) fn parse_float(text: &str) -> Result<f64, String> {
    let wrong = |why: &str| {
        Err(format!(
            "strconv.ParseFloat: parsing {}: {why}",
            quote(text)
        ))
    };
    let (sign, plain) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    match plain.as_bytes().first() {
        Some(b'0'..=b'9' | b'.') => {}
        Some(b'i' | b'I' | b'n' | b'N') => {
            let lower = plain.to_ascii_lowercase();
            return match lower.as_str() {
                "inf" | "infinity" => Ok(sign * f64::INFINITY),
                "nan" if plain.len() == text.len() => Ok(f64::NAN),
                _ => wrong("invalid syntax"),
            };
        }
        _ => return wrong("invalid syntax"),
    }
    if plain.len() > 2 && plain.starts_with("0x") || plain.starts_with("0X") {
        return match parse_hex_float(&plain[2..]) {
            Some(value) => Ok(sign * value),
            None => wrong("invalid syntax"),
        };
    }
    let digits = match plain.contains('_') {
        true if underscores_separate_digits(plain) => Cow::Owned(plain.replace('_', "")),
        _ => Cow::Borrowed(plain),
    };
    match digits.parse::<f64>() {
        Ok(value) if value.is_infinite() => wrong("value out of range"),
        Ok(value) => Ok(sign * value),
        Err(_) => wrong("invalid syntax"),
    }
}

fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| {
        at.and_then(|n| bytes.get(n))
            .is_some_and(u8::is_ascii_digit)
    };
    let places = bytes.iter().enumerate().filter(|(_, b)| **b == b'_');
    places
        .map(|(n, _)| n)
        .all(|n| is_digit(n.checked_sub(1)) && is_digit(Some(n + 1)))
}

/// `1.8p4`: hexadecimal digits and an exponent of two.
fn parse_hex_float(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0f64;
    for c in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let shift = i64::from(exponent) - 4 * fraction.len() as i64;
    Some(value * (shift.clamp(-5000, 5000) as f64).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (text, ns) in [
            ("0", Some(0)),
            ("-3s", Some(-3_000_000_000)),
            (".25s", Some(250_000_000)),
            ("+5ms", Some(5_000_000)),
            ("1h2m1.5s", Some(3_721_500_000_000)),
            ("100us", Some(100_000)),
            ("1d", None),
            ("90", None),
            ("", None),
            (".s", None),
            ("9999999h", None),
        ] {
            assert_eq!(parse_go_duration(text).ok(), ns, "{text}");
        }
        assert_eq!(format_duration(5_400_000_000_000), "1h30m");
        for (ms, go, range) in [
            (5_400_000, "1h30m0s", "1h30m"),
            (120_000, "2m0s", "2m"),
            (1_500, "1.5s", "1s500ms"),
            (250, "250ms", "250ms"),
            (90_000_000, "25h0m0s", "1d1h"),
            (86_400_000, "24h0m0s", "1d"),
            (14 * 86_400_000, "336h0m0s", "2w"),
            (730 * 86_400_000, "17520h0m0s", "2y"),
        ] {
            let ns = ms * 1_000_000;
            assert_eq!(
                (format_go_duration(ns), format_range(ns)),
                (go.into(), range.into())
            );
            assert_eq!(parse_literal_duration(go), Ok(ns));
            assert_eq!(parse_literal_duration(range), Ok(ns));
        }
    }

    #[test]
    fn sizes_and_numbers_are_read_as_loki_reads_them() {
        for (text, bytes) in [
            ("2,048", Some(2048)),
            ("1.5kb", Some(1500)),
            ("3 MiB", Some(3 << 20)),
            ("1024", Some(1024)),
            ("1e3", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text}");
        }
        for (text, value) in [
            ("+2", Some(2.0)),
            ("5e-1", Some(0.5)),
            ("inf", Some(f64::INFINITY)),
            ("0x1p4", Some(16.0)),
            ("1_000", Some(1000.0)),
            ("1__0", None),
            ("0x10", None),
            ("1e400", None),
            ("1 000", None),
            ("1,5", None),
        ] {
            assert_eq!(parse_float(text).ok(), value, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text: String, digits in "[-+0-9.eExXpPmhsuµkKiB,_]{0,12}") {
            for text in [text, digits] {
                let _ = (parse_go_duration(&text), parse_bytes(&text), parse_float(&text));
            }
        }
    }
}
