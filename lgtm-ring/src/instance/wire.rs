//! Protobuf of the ring's value, by hand: the message is small, and decoding straight into shared records saves a copy.
//!
//! Field numbers are dskit's `ring.Desc` and `ring.InstanceDesc` (`docs/format/ring.md`; `golden/ring/wire.json`). Unknown fields are skipped,
//! fields may come in any order, an unknown state is an error.

use std::sync::Arc;

use lgtm_core::DecodeError;
use lgtm_core::codec::protobuf::{bytes_tag, put_bytes_field, put_varint_field, skip, varint_tag};
use lgtm_core::codec::{Reader, put_uvarint, uvarint_len};

use crate::instance::{Instance, InstanceState, RingDesc};
use crate::token::Token;

const WHAT: &str = "ring value";
/// Fields from 100 on are ours; dskit skips them.
const CLOCK_EPOCH: u64 = 100;

impl RingDesc {
    /// The protobuf message, instances in the order of their ids.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let (mut record, mut entry) = (Vec::new(), Vec::new());
        for (id, instance) in &self.instances {
            record.clear();
            instance.encode(&mut record);
            entry.clear();
            put_bytes_field(&mut entry, 1, id.as_bytes());
            put_bytes_field(&mut entry, 2, &record);
            put_bytes_field(&mut out, 1, &entry);
        }
        out
    }

    /// Reads the protobuf message. Memory is bounded by a small multiple of the input.
    ///
    /// # Errors
    /// For bytes that are no such message; names the offset in the innermost message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut desc = Self::new();
        let mut r = Reader::new(WHAT, bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => {
                    let (id, mut instance) = decode_entry(r.bytes()?)?;
                    if instance.id.is_empty() {
                        instance.id.clone_from(&id);
                    }
                    desc.instances.insert(id, Arc::new(instance));
                }
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(desc)
    }
}

fn decode_entry(bytes: &[u8]) -> Result<(String, Instance), DecodeError> {
    let (mut id, mut instance) = (String::new(), Instance::default());
    let mut r = Reader::new(WHAT, bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => id = r.str()?.to_owned(),
            tag if tag == bytes_tag(2) => instance = Instance::decode(r.bytes()?)?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok((id, instance))
}

impl Instance {
    /// Appends the protobuf message. Fields with their zero value are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_str(out, 1, &self.addr);
        put_int(out, 2, self.timestamp_s as u64);
        put_int(out, 3, self.state as u64);
        if !self.tokens.is_empty() {
            let len: usize = self.tokens.iter().map(|t| uvarint_len(t.0.into())).sum();
            put_uvarint(out, bytes_tag(6));
            put_uvarint(out, len as u64);
            out.reserve(len);
            for token in self.tokens.iter() {
                put_uvarint(out, token.0.into());
            }
        }
        put_str(out, 7, &self.zone);
        put_int(out, 8, self.registered_timestamp_s as u64);
        put_str(out, 9, &self.id);
        put_int(out, 10, self.read_only_updated_timestamp_s as u64);
        put_int(out, 11, u64::from(self.read_only));
        for (&component, &version) in &self.versions {
            let mut entry = Vec::with_capacity(22);
            for (number, value) in [(1, component), (2, version)] {
                put_varint_field(&mut entry, number, value);
            }
            put_bytes_field(out, 12, &entry);
        }
        put_int(out, CLOCK_EPOCH, self.clock_epoch);
    }

    /// Reads the protobuf message.
    ///
    /// # Errors
    /// For bytes that are no such message, and for a state that this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut instance = Self::default();
        let mut tokens: Vec<Token> = Vec::new();
        let mut r = Reader::new(WHAT, bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => instance.addr = r.str()?.to_owned(),
                tag if tag == varint_tag(2) => instance.timestamp_s = r.uvarint()? as i64,
                tag if tag == varint_tag(3) => instance.state = state(&mut r)?,
                tag if tag == bytes_tag(6) => decode_tokens(r.bytes()?, &mut tokens)?,
                tag if tag == varint_tag(6) => tokens.push(token(&mut r)?),
                tag if tag == bytes_tag(7) => instance.zone = r.str()?.to_owned(),
                tag if tag == varint_tag(8) => {
                    instance.registered_timestamp_s = r.uvarint()? as i64
                }
                tag if tag == bytes_tag(9) => instance.id = r.str()?.to_owned(),
                tag if tag == varint_tag(10) => {
                    instance.read_only_updated_timestamp_s = r.uvarint()? as i64
                }
                tag if tag == varint_tag(11) => instance.read_only = r.uvarint()? != 0,
                tag if tag == bytes_tag(12) => {
                    let (component, version) = decode_version(r.bytes()?)?;
                    instance.versions.insert(component, version);
                }
                tag if tag == varint_tag(CLOCK_EPOCH) => instance.clock_epoch = r.uvarint()?,
                tag => skip(&mut r, tag)?,
            }
        }
        instance.tokens = tokens.into();
        Ok(instance)
    }
}

fn decode_tokens(bytes: &[u8], out: &mut Vec<Token>) -> Result<(), DecodeError> {
    // A token has at least one byte, most have five.
    out.reserve(bytes.len() / 4);
    let mut rest = bytes;
    // Most of a ring's bytes are tokens, and most tokens have five: read eight bytes at once where there are as many.
    while let Some(eight) = rest.first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let len = ((!word & 0x8080_8080_8080_8080).trailing_zeros() as usize + 1) / 8;
        if len == 0 || len > 5 {
            break;
        }
        let value = gather_sevens(word & (u64::MAX >> (64 - 8 * len)));
        let Ok(value) = u32::try_from(value) else {
            break;
        };
        out.push(Token(value));
        rest = &rest[len..];
    }
    // The end, and whatever is not as it should be, one by one.
    let mut r = Reader::new(WHAT, bytes);
    r.take(bytes.len() - rest.len())?;
    while !r.is_empty() {
        out.push(token(&mut r)?);
    }
    Ok(())
}

/// The number whose seven-bit groups are the lower bits of the first five bytes.
#[inline]
fn gather_sevens(word: u64) -> u64 {
    let group = |n: u32| (word >> (8 * n) & 0x7f) << (7 * n);
    group(0) | group(1) | group(2) | group(3) | group(4)
}

fn token(r: &mut Reader<'_>) -> Result<Token, DecodeError> {
    let value = r.uvarint()?;
    let token = u32::try_from(value);
    token
        .map(Token)
        .map_err(|_| r.error(format!("token {value} exceeds 32 bits")))
}

fn state(r: &mut Reader<'_>) -> Result<InstanceState, DecodeError> {
    let value = r.uvarint()?;
    let known = InstanceState::ALL.into_iter().find(|&s| s as u64 == value);
    known.ok_or_else(|| {
        r.error(format!(
            "instance state {value} is unknown, 0 to 4 are known"
        ))
    })
}

fn decode_version(bytes: &[u8]) -> Result<(u64, u64), DecodeError> {
    let (mut component, mut version) = (0, 0);
    let mut r = Reader::new(WHAT, bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => component = r.uvarint()?,
            tag if tag == varint_tag(2) => version = r.uvarint()?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok((component, version))
}

fn put_str(out: &mut Vec<u8>, number: u64, text: &str) {
    if !text.is_empty() {
        put_bytes_field(out, number, text.as_bytes());
    }
}

fn put_int(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_varint_field(out, number, value);
    }
}
