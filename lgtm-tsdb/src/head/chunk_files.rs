//! Finished chunks of all heads of a process, on local disk.
//!
//! Chunks are appended to files of bounded size and read back with one positioned read each (`docs/format/chunk_file.md`). The
//! files are a memory saver, not the record of truth: every sample in them is in the write-ahead log too until a block has it,
//! unless a checkpoint of the log refers to the chunk by its place. A file is removed when no live chunk stands in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::crc32c;
use lgtm_core::disk::{Disk, DiskFile};
use lgtm_core::{DecodeError, Error, Result};
use parking_lot::{Mutex, RwLock};

/// First bytes of every file: magic and version.
const HEADER: &[u8; 8] = b"LGCHUNK\x01";
/// Bytes before the data of a chunk: length, checksum, encoding.
const ENTRY_HEADER: usize = 9;
/// Bytes that wait in memory until they are written in one call.
const WRITE_BUFFER: usize = 256 << 10;

/// Where a chunk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChunkPlace {
    /// Number of the file.
    pub(super) file: u32,
    /// Offset of the entry in the file.
    pub(super) offset: u32,
    /// Bytes of chunk data.
    pub(super) len: u32,
}

#[derive(Debug)]
struct File {
    handle: Arc<dyn DiskFile>,
    len: u32,
    live: u64,
}

#[derive(Debug)]
struct Writer {
    file: u32,
    /// What was appended but not written yet; starts at `flushed` in the current file.
    tail: Vec<u8>,
    flushed: u32,
    failed: bool,
}

/// The chunk files of a process.
#[derive(Debug)]
pub(super) struct ChunkFiles {
    disk: Arc<dyn Disk>,
    dir: String,
    file_size: u32,
    files: RwLock<BTreeMap<u32, File>>,
    writer: Mutex<Writer>,
}

impl ChunkFiles {
    /// Opens the folder `dir`. Files found there stay until [`ChunkFiles::remove_unused`] finds them unused.
    ///
    /// # Errors
    /// `Unavailable` when the folder cannot be made or listed.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &str, file_size: u32) -> Result<Self> {
        let io = |e: std::io::Error| Error::Unavailable(format!("chunk files in {dir}: {e}"));
        disk.create_dir_all(dir).map_err(io)?;
        let mut files = BTreeMap::new();
        for name in disk.list(dir).map_err(io)? {
            let Ok(number) = name.parse::<u32>() else {
                continue;
            };
            let handle = disk.open_read(&path(dir, number)).map_err(io)?;
            let len = u32::try_from(handle.size().map_err(io)?).unwrap_or(u32::MAX);
            files.insert(
                number,
                File {
                    handle: handle.into(),
                    len,
                    live: 0,
                },
            );
        }
        let next = files.keys().next_back().map_or(1, |n| n + 1);
        let writer = Writer {
            file: next - 1,
            tail: Vec::new(),
            flushed: u32::MAX,
            failed: false,
        };
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            file_size,
            files: RwLock::new(files),
            writer: Mutex::new(writer),
        })
    }

    /// Appends a chunk; `None` when the disk refuses, so that the caller keeps the bytes. The bytes are buffered: no call
    /// but one in a few hundred touches the disk.
    pub(super) fn append(&self, encoding: u8, data: &[u8]) -> Option<ChunkPlace> {
        let len = u32::try_from(data.len()).ok()?;
        let mut w = self.writer.lock();
        let end = u64::from(w.flushed) + (w.tail.len() + ENTRY_HEADER + data.len()) as u64;
        if (end > u64::from(self.file_size) || w.tail.len() > WRITE_BUFFER)
            && !self.make_room(&mut w, end)
        {
            return None;
        }
        let offset = w.flushed + w.tail.len() as u32;
        let file = w.file;
        let mut crc = crc32c(&[encoding]);
        crc = lgtm_core::codec::crc32c_append(crc, data);
        w.tail.extend_from_slice(&len.to_le_bytes());
        w.tail.extend_from_slice(&crc.to_le_bytes());
        w.tail.push(encoding);
        w.tail.extend_from_slice(data);
        if let Some(f) = self.files.write().get_mut(&file) {
            f.live += 1;
        }
        Some(ChunkPlace { file, offset, len })
    }

    /// Writes the buffer out, and starts another file when `end` is beyond this one's size.
    fn make_room(&self, w: &mut Writer, end: u64) -> bool {
        if !self.write_tail(w) {
            return false;
        }
        if end <= u64::from(self.file_size) {
            return true;
        }
        let number = w.file + 1;
        let opened = self
            .disk
            .open_append(&path(&self.dir, number))
            .and_then(|f| f.append(HEADER).map(|()| f));
        match opened {
            Ok(handle) => {
                let len = HEADER.len() as u32;
                self.files.write().insert(
                    number,
                    File {
                        handle: handle.into(),
                        len,
                        live: 0,
                    },
                );
                (w.file, w.flushed) = (number, len);
                true
            }
            Err(e) => {
                tracing::warn!(file = number, error = %e, "chunk file cannot be created; chunks stay in memory");
                false
            }
        }
    }

    fn write_tail(&self, w: &mut Writer) -> bool {
        if w.tail.is_empty() {
            return true;
        }
        let Some(handle) = self
            .files
            .read()
            .get(&w.file)
            .map(|f| Arc::clone(&f.handle))
        else {
            return false;
        };
        match handle.append(&w.tail) {
            Ok(()) => {
                w.flushed += w.tail.len() as u32;
                w.tail.clear();
                w.failed = false;
                if let Some(f) = self.files.write().get_mut(&w.file) {
                    f.len = w.flushed;
                }
                true
            }
            Err(e) => {
                // Whatever half of it reached the file is cut off, so that offsets keep their meaning.
                let cut = handle.truncate(u64::from(w.flushed));
                if !w.failed {
                    tracing::warn!(file = w.file, error = %e, cut = cut.is_ok(), "chunk file cannot be written; chunks stay in memory");
                }
                w.failed = true;
                false
            }
        }
    }

    /// Reads a chunk back and checks it.
    ///
    /// # Errors
    /// `Corrupt` naming file and offset; `Unavailable` when the file cannot be read.
    pub(super) fn read(&self, place: ChunkPlace, encoding: u8) -> Result<Bytes> {
        let size = ENTRY_HEADER + place.len as usize;
        let mut entry = vec![0; size];
        let buffered = {
            let w = self.writer.lock();
            let waiting = w.file == place.file && place.offset >= w.flushed;
            if waiting {
                let at = (place.offset - w.flushed) as usize;
                entry.copy_from_slice(&w.tail[at..at + size]);
            }
            waiting
        };
        if !buffered {
            let handle = self
                .files
                .read()
                .get(&place.file)
                .map(|f| Arc::clone(&f.handle));
            let handle =
                handle.ok_or_else(|| Error::NotFound(format!("chunk file {}", place.file)))?;
            handle
                .read_exact_at(&mut entry, u64::from(place.offset))
                .map_err(|e| {
                    Error::Unavailable(format!(
                        "chunk file {} at byte {}: {e}",
                        place.file, place.offset
                    ))
                })?;
        }
        let broken = |reason: &str| {
            let source = DecodeError::new("chunk file entry", u64::from(place.offset), reason);
            Error::corrupt(path(&self.dir, place.file), source)
        };
        let field = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        if field(0) != place.len || entry[8] != encoding {
            return Err(broken("length or encoding is not what the head knows"));
        }
        if crc32c(&entry[8..]) != field(4) {
            return Err(broken("checksum does not match"));
        }
        Ok(Bytes::from(entry).slice(ENTRY_HEADER..))
    }

    /// Counts a chunk that a checkpoint refers to as live; false when the files do not hold it.
    pub(super) fn adopt(&self, place: ChunkPlace) -> bool {
        let mut files = self.files.write();
        let end = u64::from(place.offset) + ENTRY_HEADER as u64 + u64::from(place.len);
        match files.get_mut(&place.file) {
            Some(f) if end <= u64::from(f.len) => {
                f.live += 1;
                true
            }
            _ => false,
        }
    }

    /// Gives chunks up.
    pub(super) fn release(&self, places: &[ChunkPlace]) {
        let mut files = self.files.write();
        for p in places {
            if let Some(f) = files.get_mut(&p.file) {
                f.live = f.live.saturating_sub(1);
            }
        }
    }

    /// Removes the files in which no live chunk stands, but for the one being written.
    pub(super) fn remove_unused(&self) {
        let w = self.writer.lock();
        let mut files = self.files.write();
        files.retain(|&number, f| {
            if f.live > 0 || number == w.file {
                return true;
            }
            if let Err(e) = self.disk.remove(&path(&self.dir, number)) {
                tracing::warn!(file = number, error = %e, "unused chunk file cannot be removed");
            }
            false
        });
    }

    /// Writes what is buffered and, if asked, makes it survive a power loss: before a checkpoint refers to it.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses.
    pub(super) fn flush(&self, durably: bool) -> Result<()> {
        let mut w = self.writer.lock();
        if !self.write_tail(&mut w) {
            return Err(Error::Unavailable("chunk file cannot be written".into()));
        }
        if durably && let Some(f) = self.files.read().get(&w.file) {
            f.handle
                .sync()
                .map_err(|e| Error::Unavailable(format!("chunk file {}: {e}", w.file)))?;
        }
        Ok(())
    }

    /// Bytes in all files.
    pub(super) fn size_bytes(&self) -> u64 {
        self.files.read().values().map(|f| u64::from(f.len)).sum()
    }
}

fn path(dir: &str, number: u32) -> String {
    format!("{dir}/{number:08}")
}
