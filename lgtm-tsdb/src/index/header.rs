//! The *index-header* of store-gateways: a local copy of those parts of an index that every query needs (docs/format/index.md).
//!
//! [`IndexHeader`] stands in front of the real index: what the header holds is answered from it, the rest from behind. An
//! [`crate::index::IndexReader`] opened over it costs no request to the object store.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::codec::{Reader, crc32c};
use lgtm_core::storage::{ReadAt, corrupt_at};
use lgtm_core::{DecodeError, Error, Result};

use crate::index::encoder::MAGIC as INDEX_MAGIC;
use crate::index::toc::Toc;

const WHAT: &str = "index-header";
const MAGIC: u32 = 0xBAAA_D792;
const VERSION: u8 = 1;
/// Magic, version, index version, end of the postings lists.
const FRONT_LEN: usize = 14;
/// Positions of symbols and offset table in the header, checksum.
const BACK_LEN: usize = 20;

/// An index whose symbols, offset table and TOC are in memory.
#[derive(Debug)]
pub struct IndexHeader {
    index: Arc<dyn ReadAt>,
    /// Parts of the index with their offsets in it.
    parts: [(u64, Bytes); 3],
}

impl IndexHeader {
    /// Joins the header `bytes` with the index that it was made of. Reads nothing.
    ///
    /// # Errors
    /// `Corrupt` when the header is damaged or does not fit the index's size.
    pub fn open(place: &str, bytes: Bytes, index: Arc<dyn ReadAt>) -> Result<Self> {
        let corrupt = |e| Error::corrupt(place, e);
        let parts = decode(&bytes, index.size()).map_err(corrupt)?;
        Ok(Self { index, parts })
    }

    /// Makes the header of `index` by reading those parts of it, as Thanos and Mimir would write it.
    ///
    /// # Errors
    /// `Corrupt` for an index that is none; what [`ReadAt::read`] returns.
    pub async fn build(index: &dyn ReadAt) -> Result<Bytes> {
        let size = index.size();
        let toc_at = size.saturating_sub(Toc::LEN as u64);
        let toc = Toc::decode(&index.read(toc_at..size).await?, size);
        let toc = toc.map_err(|e| corrupt_at(index, 0, e))?;
        let version = index.read(4..5).await?;
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        out.extend_from_slice(&version);
        out.extend_from_slice(&toc.postings_end().to_be_bytes());
        let symbols_at = out.len() as u64;
        out.extend_from_slice(&index.read(toc.symbols..toc.series).await?);
        let table_at = out.len() as u64;
        out.extend_from_slice(&index.read(toc.postings_table..size).await?);
        let back = out.len();
        out.extend_from_slice(&symbols_at.to_be_bytes());
        out.extend_from_slice(&table_at.to_be_bytes());
        let crc = crc32c(&out[back..]);
        out.extend_from_slice(&crc.to_be_bytes());
        Ok(out.into())
    }
}

fn decode(bytes: &Bytes, index_size: u64) -> Result<[(u64, Bytes); 3], DecodeError> {
    let fail = |at: usize, reason: String| Err(DecodeError::new(WHAT, at as u64, reason));
    let Some(back) = bytes.len().checked_sub(BACK_LEN) else {
        return fail(0, format!("{} bytes are too few", bytes.len()));
    };
    let mut r = Reader::new(WHAT, bytes);
    let (magic, version, index_version) = (r.u32()?, r.u8()?, r.u8()?);
    if magic != MAGIC || version != VERSION {
        return fail(0, format!("magic {magic:08x} version {version}"));
    }
    let lists_end = r.u64()?;
    let mut r = Reader::new(WHAT, &bytes[back..]);
    let (symbols_at, table_at, stored) = (r.u64()?, r.u64()?, r.u32()?);
    let crc = crc32c(&bytes[back..back + 16]);
    if stored != crc {
        return fail(back, format!("checksum {stored:08x} instead of {crc:08x}"));
    }
    let order = [FRONT_LEN as u64, symbols_at, table_at, back as u64];
    if !order.is_sorted() || (back as u64) < table_at + Toc::LEN as u64 {
        return fail(back, format!("positions {symbols_at} and {table_at}"));
    }
    let (symbols_at, table_at) = (symbols_at as usize, table_at as usize);
    let toc = Toc::decode(&bytes[back - Toc::LEN..back], index_size)?;
    let (symbols, table) = (
        bytes.slice(symbols_at..table_at),
        bytes.slice(table_at..back),
    );
    if symbols.len() as u64 != toc.series - toc.symbols
        || table.len() as u64 != index_size - toc.postings_table
        || lists_end != toc.postings_end()
    {
        return fail(FRONT_LEN, format!("does not fit an index of {toc:?}"));
    }
    let mut front = INDEX_MAGIC.to_be_bytes().to_vec();
    front.push(index_version);
    let parts = [
        (0, front.into()),
        (toc.symbols, symbols),
        (toc.postings_table, table),
    ];
    Ok(parts)
}

#[async_trait]
impl ReadAt for IndexHeader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        // The first two parts usually adjoin, and readers like to ask for both at once.
        let mut found = Vec::new();
        let mut at = range.start;
        for (start, bytes) in &self.parts {
            let end = start + bytes.len() as u64;
            if (*start..end).contains(&at) && at < range.end {
                let to = end.min(range.end);
                found.push(bytes.slice((at - start) as usize..(to - start) as usize));
                at = to;
            }
        }
        match found.as_slice() {
            [one] if at == range.end => Ok(one.clone()),
            [_, ..] if at == range.end => Ok(found.concat().into()),
            _ => self.index.read(range).await,
        }
    }

    fn size(&self) -> u64 {
        self.index.size()
    }

    fn place(&self) -> &str {
        self.index.place()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{IndexEncoder, IndexEncoderSettings, IndexReader, IndexReaderSettings};
    use lgtm_core::index::SymbolTable;
    use lgtm_core::storage::MemoryFile;

    /// A file of which only the postings lists and the series may be read.
    #[derive(Debug)]
    struct Remote(MemoryFile, Range<u64>);

    #[async_trait]
    impl ReadAt for Remote {
        async fn read(&self, range: Range<u64>) -> Result<Bytes> {
            assert!(
                self.1.start <= range.start && range.end <= self.1.end,
                "{range:?}"
            );
            self.0.read(range).await
        }

        fn size(&self) -> u64 {
            self.0.size()
        }

        fn place(&self) -> &str {
            self.0.place()
        }
    }

    fn index_bytes() -> Vec<u8> {
        let values: Vec<String> = (0..9000).map(|i| format!("value-{i:05}")).collect();
        let symbols = ["", "a"]
            .into_iter()
            .chain(values.iter().map(String::as_str));
        let symbols = SymbolTable::from_sorted(symbols).unwrap();
        let settings = IndexEncoderSettings::default();
        let mut encoder = IndexEncoder::new(symbols, settings).unwrap();
        for value in 2..9002 {
            encoder.add_series(&[(1, value)], &[]).unwrap();
        }
        encoder.finish_to_vec().unwrap().0
    }

    #[tokio::test]
    async fn an_index_opens_from_its_header_alone() {
        let bytes = index_bytes();
        let toc = Toc::decode(&bytes[bytes.len() - 52..], bytes.len() as u64).unwrap();
        let file = MemoryFile::new("index", bytes);
        let header = IndexHeader::build(&file).await.unwrap();
        let remote = Remote(file, toc.series..toc.postings_table);
        let joined = IndexHeader::open("header", header, Arc::new(remote)).unwrap();
        // The reader also fetches the last 64 KiB at once; the table of this index is longer than that.
        let index = IndexReader::open(Arc::new(joined), IndexReaderSettings::default())
            .await
            .unwrap();
        assert_eq!(index.label_values("a").await.unwrap().len(), 9000);
        let refs = index.postings("a", "value-04711").await.unwrap();
        let series = index.series(&refs).await.unwrap();
        assert_eq!(series[0].labels.get("a"), Some("value-04711"));
    }

    #[tokio::test]
    async fn damage_and_strange_sizes_are_errors() {
        let bytes = index_bytes();
        let file = MemoryFile::new("index", bytes.clone());
        let header = IndexHeader::build(&file).await.unwrap();
        let open = |header: Bytes, file: MemoryFile| IndexHeader::open("h", header, Arc::new(file));
        assert!(open(header.clone(), file.clone()).is_ok());
        assert!(open(header.clone(), MemoryFile::new("i", bytes[1..].to_vec())).is_err());
        for cut in (0..100).chain(header.len() - 100..header.len()) {
            assert!(
                open(header.slice(..cut), file.clone()).is_err(),
                "cut {cut}"
            );
        }
        for byte in (0..5).chain(6..14).chain(header.len() - 72..header.len()) {
            let mut damaged = header.to_vec();
            damaged[byte] ^= 4;
            assert!(open(damaged.into(), file.clone()).is_err(), "byte {byte}");
        }
    }
}
