//! Points in time as Go writes them into JSON and protobuf.

use lgtm_core::codec::Reader;
use lgtm_core::codec::protobuf::{put_varint_field, skip, varint_tag};
use lgtm_core::error::DecodeError;
use lgtm_core::go::{format_rfc3339, parse_rfc3339_ms, parse_rfc3339_ns};
use lgtm_core::model::TimestampNs;
use serde::{Deserialize, Deserializer, Serializer};

const SECOND: i64 = 1_000_000_000;

/// RFC 3339 with as many digits of a second as there are: Go's layout `RFC3339Nano`. For `serde(with)`.
///
/// # Errors
/// Those of the serializer.
pub(super) fn serialize<S: Serializer>(t: &TimestampNs, to: S) -> Result<S::Ok, S::Error> {
    let mut text = format_rfc3339(*t);
    let ns = t.get().rem_euclid(SECOND);
    if ns > 0 {
        text.pop();
        let digits = format!(".{ns:09}");
        text.push_str(digits.trim_end_matches('0'));
        text.push('Z');
    }
    to.serialize_str(&text)
}

/// Any RFC 3339 time. Those that 64 bits of nanoseconds do not hold, such as Go's zero time of the year 1, are the first or the last that they
/// hold.
///
/// # Errors
/// For what is no time.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TimestampNs, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
    let saturated = || {
        let ms = parse_rfc3339_ms(&text)?;
        Some(if ms.get() < 0 {
            TimestampNs::MIN
        } else {
            TimestampNs::MAX
        })
    };
    parse_rfc3339_ns(&text)
        .or_else(saturated)
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an RFC 3339 time")))
}

/// Appends the fields of a protobuf `Timestamp`.
pub(super) fn encode(t: TimestampNs, out: &mut Vec<u8>) {
    let (seconds, ns) = (t.to_seconds(), t.get().rem_euclid(SECOND));
    if seconds != 0 {
        put_varint_field(out, 1, seconds as u64);
    }
    if ns != 0 {
        put_varint_field(out, 2, ns as u64);
    }
}

/// Reads a protobuf `Timestamp`; as above at the ends.
pub(super) fn decode(bytes: &[u8]) -> Result<TimestampNs, DecodeError> {
    let mut r = Reader::new("timestamp", bytes);
    let (mut seconds, mut ns) = (0i64, 0i64);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => seconds = r.uvarint()? as i64,
            tag if tag == varint_tag(2) => ns = r.uvarint()? as i64,
            tag => skip(&mut r, tag)?,
        }
    }
    if !(0..SECOND).contains(&ns) {
        return Err(r.error(format!("{ns} nanoseconds of a second")));
    }
    Ok(TimestampNs::new(
        seconds.saturating_mul(SECOND).saturating_add(ns),
    ))
}
