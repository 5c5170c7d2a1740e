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
            (Message(inner), wire_type::BYTES) => self.check_at(inner, r.bytes()?, depth + 1),
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
}
