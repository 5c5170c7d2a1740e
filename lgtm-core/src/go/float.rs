//! Floats as Go and Prometheus write them.

use std::fmt::Write;

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
    if v.is_finite() && v != 0.0 && !(1e-6..1e21).contains(&v.abs()) {
        let text = format!("{v:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
    } else {
        push_plain_float(out, v);
    }
}

/// A float as Prometheus prints scalars, without quotes: never with an exponent.
pub fn push_plain_float(out: &mut String, v: f64) {
    if v.is_nan() {
        out.push_str("NaN");
    } else if v.is_infinite() {
        out.push_str(if v > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let _ = write!(out, "{v}");
    }
}

/// A float as `encoding/json` writes it: as [`push_float`], with as few digits of the exponent as there are.
pub fn push_json_float(out: &mut String, v: f64) {
    if v.is_finite() && v != 0.0 && !(1e-6..1e21).contains(&v.abs()) {
        let text = format!("{v:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => {
                let _ = write!(out, "{mantissa}e+{exponent}");
            }
            _ => out.push_str(&text),
        }
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

    proptest! {
        #[test]
        fn written_numbers_read_the_same(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            let value = value.abs();
            prop_assert_eq!(parse_number(&format_plain(value)), Ok(value));
            prop_assert_eq!(parse_number(&format_short(value)), Ok(value));
        }
    }
}
