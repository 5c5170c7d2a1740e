//! Reads chunks out of segments in batches and verifies each (docs/format/block.md).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::{Reader, crc32c};
use lgtm_core::storage::{ReadAt, ReadPlan, corrupt_at};
use lgtm_core::{DecodeError, Error, Result};

use crate::block::segment::{SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SEGMENT_VERSION};
use crate::chunk::{Chunk, Encoding};
use crate::index::ChunkRefMeta;

const WHAT: &str = "chunk";
/// The length of a chunk takes at most so many bytes.
const MAX_LENGTH_FIELD: usize = 5;

/// Bounds of a [`ChunkReader`].
#[derive(Debug, Clone, Copy)]
pub struct ChunkReaderSettings {
    /// What is read for a chunk of unknown length. Default 1 KiB: most float chunks have some 200 bytes, most histogram chunks
    /// less than a thousand. Longer ones cost a second read.
    pub chunk_guess_bytes: u64,
    /// How reads are joined.
    pub reads: ReadPlan,
}

impl Default for ChunkReaderSettings {
    fn default() -> Self {
        Self {
            chunk_guess_bytes: 1 << 10,
            reads: ReadPlan::default(),
        }
    }
}

/// The segments of one block.
#[derive(Debug, Clone)]
pub struct ChunkReader {
    segments: Vec<Arc<dyn ReadAt>>,
    settings: ChunkReaderSettings,
}

impl ChunkReader {
    /// A reader over `segments`, `chunks/000001` first. Reads nothing yet.
    pub fn new(segments: Vec<Arc<dyn ReadAt>>, settings: ChunkReaderSettings) -> Self {
        Self { segments, settings }
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.size()).sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Reads and checks the header of every segment: one read each, so not done when a block is opened from an object store.
    ///
    /// # Errors
    /// `Corrupt`, and what [`ReadAt::read`] returns.
    pub async fn verify_headers(&self) -> Result<()> {
        for file in &self.segments {
            let head = file.read(0..SEGMENT_HEADER_LEN).await?;
            check_header(&head).map_err(|e| corrupt_at(&**file, 0, e))?;
        }
        Ok(())
    }

    /// The chunks that an index lists, in the order given, their checksums verified. Neighbours are read together.
    ///
    /// Memory is the result plus `reads.concurrency` joined reads; chunks share the memory of their read where it is well used.
    /// Safe to cancel.
    ///
    /// # Errors
    /// `Corrupt` naming segment and byte for a checksum that fails, an encoding that is not known or a reference that leads nowhere, and
    /// what the reads return.
    pub async fn read(&self, listed: &[ChunkRefMeta]) -> Result<Vec<Chunk>> {
        if listed.is_sorted_by_key(|c| c.reference) {
            return self.read_sorted(listed).await;
        }
        let mut order: Vec<usize> = (0..listed.len()).collect();
        order.sort_by_key(|&i| listed[i].reference);
        let sorted: Vec<_> = order.iter().map(|&i| listed[i]).collect();
        let chunks = self.read_sorted(&sorted).await?;
        let mut placed: Vec<_> = order.into_iter().zip(chunks).collect();
        placed.sort_unstable_by_key(|(i, _)| *i);
        Ok(placed.into_iter().map(|(_, chunk)| chunk).collect())
    }

    async fn read_sorted(&self, sorted: &[ChunkRefMeta]) -> Result<Vec<Chunk>> {
        let references: Vec<u64> = sorted.iter().map(|c| c.reference).collect();
        let wishes = self.wishes(&references)?;
        let mut out: Vec<Chunk> = Vec::with_capacity(sorted.len());
        for of_segment in sorted.chunk_by(|a, b| a.reference >> 32 == b.reference >> 32) {
            let file = &*self.segments[split(of_segment[0].reference).0];
            let wishes = &wishes[out.len()..out.len() + of_segment.len()];
            let read = file.read_many(wishes, &self.settings.reads).await?;
            for (&listed, have) in of_segment.iter().zip(read) {
                let chunk = match self.missing_len(listed.reference, &have)? {
                    None => self.decode(listed, &have)?,
                    Some(len) => {
                        let whole = self.read_long(listed.reference, len).await?;
                        self.decode(listed, &whole)?
                    }
                };
                out.push(chunk);
            }
        }
        Ok(out)
    }

    /// What to read for each of the sorted references: up to the next one, but no more than the guess.
    fn wishes(&self, sorted: &[u64]) -> Result<Vec<Range<u64>>> {
        let guess = self.settings.chunk_guess_bytes.max(16);
        let wish = |i: usize| {
            let (segment, start) = split(sorted[i]);
            let size = self.segments.get(segment).map(|file| file.size());
            let Some(size) = size.filter(|&size| (SEGMENT_HEADER_LEN..size).contains(&start))
            else {
                let place = match self.segments.get(segment) {
                    Some(file) => file.place().to_owned(),
                    None => format!("segment {} of {}", segment + 1, self.segments.len()),
                };
                let reason = format!("reference {} leads to no chunk", sorted[i]);
                return Err(Error::corrupt(place, DecodeError::new(WHAT, start, reason)));
            };
            let later = sorted[i + 1..].iter().find(|&&r| r != sorted[i]);
            let next = later.map_or(u64::MAX, |&r| match split(r) {
                (s, next) if s == segment => next,
                _ => u64::MAX,
            });
            Ok(start..size.min(start + guess).min(next))
        };
        (0..sorted.len()).map(wish).collect()
    }

    /// The chunk's length, if it is longer than what is at hand.
    fn missing_len(&self, reference: u64, have: &[u8]) -> Result<Option<u64>> {
        let (segment, start) = split(reference);
        let file = &*self.segments[segment];
        let len = entry_len(have).map_err(|e| corrupt_at(file, start, e))?;
        if len <= have.len() as u64 {
            return Ok(None);
        }
        let room = file.size() - start;
        if len > room {
            let reason = format!("{len} bytes, {room} left in the segment");
            return Err(corrupt_at(file, start, DecodeError::new(WHAT, 0, reason)));
        }
        Ok(Some(len))
    }

    async fn read_long(&self, reference: u64, len: u64) -> Result<Bytes> {
        let (segment, start) = split(reference);
        let file = &*self.segments[segment];
        self.settings.reads.check_item(file, "a chunk", len)?;
        file.read(start..start + len).await
    }

    fn decode(&self, listed: ChunkRefMeta, bytes: &Bytes) -> Result<Chunk> {
        let (segment, start) = split(listed.reference);
        let decoded = decode_chunk(bytes)
            .and_then(|(encoding, data)| Ok((Encoding::try_from(encoding)?, data)));
        let (encoding, data) =
            decoded.map_err(|e| corrupt_at(&*self.segments[segment], start, e))?;
        Ok(Chunk {
            min_ms: listed.min_ms,
            max_ms: listed.max_ms,
            encoding,
            data: bytes.slice(data),
        })
    }
}

/// Segment index and offset of a reference.
fn split(reference: u64) -> (usize, u64) {
    ((reference >> 32) as usize, reference & 0xffff_ffff)
}

fn check_header(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut r = Reader::new("chunk segment", bytes);
    let (magic, version) = (r.u32()?, r.u8()?);
    if magic != SEGMENT_MAGIC || version != SEGMENT_VERSION {
        let reason = format!("magic {magic:08x} version {version}");
        return Err(DecodeError::new("chunk segment", 0, reason));
    }
    Ok(())
}

/// Reads the length in front of a chunk.
fn length<'a>(bytes: &'a [u8]) -> Result<(u64, Reader<'a>), DecodeError> {
    let mut r = Reader::new(WHAT, bytes);
    let len = r.uvarint()?;
    if r.position() > MAX_LENGTH_FIELD {
        return Err(r.error(format!("length of {} bytes", r.position())));
    }
    Ok((len, r))
}

/// Bytes from the length to the end of the checksum.
fn entry_len(bytes: &[u8]) -> Result<u64, DecodeError> {
    let (len, r) = length(bytes)?;
    Ok(r.position() as u64 + 1 + len + 4)
}

/// The encoding byte, and where the data stands.
fn decode_chunk(bytes: &[u8]) -> Result<(u8, Range<usize>), DecodeError> {
    let (len, mut r) = length(bytes)?;
    let start = r.position();
    let checked = r.take(usize::try_from(len + 1).unwrap_or(usize::MAX))?;
    let stored = r.u32()?;
    let crc = crc32c(checked);
    if stored != crc {
        let reason = format!("checksum {stored:08x} instead of {crc:08x}");
        return Err(DecodeError::new(WHAT, start as u64, reason));
    }
    Ok((checked[0], start + 1..start + checked.len()))
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::TimestampMs;

    use super::*;
    use crate::block::segment::SegmentEncoder;
    use crate::chunk::ChunkRef;
    use lgtm_core::storage::MemoryFile;
    use proptest::prelude::*;

    fn segments(max: u64, chunks: &[(u8, Vec<u8>)]) -> (Vec<Vec<u8>>, Vec<u64>) {
        let mut e = SegmentEncoder::new(max);
        let mut refs = Vec::new();
        for (encoding, data) in chunks {
            let chunk = ChunkRef {
                min_ms: TimestampMs::EPOCH,
                max_ms: TimestampMs::EPOCH,
                encoding: Encoding::try_from(*encoding).unwrap(),
                data,
            };
            e.add_series(&[chunk], &mut refs).unwrap();
        }
        e.finish();
        let mut files: Vec<Vec<u8>> = Vec::new();
        while let Some(piece) = e.take_output() {
            files.resize(piece.segment as usize, Vec::new());
            files[piece.segment as usize - 1].extend(&piece.bytes);
        }
        (files, refs)
    }

    fn reader(files: &[Vec<u8>], settings: ChunkReaderSettings) -> ChunkReader {
        let open = |bytes: &Vec<u8>| Arc::new(MemoryFile::new("seg", bytes.clone())) as _;
        ChunkReader::new(files.iter().map(open).collect(), settings)
    }

    /// As an index lists them; the times tell them apart.
    fn listed(references: &[u64]) -> Vec<ChunkRefMeta> {
        let meta = |&reference: &u64| ChunkRefMeta {
            min_ms: TimestampMs::new(reference as i64),
            max_ms: TimestampMs::EPOCH,
            reference,
        };
        references.iter().map(meta).collect()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn chunks_come_back_in_the_order_asked(
            chunks in proptest::collection::vec((1u8..=6, proptest::collection::vec(any::<u8>(), 0..90)), 1..30),
            max in 20u64..500,
            picks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
            chunk_guess_bytes in 1u64..100,
            max_gap_bytes in 0u64..200,
        ) {
            let (files, refs) = segments(max, &chunks);
            let reads = ReadPlan { max_gap_bytes, ..ReadPlan::default() };
            let reader = reader(&files, ChunkReaderSettings { chunk_guess_bytes, reads });
            block_on(reader.verify_headers()).unwrap();
            let picks: Vec<_> = picks.iter().map(|p| p.index(refs.len())).collect();
            let wanted: Vec<_> = picks.iter().map(|&i| refs[i]).collect();
            let read = block_on(reader.read(&listed(&wanted))).unwrap();
            for (chunk, i) in read.iter().zip(picks) {
                prop_assert_eq!((chunk.min_ms.get() as u64, chunk.encoding as u8, &chunk.data[..]),
                    (refs[i], chunks[i].0, &chunks[i].1[..]));
            }
        }

        #[test]
        fn arbitrary_segments_never_panic(bytes: Vec<u8>, offset in 0u64..100) {
            let reader = reader(&[bytes], ChunkReaderSettings::default());
            let _ = block_on(reader.read(&listed(&[offset])));
            let _ = block_on(reader.verify_headers());
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_an_error() {
        let (files, refs) = segments(1000, &[(1, vec![5; 20])]);
        let bytes = &files[0];
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let reader = reader(&[bytes], ChunkReaderSettings::default());
            let is_ok = match bit / 8 {
                0..5 => block_on(reader.verify_headers()).is_ok(),
                5..8 => continue, // padding, not under a checksum
                _ => block_on(reader.read(&listed(&refs))).is_ok(),
            };
            assert!(!is_ok, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            let reader = reader(&[bytes[..cut].to_vec()], ChunkReaderSettings::default());
            assert!(block_on(reader.read(&listed(&refs))).is_err(), "cut {cut}");
        }
    }

    #[test]
    fn references_that_lead_nowhere_name_themselves() {
        let (files, _) = segments(1000, &[(1, vec![5; 20])]);
        let reader = reader(&files, ChunkReaderSettings::default());
        for bad in [0, 7, files[0].len() as u64, 1 << 32 | 8, u64::MAX] {
            let error = block_on(reader.read(&listed(&[bad]))).unwrap_err();
            assert!(error.to_string().contains(&bad.to_string()), "{error}");
        }
    }
}
