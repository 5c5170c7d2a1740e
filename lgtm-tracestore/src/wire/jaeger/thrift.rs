//! Thrift's binary protocol, walked in place. Source: the specification of Apache Thrift.

use lgtm_core::codec::Reader;
use lgtm_core::error::DecodeError;

/// How deep values may lie in each other that are skipped.
const MAX_DEPTH: usize = 32;

/// Types of values.
pub(super) mod value_type {
    pub(in super::super) const BOOL: u8 = 2;
    pub(in super::super) const BYTE: u8 = 3;
    pub(in super::super) const DOUBLE: u8 = 4;
    pub(in super::super) const I16: u8 = 6;
    pub(in super::super) const I32: u8 = 8;
    pub(in super::super) const I64: u8 = 10;
    pub(in super::super) const BINARY: u8 = 11;
    pub(in super::super) const STRUCT: u8 = 12;
    pub(in super::super) const MAP: u8 = 13;
    pub(in super::super) const SET: u8 = 14;
    pub(in super::super) const LIST: u8 = 15;
}

use value_type::{BINARY, BOOL, BYTE, DOUBLE, I16, I32, I64, LIST, MAP, SET, STRUCT};

type Decoded<T> = std::result::Result<T, DecodeError>;

/// The next field of a struct: its type and number; `None` at the struct's end.
pub(super) fn field(r: &mut Reader<'_>) -> Decoded<Option<(u8, u16)>> {
    match r.u8()? {
        0 => Ok(None),
        kind => Ok(Some((kind, r.u16()?))),
    }
}

pub(super) fn i32(r: &mut Reader<'_>) -> Decoded<i32> {
    Ok(r.u32()? as i32)
}

pub(super) fn i64(r: &mut Reader<'_>) -> Decoded<i64> {
    Ok(r.u64()? as i64)
}

/// Text or bytes.
pub(super) fn binary<'a>(r: &mut Reader<'a>) -> Decoded<&'a [u8]> {
    let len = r.u32()?;
    if len as usize > r.remaining() {
        return Err(r.error(format!(
            "length {len} exceeds the {} bytes left",
            r.remaining()
        )));
    }
    r.take(len as usize)
}

/// Number of elements of a list of structs, each of which takes a byte at least.
pub(super) fn structs(r: &mut Reader<'_>) -> Decoded<u32> {
    let (kind, count) = (r.u8()?, r.u32()?);
    if count > 0 && kind != STRUCT {
        return Err(r.error(format!(
            "a list of type {kind} where one of structs is wanted"
        )));
    }
    if count as usize > r.remaining() {
        return Err(r.error(format!(
            "{count} elements exceed the {} bytes left",
            r.remaining()
        )));
    }
    Ok(count)
}

/// Skips a value.
pub(super) fn skip(r: &mut Reader<'_>, kind: u8) -> Decoded<()> {
    skip_at(r, kind, 0)
}

fn skip_at(r: &mut Reader<'_>, kind: u8, depth: usize) -> Decoded<()> {
    if depth > MAX_DEPTH {
        return Err(r.error(format!("values lie more than {MAX_DEPTH} deep")));
    }
    match kind {
        BOOL | BYTE => r.take(1).map(drop),
        I16 => r.take(2).map(drop),
        I32 => r.take(4).map(drop),
        I64 | DOUBLE => r.take(8).map(drop),
        BINARY => binary(r).map(drop),
        STRUCT => {
            while let Some((kind, _)) = field(r)? {
                skip_at(r, kind, depth + 1)?;
            }
            Ok(())
        }
        LIST | SET => {
            let (kind, count) = (r.u8()?, r.u32()?);
            elements(r, count)?;
            (0..count).try_for_each(|_| skip_at(r, kind, depth + 1))
        }
        MAP => {
            let (key, value, count) = (r.u8()?, r.u8()?, r.u32()?);
            elements(r, count)?;
            (0..count).try_for_each(|_| {
                skip_at(r, key, depth + 1)?;
                skip_at(r, value, depth + 1)
            })
        }
        other => Err(r.error(format!("type {other} is not known"))),
    }
}

fn elements(r: &Reader<'_>, count: u32) -> Decoded<()> {
    if count as usize > r.remaining() {
        return Err(r.error(format!(
            "{count} elements exceed the {} bytes left",
            r.remaining()
        )));
    }
    Ok(())
}
