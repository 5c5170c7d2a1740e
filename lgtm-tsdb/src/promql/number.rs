//! Numbers as texts, in the spellings that Prometheus uses.

/// Whole part and exponent such that `x = 0.d1d2d3… * 10^exponent`, shortest digits that read back as `x`.
fn digits(x: f64) -> (String, i32) {
    let text = format!("{:e}", x.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.replace('.', "");
    (digits, exponent.parse::<i32>().unwrap_or(0) + 1)
}

fn special(x: f64) -> Option<&'static str> {
    match x {
        x if x.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// The shortest digits that read back, with an exponent below 10^-4 and from 10^6 on (`%g`, `%v`).
pub(crate) fn format_g(x: f64) -> String {
    format_general(x, 6)
}

fn format_general(x: f64, most: i32) -> String {
    if let Some(text) = special(x) {
        return text.to_owned();
    }
    let (digits, point) = digits(x);
    let exponent = point - 1;
    if x != 0.0 && (exponent < -4 || exponent >= most) {
        return scientific(x < 0.0, &digits, exponent);
    }
    format!("{x}")
}

fn scientific(negative: bool, digits: &str, exponent: i32) -> String {
    let sign = if negative { "-" } else { "" };
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!(
        "{sign}{first}{dot}{rest}e{exponent_sign}{:02}",
        exponent.abs()
    )
}

/// With `digits` significant digits (`%.2g`), trailing zeros left out.
pub(crate) fn format_g_rounded(x: f64, digits: usize) -> String {
    if special(x).is_some() || x == 0.0 {
        return format_general(x, 6);
    }
    let rounded = format!("{:.*e}", digits.saturating_sub(1), x);
    rounded.parse::<f64>().map_or(rounded, |x| {
        format_general(x, i32::try_from(digits).unwrap_or(6))
    })
}

/// All digits, never an exponent (label values of `count_values`).
pub(crate) fn format_plain(x: f64) -> String {
    special(x).map_or_else(|| format!("{x}"), str::to_owned)
}

/// As OpenMetrics writes bounds and quantiles: a whole number ends in `.0`.
pub(crate) fn format_open_metrics(x: f64) -> String {
    let text = format_g(x);
    match text.contains(['.', 'e', 'N', 'I']) {
        true => text,
        false => text + ".0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_prometheus_spells_them() {
        for (x, g, plain) in [
            (0.0, "0", "0"),
            (1.1, "1.1", "1.1"),
            (100_000.0, "100000", "100000"),
            (1e6, "1e+06", "1000000"),
            (1_234_567.0, "1.234567e+06", "1234567"),
            (1e-5, "1e-05", "0.00001"),
            (-2.5, "-2.5", "-2.5"),
            (f64::NAN, "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf"),
        ] {
            assert_eq!(format_g(x), g);
            assert_eq!(format_plain(x), plain);
        }
        assert_eq!(format_g_rounded(0.123_456, 2), "0.12");
        assert_eq!(format_g_rounded(123.0, 2), "1.2e+02");
        assert_eq!(format_open_metrics(1.0), "1.0");
        assert_eq!(format_open_metrics(0.99), "0.99");
    }
}
