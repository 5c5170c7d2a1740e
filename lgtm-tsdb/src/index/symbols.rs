//! The symbol table: every label name and value once, sorted, known by its ordinal (docs/format/index.md).

use bytes::Bytes;
use lgtm_core::codec::{Reader, crc32c, put_bytes};
use lgtm_core::{DecodeError, Error, Result};

/// A whole symbol table in memory, in its on-disk form plus four bytes per symbol.
#[derive(Debug, Clone)]
pub struct SymbolTable {
    encoded: Bytes,
    offsets: Vec<u32>,
}

impl SymbolTable {
    /// A table of `symbols`, which must ascend strictly and begin with the empty string.
    ///
    /// # Errors
    /// `InvalidInput` when the order is broken or the empty string is missing, `LimitExceeded` past 4 GiB.
    pub fn from_sorted<S: AsRef<str>>(symbols: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut encoded = vec![0; 8];
        let mut offsets = Vec::new();
        let mut last: Option<S> = None;
        for symbol in symbols {
            let text = symbol.as_ref();
            match &last {
                None if !text.is_empty() => {
                    return Err(Error::InvalidInput(format!(
                        "symbol table begins with {text:?} instead of the empty string"
                    )));
                }
                Some(last) if last.as_ref() >= text => {
                    return Err(Error::InvalidInput(format!(
                        "symbol {text:?} follows {:?}",
                        last.as_ref()
                    )));
                }
                _ => {}
            }
            offsets.push(section_len(encoded.len())?);
            put_bytes(&mut encoded, text.as_bytes());
            last = Some(symbol);
        }
        if offsets.is_empty() {
            return Err(Error::InvalidInput(
                "symbol table lacks the empty string".into(),
            ));
        }
        let len = section_len(encoded.len() - 4)?;
        encoded[..4].copy_from_slice(&len.to_be_bytes());
        let count = offsets.len() as u32;
        encoded[4..8].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c(&encoded[4..]);
        encoded.extend_from_slice(&crc.to_be_bytes());
        Ok(Self {
            encoded: encoded.into(),
            offsets,
        })
    }

    /// Reads a whole symbol section: length, count, symbols, checksum.
    pub fn decode(section: Bytes) -> Result<Self, DecodeError> {
        const WHAT: &str = "index symbol table";
        let mut outer = Reader::new(WHAT, &section);
        let len = outer.u32()? as usize;
        let body_end = 4 + outer.take(len)?.len();
        let stored = outer.u32()?;
        let crc = crc32c(&section[4..body_end]);
        if stored != crc || !outer.is_empty() {
            return Err(DecodeError::new(
                WHAT,
                0,
                format!("checksum {stored:08x} instead of {crc:08x}"),
            ));
        }
        let mut r = Reader::new(WHAT, &section[..body_end]);
        r.u32()?;
        let count = r.u32()? as usize;
        // A symbol has at least its length byte, which bounds the allocation.
        if count > r.remaining() {
            return Err(r.error(format!("{count} symbols in {} bytes", r.remaining())));
        }
        let mut offsets = Vec::with_capacity(count);
        let mut last = None;
        for _ in 0..count {
            offsets.push(r.position() as u32);
            let symbol = r.str()?;
            if last.is_some_and(|last| last >= symbol) {
                return Err(r.error(format!("symbol {symbol:?} is out of order")));
            }
            last = Some(symbol);
        }
        if !r.is_empty() {
            return Err(r.error("bytes after the last symbol"));
        }
        Ok(Self {
            encoded: section,
            offsets,
        })
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is no symbol.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The symbol at `ordinal`.
    pub fn get(&self, ordinal: u32) -> Option<&str> {
        let at = *self.offsets.get(ordinal as usize)?;
        self.at_offset(at)
    }

    /// The ordinal of the symbol that begins `at` bytes after the section's start (version 1 refers to symbols so).
    pub(super) fn ordinal_at(&self, at: u64) -> Option<u32> {
        let at = u32::try_from(at).ok()?;
        self.offsets.binary_search(&at).ok().map(|i| i as u32)
    }

    fn at_offset(&self, at: u32) -> Option<&str> {
        let body = self.encoded.len() - 4;
        let bytes = self.encoded.get(at as usize..body)?;
        Reader::new("index symbol", bytes).str().ok()
    }

    /// The ordinal of `symbol`. Costs a binary search.
    pub fn ordinal(&self, symbol: &str) -> Option<u32> {
        let found = self
            .offsets
            .binary_search_by(|&at| self.at_offset(at).unwrap_or("").cmp(symbol));
        found.ok().map(|i| i as u32)
    }

    /// The symbols in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.offsets.len() as u32).filter_map(|i| self.get(i))
    }

    /// The section as it stands on disk, length and checksum included.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

fn section_len(len: usize) -> Result<u32> {
    u32::try_from(len)
        .map_err(|_| Error::LimitExceeded("the symbol table exceeds 4 GiB".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_order_is_enforced() {
        assert!(SymbolTable::from_sorted(["", "a", "b"]).is_ok());
        for bad in [&["a"][..], &[], &["", "b", "a"], &["", "a", "a"]] {
            assert!(SymbolTable::from_sorted(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn symbols_come_back(mut symbols in proptest::collection::btree_set(".{0,12}", 0..50)) {
            symbols.insert(String::new());
            let table = SymbolTable::from_sorted(&symbols).unwrap();
            let read = SymbolTable::decode(table.encoded().clone()).unwrap();
            prop_assert_eq!(read.iter().map(str::to_owned).collect::<BTreeSet<_>>(), symbols.clone());
            for (i, symbol) in symbols.iter().enumerate() {
                prop_assert_eq!(read.ordinal(symbol), Some(i as u32));
            }
            prop_assert_eq!(read.ordinal("no such symbol, too long"), None);
            for cut in 0..table.encoded().len() {
                prop_assert!(SymbolTable::decode(table.encoded().slice(..cut)).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = SymbolTable::decode(bytes.into());
        }
    }
}
