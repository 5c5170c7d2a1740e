//! The table of contents: the last 76 bytes of an index file (docs/format/index.md).

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c};
use lgtm_core::model::TimestampMs;

/// Offsets of the sections, from the start of the file, and the times of the chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexToc {
    /// The symbol table; always 5.
    pub symbols: u64,
    /// The end of the symbol table, before the padding in front of the first series.
    pub series: u64,
    /// The end of the last series, before the padding in front of the label index sections. Nobody reads these.
    pub label_indices: u64,
    /// The offset table of the label index sections, behind the postings lists.
    pub label_offset_table: u64,
    /// The end of what precedes the postings lists, before their padding.
    pub postings: u64,
    /// The postings offset table.
    pub postings_table: u64,
    /// The fingerprints of some series.
    pub fingerprint_offsets: u64,
    /// Least time of a chunk, milliseconds; 0 when there is none.
    pub min_ms: TimestampMs,
    /// Greatest time of a chunk, milliseconds, inclusive; 0 when there is none.
    pub max_ms: TimestampMs,
}

impl IndexToc {
    /// Bytes of an encoded table of contents, checksum included.
    pub const LEN: usize = 76;

    /// Appends the 76 bytes; returns their checksum, which is that of the file in the names of compacted files.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        for offset in self.offsets() {
            out.extend_from_slice(&offset.to_be_bytes());
        }
        out.extend_from_slice(&self.min_ms.get().to_be_bytes());
        out.extend_from_slice(&self.max_ms.get().to_be_bytes());
        let crc = crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
        crc
    }

    /// Reads the last 76 bytes of a file of `file_size` bytes; also returns their checksum.
    ///
    /// # Errors
    /// A checksum that does not fit, offsets that do not ascend or leave the file.
    pub fn decode(bytes: &[u8], file_size: u64) -> Result<(Self, u32), DecodeError> {
        let base = file_size.saturating_sub(Self::LEN as u64);
        let fail = |reason: String| Err(DecodeError::new("index TOC", base, reason));
        if bytes.len() != Self::LEN {
            return fail(format!("{} bytes instead of {}", bytes.len(), Self::LEN));
        }
        let mut r = Reader::new("index TOC", bytes);
        let toc = Self {
            symbols: r.u64()?,
            series: r.u64()?,
            label_indices: r.u64()?,
            label_offset_table: r.u64()?,
            postings: r.u64()?,
            postings_table: r.u64()?,
            fingerprint_offsets: r.u64()?,
            min_ms: TimestampMs::new(r.u64()? as i64),
            max_ms: TimestampMs::new(r.u64()? as i64),
        };
        let stored = r.u32()?;
        let crc = crc32c(&bytes[..Self::LEN - 4]);
        if stored != crc {
            return fail(format!("checksum {stored:08x} instead of {crc:08x}"));
        }
        // What readers need, in this order; nobody reads the label indices.
        let order = [
            5,
            toc.symbols,
            toc.series,
            toc.postings,
            toc.postings_table,
            toc.fingerprint_offsets,
            base,
        ];
        if !order.is_sorted() {
            return fail(format!("sections are not in order: {toc:?}"));
        }
        Ok((toc, crc))
    }

    /// Where the series section ends: at the next section after its start.
    pub fn series_end(&self) -> u64 {
        let after = self.offsets().into_iter().filter(|&o| o > self.series);
        after.min().unwrap_or(self.series)
    }

    /// Where the last postings list ends: at the next section after the first list.
    pub fn postings_end(&self) -> u64 {
        if self.label_offset_table > self.postings {
            self.label_offset_table.min(self.postings_table)
        } else {
            self.postings_table
        }
    }

    fn offsets(&self) -> [u64; 7] {
        [
            self.symbols,
            self.series,
            self.label_indices,
            self.label_offset_table,
            self.postings,
            self.postings_table,
            self.fingerprint_offsets,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_an_error() {
        let toc = IndexToc {
            symbols: 5,
            series: 191,
            label_indices: 638,
            label_offset_table: 1216,
            postings: 844,
            postings_table: 1311,
            fingerprint_offsets: 1690,
            min_ms: TimestampMs::new(-7),
            max_ms: TimestampMs::new(9),
        };
        let mut bytes = Vec::new();
        let crc = toc.encode(&mut bytes);
        assert_eq!(bytes.len(), IndexToc::LEN);
        assert_eq!(IndexToc::decode(&bytes, 1794).unwrap(), (toc, crc));
        assert_eq!((toc.series_end(), toc.postings_end()), (638, 1216));
        assert!(IndexToc::decode(&bytes[1..], 1794).is_err());
        assert!(IndexToc::decode(&bytes, 1700).is_err());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(IndexToc::decode(&bytes, 1794).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
