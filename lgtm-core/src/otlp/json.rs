//! OTLP's JSON, written as protobuf while it is read.
//!
//! OTLP/HTTP JSON is protobuf's JSON mapping with three exceptions (identifiers in hexadecimal, enums as numbers only, unknown fields
//! ignored); see the OTLP specification. Enum names are taken as well where they are known. Nothing is built in between: a message
//! is written behind five bytes that are kept free for its length.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::codec::protobuf::wire_type;
use crate::codec::{Allowance, SizeBound, put_uvarint};
use crate::error::{Error, Result, first_chars};
use crate::otlp::schema::{Field, Kind, Message};

/// Bytes that a length takes: enough for 4 GiB, the same for all.
const LENGTH_BYTES: usize = 5;

/// Writes a JSON request, which is a `message`, as protobuf into `out`, replacing what was there. The bytes are taken from `allowance` before
/// they are made.
///
/// # Errors
/// `InvalidInput` with line and column; `LimitExceeded` when the protobuf would have more than `bound` allows; those of `allowance`.
pub fn json_to_protobuf(
    message: &'static Message,
    json: &[u8],
    bound: SizeBound,
    out: &mut Vec<u8>,
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    out.clear();
    let mut de = serde_json::Deserializer::from_slice(json);
    let mut sink = Sink {
        out,
        bound,
        allowance,
        refused: None,
    };
    let done = Fields(message, &mut sink)
        .deserialize(&mut de)
        .and_then(|()| de.end());
    match (sink.refused, done) {
        (Some(refused), _) => Err(refused),
        (None, done) => done.map_err(|e| Error::InvalidInput(in_words(&e))),
    }
}

/// What is wrong with the JSON; a text that it repeats is cut.
fn in_words(e: &serde_json::Error) -> String {
    let text = e.to_string();
    match first_chars(&text, 400) {
        short if short.len() < text.len() => format!(
            "request is not OTLP JSON: {short}... at line {} column {}",
            e.line(),
            e.column()
        ),
        all => format!("request is not OTLP JSON: {all}"),
    }
}

/// Most bytes of a tag, and of a number.
const NUMBER_BYTES: usize = 10;

struct Sink<'o, 'g> {
    out: &'o mut Vec<u8>,
    bound: SizeBound,
    allowance: &'o mut Allowance<'g>,
    /// Why there was no room, which the reader of JSON cannot tell.
    refused: Option<Error>,
}

impl Sink<'_, '_> {
    /// Makes room for a tag and `bytes` more.
    fn room<E: serde::de::Error>(&mut self, bytes: usize) -> std::result::Result<(), E> {
        let bytes = bytes + NUMBER_BYTES;
        let size = self.out.len() + bytes;
        let made = if size > self.bound.max_bytes {
            let what = format!("request has at least {size} bytes as protobuf");
            Err(self.bound.exceeded(&what))
        } else {
            self.allowance.reserve(self.out, bytes)
        };
        made.map_err(|e| self.refuse(e))
    }

    /// Makes room for bytes that are soon let go of.
    fn scratch<E: serde::de::Error>(&mut self, bytes: usize) -> std::result::Result<(), E> {
        let made = self.allowance.scratch(bytes);
        made.map_err(|e| self.refuse(e))
    }

    fn refuse<E: serde::de::Error>(&mut self, e: Error) -> E {
        self.refused = Some(e);
        E::custom("request is too large")
    }
}

/// The fields of a message, without its length.
struct Fields<'s, 'o, 'g>(&'static Message, &'s mut Sink<'o, 'g>);

/// The value of a field: one, or as many as a list has.
struct Value<'s, 'o, 'g>(&'static Field, &'s mut Sink<'o, 'g>);

impl<'de> DeserializeSeed<'de> for Fields<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> std::result::Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.0.field(&key) {
                Some(field) => map.next_value_seed(Value(field, &mut *self.1))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl Value<'_, '_, '_> {
    fn tag(&mut self) {
        let wire = match self.0.kind {
            Kind::Double | Kind::Fixed64 => wire_type::FIXED64,
            Kind::Fixed32 => wire_type::FIXED32,
            Kind::Varint | Kind::Signed | Kind::Enum(_) => wire_type::VARINT,
            Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_) => wire_type::BYTES,
        };
        put_uvarint(self.1.out, self.0.number << 3 | wire);
    }

    fn bytes<E: serde::de::Error>(&mut self, bytes: &[u8]) -> std::result::Result<(), E> {
        self.1.room(NUMBER_BYTES + bytes.len())?;
        self.tag();
        crate::codec::put_bytes(self.1.out, bytes);
        Ok(())
    }

    /// An integer of any kind; `negative` ones are given as two's complement.
    fn integer<E: serde::de::Error>(&mut self, v: i128) -> std::result::Result<(), E> {
        let name = self.0.json;
        let bits = u64::try_from(v)
            .or_else(|_| i64::try_from(v).map(|v| v as u64))
            .map_err(|_| E::custom(format!("{name}: {v} does not fit 64 bits")))?;
        match self.0.kind {
            Kind::Double => self.double((v as f64).to_bits())?,
            Kind::Fixed64 => self.double(bits)?,
            Kind::Fixed32 => {
                let bits = u32::try_from(bits)
                    .map_err(|_| E::custom(format!("{name}: {v} does not fit 32 bits")))?;
                self.1.room(NUMBER_BYTES)?;
                self.tag();
                self.1.out.extend_from_slice(&bits.to_le_bytes());
            }
            Kind::Varint | Kind::Enum(_) => {
                self.1.room(NUMBER_BYTES)?;
                self.tag();
                put_uvarint(self.1.out, bits);
            }
            Kind::Signed => {
                self.1.room(NUMBER_BYTES)?;
                self.tag();
                crate::codec::put_svarint(self.1.out, bits as i64);
            }
            _ => return Err(E::custom(format!("{name}: {v} is not of its type"))),
        }
        Ok(())
    }

    fn double<E: serde::de::Error>(&mut self, bits: u64) -> std::result::Result<(), E> {
        self.1.room(NUMBER_BYTES)?;
        self.tag();
        self.1.out.extend_from_slice(&bits.to_le_bytes());
        Ok(())
    }

    /// Numbers come as text too: 64-bit ones always, doubles when they are not finite, enums by the names of their table.
    fn number_in_text<E: serde::de::Error>(&mut self, text: &str) -> std::result::Result<(), E> {
        let name = self.0.json;
        let bad = || E::custom(format!("{name}: {:?} is no number", first_chars(text, 100)));
        if matches!(self.0.kind, Kind::Double) {
            let v: f64 = match text {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                other => other.parse().map_err(|_| bad())?,
            };
            return self.double(v.to_bits());
        }
        let named = match self.0.kind {
            Kind::Enum(names) => names.iter().find(|(name, _)| *name == text),
            _ => None,
        };
        let v = match named {
            Some((_, v)) => i128::from(*v),
            None => text.parse::<i128>().map_err(|_| bad())?,
        };
        self.integer(v)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> std::result::Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {} ({:?})", self.0.json, self.0.kind)
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(mut self, v: bool) -> std::result::Result<(), E> {
        self.integer(i128::from(v))
    }

    fn visit_u64<E: serde::de::Error>(mut self, v: u64) -> std::result::Result<(), E> {
        self.integer(i128::from(v))
    }

    fn visit_i64<E: serde::de::Error>(mut self, v: i64) -> std::result::Result<(), E> {
        self.integer(i128::from(v))
    }

    fn visit_f64<E: serde::de::Error>(mut self, v: f64) -> std::result::Result<(), E> {
        match self.0.kind {
            Kind::Double => self.double(v.to_bits()),
            _ if v.fract() == 0.0 && v.abs() < 9e15 => self.integer(v as i128),
            _ => Err(E::custom(format!("{}: {v} is no integer", self.0.json))),
        }
    }

    fn visit_str<E: serde::de::Error>(mut self, v: &str) -> std::result::Result<(), E> {
        let (name, shown) = (self.0.json, first_chars(v, 100));
        match self.0.kind {
            Kind::Text => self.bytes(v.as_bytes())?,
            Kind::Hex => {
                self.1.scratch(v.len())?;
                let bytes = from_hex(v)
                    .ok_or_else(|| E::custom(format!("{name}: {shown:?} is not hexadecimal")))?;
                self.bytes(&bytes)?;
            }
            Kind::Base64 => {
                self.1.scratch(v.len())?;
                let bytes = from_base64(v)
                    .ok_or_else(|| E::custom(format!("{name}: {shown:?} is not base64")))?;
                self.bytes(&bytes)?;
            }
            Kind::Message(_) => {
                return Err(E::custom(format!(
                    "{name}: an object is wanted, not {shown:?}"
                )));
            }
            _ => self.number_in_text(v)?,
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        while seq
            .next_element_seed(Value(self.0, &mut *self.1))?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> std::result::Result<(), A::Error> {
        let Kind::Message(message) = self.0.kind else {
            return Err(A::Error::custom(format!("{}: not an object", self.0.json)));
        };
        self.1.room(LENGTH_BYTES)?;
        self.tag();
        let at = self.1.out.len();
        self.1.out.extend_from_slice(&[0; LENGTH_BYTES]);
        Fields(message, &mut *self.1).visit_map(map)?;
        let mut length = self.1.out.len() - at - LENGTH_BYTES;
        for i in 0..LENGTH_BYTES {
            let more = if i + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            self.1.out[at + i] = (length & 0x7f) as u8 | more;
            length >>= 7;
        }
        Ok(())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|p| Some(digit(p[0])? << 4 | digit(p[1])?))
        .collect()
}

/// Standard or URL-safe alphabet, with or without padding, as protobuf's JSON mapping asks of readers.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut have) = (0u32, 0);
    for b in text.trim_end_matches('=').bytes() {
        let v = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(v);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    Some(out)
}
