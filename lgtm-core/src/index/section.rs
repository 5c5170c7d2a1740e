//! Walks a checksummed section (`u32 len, u32 count, entries, crc`) in pieces, so that opening an index costs no more memory than
//! what is kept of it.

use std::ops::Range;

use crate::codec::{Reader, crc32c_append};
use crate::error::{DecodeError, Error, Result};
use crate::storage::{ReadAt, corrupt_at};
use bytes::Bytes;

/// Streamed pieces are of this size; one entry must fit.
const PIECE_BYTES: u64 = 4 << 20;

/// A file with its two ends already read: what opening an index needs stands there.
#[derive(Debug)]
pub struct Windowed<'a> {
    pub(super) file: &'a dyn ReadAt,
    windows: Vec<(u64, Bytes)>,
}

impl<'a> Windowed<'a> {
    /// `file`, of which nothing is read yet.
    pub fn new(file: &'a dyn ReadAt) -> Self {
        Self {
            file,
            windows: Vec::new(),
        }
    }

    /// Reads `range` once, to answer later reads inside it.
    ///
    /// # Errors
    /// As [`ReadAt::read`].
    pub async fn prefetch(&mut self, range: Range<u64>) -> Result<()> {
        let bytes = self.read(range.clone()).await?;
        self.windows.push((range.start, bytes));
        Ok(())
    }

    /// The bytes of `range`, without a read where they are at hand.
    ///
    /// # Errors
    /// As [`ReadAt::read`].
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        for (start, bytes) in &self.windows {
            let end = start + bytes.len() as u64;
            if *start <= range.start && range.end <= end && range.start <= range.end {
                let slice = (range.start - start) as usize..(range.end - start) as usize;
                return Ok(bytes.slice(slice));
            }
        }
        self.file.read(range).await
    }
}

/// How much of a section stays in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All of it: no read later.
    Whole,
    /// What it takes to find the rest by a read.
    Sampled,
}

/// Takes the entries of a section one by one.
pub trait EntryVisitor {
    /// Reads one entry from `r`; `at` is where it begins, counted from the section's start.
    ///
    /// # Errors
    /// What is wrong with the entry. It must leave the visitor as it was: the entry may come again with more bytes.
    fn entry(&mut self, r: &mut Reader<'_>, at: u64) -> Result<(), DecodeError>;

    /// Memory held so far, in bytes.
    fn memory_bytes(&self) -> u64;
}

/// Where a section stands, and its bytes if they are kept.
#[derive(Debug, Clone)]
pub struct Section {
    /// From the length field to the end of the checksum.
    pub(super) range: Range<u64>,
    pub(super) resident: Option<Bytes>,
}

impl Section {
    /// Finds the section that starts at `bounds.start` and must end by `bounds.end`; reads its length field only. `what` names it in
    /// errors.
    ///
    /// # Errors
    /// `Corrupt`, and what [`ReadAt::read`] returns.
    pub async fn locate(
        file: &Windowed<'_>,
        what: &'static str,
        bounds: Range<u64>,
    ) -> Result<Self> {
        let fail = |reason: String| {
            let error = DecodeError::new(what, 0, reason);
            Err(corrupt_at(file.file, bounds.start, error))
        };
        let room = bounds.end.saturating_sub(bounds.start);
        if room < 12 {
            return fail(format!("{room} bytes are too few"));
        }
        let head = file.read(bounds.start..bounds.start + 4).await?;
        let len = Reader::new(what, &head)
            .u32()
            .map_err(|e| corrupt_at(file.file, bounds.start, e))?;
        let len = u64::from(len);
        if len < 4 || len + 8 > room {
            return fail(format!("length {len} in {room} bytes"));
        }
        Ok(Self {
            range: bounds.start..bounds.start + len + 8,
            resident: None,
        })
    }

    /// Where it stands in the file, from the length field to the end of the checksum.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Bytes of the section.
    pub fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Shows every entry to `visitor` and verifies the checksum. Memory is the visitor's and a piece of 4 MiB, beside
    /// the bytes that are kept.
    ///
    /// # Errors
    /// `Corrupt`; what [`ReadAt::read`] returns; `LimitExceeded` naming `max_memory_bytes` as soon as the visitor holds more than `max_bytes`.
    pub async fn scan(
        &mut self,
        file: &Windowed<'_>,
        what: &'static str,
        keep: Keep,
        max_bytes: u64,
        visitor: &mut impl EntryVisitor,
    ) -> Result<()> {
        let keep = keep == Keep::Whole;
        let corrupt = |at: u64, error| corrupt_at(file.file, at, error);
        let count = file
            .read(self.range.start + 4..self.range.start + 8)
            .await?;
        let mut crc = crc32c_append(0, &count);
        let count = Reader::new(what, &count)
            .u32()
            .map_err(|e| corrupt(self.range.start + 4, e))?;
        let mut seen = 0;
        let body_end = self.range.end - 4;
        let mut at = self.range.start + 8;
        let mut rest: Vec<u8> = Vec::new();
        let mut stored = None;
        while at < body_end {
            let end = if keep || body_end - at <= PIECE_BYTES {
                self.range.end
            } else {
                at + PIECE_BYTES
            };
            let mut piece = file.read(at..end).await?;
            if end == self.range.end {
                stored = Some(piece.split_off((body_end - at) as usize));
            }
            crc = crc32c_append(crc, &piece);
            let rest_at = at - rest.len() as u64;
            at += piece.len() as u64;
            rest.extend_from_slice(&piece);
            let (read, error) = walk(what, &rest, rest_at - self.range.start, &mut seen, visitor);
            rest.drain(..read);
            match error {
                Some(e) if at == body_end || rest.len() as u64 > PIECE_BYTES => {
                    return Err(corrupt(rest_at, e));
                }
                _ => {}
            }
            if visitor.memory_bytes() > max_bytes {
                return Err(memory_exceeded(file.file, what, max_bytes));
            }
        }
        let stored = match stored {
            Some(stored) => stored,
            None => file.read(body_end..self.range.end).await?,
        };
        if *stored != crc.to_be_bytes() {
            let reason = format!("checksum {stored:02x?} instead of {crc:08x}");
            return Err(corrupt(body_end, DecodeError::new(what, 0, reason)));
        }
        if seen != u64::from(count) {
            let reason = format!("{seen} entries instead of {count}");
            return Err(corrupt(self.range.start, DecodeError::new(what, 4, reason)));
        }
        if keep {
            self.resident = Some(file.read(self.range.clone()).await?);
        }
        Ok(())
    }

    /// The bytes `range`, counted from the section's start.
    ///
    /// # Errors
    /// As [`ReadAt::read`].
    pub async fn read(&self, file: &dyn ReadAt, range: Range<u64>) -> Result<Bytes> {
        match &self.resident {
            Some(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            None => {
                let start = self.range.start;
                file.read(start + range.start..start + range.end).await
            }
        }
    }
}

/// That `what` needs more memory than an index reader may hold, which is `max_bytes`; names `max_memory_bytes`.
pub fn memory_exceeded(file: &dyn ReadAt, what: &str, max_bytes: u64) -> Error {
    Error::LimitExceeded(format!(
        "{}: {what} exceeds max_memory_bytes = {max_bytes} of the index reader",
        file.place()
    ))
}

/// Visits the whole entries at the start of `bytes`; returns how far it came and why it stopped.
fn walk(
    what: &'static str,
    bytes: &[u8],
    base: u64,
    seen: &mut u64,
    visitor: &mut impl EntryVisitor,
) -> (usize, Option<DecodeError>) {
    let mut r = Reader::new(what, bytes);
    loop {
        let read = r.position();
        if r.is_empty() {
            return (read, None);
        }
        if let Err(error) = visitor.entry(&mut r, base + read as u64) {
            return (read, Some(error));
        }
        *seen += 1;
    }
}
