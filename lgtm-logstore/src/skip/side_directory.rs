//! Which chunks a side object knows, and where what stands beside them is in it (`docs/format/side_object.md`).

use bytes::Bytes;
use hashbrown::HashMap;
use lgtm_core::DecodeError;
use lgtm_core::codec::Reader;
use lgtm_core::model::TimestampMs;

use super::batch::{BATCH_HEAD_BYTES, BATCH_ROW_BYTES, BatchRow};
use super::chunk_skip::section_fault;
use super::side_object::{
    HEAD_BYTES, PLACE_BYTES, ROW_BYTES, SidePlace, SideTail, WHAT, chunk_hash, tenant_hash,
};
use crate::chunk::ChunkKey;

/// What a side object has of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideChunk {
    /// Bytes of the chunk's object; 0: not known.
    pub object_bytes: u32,
    /// Its filters.
    pub filters: SidePlace,
    /// Its counts.
    pub counts: SidePlace,
    /// The number of a small chunk among those that share these sections.
    pub in_batch: Option<u16>,
}

/// What a side object has of several small chunks.
#[derive(Debug, Clone)]
pub struct SideBatch {
    /// The tenant of all.
    pub tenant: String,
    /// Their filter.
    pub filters: SidePlace,
    /// Their counts.
    pub counts: SidePlace,
    /// The chunks.
    pub rows: Vec<BatchRow>,
}

/// Which chunks a side object knows. Keeps the bytes that it was read from.
#[derive(Debug, Clone)]
pub struct SideDirectory {
    bytes: Bytes,
    tenants: HashMap<String, TenantNumber>,
    /// Rows of chunks with sections of their own.
    own: Table<ROW_BYTES>,
    batches: Table<BATCH_HEAD_BYTES>,
    /// Rows of chunks of batches.
    small: Table<BATCH_ROW_BYTES>,
}

#[derive(Debug, Clone, Copy)]
struct TenantNumber {
    number: u32,
    hash: u64,
}

/// Rows of one width in a directory.
#[derive(Debug, Clone, Copy, Default)]
struct Table<const WIDTH: usize> {
    at: usize,
    rows: usize,
}

impl<const WIDTH: usize> Table<WIDTH> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rows = r.uvarint()?;
        let at = r.position();
        let bytes = usize::try_from(rows).ok();
        let bytes = bytes.and_then(|rows| rows.checked_mul(WIDTH));
        match bytes.filter(|bytes| *bytes <= r.remaining()) {
            Some(bytes) => {
                r.take(bytes)?;
                Ok(Self {
                    at,
                    rows: bytes / WIDTH,
                })
            }
            None => Err(r.error(format!("{rows} rows in {} bytes", r.remaining()))),
        }
    }

    fn row(self, directory: &[u8], n: usize) -> RowReader<'_, WIDTH> {
        let row = directory.get(self.at + n * WIDTH..);
        RowReader(row.and_then(<[u8]>::first_chunk))
    }

    /// The first row that `is_before` is not true of, where it is true of the rows before that only.
    fn partition_point(self, is_before: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }
}

/// The fields of a row.
#[derive(Debug, Clone, Copy)]
struct RowReader<'a, const WIDTH: usize>(Option<&'a [u8; WIDTH]>);

impl<const WIDTH: usize> RowReader<'_, WIDTH> {
    fn field<const N: usize>(self, at: usize) -> [u8; N] {
        let field = self.0.and_then(|row| row[at..].first_chunk::<N>());
        field.copied().unwrap_or([0; N])
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.field(at))
    }

    fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.field(at))
    }

    fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.field(at))
    }

    fn place(self, at: usize) -> SidePlace {
        SidePlace::decode(&self.field::<PLACE_BYTES>(at))
    }
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
            let tenant = r.str()?.to_owned();
            let (number, hash) = (n as u32, tenant_hash(&tenant));
            tenants.insert(tenant, TenantNumber { number, hash });
        }
        let own = Table::decode(&mut r)?;
        let (batches, small) = match tail.has_batches {
            true => (Table::decode(&mut r)?, Table::decode(&mut r)?),
            false => Default::default(),
        };
        if !r.is_empty() {
            return Err(r.error("bytes behind the last row"));
        }
        let directory = Self {
            own,
            batches,
            small,
            tenants,
            bytes,
        };
        directory.check(tail.start)?;
        Ok(directory)
    }

    /// That rows ascend, and sections stand before `end`.
    fn check(&self, end: u64) -> Result<(), DecodeError> {
        let fault = |at: usize, why: &str| DecodeError::new(WHAT, at as u64, why);
        let is_outside = |place: SidePlace| {
            let range = place.range();
            range.end > end || range.start < HEAD_BYTES as u64
        };
        let mut before = None;
        for n in 0..self.own.rows {
            let (at, Row { key, chunk }) = (self.own.at + n * ROW_BYTES, self.row(n));
            if before.is_some_and(|before| before >= key) {
                return Err(fault(at, "rows do not ascend"));
            }
            if is_outside(chunk.filters) || is_outside(chunk.counts) {
                return Err(fault(at, "a section that leaves the object"));
            }
            before = Some(key);
        }
        for n in 0..self.batches.rows {
            let (_, filters, counts) = self.batch(n);
            if is_outside(filters) || is_outside(counts) {
                let at = self.batches.at + n * BATCH_HEAD_BYTES;
                return Err(fault(at, "a section that leaves the object"));
            }
        }
        let mut before = None;
        for n in 0..self.small.rows {
            let (row, batch) = self.small_row(n);
            if before.is_some_and(|before| before >= row) || batch >= self.batches.rows {
                let at = self.small.at + n * BATCH_ROW_BYTES;
                return Err(fault(
                    at,
                    "rows of small chunks that do not ascend, or no batch",
                ));
            }
            before = Some(row);
        }
        Ok(())
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.own.rows + self.small.rows
    }

    /// Whether there is no chunk.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a chunk. Costs a search by halving, or two.
    pub fn find(&self, key: &ChunkKey) -> Option<SideChunk> {
        let tenant = *self.tenants.get(&key.tenant)?;
        let wanted = RowKey {
            tenant: tenant.number,
            fingerprint: key.fingerprint,
            from_ms: key.from_ms,
            through_ms: key.through_ms,
            checksum: key.checksum,
        };
        let at = self.own.partition_point(|n| self.row_key(n) < wanted);
        if at < self.own.rows && self.row_key(at) == wanted {
            return Some(self.row(at).chunk);
        }
        self.find_small(key, tenant)
    }

    fn find_small(&self, key: &ChunkKey, tenant: TenantNumber) -> Option<SideChunk> {
        let hash = chunk_hash(tenant.hash, key.fingerprint, key.from_ms, key.checksum);
        let wanted = (hash, key.checksum);
        let at = self.small.partition_point(|n| {
            let (row, _) = self.small_row(n);
            (row.hash, row.checksum) < wanted
        });
        let (row, batch) = (at < self.small.rows).then(|| self.small_row(at))?;
        let (of_tenant, filters, counts) = self.batch(batch);
        let is_found = (row.hash, row.checksum) == wanted && of_tenant == tenant.number;
        is_found.then_some(SideChunk {
            object_bytes: 0,
            filters,
            counts,
            in_batch: Some(row.number),
        })
    }

    /// All chunks with sections of their own, in the order of their keys.
    pub fn chunks(&self) -> impl Iterator<Item = (ChunkKey, SideChunk)> {
        let names = self.tenants_in_order();
        (0..self.own.rows).filter_map(move |n| {
            let Row { key, chunk } = self.row(n);
            let key = ChunkKey {
                tenant: (*names.get(key.tenant as usize)?).to_owned(),
                fingerprint: key.fingerprint,
                from_ms: key.from_ms,
                through_ms: key.through_ms,
                checksum: key.checksum,
            };
            Some((key, chunk))
        })
    }

    /// All batches of small chunks.
    pub fn batches(&self) -> Vec<SideBatch> {
        let names = self.tenants_in_order();
        let of = |n| {
            let (tenant, filters, counts) = self.batch(n);
            let tenant = names.get(tenant as usize).copied().unwrap_or_default();
            SideBatch {
                tenant: tenant.to_owned(),
                filters,
                counts,
                rows: Vec::new(),
            }
        };
        let mut out: Vec<SideBatch> = (0..self.batches.rows).map(of).collect();
        for n in 0..self.small.rows {
            let (row, batch) = self.small_row(n);
            if let Some(batch) = out.get_mut(batch) {
                batch.rows.push(row);
            }
        }
        out
    }

    fn tenants_in_order(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tenants.iter().collect();
        names.sort_unstable_by_key(|(_, t)| t.number);
        names.into_iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Hashes of all keys, by which chunks can be found over many objects.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        let names = self.tenants_in_order();
        let of_tenant: Vec<u64> = names.into_iter().map(tenant_hash).collect();
        let own = (0..self.own.rows).map(move |n| {
            let key = self.row_key(n);
            let tenant = of_tenant.get(key.tenant as usize).copied().unwrap_or(0);
            chunk_hash(tenant, key.fingerprint, key.from_ms, key.checksum)
        });
        own.chain((0..self.small.rows).map(move |n| self.small_row(n).0.hash))
    }

    /// Bytes of memory.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + self.tenants.keys().map(|t| t.len() + 48).sum::<usize>()
    }

    fn row_key(&self, n: usize) -> RowKey {
        let row = self.own.row(&self.bytes, n);
        RowKey {
            tenant: row.u32(0),
            checksum: row.u32(4),
            fingerprint: row.u64(8),
            from_ms: TimestampMs::new(row.u64(16) as i64),
            through_ms: TimestampMs::new(row.u64(24) as i64),
        }
    }

    fn row(&self, n: usize) -> Row {
        const PLACES_AT: usize = ROW_BYTES - 2 * PLACE_BYTES;
        let row = self.own.row(&self.bytes, n);
        Row {
            key: self.row_key(n),
            chunk: SideChunk {
                object_bytes: row.u32(32),
                filters: row.place(PLACES_AT),
                counts: row.place(PLACES_AT + PLACE_BYTES),
                in_batch: None,
            },
        }
    }

    /// Tenant, filters and counts of a batch.
    fn batch(&self, n: usize) -> (u32, SidePlace, SidePlace) {
        let row = self.batches.row(&self.bytes, n);
        (row.u32(0), row.place(4), row.place(4 + PLACE_BYTES))
    }

    /// A row of a small chunk, and its batch.
    fn small_row(&self, n: usize) -> (BatchRow, usize) {
        let row = self.small.row(&self.bytes, n);
        let of = BatchRow {
            hash: row.u64(0),
            checksum: row.u32(8),
            number: row.u16(16),
        };
        (of, row.u32(12) as usize)
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
