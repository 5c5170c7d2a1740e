//! Floats as Go and Prometheus write them.

use std::fmt::Write;

/// Below it each whole number is a float of its own: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes a number without exponent, with as few digits as tell it from its neighbours.
pub fn format_plain(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    value.to_string()
}

/// As [`format_plain`], with an exponent where the number is large or small: `1e+06`.
pub fn format_short(value: f64) -> String {
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
pub fn format_two_digits(value: f64) -> String {
    let rounded = format!("{value:.1e}").parse().unwrap_or(value);
    if rounded != 0.0 && f64::abs(rounded) >= 100.0 && f64::is_finite(rounded) {
        let text = format!("{rounded:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{digits}e+{exponent:0>2}");
    }
    format_short(rounded)
}

/// As OpenMetrics writes bounds and quantiles: a whole number ends in `.0`.
pub fn format_open_metrics(value: f64) -> String {
    let text = format_short(value);
    if text.contains(['.', 'e', 'N', 'I']) {
        text
    } else {
        text + ".0"
    }
}

/// A float as Prometheus prints those of series, without quotes: very small and very large ones with an exponent of two digits at least.
pub fn push_float(out: &mut String, v: f64) {
    if has_exponent(v) {
        let mut buffer = zmij::Buffer::new();
        let (mantissa, exponent) = split_exponent(buffer.format_finite(v));
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
    } else {
        push_plain_float(out, v);
    }
}

/// Whether Go writes it with an exponent where it may.
fn has_exponent(v: f64) -> bool {
    v.is_finite() && v != 0.0 && !(1e-6..1e21).contains(&v.abs())
}

/// A float as Prometheus prints scalars, without quotes: never with an exponent.
pub fn push_plain_float(out: &mut String, v: f64) {
    if v.is_nan() {
        out.push_str("NaN");
    } else if v.is_infinite() {
        out.push_str(if v > 0.0 { "+Inf" } else { "-Inf" });
    } else if v == v.trunc() && v.abs() < EXACT && v.to_bits() != (-0.0f64).to_bits() {
        out.push_str(itoa::Buffer::new().format(v as i64));
    } else {
        // As few digits as tell it from its neighbours; of two equally near the even one, as Go does.
        let mut buffer = zmij::Buffer::new();
        let (mantissa, exponent) = split_exponent(buffer.format_finite(v));
        push_expanded(out, mantissa, exponent);
    }
}

/// Digits with at most one before the point if there is an exponent, and the exponent.
fn split_exponent(text: &str) -> (&str, i32) {
    match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().unwrap_or(0)),
        None => (text.strip_suffix(".0").unwrap_or(text), 0),
    }
}

/// Writes an exponent out as zeros.
fn push_expanded(out: &mut String, mantissa: &str, exponent: i32) {
    if exponent == 0 {
        return out.push_str(mantissa);
    }
    let digits = match mantissa.strip_prefix('-') {
        Some(digits) => {
            out.push('-');
            digits
        }
        None => mantissa,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let places = exponent.unsigned_abs() as usize;
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', places - 1));
        out.push_str(whole);
        out.push_str(part);
    } else {
        // An exponent stands at numbers that have no digits behind the point.
        out.push_str(whole);
        out.push_str(part);
        out.extend(std::iter::repeat_n('0', places.saturating_sub(part.len())));
    }
}

/// A whole number.
pub fn push_whole(out: &mut String, value: u64) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// A float as `encoding/json` writes it: as [`push_float`], with as few digits of the exponent as there are.
pub fn push_json_float(out: &mut String, v: f64) {
    if has_exponent(v) {
        out.push_str(zmij::Buffer::new().format_finite(v));
    } else {
        push_plain_float(out, v);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::go::number::parse_number;

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

    #[test]
    fn exponents_of_json_have_no_leading_zero() {
        for (v, short, two) in [
            (1e-7, "1e-7", "1e-07"),
            (-2.5e21, "-2.5e+21", "-2.5e+21"),
            (1e20, "100000000000000000000", "100000000000000000000"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
        ] {
            let (mut json, mut sample) = (String::new(), String::new());
            push_json_float(&mut json, v);
            push_float(&mut sample, v);
            assert_eq!((&*json, &*sample), (short, two));
        }
    }

    fn plain(value: f64) -> String {
        let mut out = String::new();
        push_plain_float(&mut out, value);
        out
    }

    /// What the standard library prints is the same but for halves: it takes the upper of two equally near digits.
    fn assert_shortest(v: f64) {
        let (text, theirs) = (plain(v), v.to_string());
        if text != theirs {
            let same = theirs.len() - 1;
            let is_near = text[..same] == theirs[..same] || v.abs() >= EXACT;
            assert!(text.len() == theirs.len() && is_near, "{text} {theirs}");
        }
        assert_eq!(text.parse(), Ok(v), "{text}");
        let (mut short, mut json) = (String::new(), String::new());
        push_float(&mut short, v);
        push_json_float(&mut json, v);
        assert_eq!((short.parse(), json.parse()), (Ok(v), Ok(v)));
    }

    #[test]
    fn the_edges_of_plain_numbers_are_printed_right() {
        let mut edges = vec![0.0, -0.0, EXACT, f64::MIN_POSITIVE, 5e-324, f64::MAX];
        edges.extend((-30..30).map(|e| 10f64.powi(e)));
        edges.extend((-80..80).map(|e| 2f64.powi(e)));
        edges.extend((-80..80).map(|e| 1.25 * 2f64.powi(e)));
        for v in edges {
            for v in [v.next_down(), v, v.next_up()] {
                if v.is_finite() {
                    assert_shortest(v);
                    assert_shortest(-v);
                }
            }
        }
        // Half-way between two: the even one.
        assert_eq!(plain(1_125_899_906_842_624.2), "1125899906842624.2");
        assert_eq!(plain(36_028_797_018_963_970.0), "36028797018963970");
        assert_eq!(plain(-1.5e16), "-15000000000000000");
        assert_eq!(plain(-1.5e-7), "-0.00000015");
    }

    proptest! {
        #[test]
        fn plain_numbers_are_the_shortest(
            bits in any::<u64>(),
            whole in any::<i64>(),
            shift in 0u32..64,
            parts in 1i64..10_000_000,
        ) {
            let whole = (whole >> shift) as f64;
            for v in [f64::from_bits(bits), whole, whole / parts as f64, (whole / 1000.0).trunc() / 1000.0] {
                if v.is_finite() {
                    assert_shortest(v);
                }
            }
        }

        #[test]
        fn written_numbers_read_the_same(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let value = value.abs();
            prop_assert_eq!(parse_number(&format_plain(value)), Ok(value));
            prop_assert_eq!(parse_number(&format_short(value)), Ok(value));
        }
    }
}
