//! One key and its value, as members tell it to each other.
//!
//! The protobuf message `KeyValuePair` of the reference systems (key 1, value 2, codec 3, deleted 4, update time in milliseconds 5),
//! so that captures can be read with the same tools: `docs/format/gossip.md`, checked against `golden/ring/wire.json`.

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_uvarint};

use crate::kv::kv::MAX_KEY_BYTES;

/// A key with a value or with a change of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: Bytes,
    /// Which codec reads the value.
    pub(super) codec: String,
    pub(super) deleted: bool,
    pub(super) update_time_ms: i64,
}

impl Pair {
    /// Appends the message, a four-byte big-endian length before it.
    pub(super) fn put_framed(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        self.put(out);
        let len = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }

    fn put(&self, out: &mut Vec<u8>) {
        let mut text = |tag: u8, bytes: &[u8]| {
            if !bytes.is_empty() {
                out.push(tag);
                put_bytes(out, bytes);
            }
        };
        text(0x0a, self.key.as_bytes());
        text(0x12, &self.value);
        text(0x1a, self.codec.as_bytes());
        if self.deleted {
            out.extend_from_slice(&[0x20, 1]);
        }
        if self.update_time_ms != 0 {
            out.push(0x28);
            put_uvarint(out, self.update_time_ms as u64);
        }
    }

    /// Reads the next framed message.
    pub(super) fn read_framed(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = r.u32()? as usize;
        Self::read(r.take(len)?)
    }

    /// Reads one message. Fields that are not known are skipped, as protobuf wants it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("key-value pair", bytes);
        let mut pair = Self::default();
        while !r.is_empty() {
            match r.uvarint()? {
                0x0a => pair.key = r.str()?.to_owned(),
                0x12 => pair.value = Bytes::copy_from_slice(r.bytes()?),
                0x1a => pair.codec = r.str()?.to_owned(),
                0x20 => pair.deleted = r.uvarint()? != 0,
                0x28 => pair.update_time_ms = r.uvarint()? as i64,
                tag => skip(&mut r, tag)?,
            }
        }
        if pair.key.is_empty() || pair.key.len() > MAX_KEY_BYTES {
            return Err(r.error(format!(
                "key of {} bytes, must have 1 to {MAX_KEY_BYTES}",
                pair.key.len()
            )));
        }
        Ok(pair)
    }
}

fn skip(r: &mut Reader<'_>, tag: u64) -> Result<(), DecodeError> {
    match tag & 7 {
        0 => r.uvarint().map(drop),
        1 => r.take(8).map(drop),
        2 => r.bytes().map(drop),
        5 => r.take(4).map(drop),
        kind => Err(r.error(format!("protobuf wire type {kind}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> impl Strategy<Value = Pair> {
        (
            ".{1,40}",
            any::<Vec<u8>>(),
            ".{0,9}",
            any::<bool>(),
            any::<i64>(),
        )
            .prop_map(|(key, value, codec, deleted, update_time_ms)| Pair {
                key,
                value: value.into(),
                codec,
                deleted,
                update_time_ms,
            })
    }

    proptest! {
        #[test]
        fn pairs_come_back(a in pair(), b in pair()) {
            let mut out = Vec::new();
            a.put_framed(&mut out);
            let first = out.len();
            b.put_framed(&mut out);
            let mut r = Reader::new("test", &out);
            prop_assert_eq!(Pair::read_framed(&mut r).unwrap(), a);
            prop_assert_eq!(r.position(), first);
            prop_assert_eq!(Pair::read_framed(&mut r).unwrap(), b);
            prop_assert!(r.is_empty());
            for cut in 0..first {
                prop_assert!(Pair::read_framed(&mut Reader::new("test", &out[..cut])).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Pair::read(&bytes);
            let _ = Pair::read_framed(&mut Reader::new("test", &bytes));
        }
    }

    /// The file with encodings of the reference, in the folder that `LGTM_SHARED` names; `None` without one, which CI does not allow.
    fn golden() -> Option<String> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
        let shared = std::env::var_os("LGTM_SHARED").unwrap_or_else(|| beside.into());
        let path = std::path::Path::new(&shared).join("golden/ring/wire.json");
        let text = std::fs::read_to_string(&path).ok();
        if text.is_none() {
            let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!in_ci, "{} is not there", path.display());
            println!("skipped: {} is not there; set LGTM_SHARED", path.display());
        }
        text
    }

    #[test]
    fn the_bytes_are_those_of_the_reference() {
        let Some(text) = golden() else { return };
        let wire: serde_json::Value = serde_json::from_str(&text).unwrap();
        let bytes = |field: &str| {
            let hex = wire[field].as_str().unwrap_or_else(|| panic!("{field}"));
            let digits = (0..hex.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&hex[i..i + 2], 16));
            digits.collect::<Result<Vec<_>, _>>().unwrap()
        };
        for (field, deleted) in [("kv_pair_hex", false), ("kv_pair_deleted_hex", true)] {
            let golden = bytes(field);
            let read = Pair::read(&golden).unwrap();
            assert_eq!(read.deleted, deleted, "{field}");
            assert_eq!(read.codec, wire["ring_codec_id"].as_str().unwrap());
            assert_eq!(read.value, bytes("ring_desc_snappy_hex"));
            assert_eq!(read.update_time_ms > 0, deleted);
            let mut out = Vec::new();
            read.put(&mut out);
            assert_eq!(out, golden, "{field}");
        }
        let state = bytes("push_pull_state_hex");
        let mut r = Reader::new("test", &state);
        let mut out = Vec::new();
        while !r.is_empty() {
            Pair::read_framed(&mut r).unwrap().put_framed(&mut out);
        }
        assert_eq!(out, state);
    }
}
