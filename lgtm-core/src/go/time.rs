//! Points in time as Go prints and reads them, in UTC.
//! Source: RFC 3339 and the documentation of Go's package `time`.

use std::fmt::Write;

use crate::timestamp::{TimestampMs, TimestampNs};

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// Reads RFC 3339 with any fraction and offset, in nanoseconds since the epoch; digits behind the ninth are left out. `None` for what is none or
/// does not fit 64 bits: times from 1677 to 2262 do.
pub fn parse_rfc3339_ns(text: &str) -> Option<TimestampNs> {
    let (seconds, ns) = parse_rfc3339(text)?;
    let ticks = seconds.checked_mul(SECOND)?.checked_add(ns)?;
    Some(TimestampNs::new(ticks))
}

/// The same of all years from 0 to 9999, in whole milliseconds; the rest is cut off.
pub fn parse_rfc3339_ms(text: &str) -> Option<TimestampMs> {
    let (seconds, ns) = parse_rfc3339(text)?;
    Some(TimestampMs::new(seconds * 1000 + ns / 1_000_000))
}

/// Seconds since the epoch, and nanoseconds of the second.
fn parse_rfc3339(text: &str) -> Option<(i64, i64)> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        let is_plain = digits.bytes().all(|b| b.is_ascii_digit());
        is_plain.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let b = text.as_bytes();
    let signs =
        (b[4], b[7], b[10].to_ascii_uppercase(), b[13], b[16]) == (b'-', b'-', b'T', b':', b':');
    if !signs
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut ns = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(fraction.len());
        ns = format!("{:0<9.9}", &fraction[..digits])
            .parse::<i64>()
            .ok()?;
        rest = &fraction[digits..];
    }
    let offset_s = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] if rest.len() == 6 && rest.as_bytes()[3] == b':' => {
            let s = rest.get(1..3)?.parse::<i64>().ok()? * 3600
                + rest.get(4..6)?.parse::<i64>().ok()? * 60;
            if *sign == b'+' { s } else { -s }
        }
        _ => return None,
    };
    // Days since the epoch by counting in 400-year eras that begin in March.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    Some((seconds, ns))
}

/// `2026-11-22T13:16:26Z`: whole seconds, as Go's layout `RFC3339`.
pub fn format_rfc3339(t_ns: TimestampNs) -> String {
    let mut out = String::with_capacity(24);
    push_date(&mut out, t_ns, 'T');
    out.push('Z');
    out
}

/// `2026-11-22 13:16:26.000000001 +0000 UTC`, as Go prints a time; without a fraction at whole seconds.
pub fn format_time(t_ns: TimestampNs) -> String {
    let mut out = String::with_capacity(40);
    push_date(&mut out, t_ns, ' ');
    let ns = t_ns.get().rem_euclid(SECOND);
    if ns > 0 {
        let digits = format!("{ns:09}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.push_str(" +0000 UTC");
    out
}

fn push_date(out: &mut String, t_ns: TimestampNs, between: char) {
    let seconds = t_ns.get().div_euclid(SECOND);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = shifted.div_euclid(146_097) * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_print_as_in_go() {
        let t = 1_795_357_046 * SECOND;
        assert_eq!(format_rfc3339(TimestampNs::new(t)), "2026-11-22T14:17:26Z");
        assert_eq!(
            format_time(TimestampNs::new(t)),
            "2026-11-22 14:17:26 +0000 UTC"
        );
        assert_eq!(
            format_time(TimestampNs::new(t + 1)),
            "2026-11-22 14:17:26.000000001 +0000 UTC"
        );
        assert_eq!(
            format_time(TimestampNs::new(t + 500_000_000)),
            "2026-11-22 14:17:26.5 +0000 UTC"
        );
        assert_eq!(format_rfc3339(TimestampNs::new(-1)), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert_eq!(
            parse_rfc3339_ns("1970-01-01T00:00:00.0000000019Z"),
            Some(TimestampNs::new(1))
        );
        for bad in [
            "",
            "2015-07-01",
            "2015-13-01T00:00:00Z",
            "2015-07-01T20:10:51",
            "+015-07-01T20:10:51Z",
            "9999-07-01T20:10:51Z",
            "2015-07-01T20:10:51+é:00",
        ] {
            assert_eq!(parse_rfc3339_ns(bad), None, "{bad}");
        }
        let last = parse_rfc3339_ms("9999-12-31T23:59:59.9999Z");
        assert_eq!(last, Some(TimestampMs::new(253_402_300_799_999)));
        assert_eq!(
            parse_rfc3339_ms("0001-01-01T00:00:00Z"),
            Some(TimestampMs::new(-62_135_596_800_000))
        );
        assert_eq!(
            parse_rfc3339_ms("1969-12-31T23:59:59.5Z"),
            Some(TimestampMs::new(-500))
        );
    }

    proptest! {
        #[test]
        fn what_was_printed_reads_as_it_was(t_ns: i64, text: String) {
            let printed = format_rfc3339(TimestampNs::new(t_ns)).replace('Z', &format!(".{:09}Z", t_ns.rem_euclid(SECOND)));
            prop_assert_eq!(parse_rfc3339_ns(&printed), Some(TimestampNs::new(t_ns)));
            let _ = parse_rfc3339_ns(&text);
        }
    }
}
