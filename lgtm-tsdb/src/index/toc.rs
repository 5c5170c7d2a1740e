//! The table of contents: the last 52 bytes of an index (docs/format/index.md).

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c};

/// Offsets of the sections, from the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Toc {
    /// The symbol table; always 5 in files of today's writers.
    pub symbols: u64,
    /// The end of the symbol table, before the padding that precedes the first series.
    pub series: u64,
    /// The end of the last series (legacy writers: the label index sections).
    pub label_indices: u64,
    /// The label offset table of legacy writers; equal to `postings_table` in today's files.
    pub label_offset_table: u64,
    /// The end of what precedes the postings lists, before their padding.
    pub postings: u64,
    /// The postings offset table.
    pub postings_table: u64,
}

impl Toc {
    /// Bytes of an encoded table of contents, checksum included.
    pub const LEN: usize = 52;

    /// Appends the 52 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for offset in self.fields() {
            out.extend_from_slice(&offset.to_be_bytes());
        }
        let crc = crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }

    /// Reads the last 52 bytes of a file of `file_size` bytes and checks that the offsets ascend and stand inside it.
    pub fn decode(bytes: &[u8], file_size: u64) -> Result<Self, DecodeError> {
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
        };
        let stored = r.u32()?;
        let crc = crc32c(&bytes[..Self::LEN - 4]);
        if stored != crc {
            return fail(format!("checksum {stored:08x} instead of {crc:08x}"));
        }
        // Every reader needs these four, in this order. The legacy sections may be absent (0) and nobody reads them.
        let order = [
            5,
            toc.symbols,
            toc.series,
            toc.postings,
            toc.postings_table,
            base,
        ];
        if !order.is_sorted() {
            return fail(format!("sections are not in order: {toc:?}"));
        }
        Ok(toc)
    }

    /// Where the series section ends: at the next section after its start.
    pub fn series_end(&self) -> u64 {
        self.fields()
            .into_iter()
            .filter(|&offset| offset > self.series)
            .min()
            .unwrap_or(self.series)
    }

    /// Where the last postings list ends: at the next section after the first list.
    pub fn postings_end(&self) -> u64 {
        if self.label_offset_table > self.postings {
            self.label_offset_table.min(self.postings_table)
        } else {
            self.postings_table
        }
    }

    fn fields(&self) -> [u64; 6] {
        [
            self.symbols,
            self.series,
            self.label_indices,
            self.label_offset_table,
            self.postings,
            self.postings_table,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_an_error() {
        let toc = Toc {
            symbols: 5,
            series: 100,
            label_indices: 280,
            label_offset_table: 464,
            postings: 280,
            postings_table: 464,
        };
        let mut bytes = Vec::new();
        toc.encode(&mut bytes);
        assert_eq!(Toc::decode(&bytes, 600).unwrap(), toc);
        assert_eq!((toc.series_end(), toc.postings_end()), (280, 464));
        assert!(Toc::decode(&bytes[1..], 600).is_err());
        assert!(Toc::decode(&bytes, 500).is_err());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Toc::decode(&bytes, 600).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
