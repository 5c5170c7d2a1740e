//! A postings list: the series that bear one label pair.

use crate::codec::{Reader, crc32c};
use crate::error::DecodeError;

const WHAT: &str = "postings list";

/// Bytes of the section of a postings list whose first four bytes are given, its checksum included.
///
/// # Errors
/// When there are fewer than four.
pub fn postings_section_len(head: &[u8]) -> Result<u64, DecodeError> {
    Ok(u64::from(Reader::new(WHAT, head).u32()?) + 8)
}

/// Reads the postings list at the start of `bytes`, references that ascend strictly; padding may follow it.
///
/// # Errors
/// A checksum that does not fit, a count that does not fit the length, references that do not ascend.
pub fn decode_postings(bytes: &[u8]) -> Result<Vec<u32>, DecodeError> {
    let mut outer = Reader::new(WHAT, bytes);
    let len = outer.u32()? as usize;
    let body = outer.take(len)?;
    let stored = outer.u32()?;
    let crc = crc32c(body);
    if stored != crc {
        let reason = format!("checksum {stored:08x} instead of {crc:08x}");
        return Err(DecodeError::new(WHAT, 4, reason));
    }
    let mut r = Reader::new(WHAT, body);
    let count = r.u32()?;
    if r.remaining() as u64 != 4 * u64::from(count) {
        return Err(r.error(format!("{count} references in {} bytes", r.remaining())));
    }
    let refs: Vec<u32> = r
        .rest()
        .chunks_exact(4)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    if !refs.is_sorted_by(|a, b| a < b) {
        return Err(r.error("references do not ascend"));
    }
    Ok(refs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(refs: &[u32]) -> Vec<u8> {
        let mut out = (4 + 4 * refs.len() as u32).to_be_bytes().to_vec();
        out.extend((refs.len() as u32).to_be_bytes());
        out.extend(refs.iter().flat_map(|r| r.to_be_bytes()));
        let crc = crc32c(&out[4..]);
        out.extend(crc.to_be_bytes());
        out
    }

    proptest! {
        #[test]
        fn damage_is_an_error(refs in proptest::collection::btree_set(any::<u32>(), 0..20)) {
            let refs: Vec<_> = refs.into_iter().collect();
            let mut bytes = encode(&refs);
            prop_assert_eq!(decode_postings(&bytes).unwrap(), refs);
            prop_assert_eq!(postings_section_len(&bytes).unwrap(), bytes.len() as u64);
            for cut in 0..bytes.len() {
                prop_assert!(decode_postings(&bytes[..cut]).is_err());
            }
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(decode_postings(&bytes).is_err());
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode_postings(&bytes);
        }
    }

    #[test]
    fn references_must_ascend() {
        assert!(decode_postings(&encode(&[2, 2])).is_err());
        assert!(decode_postings(&encode(&[3, 2])).is_err());
    }
}
