//! The messages of an OTLP request as far as they are looked at before they are stored: whether the bytes are such messages, and which texts
//! of attributes are too long. One table of fields serves both, and the rewriting of what is too long.

use lgtm_core::codec::protobuf::{put_bytes_field, put_message, skip, wire_type};
use lgtm_core::codec::{Reader, put_uvarint};
use lgtm_core::error::DecodeError;

/// How deep messages may lie in each other, a list in a list being two deeper and a map in a map three. Senders use one or two levels.
const MAX_DEPTH: usize = 100;

/// What a field holds.
#[derive(Debug)]
pub(super) enum FieldKind {
    /// Nothing that is known: skipped.
    Unknown,
    Varint,
    Fixed64,
    Fixed32,
    Bytes,
    /// Key or text of an attribute: bounded.
    Text,
    /// A span's parent; an id of zeros is none.
    Parent,
    Message(&'static Shape),
}

use FieldKind::{Bytes, Fixed32, Fixed64, Message, Parent, Text, Unknown, Varint};

/// A message: what its fields hold, by number, and its name in errors.
#[derive(Debug)]
pub(super) struct Shape {
    name: &'static str,
    fields: &'static [FieldKind],
}

pub(super) static RESOURCE: Shape = Shape {
    name: "resource",
    fields: &[Unknown, Message(&KEY_VALUE), Varint],
};

pub(super) static SCOPE: Shape = Shape {
    name: "scope",
    fields: &[Unknown, Bytes, Bytes, Message(&KEY_VALUE), Varint],
};

pub(super) static SPAN: Shape = Shape {
    name: "span",
    fields: &[
        Unknown,
        Bytes,
        Bytes,
        Bytes,
        Parent,
        Bytes,
        Varint,
        Fixed64,
        Fixed64,
        Message(&KEY_VALUE),
        Varint,
        Message(&EVENT),
        Varint,
        Message(&LINK),
        Varint,
        Message(&STATUS),
        Fixed32,
    ],
};

static EVENT: Shape = Shape {
    name: "event",
    fields: &[Unknown, Fixed64, Bytes, Message(&KEY_VALUE), Varint],
};

static LINK: Shape = Shape {
    name: "link",
    fields: &[
        Unknown,
        Bytes,
        Bytes,
        Bytes,
        Message(&KEY_VALUE),
        Varint,
        Fixed32,
    ],
};

static STATUS: Shape = Shape {
    name: "status",
    fields: &[Unknown, Unknown, Bytes, Varint],
};

static KEY_VALUE: Shape = Shape {
    name: "attribute",
    fields: &[Unknown, Text, Message(&ANY_VALUE)],
};

static ANY_VALUE: Shape = Shape {
    name: "attribute value",
    fields: &[
        Unknown,
        Text,
        Varint,
        Varint,
        Fixed64,
        Message(&ARRAY),
        Message(&MAP),
        Bytes,
    ],
};

static ARRAY: Shape = Shape {
    name: "list",
    fields: &[Unknown, Message(&ANY_VALUE)],
};

static MAP: Shape = Shape {
    name: "map",
    fields: &[Unknown, Message(&KEY_VALUE)],
};

/// Texts of attributes longer than this many bytes are cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextBound(pub(super) usize);

impl TextBound {
    /// Looks at a whole message; tells whether it must be written anew.
    pub(super) fn check(self, shape: &Shape, bytes: &[u8]) -> Result<bool, DecodeError> {
        self.check_at(shape, bytes, 0)
    }

    fn check_at(self, shape: &Shape, bytes: &[u8], depth: usize) -> Result<bool, DecodeError> {
        let mut r = Reader::new(shape.name, bytes);
        if depth > MAX_DEPTH {
            return Err(r.error(format!("messages lie more than {MAX_DEPTH} deep")));
        }
        let mut is_long = false;
        while !r.is_empty() {
            let tag = r.uvarint()?;
            is_long |= self.check_field(shape, tag, &mut r, depth)?;
        }
        Ok(is_long)
    }

    /// Goes over the field of a message whose tag was read.
    #[inline]
    pub(super) fn check_field(
        self,
        shape: &Shape,
        tag: u64,
        r: &mut Reader<'_>,
        depth: usize,
    ) -> Result<bool, DecodeError> {
        match (field_of(shape, tag), tag & 7) {
            (Message(inner), wire_type::BYTES) => {
                let bytes = r.bytes()?;
                if std::ptr::eq(*inner, &KEY_VALUE)
                    && let Some(is_long) = self.check_plain_attribute(bytes)
                {
                    return Ok(is_long);
                }
                self.check_at(inner, bytes, depth + 1)
            }
            (Text, wire_type::BYTES) => Ok(r.bytes()?.len() > self.0),
            (Parent, wire_type::BYTES) => Ok(is_zero_id(r.bytes()?)),
            (Varint, wire_type::VARINT) => r.uvarint().map(|_| false),
            (Fixed64, wire_type::FIXED64) => r.take(8).map(|_| false),
            (Fixed32, wire_type::FIXED32) => r.take(4).map(|_| false),
            (Bytes, wire_type::BYTES) => r.bytes().map(|_| false),
            (Unknown, _) => skip(r, tag).map(|()| false),
            (_, other) => {
                let field = tag >> 3;
                Err(r.error(format!("field {field} has wire type {other}")))
            }
        }
    }

    /// An attribute as nearly all are: a short key, then a short text, or a number of one byte. `None` for any other, which may be right all the same.
    #[inline]
    fn check_plain_attribute(self, bytes: &[u8]) -> Option<bool> {
        const KEY: u8 = 1 << 3 | wire_type::BYTES as u8;
        const VALUE: u8 = 2 << 3 | wire_type::BYTES as u8;
        const TEXT: u8 = 1 << 3 | wire_type::BYTES as u8;
        const BOOL: u8 = 2 << 3 | wire_type::VARINT as u8;
        const INT: u8 = 3 << 3 | wire_type::VARINT as u8;
        let (key, rest) = short_field(bytes, KEY)?;
        let (value, rest) = short_field(rest, VALUE)?;
        if !rest.is_empty() {
            return None;
        }
        let longest = match *value {
            [BOOL | INT, 0..0x80] => key.len(),
            [TEXT, ..] => match short_field(value, TEXT)? {
                (text, []) => key.len().max(text.len()),
                _ => return None,
            },
            _ => return None,
        };
        Some(longest > self.0)
    }

    /// Appends a message, which was checked, with its texts cut. It does not get longer. Counts the texts.
    pub(super) fn cut(
        self,
        shape: &Shape,
        bytes: &[u8],
        out: &mut Vec<u8>,
        count: &mut u64,
    ) -> Result<(), DecodeError> {
        let mut r = Reader::new(shape.name, bytes);
        while !r.is_empty() {
            let tag = r.uvarint()?;
            let field = tag >> 3;
            match field_of(shape, tag) {
                Message(inner) => {
                    let body = r.bytes()?;
                    let mut done = Ok(());
                    put_message(out, field, |out| done = self.cut(inner, body, out, count));
                    done?;
                }
                Text => {
                    let text = r.bytes()?;
                    let short = cut_text(text, self.0);
                    *count += u64::from(short.len() < text.len());
                    put_bytes_field(out, field, short);
                }
                Parent => {
                    let id = r.bytes()?;
                    if !is_zero_id(id) {
                        put_bytes_field(out, field, id);
                    }
                }
                _ => {
                    let from = r.position();
                    skip(&mut r, tag)?;
                    put_uvarint(out, tag);
                    out.extend_from_slice(&bytes[from..r.position()]);
                }
            }
        }
        Ok(())
    }
}

/// The bytes of a field with a length of one byte, and what is behind it.
#[inline]
fn short_field(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match bytes {
        [first, len @ 0..0x80, rest @ ..] if *first == tag => rest.split_at_checked((*len).into()),
        _ => None,
    }
}

#[inline]
fn field_of(shape: &Shape, tag: u64) -> &'static FieldKind {
    shape.fields.get((tag >> 3) as usize).unwrap_or(&Unknown)
}

fn is_zero_id(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().all(|b| *b == 0)
}

/// At most `max` bytes of a text, no character of it in two; text that is no UTF-8 is cut where the bound is.
fn cut_text(text: &[u8], max: usize) -> &[u8] {
    if text.len() <= max {
        return text;
    }
    let begins = |at: &usize| text[*at] & 0xc0 != 0x80;
    let from = max.saturating_sub(3);
    let end = (from..=max).rev().find(begins).unwrap_or(max);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use lgtm_core::codec::protobuf::put_varint_field;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, max, left) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "abc"),
            ("aäb", 2, "a"),
            ("aäb", 3, "aä"),
            ("€uro", 2, ""),
            ("a𝄞", 4, "a"),
            ("a𝄞", 5, "a𝄞"),
            ("abc", 0, ""),
        ] {
            assert_eq!(
                cut_text(text.as_bytes(), max),
                left.as_bytes(),
                "{text} {max}"
            );
        }
        assert_eq!(cut_text(&[0x80; 9], 5), [0x80; 5]);
    }

    proptest! {
        /// The short way says what the long one does, or nothing.
        #[test]
        fn plain_attributes_are_checked_as_all_are(
            key in vec(any::<u8>(), 0..140),
            text in vec(any::<u8>(), 0..140),
            number in any::<u64>(),
            shape in 0u8..6,
            flip in any::<prop::sample::Index>(),
            bit in 0u8..12,
            max in 0usize..140,
        ) {
            let mut bytes = Vec::new();
            put_bytes_field(&mut bytes, 1, &key);
            put_message(&mut bytes, 2, |out| match shape {
                0 => put_bytes_field(out, 1, &text),
                1 => put_varint_field(out, 3, number),
                2 => put_varint_field(out, 2, number % 2),
                3 => put_bytes_field(out, 5, &text),
                4 => out.extend_from_slice(&text),
                _ => {}
            });
            if bit < 8 {
                let at = flip.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            let bound = TextBound(max);
            let long = bound.check_at(&KEY_VALUE, &bytes, 1);
            match bound.check_plain_attribute(&bytes) {
                Some(is_long) => prop_assert_eq!(long.ok(), Some(is_long)),
                None => prop_assert!(shape != 0 || bit < 8 || key.len().max(text.len()) >= 124),
            }
        }
    }
}
