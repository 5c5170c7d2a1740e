//! Label sets as remote write 1.0 spells them.
//!
//! `0x0A len (0x0A nlen name 0x12 vlen value)` for every label: the bytes that stand in a request. All protocols are brought into
//! this spelling, so that a series can be found by a hash of these bytes alone, without looking into them.

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_uvarint, uvarint_len};

/// Tag of a label in a series, and of a name in a label.
const TAG_1: u8 = 0x0a;
/// Tag of a value in a label.
const TAG_2: u8 = 0x12;

/// A borrowed label set, not looked into yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawLabels<'a>(&'a [u8]);

impl<'a> RawLabels<'a> {
    /// Labels in this spelling; whether they are is seen when they are read.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Names and values in the order in which they stand. Fields unknown to the protocol are skipped.
    pub fn iter(
        &self,
    ) -> impl Iterator<Item = Result<(&'a str, &'a str), DecodeError>> + Clone + use<'a> {
        let mut r = Reader::new("labels", self.0);
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed || r.is_empty() {
                return None;
            }
            let pair = read_label(&mut r);
            failed = pair.is_err();
            Some(pair)
        })
    }

    /// Whether this is the one spelling that our own encoder gives: sorted, no name twice, nothing empty, no odd field.
    pub fn is_canonical(&self) -> bool {
        let (mut last, mut rest) = ("", self.0);
        let mut wanted = Vec::new();
        for pair in self.iter() {
            let Ok((name, value)) = pair else {
                return false;
            };
            if name <= last || value.is_empty() {
                return false;
            }
            last = name;
            wanted.clear();
            RawLabelsBuilder::push(name, value, &mut wanted);
            match rest.strip_prefix(wanted.as_slice()) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        rest.is_empty()
    }
}

fn read_label<'a>(r: &mut Reader<'a>) -> Result<(&'a str, &'a str), DecodeError> {
    if r.u8()? != TAG_1 {
        return Err(r.error("not a label"));
    }
    let mut label = Reader::new("label", r.bytes()?);
    let (mut name, mut value) = ("", "");
    while !label.is_empty() {
        match label.uvarint()? {
            tag if tag == u64::from(TAG_1) => name = label.str()?,
            tag if tag == u64::from(TAG_2) => value = label.str()?,
            tag => lgtm_core::codec::protobuf::skip(&mut label, tag)?,
        }
    }
    Ok((name, value))
}

/// Writes label sets in this spelling.
#[derive(Debug)]
pub struct RawLabelsBuilder;

impl RawLabelsBuilder {
    /// Appends one label to `out`.
    pub fn push(name: &str, value: &str, out: &mut Vec<u8>) {
        let field = |n: usize| 1 + uvarint_len(n as u64) + n;
        out.push(TAG_1);
        put_uvarint(out, (field(name.len()) + field(value.len())) as u64);
        out.push(TAG_1);
        put_bytes(out, name.as_bytes());
        out.push(TAG_2);
        put_bytes(out, value.as_bytes());
    }

    /// Appends a label set that is sorted and has nothing empty.
    pub fn encode<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
        labels.for_each(|(n, v)| Self::push(n, v, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        RawLabelsBuilder::encode(pairs.iter().copied(), &mut out);
        out
    }

    #[test]
    fn only_one_spelling_is_canonical() {
        assert!(RawLabels::new(&bytes(&[("a", "1"), ("b", "2")])).is_canonical());
        for odd in [
            &[("b", "1"), ("a", "2")][..],
            &[("a", "1"), ("a", "2")],
            &[("a", "")],
            &[("", "1")],
        ] {
            assert!(!RawLabels::new(&bytes(odd)).is_canonical(), "{odd:?}");
        }
        // Value before name, and an overlong length: the same label, other bytes.
        assert!(!RawLabels::new(&[0x0a, 6, 0x12, 1, b'1', 0x0a, 1, b'a']).is_canonical());
        assert!(!RawLabels::new(&[0x0a, 0x86, 0, 0x0a, 1, b'a', 0x12, 1, b'1']).is_canonical());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let raw = RawLabels::new(&bytes);
            let _ = raw.iter().count();
            let _ = raw.is_canonical();
        }

        #[test]
        fn labels_come_back(pairs: Vec<(String, String)>) {
            let mut out = Vec::new();
            RawLabelsBuilder::encode(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())), &mut out);
            let back: Vec<_> = RawLabels::new(&out).iter().map(|p| p.map(|(n, v)| (n.to_owned(), v.to_owned()))).collect::<Result<_, _>>()?;
            prop_assert_eq!(back, pairs);
        }
    }
}
