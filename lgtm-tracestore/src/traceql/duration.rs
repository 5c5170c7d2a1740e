//! Durations as Go spells them.

use lgtm_core::go::parse_duration_ns;

/// Nanoseconds of the units that a fraction may have.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Reads a duration, in Prometheus' way (`1h30m`, `2d`) or else in Go's (`1.5s`, `100ns`).
pub(crate) fn parse_literal_ns(text: &str) -> Option<i64> {
    if let Ok(ns) = parse_duration_ns(text)
        && !text.is_empty()
    {
        return i64::try_from(ns).ok();
    }
    let (mut rest, mut total) = (text, 0i64);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let tail = &rest[number..];
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = &tail[..unit_end.unwrap_or(tail.len())];
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = rest[..number]
            .split_once('.')
            .unwrap_or((&rest[..number], ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let mut part = whole.checked_mul(size as i64)?;
        if !fraction.is_empty() {
            part =
                part.checked_add((format!("0.{fraction}").parse::<f64>().ok()? * size) as i64)?;
        }
        total = total.checked_add(part)?;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty()).then_some(total)
}

/// Writes a duration as Go does: `1h30m0s`, `1.5s`, `250ms`, `1.5µs`, `0s`.
pub(crate) fn format_ns(ns: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let rest = ns.unsigned_abs();
    let mut out = String::from(if ns < 0 { "-" } else { "" });
    let mut push = |value: u64, size: u64, unit: &str| {
        out.push_str(&(value / size).to_string());
        if !value.is_multiple_of(size) {
            let digits = size.ilog10() as usize;
            let fraction = format!(".{:0digits$}", value % size);
            out.push_str(fraction.trim_end_matches('0'));
        }
        out.push_str(unit);
    };
    match rest {
        0 => return "0s".to_owned(),
        1..1_000 => push(rest, 1, "ns"),
        1_000..1_000_000 => push(rest, 1_000, "µs"),
        1_000_000..SECOND => push(rest, 1_000_000, "ms"),
        _ => {
            let (hours, minutes) = (rest / (3600 * SECOND), rest / (60 * SECOND));
            if hours > 0 {
                push(hours, 1, "h");
            }
            if minutes > 0 {
                push(minutes % 60, 1, "m");
            }
            push(rest % (60 * SECOND), SECOND, "s");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_as_in_go() {
        for (text, ns) in [
            ("1h30m", 5_400_000_000_000),
            ("5d", 432_000_000_000_000),
            ("1.5s", 1_500_000_000),
            ("1s500ms", 1_500_000_000),
            ("0.01h", 36_000_000_000),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("100ns", 100),
            ("0.002ms", 2_000),
        ] {
            assert_eq!(parse_literal_ns(text), Some(ns), "{text}");
        }
        for text in [
            "",
            "5q",
            "1.5d",
            "1",
            "s",
            ".s",
            "1.2.3s",
            "1s-1s",
            "9999999999h",
        ] {
            assert_eq!(parse_literal_ns(text), None, "{text}");
        }
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (-5_400_000_000_000, "-1h30m0s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_ns(ns), text);
        }
    }
}
