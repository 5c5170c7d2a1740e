//! What a label's text may be read as.

use super::units::{parse_bytes, parse_float, parse_go_duration};

/// What a text can be read as: the first of these that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// A whole number of 64 bits.
    Int,
    /// A number.
    Float,
    /// A truth, as Go reads it.
    Boolean,
    /// A duration, as Go reads it.
    Duration,
    /// A size.
    Bytes,
    /// Nothing but text.
    Text,
}

impl ValueKind {
    /// What a text can be read as.
    pub fn of(text: &str) -> Self {
        if text.parse::<i64>().is_ok() {
            Self::Int
        } else if parse_float(text).is_ok() {
            Self::Float
        } else if matches!(
            text,
            "t" | "T" | "true" | "TRUE" | "True" | "f" | "F" | "false" | "FALSE" | "False"
        ) {
            Self::Boolean
        } else if parse_go_duration(text).is_ok() {
            Self::Duration
        } else if parse_bytes(text).is_ok() {
            Self::Bytes
        } else {
            Self::Text
        }
    }

    /// As Loki names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::Text => "string",
        }
    }

    /// Whether it is a number without a unit.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Float)
    }
}

/// A size in the largest unit of thousands, two digits of it: `10kB`, `3.1MB`. `None` for what is no size.
pub(crate) fn short_bytes(text: &str) -> Option<String> {
    let bytes = parse_bytes(text).ok()?;
    if bytes < 10 {
        return Some(format!("{bytes}B"));
    }
    let mut unit = 0;
    let mut size = bytes as f64;
    while size >= 1000.0 && unit < 6 {
        size /= 1000.0;
        unit += 1;
    }
    let size = (size * 10.0 + 0.5).floor() / 10.0;
    let unit = ["B", "kB", "MB", "GB", "TB", "PB", "EB"][unit];
    Some(if size < 10.0 {
        format!("{size:.1}{unit}")
    } else {
        format!("{size:.0}{unit}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_kind_that_fits_counts() {
        for (text, kind) in [
            ("7", "int"),
            ("+7", "int"),
            ("9223372036854775808", "float"),
            ("1e3", "float"),
            ("NaN", "float"),
            ("true", "boolean"),
            ("T", "boolean"),
            ("tRue", "string"),
            ("1", "int"),
            ("1.5s", "duration"),
            ("10m", "duration"),
            ("10MB", "bytes"),
            ("1,024", "bytes"),
            ("", "string"),
            ("x", "string"),
        ] {
            assert_eq!(ValueKind::of(text).as_str(), kind, "{text}");
        }
        assert_eq!(short_bytes("x"), None);
    }
}
