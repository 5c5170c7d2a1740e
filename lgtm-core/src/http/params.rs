//! Parameters out of the URL and of a form body, and the ways to spell times.

use axum::http::{HeaderMap, header};

use crate::error::{Error, Result};
use crate::go::{parse_rfc3339_ms, parse_rfc3339_ns, quote};
use crate::timestamp::{TimestampMs, TimestampNs};

/// Names and values, in order; a name may stand several times.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Those of the URL (`query`), then those of a form body.
    ///
    /// # Errors
    /// `InvalidInput` for escapes that are none and for what is no UTF-8.
    pub fn read(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<Self> {
        let mut all = Vec::new();
        if let Some(query) = query {
            decode(query, &mut all)?;
        }
        let form = headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        if form.is_some_and(|t| t.starts_with("application/x-www-form-urlencoded")) {
            let text = std::str::from_utf8(body).map_err(|_| invalid("form body is not UTF-8"))?;
            decode(text, &mut all)?;
        }
        Ok(Self(all))
    }

    /// The first value of a name that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    /// All values of a name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let of_name = self.0.iter().filter(move |(n, _)| n == name);
        of_name.map(|(_, v)| v.as_str())
    }

    /// As [`Params::get`], for one that must be there.
    ///
    /// # Errors
    /// `InvalidInput`, in the words of Prometheus.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.get(name)
            .ok_or_else(|| invalid(format!("invalid parameter \"{name}\": parameter is empty")))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::InvalidInput(message.into())
}

fn decode(text: &str, out: &mut Vec<(String, String)>) -> Result<()> {
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        out.push((unescape(name)?, unescape(value)?));
    }
    Ok(())
}

fn unescape(text: &str) -> Result<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| (b? as char).to_digit(16);
                let hex = digit(bytes.next()).zip(digit(bytes.next()));
                let (high, low) =
                    hex.ok_or_else(|| invalid(format!("invalid URL escape in {text:?}")))?;
                (high * 16 + low) as u8
            }
            b => b,
        });
    }
    String::from_utf8(out).map_err(|_| invalid(format!("parameter {text:?} is not UTF-8")))
}

/// Seconds since the epoch, or RFC 3339, in milliseconds.
pub fn parse_time_ms(text: &str) -> Option<TimestampMs> {
    if let Ok(seconds) = text.parse::<f64>() {
        // The fraction alone is rounded: multiplied with the seconds, half a millisecond may become a whole one.
        let (whole, fraction) = (seconds.trunc() * 1000.0, seconds.fract() * 1000.0);
        return (whole.abs() < 9.2e18)
            .then(|| TimestampMs::new(whole as i64 + fraction.round() as i64));
    }
    parse_rfc3339_ms(text)
}

/// Nanoseconds since the epoch as Loki and Tempo read them: seconds, nanoseconds (more than ten digits), fractions of seconds, or RFC 3339.
///
/// # Errors
/// The words of Go's reader of integers.
pub fn parse_time_ns(text: &str) -> std::result::Result<TimestampNs, String> {
    const SECOND: i64 = 1_000_000_000;
    if text.contains('.')
        && let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        // The fraction alone is rounded, to milliseconds.
        let whole = (seconds.trunc() as i64).saturating_mul(SECOND);
        let fraction = (seconds.fract() * 1000.0).round() as i64 * 1_000_000;
        return Ok(TimestampNs::new(whole).saturating_add(fraction));
    }
    let fault = match parse_integer("ParseInt", text) {
        Ok(n) if text.len() <= 10 => return Ok(n.saturating_mul(SECOND).into()),
        Ok(n) => return Ok(n.into()),
        Err(fault) => fault,
    };
    parse_rfc3339_ns(text).ok_or(fault)
}

/// A whole number as Go reads it. `function` is Go's name of the reader.
///
/// # Errors
/// In Go's words.
pub fn parse_integer(function: &str, text: &str) -> std::result::Result<i64, String> {
    text.parse::<i64>().map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let why = if is_number {
            "value out of range"
        } else {
            "invalid syntax"
        };
        format!("strconv.{function}: parsing {}: {why}", quote(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_spellings() {
        for (text, ms) in [
            ("1435781451.781", 1_435_781_451_781),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            ("2015-07-01T22:10:51.7815+02:00", 1_435_781_451_781),
            ("1970-01-01T00:00:00Z", 0),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000),
            ("2000-02-29T00:00:00-00:30", 951_784_200_000),
            ("-1.5", -1500),
            ("1795871400.0005", 1_795_871_400_000),
            ("1795871400.0006", 1_795_871_400_001),
            ("1.9996", 2000),
            ("-1.9996", -2000),
        ] {
            assert_eq!(parse_time_ms(text), Some(TimestampMs::new(ms)), "{text}");
        }
        for bad in [
            "",
            "x",
            "2015-07-01",
            "2015-13-01T00:00:00Z",
            "2015-07-01T20:10:51",
            "NaN",
            "inf",
        ] {
            assert_eq!(parse_time_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn escapes_are_resolved() {
        let mut out = Vec::new();
        decode("a=b%20c+d&match[]=%7B%7D&x", &mut out).unwrap();
        assert_eq!(out[0].1, "b c d");
        assert_eq!(out[1], ("match[]".into(), "{}".into()));
        assert!(unescape("%zz").is_err() && unescape("%ff").is_err());
    }
}
