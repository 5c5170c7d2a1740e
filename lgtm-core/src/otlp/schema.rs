//! Messages of `opentelemetry-proto` as tables, for their JSON: field numbers and JSON names; and those that all signals share.
//!
//! From the published `opentelemetry-proto` 1.x definitions, which never change a number.

/// A message: its fields.
#[derive(Debug)]
pub struct Message(pub &'static [Field]);

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// lowerCamelCase, as OTLP's JSON spells it; snake_case is taken too.
    pub json: &'static str,
    /// Its number.
    pub number: u64,
    /// How its value is spelled.
    pub kind: Kind,
}

/// How a value is spelled on both sides.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Text.
    Text,
    /// Bytes; identifiers are hexadecimal in OTLP's JSON, unlike in JSON of other protobufs.
    Hex,
    /// Bytes, base64 in JSON.
    Base64,
    /// A double.
    Double,
    /// Eight bytes, unsigned or signed.
    Fixed64,
    /// Four bytes, unsigned.
    Fixed32,
    /// Unsigned, `bool` or `int64` as varint.
    Varint,
    /// An enum: a number, or in JSON one of the names by which it is known.
    Enum(&'static [(&'static str, u64)]),
    /// Zig-zag.
    Signed,
    /// A message.
    Message(&'static Message),
}

/// A field.
pub const fn field(json: &'static str, number: u64, kind: Kind) -> Field {
    Field { json, number, kind }
}

/// What sent the items.
pub static RESOURCE: Message = Message(&[
    field("attributes", 1, Kind::Message(&KEY_VALUE)),
    field("droppedAttributesCount", 2, Kind::Varint),
]);

/// The instrumentation scope of the items.
pub static SCOPE: Message = Message(&[
    field("name", 1, Kind::Text),
    field("version", 2, Kind::Text),
    field("attributes", 3, Kind::Message(&KEY_VALUE)),
    field("droppedAttributesCount", 4, Kind::Varint),
]);

/// An attribute.
pub static KEY_VALUE: Message = Message(&[
    field("key", 1, Kind::Text),
    field("value", 2, Kind::Message(&ANY_VALUE)),
]);

/// A value of any shape.
pub static ANY_VALUE: Message = Message(&[
    field("stringValue", 1, Kind::Text),
    field("boolValue", 2, Kind::Varint),
    field("intValue", 3, Kind::Varint),
    field("doubleValue", 4, Kind::Double),
    field("arrayValue", 5, Kind::Message(&ARRAY_VALUE)),
    field("kvlistValue", 6, Kind::Message(&LIST_VALUE)),
    field("bytesValue", 7, Kind::Base64),
]);

static ARRAY_VALUE: Message = Message(&[field("values", 1, Kind::Message(&ANY_VALUE))]);

static LIST_VALUE: Message = Message(&[field("values", 1, Kind::Message(&KEY_VALUE))]);

impl Message {
    /// The field that a JSON key names.
    pub fn field(&self, key: &str) -> Option<&'static Field> {
        self.0
            .iter()
            .find(|f| f.json == key || is_snake_of(key, f.json))
    }
}

/// Whether `key` is `camel` in snake_case.
fn is_snake_of(key: &str, camel: &str) -> bool {
    let mut rest = key.bytes();
    let same = camel.bytes().all(|c| {
        if c.is_ascii_uppercase() {
            rest.next() == Some(b'_') && rest.next() == Some(c.to_ascii_lowercase())
        } else {
            rest.next() == Some(c)
        }
    });
    same && rest.next().is_none()
}
