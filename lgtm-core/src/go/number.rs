//! Number literals as Go reads them.
//! Source: <https://go.dev/ref/spec#Integer_literals> and the documentation of `strconv.ParseFloat`.

use crate::go::quote::quote;

/// Reads a number token: an integer in Go's spelling (`017` is octal, `0x1f`, `1_000`), else a decimal number, `inf` or `nan`.
///
/// # Errors
/// In the words of `strconv.ParseFloat`.
pub fn parse_number(text: &str) -> Result<f64, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
