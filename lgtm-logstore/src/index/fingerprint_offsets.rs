//! The fingerprints of some series: where in the file a run of fingerprints stands.

use std::ops::Range;

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c};

use crate::index::fingerprint_range::FingerprintRange;

const WHAT: &str = "index fingerprint offsets";
/// Of so many series, one is in the section.
const EVERY: u64 = 1024;
const ENTRY_LEN: usize = 16;

/// References and fingerprints of every 1024th series, both ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FingerprintOffsets(Vec<(u64, u64)>);

impl FingerprintOffsets {
    /// Notes series `ordinal`, counted from 0.
    pub(super) fn push(&mut self, ordinal: u64, reference: u32, fingerprint: u64) {
        if ordinal.is_multiple_of(EVERY) {
            self.0.push((u64::from(reference), fingerprint));
        }
    }

    /// Appends the section: length, count, entries, checksum.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let len = (4 + ENTRY_LEN * self.0.len()) as u32;
        out.extend_from_slice(&len.to_be_bytes());
        let start = out.len();
        out.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for (reference, fingerprint) in &self.0 {
            out.extend_from_slice(&reference.to_be_bytes());
            out.extend_from_slice(&fingerprint.to_be_bytes());
        }
        let crc = crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }

    /// Reads a whole section.
    ///
    /// # Errors
    /// A checksum that does not fit, a count that does not fit the length, entries that do not ascend.
    pub fn decode(section: &[u8]) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(WHAT, section);
        let len = outer.u32()? as usize;
        let body = outer.take(len)?;
        let stored = outer.u32()?;
        let crc = crc32c(body);
        if stored != crc || !outer.is_empty() {
            let reason = format!("checksum {stored:08x} instead of {crc:08x}");
            return Err(DecodeError::new(WHAT, 4, reason));
        }
        let mut r = Reader::new(WHAT, body);
        let count = r.u32()? as usize;
        if count.checked_mul(ENTRY_LEN) != Some(r.remaining()) {
            return Err(r.error(format!("{count} entries in {} bytes", r.remaining())));
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push((r.u64()?, r.u64()?));
        }
        if !entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1) {
            return Err(r.error("entries do not ascend"));
        }
        Ok(Self(entries))
    }

    /// The references that series of these fingerprints may have, and some before and behind them.
    pub fn references(&self, range: FingerprintRange) -> Range<u64> {
        let first = self.0.partition_point(|e| e.1 < range.first);
        let end = self.0.partition_point(|e| e.1 <= range.last);
        let start = first.checked_sub(1).map_or(0, |before| self.0[before].0);
        start..self.0.get(end).map_or(u64::MAX, |e| e.0)
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> u64 {
        (ENTRY_LEN * self.0.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_series_of_a_range_are_inside(
            mut fingerprints in proptest::collection::vec(0u64..1 << 12, 1..5000), first in 0u64..1 << 12, len in 0u64..1 << 12,
        ) {
            fingerprints.sort_unstable();
            let mut offsets = FingerprintOffsets::default();
            for (n, fingerprint) in fingerprints.iter().enumerate() {
                offsets.push(n as u64, 10 + n as u32, *fingerprint);
            }
            let mut section = Vec::new();
            offsets.encode(&mut section);
            prop_assert_eq!(&FingerprintOffsets::decode(&section).unwrap(), &offsets);
            let range = FingerprintRange { first, last: first + len };
            let references = offsets.references(range);
            for (n, fingerprint) in fingerprints.iter().enumerate() {
                prop_assert!(!range.contains(*fingerprint) || references.contains(&(10 + n as u64)));
            }
            let at = 4 + first as usize % (section.len() - 4);
            section[at] ^= 1;
            prop_assert!(FingerprintOffsets::decode(&section).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = FingerprintOffsets::decode(&bytes);
        }
    }
}
