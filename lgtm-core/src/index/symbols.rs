//! The symbol table: every label name and value once, sorted, known by its ordinal.

use std::cmp::Ordering;

use crate::codec::{Reader, crc32c, put_bytes, uvarint_len};
use crate::error::{DecodeError, Error, Result};

const WHAT: &str = "index symbol table";

/// A whole symbol table in memory: the symbols one after the other, and four bytes for the end of each.
#[derive(Debug, Clone)]
pub struct SymbolTable {
    text: String,
    ends: Vec<u32>,
}

/// Makes a table of symbols that come one by one.
#[derive(Debug)]
pub struct SymbolTableBuilder {
    table: SymbolTable,
    section_len: usize,
}

impl Default for SymbolTableBuilder {
    fn default() -> Self {
        Self {
            table: SymbolTable {
                text: String::new(),
                ends: Vec::new(),
            },
            section_len: 4,
        }
    }
}

impl SymbolTableBuilder {
    /// Adds a symbol behind the last; returns its ordinal.
    ///
    /// # Errors
    /// `InvalidInput` when it does not ascend, `LimitExceeded` past 4 GiB.
    pub fn push(&mut self, symbol: &str) -> Result<u32> {
        let table = &mut self.table;
        if let Some(last) = table.last()
            && last >= symbol
        {
            return Err(Error::InvalidInput(format!(
                "symbol {symbol:?} follows {last:?}"
            )));
        }
        let section_len = self.section_len + uvarint_len(symbol.len() as u64) + symbol.len();
        self::section_len(section_len)?;
        self.section_len = section_len;
        table.text.push_str(symbol);
        table.ends.push(table.text.len() as u32);
        Ok(table.ends.len() as u32 - 1)
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> u64 {
        self.table.memory_bytes()
    }

    /// The table.
    pub fn finish(self) -> SymbolTable {
        self.table
    }
}

impl SymbolTable {
    /// A table of `symbols`, which must ascend strictly. Whether the empty string must be among them is each index's own rule.
    ///
    /// # Errors
    /// `InvalidInput` when the order is broken, `LimitExceeded` past 4 GiB.
    pub fn from_sorted<S: AsRef<str>>(symbols: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut builder = SymbolTableBuilder::default();
        for symbol in symbols {
            builder.push(symbol.as_ref())?;
        }
        Ok(builder.finish())
    }

    /// Reads a whole symbol section: length, count, symbols, checksum.
    ///
    /// # Errors
    /// A checksum that does not fit, symbols that do not ascend, a length that leaves the section.
    pub fn decode(section: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_noting(section, |_| ())
    }

    /// As [`SymbolTable::decode`]; shows where in the section each symbol begins.
    pub(super) fn decode_noting(
        section: &[u8],
        mut begins: impl FnMut(u32),
    ) -> Result<Self, DecodeError> {
        let mut outer = Reader::new(WHAT, section);
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
        let mut table = Self {
            text: String::with_capacity(r.remaining() - count),
            ends: Vec::with_capacity(count),
        };
        for _ in 0..count {
            begins(r.position() as u32);
            let symbol = r.str()?;
            if table.last().is_some_and(|last| last >= symbol) {
                return Err(r.error(format!("symbol {symbol:?} is out of order")));
            }
            table.text.push_str(symbol);
            table.ends.push(table.text.len() as u32);
        }
        if !r.is_empty() {
            return Err(r.error("bytes after the last symbol"));
        }
        table.text.shrink_to_fit();
        Ok(table)
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no symbol.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> u64 {
        (self.text.len() + 4 * self.ends.len()) as u64
    }

    fn last(&self) -> Option<&str> {
        self.get((self.ends.len() as u32).checked_sub(1)?)
    }

    /// The symbol at `ordinal`. Costs two lookups in an array.
    #[inline]
    pub fn get(&self, ordinal: u32) -> Option<&str> {
        let end = *self.ends.get(ordinal as usize)?;
        let start = match ordinal {
            0 => 0,
            n => self.ends[n as usize - 1],
        };
        self.text.get(start as usize..end as usize)
    }

    /// The ordinal of `symbol`. Costs a binary search.
    #[inline]
    pub fn ordinal(&self, symbol: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.ends.len() as u32);
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle)?.cmp(symbol) {
                Ordering::Equal => return Some(middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The symbols in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).filter_map(|i| self.get(i))
    }

    /// The section as it stands on disk, length and checksum included.
    pub fn encode(&self) -> Vec<u8> {
        // Lengths of up to 127 bytes take one byte; longer symbols are rare.
        let mut out = Vec::with_capacity(self.text.len() + self.ends.len() + 64);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.ends.len() as u32).to_be_bytes());
        for symbol in self.iter() {
            put_bytes(&mut out, symbol.as_bytes());
        }
        let len = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&len.to_be_bytes());
        let crc = crc32c(&out[4..]);
        out.extend_from_slice(&crc.to_be_bytes());
        out
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
        for good in [&["", "a", "b"][..], &["a"], &[]] {
            assert!(SymbolTable::from_sorted(good).is_ok(), "{good:?}");
        }
        for bad in [&["", "b", "a"][..], &["", "a", "a"], &["a", ""]] {
            assert!(SymbolTable::from_sorted(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn symbols_come_back(symbols in proptest::collection::btree_set(".{0,12}", 0..50)) {
            let table = SymbolTable::from_sorted(&symbols).unwrap();
            let encoded = table.encode();
            let read = SymbolTable::decode(&encoded).unwrap();
            prop_assert_eq!(read.iter().map(str::to_owned).collect::<BTreeSet<_>>(), symbols.clone());
            for (i, symbol) in symbols.iter().enumerate() {
                prop_assert_eq!(read.ordinal(symbol), Some(i as u32));
            }
            prop_assert_eq!(read.ordinal("no such symbol, too long"), None);
            prop_assert_eq!(read.encode(), &encoded[..]);
            for cut in 0..encoded.len() {
                prop_assert!(SymbolTable::decode(&encoded[..cut]).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = SymbolTable::decode(&bytes);
        }
    }
}
