//! Ranged reads: the seam between what reads an immutable file (a block's index and chunks, pages of Parquet) and wherever the file stands.
//!
//! [`ReadAt`] is all that a reader needs. [`ReadPlan`] turns many small wishes into few reads.

use std::fmt::Debug;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use crate::error::{DecodeError, Error, ErrorKind, Result};
use crate::storage::backend::BackendKind;
use crate::storage::bucket::Bucket;
use crate::storage::fault::store_error;
use crate::storage::guarded::Guarded;

/// Unwanted bytes that are read of a local disk rather than reading twice.
const DISK_GAP_BYTES: u64 = 4 << 10;

/// A file that never changes and is read by ranges.
#[async_trait]
pub trait ReadAt: Debug + Send + Sync + 'static {
    /// Exactly the bytes of `range`.
    ///
    /// # Errors
    /// `Corrupt` when the range leaves the file; else what [`store_error`] makes of the back end's error. Safe to cancel.
    async fn read(&self, range: Range<u64>) -> Result<Bytes>;

    /// The bytes of many small ranges, which must ascend by their beginnings, by few reads. Those of a read that is little used do
    /// not keep it in memory.
    ///
    /// # Errors
    /// As [`ReadAt::read`].
    async fn read_many(&self, wishes: &[Range<u64>], plan: &ReadPlan) -> Result<Vec<Bytes>> {
        read_joined(self, wishes, plan).await
    }

    /// Bytes of the whole file.
    fn size(&self) -> u64;

    /// The file's path or object name, for errors.
    fn place(&self) -> &str;
}

/// [`ReadAt::read_many`] by single reads.
async fn read_joined<F: ReadAt + ?Sized>(
    file: &F,
    wishes: &[Range<u64>],
    plan: &ReadPlan,
) -> Result<Vec<Bytes>> {
    let mut reads = stream::iter(plan.join(wishes).into_iter().map(|read| async move {
        let bytes = file.read(read.range.clone()).await?;
        Ok::<_, Error>((read, bytes))
    }))
    .buffered(plan.concurrency.max(1));
    let mut out = Vec::with_capacity(wishes.len());
    while let Some((read, bytes)) = reads.try_next().await? {
        read.serve(wishes, &bytes, &mut out);
    }
    Ok(out)
}

/// Bytes in any of `ranges`, which ascend by their beginnings.
pub(super) fn union_len(ranges: &[Range<u64>]) -> u64 {
    let (mut len, mut covered) = (0, 0);
    for range in ranges {
        len += range.end.saturating_sub(range.start.max(covered));
        covered = covered.max(range.end);
    }
    len
}

fn check_range(file: &dyn ReadAt, range: &Range<u64>) -> Result<()> {
    if range.start <= range.end && range.end <= file.size() {
        return Ok(());
    }
    let reason = format!("bytes up to {} of a file of {}", range.end, file.size());
    Err(Error::corrupt(
        file.place(),
        DecodeError::new("file", range.start, reason),
    ))
}

/// `error`, whose offset counts from the byte `base` of `file`, as a `Corrupt` that names the file.
pub fn corrupt_at(file: &dyn ReadAt, base: u64, mut error: DecodeError) -> Error {
    error.offset += base;
    Error::corrupt(file.place(), error)
}

/// A file that is in memory.
#[derive(Debug, Clone)]
pub struct MemoryFile {
    place: String,
    bytes: Bytes,
}

impl MemoryFile {
    /// `bytes`, called `place` in errors.
    pub fn new(place: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self {
            place: place.into(),
            bytes: bytes.into(),
        }
    }
}

#[async_trait]
impl ReadAt for MemoryFile {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        check_range(self, &range)?;
        Ok(self.bytes.slice(range.start as usize..range.end as usize))
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn place(&self) -> &str {
        &self.place
    }
}

/// A local file, read with `pread` on tokio's blocking threads.
#[derive(Debug, Clone)]
pub struct LocalFile {
    place: String,
    file: Arc<File>,
    size: u64,
}

impl LocalFile {
    /// Opens the file; blocks for as long as that takes.
    ///
    /// # Errors
    /// `NotFound`, else `Unavailable`.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|e| file_error(&place, &e))?;
        Ok(Self {
            place,
            file: Arc::new(file),
            size,
        })
    }
}

/// An error of the operating system about the local file or folder `place`: `NotFound`, else `Unavailable`.
pub fn file_error(place: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound(place.to_owned()),
        _ => Error::Unavailable(format!("{place}: {error}")),
    }
}

/// The bytes of a range. What is overwritten anyway is not cleared first.
fn read_range(file: &File, range: &Range<u64>) -> std::io::Result<Bytes> {
    let wanted = (range.end - range.start) as usize;
    let mut buf = Vec::with_capacity(wanted);
    while buf.len() < wanted {
        let at = range.start + buf.len() as u64;
        match pread(file, spare_capacity(&mut buf), at) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e == Errno::INTR => {}
            Err(e) => return Err(e.into()),
        }
    }
    // There may have been more room.
    buf.truncate(wanted);
    Ok(Bytes::from(buf))
}

impl LocalFile {
    /// Reads ranges, which lie in the file, by one blocking thread.
    async fn read_all(&self, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let read = |range: Range<u64>| read_range(&file, &range);
            let all: std::io::Result<Vec<Bytes>> = ranges.into_iter().map(read).collect();
            all
        });
        match read.await {
            Ok(done) => done.map_err(|e| file_error(&self.place, &e)),
            Err(_) => Err(Error::Cancelled(format!("reading {}", self.place))),
        }
    }
}

#[async_trait]
impl ReadAt for LocalFile {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        check_range(self, &range)?;
        let read = self.read_all(vec![range]).await?;
        Ok(read.into_iter().next().unwrap_or_default())
    }

    async fn read_many(&self, wishes: &[Range<u64>], plan: &ReadPlan) -> Result<Vec<Bytes>> {
        wishes.iter().try_for_each(|wish| check_range(self, wish))?;
        let reads = plan.on_disk().join(wishes);
        let read = self.read_all(reads.iter().map(|read| read.range.clone()).collect());
        let mut out = Vec::with_capacity(wishes.len());
        for (read, bytes) in reads.iter().zip(read.await?) {
            read.serve(wishes, &bytes, &mut out);
        }
        Ok(out)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn place(&self) -> &str {
        &self.place
    }
}

/// An object in a [`Bucket`].
#[derive(Debug, Clone)]
pub struct ObjectFile {
    guarded: Guarded,
    location: object_store::path::Path,
    /// The object with its bucket's prefix.
    place: String,
    size: u64,
}

impl ObjectFile {
    /// The object at `path`, whose size is known, from a listing or from a block's meta; costs no request.
    ///
    /// # Errors
    /// `InvalidInput` for the path.
    pub fn new(bucket: &Bucket, path: &str, size: u64) -> Result<Self> {
        let (guarded, location, place) = bucket.object(path)?;
        Ok(Self {
            guarded,
            location,
            place,
            size,
        })
    }

    /// Whether several ranges cost one hand-over rather than a request each.
    fn is_on_disk(&self) -> bool {
        self.guarded.kind() == BackendKind::File
    }

    /// Reads ranges, which ascend, by one call.
    async fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let read = self.guarded.get_ranges(&self.location, ranges).await;
        read.map_err(|e| self.read_error(ranges.first().map_or(0, |r| r.start), &e))
    }

    /// A range that the listing promises and the object does not have means that the object was cut short.
    fn read_error(&self, offset: u64, error: &object_store::Error) -> Error {
        let told = store_error("read", &self.place, error);
        if told.kind() != ErrorKind::InvalidInput {
            return told;
        }
        let cause = DecodeError::new("object", offset, error.to_string());
        Error::corrupt(&self.place, cause)
    }
}

#[async_trait]
impl ReadAt for ObjectFile {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        check_range(self, &range)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if self.is_on_disk() {
            let read = self.read_ranges(&[range]).await?;
            return Ok(read.into_iter().next().unwrap_or_default());
        }
        let bytes = self
            .guarded
            .get_range(&self.location, range.clone())
            .await
            .map_err(|e| self.read_error(range.start, &e))?;
        if bytes.len() as u64 != range.end - range.start {
            let reason = format!("{} bytes came for {range:?}", bytes.len());
            return Err(Error::corrupt(
                self.place(),
                DecodeError::new("object", range.start, reason),
            ));
        }
        Ok(bytes)
    }

    async fn read_many(&self, wishes: &[Range<u64>], plan: &ReadPlan) -> Result<Vec<Bytes>> {
        if !self.is_on_disk() {
            return read_joined(self, wishes, plan).await;
        }
        wishes.iter().try_for_each(|wish| check_range(self, wish))?;
        let reads = plan.on_disk().join(wishes);
        let ranges: Vec<_> = reads.iter().map(|read| read.range.clone()).collect();
        let mut out = Vec::with_capacity(wishes.len());
        for (read, bytes) in reads.iter().zip(self.read_ranges(&ranges).await?) {
            read.serve(wishes, &bytes, &mut out);
        }
        Ok(out)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn place(&self) -> &str {
        &self.place
    }
}

/// How small reads are joined, and how much may be under way.
#[derive(Debug, Clone, Copy)]
pub struct ReadPlan {
    /// Unwanted bytes that are read rather than paying for another request. Default 512 KiB, as in Thanos and Mimir.
    pub max_gap_bytes: u64,
    /// Joined reads end here. Default 8 MiB. A single item may be larger.
    pub max_read_bytes: u64,
    /// Reads under way at once. Default 4.
    pub concurrency: usize,
    /// The largest single item (series entry, postings list, chunk) that is read. Default 256 MiB.
    pub max_item_bytes: u64,
}

impl Default for ReadPlan {
    fn default() -> Self {
        Self {
            max_gap_bytes: 512 << 10,
            max_read_bytes: 8 << 20,
            concurrency: 4,
            max_item_bytes: 256 << 20,
        }
    }
}

/// One read that serves several wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedRead {
    /// What to read.
    pub(super) range: Range<u64>,
    /// Which of the wishes it serves.
    pub(super) items: Range<usize>,
}

impl PlannedRead {
    /// Appends what each wish of this read wants of its bytes.
    fn serve(&self, wishes: &[Range<u64>], bytes: &Bytes, out: &mut Vec<Bytes>) {
        let items = &wishes[self.items.clone()];
        let is_sparse = 2 * union_len(items) < bytes.len() as u64;
        out.extend(items.iter().map(|wish| {
            let from = (wish.start - self.range.start) as usize;
            let item = from..from + (wish.end - wish.start) as usize;
            if is_sparse {
                Bytes::copy_from_slice(&bytes[item])
            } else {
                bytes.slice(item)
            }
        }));
    }
}

impl ReadPlan {
    /// The same for a file of a local disk: there a further read costs as much as a few KiB too many.
    fn on_disk(&self) -> Self {
        Self {
            max_gap_bytes: self.max_gap_bytes.min(DISK_GAP_BYTES),
            ..*self
        }
    }

    /// Joins `wishes`, whose starts must ascend. Each wish lies inside the read that serves it.
    pub(super) fn join(&self, wishes: &[Range<u64>]) -> Vec<PlannedRead> {
        let mut reads: Vec<PlannedRead> = Vec::new();
        for (i, wish) in wishes.iter().enumerate() {
            if let Some(last) = reads.last_mut() {
                let end = last.range.end.max(wish.end);
                if wish.start <= last.range.end.saturating_add(self.max_gap_bytes)
                    && end - last.range.start <= self.max_read_bytes
                {
                    last.range.end = end;
                    last.items.end = i + 1;
                    continue;
                }
            }
            reads.push(PlannedRead {
                range: wish.clone(),
                items: i..i + 1,
            });
        }
        reads
    }

    /// Refuses an item that is larger than the bound.
    ///
    /// # Errors
    /// `LimitExceeded`, naming the file, what was to be read (`what`) and its size in bytes.
    pub fn check_item(&self, file: &dyn ReadAt, what: &str, size: u64) -> Result<()> {
        if size <= self.max_item_bytes {
            return Ok(());
        }
        Err(Error::LimitExceeded(format!(
            "{}: {what} of {size} bytes exceeds max_item_bytes = {}",
            file.place(),
            self.max_item_bytes
        )))
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use proptest::prelude::*;

    use super::*;
    use crate::storage::{Backend, DataKind, Layout, LocalDurability, StorageSettings};

    proptest! {
        #[test]
        fn every_wish_lies_in_the_read_that_serves_it(
            mut wishes in proptest::collection::vec((0u64..2000, 0u64..50), 0..40),
            max_gap_bytes in 0u64..100,
            max_read_bytes in 1u64..400,
        ) {
            wishes.sort_unstable();
            let wishes: Vec<_> = wishes.into_iter().map(|(s, n)| s..s + n).collect();
            let plan = ReadPlan { max_gap_bytes, max_read_bytes, ..ReadPlan::default() };
            let reads = plan.join(&wishes);
            let mut served = 0;
            for read in &reads {
                prop_assert_eq!(read.items.start, served);
                served = read.items.end;
                for wish in &wishes[read.items.clone()] {
                    prop_assert!(read.range.start <= wish.start && wish.end <= read.range.end);
                }
                prop_assert!(read.items.len() == 1 || read.range.end - read.range.start <= max_read_bytes);
            }
            prop_assert_eq!(served, wishes.len());
        }
    }

    #[tokio::test]
    async fn an_error_of_the_store_keeps_its_kind() {
        use crate::testing::{FaultyStore, StoreFault};
        let store = FaultyStore::new(Arc::new(InMemory::new()), 1);
        let mut settings = StorageSettings::default();
        settings.retry.max_attempts = 1;
        let layout = Layout::builder()
            .store(Backend::new(Arc::new(store.clone()), BackendKind::Memory))
            .settings(settings);
        let bucket = layout.build().unwrap().bucket(DataKind::MetricBlocks);
        bucket.put("a/f", "0123456789").await.unwrap();
        let file = ObjectFile::new(&bucket, "a/f", 10).unwrap();
        for (fault, kind) in [
            (StoreFault::Reset, ErrorKind::Unavailable),
            (StoreFault::Throttled, ErrorKind::RateLimited),
            (StoreFault::Denied, ErrorKind::Internal),
        ] {
            store.script([Some(fault)]);
            let told = file.read(0..5).await.unwrap_err();
            assert_eq!(told.kind(), kind, "{fault:?}: {told}");
            assert!(told.to_string().contains("a/f"), "{told}");
        }
        let gone = ObjectFile::new(&bucket, "a/g", 10).unwrap();
        let told = gone.read(0..5).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn all_kinds_of_files_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"0123456789").unwrap();
        let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::MetricBlocks);
        bucket.put("a/f", "0123456789").await.unwrap();
        let disk = Backend::file(dir.path(), LocalDurability::Os).unwrap();
        let disk = Layout::single_bucket(disk).bucket(DataKind::MetricBlocks);
        disk.put("a/f", "0123456789").await.unwrap();
        let files: [Box<dyn ReadAt>; 4] = [
            Box::new(MemoryFile::new("f", "0123456789")),
            Box::new(LocalFile::open(&path).unwrap()),
            Box::new(ObjectFile::new(&bucket, "a/f", 10).unwrap()),
            Box::new(ObjectFile::new(&disk, "a/f", 10).unwrap()),
        ];
        for file in files {
            assert_eq!(file.size(), 10);
            assert_eq!(file.read(3..6).await.unwrap(), "345");
            assert_eq!(file.read(10..10).await.unwrap(), "");
            assert!(matches!(file.read(8..11).await, Err(Error::Corrupt { .. })));
            let max_gap_bytes = 3;
            let plan = ReadPlan {
                max_gap_bytes,
                ..ReadPlan::default()
            };
            let many = file.read_many(&[0..2, 1..4, 9..10], &plan).await.unwrap();
            assert_eq!(many, ["01", "123", "9"]);
            assert!(file.read_many(&[0..2, 8..11], &plan).await.is_err());
            let none = file.read_many(&[], &plan).await.unwrap();
            assert!(none.is_empty());
            let empty = file.read_many(&[4..4, 5..7], &plan).await.unwrap();
            assert_eq!(empty, ["", "56"]);
        }
        for bucket in [&bucket, &disk] {
            let shrunk = ObjectFile::new(bucket, "a/f", 1 << 60).unwrap();
            for cut in [5..15, 5..1 << 59] {
                let read = shrunk.read(cut.clone()).await;
                assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
                let read = shrunk.read_many(&[0..2, cut], &ReadPlan::default()).await;
                assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
            }
            let gone = ObjectFile::new(bucket, "a/g", 10).unwrap();
            let read = gone.read_many(&[0..2, 5..6], &ReadPlan::default()).await;
            assert!(matches!(read, Err(Error::NotFound(_))), "{read:?}");
        }
        let gone = LocalFile::open(&dir.path().join("g"));
        assert!(matches!(gone, Err(Error::NotFound(_))));
    }
}
