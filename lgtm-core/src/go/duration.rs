//! Durations as Prometheus' languages spell them: `1h30m`.

use crate::go::quote::quote;

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

/// Reads a duration token, `1h30m`, in nanoseconds.
///
/// # Errors
/// An unknown unit, units that do not descend, more than 292 years.
pub fn parse_duration_ns(text: &str) -> Result<u64, String> {
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
pub fn ns_to_seconds(ns: u64) -> f64 {
    (ns / 1_000_000_000) as f64 + (ns % 1_000_000_000) as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
