//! The object that holds what stands beside many chunks (`docs/format/side_object.md`).
//!
//! ```text
//! head | filters of each chunk | counts of each chunk | directory | tail
//! ```
//!
//! A reader loads the directory once, and by range the sections that a question needs; neighbours are of one flush.

use std::ops::Range;

use bytes::Bytes;
use hashbrown::HashMap;
use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_uvarint};
use lgtm_core::model::TimestampMs;

use super::chunk_skip::{ChunkSkip, section_fault};
use crate::chunk::ChunkKey;

const WHAT: &str = "side object";
const MAGIC: &[u8; 4] = b"LSKP";
const VERSION: u8 = 2;
/// At the end of the object it tells the version, as readers begin there.
const END_MAGIC: &[u8; 4] = b"LSK2";
const HEAD_BYTES: usize = 5;
/// Bytes of a row of the directory.
pub(super) const ROW_BYTES: usize = 60;
/// Bytes of a place in a row.
const PLACE_BYTES: usize = 12;

/// Puts a side object together.
#[derive(Debug, Default)]
pub struct SideObjectEncoder {
    chunks: Vec<(ChunkKey, u32, ChunkSkip)>,
    bytes: usize,
}

impl SideObjectEncoder {
    /// Adds what stands beside a chunk whose object has `object_bytes`. A chunk that comes twice is kept once.
    pub fn add(&mut self, key: ChunkKey, object_bytes: u32, skip: ChunkSkip) {
        self.bytes += skip.filters.len() + skip.counts.len() + ROW_BYTES;
        self.chunks.push((key, object_bytes, skip));
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// About the bytes of the object.
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what another one has.
    pub fn append(&mut self, other: &mut Self) {
        self.chunks.append(&mut other.chunks);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The object. What would reach beyond 4 GiB is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut chunks: Vec<&(ChunkKey, u32, ChunkSkip)> = self.chunks.iter().collect();
        chunks.sort_by(|a, b| a.0.cmp(&b.0));
        chunks.dedup_by(|a, b| a.0 == b.0);
        let mut out = Vec::with_capacity(self.bytes + 1024);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        let put = |out: &mut Vec<u8>, section: &[u8]| {
            let fits = u32::try_from(out.len() + section.len()).is_ok();
            let section = if fits { section } else { &[] };
            let place = (
                out.len() as u32,
                section.len() as u32,
                crc32fast::hash(section),
            );
            out.extend_from_slice(section);
            place
        };
        let filters: Vec<_> = chunks.iter().map(|c| put(&mut out, &c.2.filters)).collect();
        let counts: Vec<_> = chunks.iter().map(|c| put(&mut out, &c.2.counts)).collect();
        let start = out.len();
        let mut tenants: Vec<&str> = chunks.iter().map(|c| c.0.tenant.as_str()).collect();
        tenants.dedup();
        put_uvarint(&mut out, tenants.len() as u64);
        for tenant in &tenants {
            put_bytes(&mut out, tenant.as_bytes());
        }
        put_uvarint(&mut out, chunks.len() as u64);
        let mut tenant = 0;
        for (((key, object_bytes, _), filters), counts) in chunks.iter().zip(filters).zip(counts) {
            while tenants[tenant] != key.tenant {
                tenant += 1;
            }
            out.extend_from_slice(&(tenant as u32).to_le_bytes());
            out.extend_from_slice(&key.checksum.to_le_bytes());
            out.extend_from_slice(&key.fingerprint.to_le_bytes());
            out.extend_from_slice(&key.from_ms.get().to_le_bytes());
            out.extend_from_slice(&key.through_ms.get().to_le_bytes());
            out.extend_from_slice(&object_bytes.to_le_bytes());
            for (at, len, crc) in [filters, counts] {
                for n in [at, len, crc] {
                    out.extend_from_slice(&n.to_le_bytes());
                }
            }
        }
        let directory = SideTail {
            start: start as u64,
            len: (out.len() - start) as u64,
            crc: crc32fast::hash(&out[start..]),
        };
        directory.encode(&mut out);
        out
    }
}

/// The end of a side object: where its directory stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideTail {
    start: u64,
    len: u64,
    crc: u32,
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
        if r.rest() != END_MAGIC && r.rest() != MAGIC {
            return Err(r.error("another magic number"));
        }
        let tail_at = object_bytes.checked_sub(Self::LEN as u64);
        if tail_at.is_none() || start.checked_add(len) != tail_at {
            return Err(r.error(format!(
                "a directory of {len} bytes at {start} in an object of {object_bytes}"
            )));
        }
        Ok(Self { start, len, crc })
    }

    /// Where the directory stands.
    pub fn directory(&self) -> Range<u64> {
        self.start..self.start + self.len
    }
}

/// Where a section stands, and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidePlace {
    start: u32,
    len: u32,
    crc: u32,
}

impl SidePlace {
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

/// What a side object has of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideChunk {
    /// Bytes of the chunk's object.
    pub object_bytes: u32,
    /// Its filters.
    pub filters: SidePlace,
    /// Its counts.
    pub counts: SidePlace,
}

/// Which chunks a side object knows. Keeps the bytes that it was read from.
#[derive(Debug, Clone)]
pub struct SideDirectory {
    bytes: Bytes,
    tenants: HashMap<String, u32>,
    /// Where the rows begin.
    rows_at: usize,
    rows: usize,
}

impl SideDirectory {
    /// Reads the directory that `tail` names, out of its bytes.
    ///
    /// # Errors
    /// A checksum that does not fit; rows that do not ascend, sections that leave the object.
    pub fn decode(tail: &SideTail, bytes: Bytes) -> Result<Self, DecodeError> {
        let crc = crc32fast::hash(&bytes);
        if crc != tail.crc || bytes.len() as u64 != tail.len {
            return Err(section_fault("directory of a side object", tail.crc, crc));
        }
        let mut r = Reader::new(WHAT, &bytes);
        let count = r.uvarint()?;
        if count > r.remaining() as u64 {
            return Err(r.error(format!("{count} tenants in {} bytes", r.remaining())));
        }
        let mut tenants = HashMap::with_capacity(count as usize);
        for n in 0..count {
            tenants.insert(r.str()?.to_owned(), n as u32);
        }
        let rows = r.uvarint()?;
        if rows.checked_mul(ROW_BYTES as u64) != Some(r.remaining() as u64) {
            return Err(r.error(format!("{rows} rows in {} bytes", r.remaining())));
        }
        let rows_at = r.position();
        let directory = Self {
            rows_at,
            rows: rows as usize,
            tenants,
            bytes,
        };
        let mut before = None;
        for n in 0..directory.rows {
            let row = directory.row(n);
            let fault = |why: &str| DecodeError::new(WHAT, (rows_at + n * ROW_BYTES) as u64, why);
            if before.is_some_and(|before| before >= row.key) {
                return Err(fault("rows do not ascend"));
            }
            for place in [row.chunk.filters, row.chunk.counts] {
                if place.range().end > tail.start || place.range().start < HEAD_BYTES as u64 {
                    return Err(fault("a section that leaves the object"));
                }
            }
            before = Some(row.key);
        }
        Ok(directory)
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no chunk.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What is known of a chunk. Costs a search by halving.
    pub fn find(&self, key: &ChunkKey) -> Option<SideChunk> {
        let tenant = *self.tenants.get(&key.tenant)?;
        let wanted = RowKey {
            tenant,
            fingerprint: key.fingerprint,
            from_ms: key.from_ms,
            through_ms: key.through_ms,
            checksum: key.checksum,
        };
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.row(middle).key < wanted {
                low = middle + 1
            } else {
                high = middle
            }
        }
        let row = (low < self.rows).then(|| self.row(low))?;
        (row.key == wanted).then_some(row.chunk)
    }

    /// Hashes of all keys, by which chunks can be found over many objects.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        let mut names: Vec<(&str, u32)> = self.tenants.iter().map(|(t, n)| (&**t, *n)).collect();
        names.sort_unstable_by_key(|(_, n)| *n);
        let of_tenant: Vec<u64> = names.iter().map(|(t, _)| tenant_hash(t)).collect();
        (0..self.rows).map(move |n| {
            let key = self.row(n).key;
            let tenant = of_tenant.get(key.tenant as usize).copied().unwrap_or(0);
            chunk_hash(tenant, key.fingerprint, key.from_ms, key.checksum)
        })
    }

    /// Bytes of memory.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + self.tenants.keys().map(|t| t.len() + 40).sum::<usize>()
    }

    fn row(&self, n: usize) -> Row {
        let at = self.rows_at + n * ROW_BYTES;
        let row = self.bytes.get(at..at + ROW_BYTES);
        let u32_at = |at: usize| {
            let bytes = row.and_then(|r| r[at..].first_chunk::<4>());
            bytes.map_or(0, |b| u32::from_le_bytes(*b))
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let place = |at: usize| SidePlace {
            start: u32_at(at),
            len: u32_at(at + 4),
            crc: u32_at(at + 8),
        };
        const PLACES_AT: usize = ROW_BYTES - 2 * PLACE_BYTES;
        Row {
            key: RowKey {
                tenant: u32_at(0),
                fingerprint: u64_at(8),
                from_ms: TimestampMs::new(u64_at(16) as i64),
                through_ms: TimestampMs::new(u64_at(24) as i64),
                checksum: u32_at(4),
            },
            chunk: SideChunk {
                object_bytes: u32_at(32),
                filters: place(PLACES_AT),
                counts: place(PLACES_AT + PLACE_BYTES),
            },
        }
    }
}

/// What rows are in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    tenant: u32,
    fingerprint: u64,
    from_ms: TimestampMs,
    through_ms: TimestampMs,
    checksum: u32,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    key: RowKey,
    chunk: SideChunk,
}

/// The hash of a tenant, for [`chunk_hash`].
pub fn tenant_hash(tenant: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(tenant.as_bytes())
}

/// A hash of what names a chunk: chunks of one hash must still be compared.
pub fn chunk_hash(tenant: u64, fingerprint: u64, from_ms: TimestampMs, checksum: u32) -> u64 {
    let all = tenant ^ fingerprint.rotate_left(17) ^ (from_ms.get() as u64).rotate_left(40);
    super::ribbon::mixed(all ^ u64::from(checksum))
}
