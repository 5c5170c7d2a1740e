//! Writes chunk segments, `chunks/000001` and on (docs/format/block.md).
//!
//! The cut rule is Prometheus': the chunks of a series come in one call, and a new file begins where the worst case of what is
//! to be written would pass the limit. Bytes come out in order, tagged with their segment.

use std::collections::VecDeque;

use bytes::Bytes;
use lgtm_core::codec::{crc32c_append, put_uvarint};
use lgtm_core::{Error, Result};

use crate::chunk::ChunkRef;

pub(super) const SEGMENT_MAGIC: u32 = 0x85BD_40DD;
pub(super) const SEGMENT_VERSION: u8 = 1;
pub(super) const SEGMENT_HEADER_LEN: u64 = 8;
/// What a chunk takes beside its data, at worst: length, encoding, checksum.
const OVERHEAD: u64 = 5 + 1 + 4;

/// Consecutive bytes of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPiece {
    /// Number of the file, from 1.
    pub segment: u32,
    /// The bytes.
    pub bytes: Bytes,
    /// Whether the file ends here.
    pub is_last: bool,
}

/// Packs chunks into segments.
#[derive(Debug)]
pub struct SegmentEncoder {
    max_segment_bytes: u64,
    /// The current file, from 1; 0 before the first chunk.
    segment: u32,
    /// Position in the current file; 0 before its header.
    position: u64,
    buf: Vec<u8>,
    ended: VecDeque<SegmentPiece>,
    ended_bytes: usize,
    chunk_max_size: u64,
}

impl SegmentEncoder {
    /// Prometheus' limit: 512 MiB.
    pub const DEFAULT_MAX_SEGMENT_BYTES: u64 = 512 << 20;

    /// An encoder that cuts files at `max_segment_bytes`. One longer chunk still makes a longer file.
    pub fn new(max_segment_bytes: u64) -> Self {
        Self {
            max_segment_bytes,
            segment: 0,
            position: 0,
            buf: Vec::new(),
            ended: VecDeque::new(),
            ended_bytes: 0,
            chunk_max_size: 0,
        }
    }

    /// Writes the chunks of one series and appends their references to `references`.
    ///
    /// # Errors
    /// `LimitExceeded` when an offset would pass the 32 bits of a reference, or a chunk 4 GiB.
    pub fn add_series(&mut self, chunks: &[ChunkRef<'_>], references: &mut Vec<u64>) -> Result<()> {
        let cuts = self.cuts(chunks);
        let mut cuts = cuts.into_iter().peekable();
        if self.segment == 0 && !chunks.is_empty() {
            self.begin_segment();
        }
        for (i, chunk) in chunks.iter().enumerate() {
            if cuts.next_if_eq(&i).is_some() {
                self.end_segment();
                self.begin_segment();
            }
            references.push(self.write(chunk)?);
        }
        Ok(())
    }

    /// Indexes of the chunks that begin a new file.
    fn cuts(&self, chunks: &[ChunkRef<'_>]) -> Vec<usize> {
        let mut cuts = Vec::new();
        let mut batch = 0;
        for (i, chunk) in chunks.iter().enumerate() {
            let size = OVERHEAD + chunk.data.len() as u64;
            batch += size;
            let cut = if cuts.is_empty() && self.position > SEGMENT_HEADER_LEN {
                batch + self.position > self.max_segment_bytes
            } else {
                i != 0 && batch + SEGMENT_HEADER_LEN > self.max_segment_bytes
            };
            if cut {
                cuts.push(i);
                batch = size;
            }
        }
        cuts
    }

    fn write(&mut self, chunk: &ChunkRef<'_>) -> Result<u64> {
        if self.position > u64::from(u32::MAX) || u32::try_from(chunk.data.len()).is_err() {
            return Err(Error::LimitExceeded(format!(
                "a chunk of {} bytes at offset {} of segment {}, past the 4 GiB of a reference",
                chunk.data.len(),
                self.position,
                self.segment
            )));
        }
        let reference = u64::from(self.segment - 1) << 32 | self.position;
        let before = self.buf.len();
        put_uvarint(&mut self.buf, chunk.data.len() as u64);
        let checked = self.buf.len();
        self.buf.push(chunk.encoding as u8);
        self.buf.extend_from_slice(chunk.data);
        let crc = crc32c_append(0, &self.buf[checked..]);
        self.buf.extend_from_slice(&crc.to_be_bytes());
        let size = (self.buf.len() - before) as u64;
        self.position += size;
        self.chunk_max_size = self.chunk_max_size.max(size);
        Ok(reference)
    }

    fn begin_segment(&mut self) {
        self.segment += 1;
        self.buf.extend_from_slice(&SEGMENT_MAGIC.to_be_bytes());
        self.buf.extend_from_slice(&[SEGMENT_VERSION, 0, 0, 0]);
        self.position = SEGMENT_HEADER_LEN;
    }

    fn end_segment(&mut self) {
        let bytes = Bytes::from(std::mem::take(&mut self.buf));
        self.ended_bytes += bytes.len();
        self.ended.push_back(SegmentPiece {
            segment: self.segment,
            bytes,
            is_last: true,
        });
    }

    /// Bytes waiting in [`SegmentEncoder::take_output`].
    pub fn pending_bytes(&self) -> usize {
        self.ended_bytes + self.buf.len()
    }

    /// The next bytes, if any wait; call until `None` to drain them all. A piece that ends a file may be empty.
    pub fn take_output(&mut self) -> Option<SegmentPiece> {
        if let Some(piece) = self.ended.pop_front() {
            self.ended_bytes -= piece.bytes.len();
            return Some(piece);
        }
        (!self.buf.is_empty()).then(|| SegmentPiece {
            segment: self.segment,
            bytes: std::mem::take(&mut self.buf).into(),
            is_last: false,
        })
    }

    /// Ends the last file; what waits then comes out of [`SegmentEncoder::take_output`]. No chunk may follow.
    pub fn finish(&mut self) {
        if self.segment > 0 {
            self.end_segment();
        }
    }

    /// The largest chunk so far, with its length, encoding and checksum.
    pub fn chunk_max_size_bytes(&self) -> u64 {
        self.chunk_max_size
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::TimestampMs;

    use super::*;
    use crate::chunk::Encoding;

    fn run(max: u64, series: &[&[usize]]) -> (Vec<u64>, Vec<(u32, usize)>) {
        let mut e = SegmentEncoder::new(max);
        let mut refs = Vec::new();
        let data = vec![7; 4096];
        let mut files: Vec<(u32, usize)> = Vec::new();
        let mut take = |e: &mut SegmentEncoder| {
            while let Some(piece) = e.take_output() {
                match files.last_mut() {
                    Some((n, len)) if *n == piece.segment => *len += piece.bytes.len(),
                    _ => files.push((piece.segment, piece.bytes.len())),
                }
            }
        };
        for sizes in series {
            let chunks: Vec<_> = sizes
                .iter()
                .map(|&n| ChunkRef {
                    min_ms: TimestampMs::EPOCH,
                    max_ms: TimestampMs::EPOCH,
                    encoding: Encoding::Xor,
                    data: &data[..n],
                })
                .collect();
            e.add_series(&chunks, &mut refs).unwrap();
            take(&mut e);
        }
        e.finish();
        take(&mut e);
        assert_eq!(e.pending_bytes(), 0);
        (refs, files)
    }

    #[test]
    fn the_worst_case_of_the_length_decides_the_cut() {
        // 90 bytes of data count as 100 and take 96: 8 + 96 + 100 = 204 fits, 203 does not.
        let (refs, files) = run(204, &[&[90], &[90]]);
        assert_eq!((refs, files.len()), (vec![8, 104], 1));
        let (refs, files) = run(203, &[&[90], &[90]]);
        assert_eq!(refs, [8, 1 << 32 | 8]);
        assert_eq!(files, [(1, 104), (2, 104)]);
    }

    #[test]
    fn a_chunk_over_the_limit_stands_alone_and_no_file_is_empty() {
        let (refs, files) = run(100, &[&[500, 10], &[], &[500]]);
        assert_eq!(refs, [8, 1 << 32 | 8, 2 << 32 | 8]);
        assert_eq!(files.len(), 3);
        assert_eq!(run(100, &[]), (vec![], vec![]));
    }

    #[test]
    fn a_batch_counts_from_an_empty_file_after_the_first_cut() {
        let (refs, _) = run(120, &[&[40, 40, 40, 40]]);
        let segments: Vec<_> = refs.iter().map(|r| r >> 32).collect();
        assert_eq!(segments, [0, 0, 1, 1]);
    }
}
