//! The symbols of an index from first to last, some at a time: how compaction joins tables that it does not want to hold.

use std::ops::Range;

use crate::codec::{Reader, crc32c_append};
use crate::error::{DecodeError, Result};
use crate::index::symbols::SymbolTable;
use crate::storage::{ReadAt, corrupt_at};

const WHAT: &str = "index symbol table";
/// Length and count stand in front of the symbols.
const FRONT_LEN: u64 = 8;
const CRC_LEN: u64 = 4;

/// Walks over a symbol table. The checksum is verified with the last piece: until then the symbols may be damaged.
#[derive(Debug)]
pub struct SymbolStream {
    /// A table that is in memory already, verified.
    table: Option<SymbolTable>,
    /// The whole section in the file.
    section: Range<u64>,
    /// What is read next.
    at: u64,
    /// Bytes of a symbol that the last piece cut.
    rest: Vec<u8>,
    crc: u32,
    /// The last symbol handed out.
    last: Option<String>,
}

impl SymbolStream {
    pub(super) fn of_table(table: SymbolTable) -> Self {
        Self {
            table: Some(table),
            ..Self::of_section(0..0)
        }
    }

    pub(super) fn of_section(section: Range<u64>) -> Self {
        Self {
            table: None,
            // Length is not under the checksum; the count is read with the first piece.
            at: section.start + 4,
            section,
            rest: Vec::new(),
            crc: 0,
            last: None,
        }
    }

    /// The next symbols, about `piece_bytes` of them; `None` behind the last.
    ///
    /// # Errors
    /// `Corrupt` for symbols that do not decode or ascend, and for a checksum that does not fit; what [`ReadAt::read`] returns.
    pub async fn next_piece(
        &mut self,
        file: &dyn ReadAt,
        piece_bytes: u64,
    ) -> Result<Option<SymbolTable>> {
        if let Some(table) = self.table.take() {
            return Ok(Some(table));
        }
        let body_end = self.section.end.saturating_sub(CRC_LEN);
        while self.at < body_end {
            let is_first = self.at == self.section.start + 4;
            let end = body_end.min(self.at + piece_bytes.max(64));
            let end = if end == body_end {
                self.section.end
            } else {
                end
            };
            let piece = file.read(self.at..end).await?;
            let body = &piece[..piece.len().min((body_end - self.at) as usize)];
            let from = self.at;
            self.crc = crc32c_append(self.crc, body);
            self.rest.extend_from_slice(body);
            if is_first {
                self.rest
                    .drain(..self.rest.len().min((FRONT_LEN - 4) as usize));
            }
            self.at += body.len() as u64;
            let is_last = self.at == body_end;
            if is_last && piece[body.len()..] != self.crc.to_be_bytes() {
                let reason = format!("checksum is not {:08x}", self.crc);
                return Err(corrupt_at(file, from, DecodeError::new(WHAT, 0, reason)));
            }
            let symbols = self.take_symbols(is_last);
            let symbols = symbols.map_err(|e| corrupt_at(file, from, e))?;
            if !symbols.is_empty() {
                return Ok(Some(symbols));
            }
        }
        Ok(None)
    }

    /// The whole symbols of what is at hand.
    fn take_symbols(&mut self, is_last: bool) -> Result<SymbolTable, DecodeError> {
        let mut r = Reader::new(WHAT, &self.rest);
        let mut symbols: Vec<&str> = Vec::new();
        let mut read = 0;
        while !r.is_empty() {
            match r.str() {
                Ok(symbol) => symbols.push(symbol),
                Err(e) if is_last => return Err(e),
                Err(_) => break,
            }
            read = r.position();
        }
        let first = symbols.first().copied();
        if let (Some(last), Some(first)) = (&self.last, first)
            && last.as_str() >= first
        {
            return Err(r.error(format!("symbol {first:?} is out of order")));
        }
        let last = symbols.last().map(|&s| s.to_owned());
        let table = SymbolTable::from_sorted(symbols);
        let table = table.map_err(|e| DecodeError::new(WHAT, 0, e.to_string()))?;
        self.last = last.or(self.last.take());
        self.rest.drain(..read);
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryFile;

    fn symbols() -> Vec<String> {
        let mut all: Vec<String> = (0..500).map(|n| format!("symbol_{n:05}_é")).collect();
        all.insert(0, String::new());
        all
    }

    fn file(front: usize) -> (Vec<u8>, Range<u64>) {
        let section = SymbolTable::from_sorted(symbols()).unwrap().encode();
        let range = front as u64..(front + section.len()) as u64;
        let mut bytes = vec![7; front];
        bytes.extend(section);
        bytes.extend([9; 5]);
        (bytes, range)
    }

    async fn read(bytes: Vec<u8>, range: Range<u64>, piece: u64) -> Result<Vec<String>> {
        let file = MemoryFile::new("index", bytes);
        let mut stream = SymbolStream::of_section(range);
        let mut out = Vec::new();
        while let Some(table) = stream.next_piece(&file, piece).await? {
            out.extend(table.iter().map(str::to_owned));
        }
        Ok(out)
    }

    #[tokio::test]
    async fn pieces_of_any_size_give_all_symbols() {
        for piece in [1, 64, 100, 4096, 1 << 20] {
            let (bytes, range) = file(5);
            assert_eq!(
                read(bytes, range, piece).await.unwrap(),
                symbols(),
                "{piece}"
            );
        }
        let mut whole = SymbolStream::of_table(SymbolTable::from_sorted(symbols()).unwrap());
        let no_file = MemoryFile::new("none", Vec::new());
        let first = whole.next_piece(&no_file, 1).await.unwrap().unwrap();
        assert_eq!(first.len(), 501);
        assert!(whole.next_piece(&no_file, 1).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_flipped_bit_is_an_error() {
        let (bytes, range) = file(5);
        for at in (9..range.end as usize).step_by(97) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            let read = read(bytes, range.clone(), 512).await;
            assert!(read.is_err(), "byte {at}");
        }
    }
}
