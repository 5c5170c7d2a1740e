//! The object that holds what stands beside many chunks (`docs/format/side_object.md`).
//!
//! ```text
//! head | filters of each chunk | counts of each chunk | filters and counts of each batch | directory | tail
//! ```
//!
//! A reader loads the directory once, and by range the sections that a question needs; neighbours are of one flush.

use std::collections::BTreeSet;
use std::ops::Range;

use hashbrown::{HashMap, HashSet};
use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_uvarint};
use lgtm_core::model::TimestampMs;

use super::batch::{BatchRow, ChunkBatch};
use super::chunk_skip::{ChunkSkip, section_fault};
use crate::chunk::ChunkKey;

pub(super) const WHAT: &str = "side object";
const MAGIC: &[u8; 4] = b"LSKP";
const VERSION: u8 = 3;
/// At the end of the object it tells the version, as readers begin there.
const END_MAGIC: &[u8; 4] = b"LSK3";
const END_MAGIC_2: &[u8; 4] = b"LSK2";
pub(super) const HEAD_BYTES: usize = 5;
/// Bytes of a row of the directory.
pub(super) const ROW_BYTES: usize = 60;
/// Bytes of a place in a row.
pub(super) const PLACE_BYTES: usize = 12;

/// Puts a side object together.
#[derive(Debug, Default)]
pub struct SideObjectEncoder {
    chunks: Vec<(ChunkKey, u32, ChunkSkip)>,
    batches: Vec<ChunkBatch>,
    bytes: usize,
}

impl SideObjectEncoder {
    /// Adds what stands beside a chunk whose object has `object_bytes`. A chunk that comes twice is kept once.
    pub fn add(&mut self, key: ChunkKey, object_bytes: u32, skip: ChunkSkip) {
        self.bytes += skip.filters.len() + skip.counts.len() + ROW_BYTES;
        self.chunks.push((key, object_bytes, skip));
    }

    /// Adds what several small chunks share.
    pub fn add_batch(&mut self, batch: ChunkBatch) {
        self.bytes += batch.size_bytes();
        self.batches.push(batch);
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.batches.is_empty()
    }

    /// About the bytes of the object.
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what another one has.
    pub fn append(&mut self, other: &mut Self) {
        self.chunks.append(&mut other.chunks);
        self.batches.append(&mut other.batches);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The object. What would reach beyond 4 GiB is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut chunks: Vec<&(ChunkKey, u32, ChunkSkip)> = self.chunks.iter().collect();
        chunks.sort_by(|a, b| a.0.cmp(&b.0));
        chunks.dedup_by(|a, b| a.0 == b.0);
        let (batches, rows) = self.batches_with_rows();
        let mut out = Vec::with_capacity(self.bytes + 1024);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        let filters = chunks.iter().map(|c| &c.2.filters);
        let filters: Vec<_> = filters.map(|s| put_section(&mut out, s)).collect();
        let counts = chunks.iter().map(|c| &c.2.counts);
        let counts: Vec<_> = counts.map(|s| put_section(&mut out, s)).collect();
        let of_batches = batches.iter().map(|b| {
            let filters = put_section(&mut out, &b.filters);
            (filters, put_section(&mut out, &b.counts))
        });
        let of_batches: Vec<_> = of_batches.collect();
        let start = out.len();
        let all = chunks.iter().map(|c| c.0.tenant.as_str());
        let all = all.chain(batches.iter().map(|b| b.tenant.as_str()));
        let tenants: BTreeSet<&str> = all.collect();
        put_uvarint(&mut out, tenants.len() as u64);
        for tenant in &tenants {
            put_bytes(&mut out, tenant.as_bytes());
        }
        let tenants: HashMap<&str, u32> = tenants.into_iter().zip(0..).collect();
        let put_tenant = |tenant: &String, out: &mut Vec<u8>| {
            let number = tenants.get(tenant.as_str()).copied().unwrap_or(u32::MAX);
            out.extend_from_slice(&number.to_le_bytes());
        };
        put_uvarint(&mut out, chunks.len() as u64);
        for (((key, object_bytes, _), filters), counts) in chunks.iter().zip(filters).zip(counts) {
            put_tenant(&key.tenant, &mut out);
            out.extend_from_slice(&key.checksum.to_le_bytes());
            out.extend_from_slice(&key.fingerprint.to_le_bytes());
            out.extend_from_slice(&key.from_ms.get().to_le_bytes());
            out.extend_from_slice(&key.through_ms.get().to_le_bytes());
            out.extend_from_slice(&object_bytes.to_le_bytes());
            filters.encode(&mut out);
            counts.encode(&mut out);
        }
        put_uvarint(&mut out, batches.len() as u64);
        for (batch, (filters, counts)) in batches.iter().zip(of_batches) {
            put_tenant(&batch.tenant, &mut out);
            filters.encode(&mut out);
            counts.encode(&mut out);
        }
        put_uvarint(&mut out, rows.len() as u64);
        for (row, batch) in rows {
            out.extend_from_slice(&row.hash.to_le_bytes());
            out.extend_from_slice(&row.checksum.to_le_bytes());
            out.extend_from_slice(&batch.to_le_bytes());
            out.extend_from_slice(&row.number.to_le_bytes());
        }
        let directory = SideTail {
            start: start as u64,
            len: (out.len() - start) as u64,
            crc: crc32fast::hash(&out[start..]),
            has_batches: true,
        };
        directory.encode(&mut out);
        out
    }

    /// The batches that have a chunk which no other has before them, and their rows in order, each with the number of its batch.
    fn batches_with_rows(&self) -> (Vec<&ChunkBatch>, Vec<(BatchRow, u32)>) {
        let (mut batches, mut rows) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for batch in &self.batches {
            let number = batches.len() as u32;
            let before = rows.len();
            let new = batch.rows.iter();
            let new = new.filter(|r| seen.insert((&*batch.tenant, r.hash, r.checksum)));
            rows.extend(new.map(|row| (*row, number)));
            if rows.len() > before {
                batches.push(batch);
            }
        }
        rows.sort_unstable();
        (batches, rows)
    }
}

fn put_section(out: &mut Vec<u8>, section: &[u8]) -> SidePlace {
    let fits = u32::try_from(out.len() + section.len()).is_ok();
    let section = if fits { section } else { &[] };
    let place = SidePlace {
        start: out.len() as u32,
        len: section.len() as u32,
        crc: crc32fast::hash(section),
    };
    out.extend_from_slice(section);
    place
}

/// The end of a side object: where its directory stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideTail {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) crc: u32,
    /// Since version 3 batches of small chunks follow the rows.
    pub(super) has_batches: bool,
}

impl SideTail {
    /// Bytes of it.
    pub const LEN: usize = 24;

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(END_MAGIC);
    }

    /// Reads the last bytes of an object of `object_bytes`.
    ///
    /// # Errors
    /// Too few bytes, another magic number, a directory that leaves the object.
    pub fn decode(end: &[u8], object_bytes: u64) -> Result<Self, DecodeError> {
        let Some(tail) = end.last_chunk::<{ Self::LEN }>() else {
            return Err(DecodeError::new(WHAT, 0, "its end is cut off"));
        };
        let mut r = Reader::new(WHAT, tail);
        let (start, len, crc) = (r.u64_le()?, r.u64_le()?, r.u32_le()?);
        // What differs in version 1 its sections tell themselves.
        let has_batches = r.rest() == END_MAGIC;
        if !has_batches && r.rest() != END_MAGIC_2 && r.rest() != MAGIC {
            return Err(r.error("another magic number"));
        }
        let tail_at = object_bytes.checked_sub(Self::LEN as u64);
        if tail_at.is_none() || start.checked_add(len) != tail_at {
            return Err(r.error(format!(
                "a directory of {len} bytes at {start} in an object of {object_bytes}"
            )));
        }
        Ok(Self {
            start,
            len,
            crc,
            has_batches,
        })
    }

    /// Where the directory stands.
    pub fn directory(&self) -> Range<u64> {
        self.start..self.start + self.len
    }
}

/// Where a section stands, and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SidePlace {
    start: u32,
    len: u32,
    crc: u32,
}

impl SidePlace {
    fn encode(self, out: &mut Vec<u8>) {
        for n in [self.start, self.len, self.crc] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }

    /// Reads what [`SidePlace::encode`] writes.
    pub(super) fn decode(bytes: &[u8; PLACE_BYTES]) -> Self {
        let [start, len, crc] = [0, 4, 8].map(|at| {
            let four = bytes[at..].first_chunk::<4>();
            four.map_or(0, |b| u32::from_le_bytes(*b))
        });
        Self { start, len, crc }
    }

    /// Whether there is nothing.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where it stands in the object.
    pub fn range(self) -> Range<u64> {
        u64::from(self.start)..u64::from(self.start) + u64::from(self.len)
    }

    /// That these are the bytes which were written.
    ///
    /// # Errors
    /// A checksum that does not fit.
    pub fn check(self, section: &[u8]) -> Result<(), DecodeError> {
        let crc = crc32fast::hash(section);
        if crc == self.crc && section.len() == self.len as usize {
            return Ok(());
        }
        Err(section_fault("section of a side object", self.crc, crc))
    }
}

/// The hash of a tenant, for [`chunk_hash`].
pub fn tenant_hash(tenant: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(tenant.as_bytes())
}

/// A hash of what names a chunk: chunks of one hash must still be compared.
pub fn chunk_hash(tenant: u64, fingerprint: u64, from_ms: TimestampMs, checksum: u32) -> u64 {
    let all = tenant ^ fingerprint.rotate_left(17) ^ (from_ms.get() as u64).rotate_left(40);
    lgtm_core::codec::ribbon::mixed(all ^ u64::from(checksum))
}
