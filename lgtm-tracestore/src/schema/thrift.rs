//! Thrift's compact protocol, as far as Parquet's footers, page headers and indexes need it.
//!
//! The `parquet` crate reads these too, but trusts lengths in places; here nothing is made by a number that the bytes do not back.

use lgtm_core::codec::Reader;
use lgtm_core::error::DecodeError;

/// Structures in structures that are passed over.
const MAX_DEPTH: usize = 32;

/// Types of fields and elements.
pub(crate) const BINARY: u8 = 8;
pub(crate) const LIST: u8 = 9;
pub(crate) const STRUCT: u8 = 12;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I8: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const SET: u8 = 10;
const MAP: u8 = 11;

/// A cursor over compact Thrift.
#[derive(Debug, Clone)]
pub(crate) struct Thrift<'a>(Reader<'a>);

/// A field of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its number.
    pub(crate) id: i16,
    /// Its type.
    pub(crate) kind: u8,
}

impl<'a> Thrift<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self(Reader::new(what, bytes))
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.0.position()
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> DecodeError {
        self.0.error(reason)
    }

    /// Walks the fields of a structure. `each` reads the value and says so, or leaves it to be passed over.
    pub(crate) fn structure<E: From<DecodeError>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Field) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut id = 0i16;
        while let Some(field) = self.field(&mut id)? {
            if !each(self, field)? {
                self.skip(field.kind, 0)?;
            }
        }
        Ok(())
    }

    fn field(&mut self, last: &mut i16) -> Result<Option<Field>, DecodeError> {
        let head = self.0.u8()?;
        let kind = head & 15;
        if kind == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.0.svarint()? as i16,
            step => last.wrapping_add(i16::from(step)),
        };
        Ok(Some(Field { id: *last, kind }))
    }

    /// An integer of any size: a field's, whose type is checked.
    pub(crate) fn int(&mut self, field: Field) -> Result<i64, DecodeError> {
        match field.kind {
            I16 | I32 | I64 => self.0.svarint(),
            I8 => Ok(i64::from(self.0.u8()? as i8)),
            kind => Err(self.error(format!(
                "field {} is of type {kind}, not a number",
                field.id
            ))),
        }
    }

    /// A number that is not negative.
    pub(crate) fn count(&mut self, field: Field) -> Result<u64, DecodeError> {
        let value = self.int(field)?;
        u64::try_from(value).map_err(|_| self.error(format!("field {} is {value}", field.id)))
    }

    /// A boolean, which lies in the field's type.
    pub(crate) fn boolean(field: Field) -> bool {
        field.kind == TRUE
    }

    /// Bytes: a field's, or an element's of a list of them.
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.0.uvarint()?;
        self.0.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// An element of a list of integers.
    pub(crate) fn element_int(&mut self) -> Result<i64, DecodeError> {
        self.0.svarint()
    }

    /// An element of a list of booleans.
    pub(crate) fn element_boolean(&mut self) -> Result<bool, DecodeError> {
        Ok(self.0.u8()? == TRUE)
    }

    /// The number of elements of a list whose type is checked. There are at least as many bytes left.
    pub(crate) fn list(&mut self, field: Field, kind: u8) -> Result<usize, DecodeError> {
        if field.kind != LIST {
            return Err(self.error(format!("field {} is no list", field.id)));
        }
        let (len, found) = self.list_head()?;
        let is_boolean = |kind| kind == TRUE || kind == FALSE;
        if found != kind && len > 0 && !(is_boolean(found) && is_boolean(kind)) {
            return Err(self.error(format!("a list of type {found}, {kind} is expected")));
        }
        Ok(len)
    }

    /// The number of booleans of a list of them.
    pub(crate) fn list_of_booleans(&mut self, field: Field) -> Result<usize, DecodeError> {
        self.list(field, TRUE)
    }

    /// The number of 64-bit integers of a list of them.
    pub(crate) fn list_of_ints(&mut self, field: Field) -> Result<usize, DecodeError> {
        self.list(field, I64)
    }

    fn list_head(&mut self) -> Result<(usize, u8), DecodeError> {
        let head = self.0.u8()?;
        let len = match head >> 4 {
            15 => self.0.uvarint()?,
            len => u64::from(len),
        };
        if len > self.0.remaining() as u64 {
            return Err(self.error(format!(
                "a list of {len}, {} bytes left",
                self.0.remaining()
            )));
        }
        Ok((len as usize, head & 15))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(self.error("structures lie too deep in each other"));
        }
        match kind {
            TRUE | FALSE => {}
            I8 => drop(self.0.u8()?),
            I16 | I32 | I64 => drop(self.0.uvarint()?),
            DOUBLE => drop(self.0.take(8)?),
            BINARY => drop(self.binary()?),
            LIST | SET => {
                let (len, kind) = self.list_head()?;
                for _ in 0..len {
                    self.skip_element(kind, depth + 1)?;
                }
            }
            MAP => {
                let len = self.0.uvarint()?;
                if len > self.0.remaining() as u64 {
                    return Err(self.error(format!("a map of {len}")));
                }
                if len > 0 {
                    let kinds = self.0.u8()?;
                    for _ in 0..len {
                        self.skip_element(kinds >> 4, depth + 1)?;
                        self.skip_element(kinds & 15, depth + 1)?;
                    }
                }
            }
            STRUCT => {
                let mut id = 0;
                while let Some(field) = self.field(&mut id)? {
                    self.skip(field.kind, depth + 1)?;
                }
            }
            kind => return Err(self.error(format!("unknown type {kind}"))),
        }
        Ok(())
    }

    /// Elements that are booleans take a byte, unlike fields.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<(), DecodeError> {
        if kind == TRUE || kind == FALSE {
            self.0.u8()?;
            return Ok(());
        }
        self.skip(kind, depth)
    }
}
