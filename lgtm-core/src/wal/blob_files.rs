//! Finished chunks of all heads of a process, on local disk: runs of bytes that are written once, read by their place, and given up.
//!
//! Blobs are appended to files of bounded size and read back with one positioned read each (`docs/format/blob_file.md`). The
//! files are a memory saver, not the record of truth: all that is in them is in the write-ahead log too until object storage
//! has it, unless a checkpoint of the log refers to the blob by its place. So a file is removed when neither memory nor the last finished
//! checkpoint refers to it: [`BlobFiles::unused`] is asked when a checkpoint begins, [`BlobFiles::remove`] once it is finished.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::codec::{crc32c, crc32c_append};
use crate::disk::{Disk, DiskFile};
use crate::error::{DecodeError, Error, Result};
use crate::exec::in_place;

/// First bytes of every file: magic and version.
const HEADER: &[u8; 8] = b"LGCHUNK\x01";
/// Bytes before the data of a blob: length, checksum, tag.
const ENTRY_HEADER: usize = 9;
/// Files of higher numbers are none of ours: there is always a next number.
const MAX_NUMBER: u32 = u32::MAX / 2;
/// Damaged entries of one file that are copied aside. A file with more is kept whole.
const MAX_COPIES: u32 = 16;

/// Where a blob stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobPlace {
    /// Number of the file.
    pub file: u32,
    /// Offset of the entry in the file.
    pub offset: u32,
    /// Bytes of its data.
    pub len: u32,
}

#[derive(Debug)]
struct File {
    handle: Arc<dyn DiskFile>,
    len: u32,
    live: u64,
    /// Written since it was last synced.
    is_dirty: bool,
    /// A sync failed: nobody knows what of it is on disk, and no later sync would tell.
    is_doubtful: bool,
    /// Damaged entries copied aside.
    copies: u32,
    /// Holds what was lost and not copied: it gets another name instead of being removed.
    is_kept: bool,
}

impl File {
    fn new(handle: Arc<dyn DiskFile>, len: u32) -> Self {
        Self {
            handle,
            len,
            live: 0,
            // Whoever wrote a file that is found may have died before it was synced.
            is_dirty: true,
            is_doubtful: false,
            copies: 0,
            is_kept: false,
        }
    }
}

#[derive(Debug)]
struct Writer {
    /// The file being written; 0 before there is one.
    file: u32,
    /// Number of the next file.
    next: u32,
    /// What was appended but not written yet; starts at `flushed` in the current file.
    tail: Vec<u8>,
    flushed: u32,
    /// The last write failed, so that bytes may stand behind `flushed`.
    failed: bool,
}

/// The files of a process and signal. All methods may be called by many threads.
#[derive(Debug)]
pub struct BlobFiles {
    disk: Arc<dyn Disk>,
    dir: String,
    file_size: u32,
    write_buffer: usize,
    files: RwLock<BTreeMap<u32, File>>,
    writer: Mutex<Writer>,
    /// Files were made whose names no sync of the folder has seen.
    has_new_names: AtomicBool,
    damaged: Mutex<HashSet<BlobPlace>>,
    damaged_count: AtomicU64,
}

impl BlobFiles {
    /// Opens the folder `dir`. Files found there stay until a checkpoint finds them unused. Files grow to `file_size` bytes; what is appended
    /// waits in memory until there are `write_buffer` bytes, which are written in one call.
    ///
    /// # Errors
    /// `Unavailable` when the folder cannot be made or listed.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        file_size: u32,
        write_buffer: usize,
    ) -> Result<Self> {
        let io = |e: io::Error| Error::Unavailable(format!("chunk files in {dir}: {e}"));
        disk.create_dir_all(dir).map_err(io)?;
        let mut files = BTreeMap::new();
        for name in disk.list(dir).map_err(io)? {
            // Only names as we write them are ours.
            let number = name.parse::<u32>().ok();
            let Some(number) = number.filter(|n| *n <= MAX_NUMBER && format!("{n:08}") == name)
            else {
                continue;
            };
            let handle = match disk.open_read(&path(dir, number)) {
                Ok(handle) => handle,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    tracing::error!(file = path(dir, number), error = %e, "chunk file cannot be opened, perhaps a link that leads nowhere");
                    continue;
                }
                Err(e) => return Err(io(e)),
            };
            let len = u32::try_from(handle.size().map_err(io)?).unwrap_or(u32::MAX);
            files.insert(number, File::new(handle.into(), len));
        }
        let writer = Writer {
            file: 0,
            next: files.keys().next_back().map_or(1, |n| n + 1),
            tail: Vec::new(),
            flushed: u32::MAX,
            failed: false,
        };
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            file_size,
            write_buffer,
            files: RwLock::new(files),
            writer: Mutex::new(writer),
            has_new_names: AtomicBool::new(true),
            damaged: Mutex::default(),
            damaged_count: AtomicU64::new(0),
        })
    }

    /// Appends a blob; `tag` says how its bytes are to be read and is checked when they are. `None` when the disk refuses, so that the caller keeps the bytes. The bytes are buffered: no call
    /// but one in a few hundred touches the disk.
    pub fn append(&self, tag: u8, data: &[u8]) -> Option<BlobPlace> {
        let len = u32::try_from(data.len()).ok()?;
        let mut w = self.writer.lock();
        let end = u64::from(w.flushed) + (w.tail.len() + ENTRY_HEADER + data.len()) as u64;
        let is_full = end > u64::from(self.file_size) || w.tail.len() > self.write_buffer;
        if is_full && !in_place(|| self.make_room(&mut w, end)) {
            return None;
        }
        let offset = w.flushed + w.tail.len() as u32;
        let file = w.file;
        let mut crc = crc32c(&[tag]);
        crc = crc32c_append(crc, data);
        w.tail.extend_from_slice(&len.to_le_bytes());
        w.tail.extend_from_slice(&crc.to_le_bytes());
        w.tail.push(tag);
        w.tail.extend_from_slice(data);
        if let Some(f) = self.files.write().get_mut(&file) {
            f.live += 1;
        }
        Some(BlobPlace { file, offset, len })
    }

    /// Writes the buffer out, and starts another file when `end` is beyond this one's size.
    fn make_room(&self, w: &mut Writer, end: u64) -> bool {
        if !self.write_tail(w) {
            return false;
        }
        if end <= u64::from(self.file_size) {
            return true;
        }
        match self.create(w.next) {
            Ok((number, handle)) => {
                let len = HEADER.len() as u32;
                self.files
                    .write()
                    .insert(number, File::new(handle.into(), len));
                self.has_new_names.store(true, Ordering::Release);
                (w.file, w.next, w.flushed) = (number, number + 1, len);
                true
            }
            Err(e) => {
                tracing::warn!(file = w.next, error = %e, "chunk file cannot be created; chunks stay in memory");
                false
            }
        }
    }

    /// Makes a file, of number `from` or, where something bears that name, the first one behind it.
    fn create(&self, from: u32) -> io::Result<(u32, Box<dyn DiskFile>)> {
        let mut number = from;
        let file = loop {
            match self.disk.create_new(&path(&self.dir, number)) {
                Ok(file) => break file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number - from < 1000 => {
                    number += 1;
                }
                Err(e) => return Err(e),
            }
        };
        if let Err(e) = file.append(HEADER) {
            let _ = self.disk.remove(&path(&self.dir, number));
            return Err(e);
        }
        Ok((number, file))
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
        // What a failed write left half behind would move every later entry.
        let written = if w.failed {
            handle.truncate(u64::from(w.flushed))
        } else {
            Ok(())
        };
        match written.and_then(|()| handle.append(&w.tail)) {
            Ok(()) => {
                w.flushed += w.tail.len() as u32;
                w.tail.clear();
                w.failed = false;
                if let Some(f) = self.files.write().get_mut(&w.file) {
                    f.len = w.flushed;
                    f.is_dirty = true;
                }
                true
            }
            Err(e) => {
                if !w.failed {
                    tracing::warn!(file = w.file, error = %e, "chunk file cannot be written; chunks stay in memory");
                }
                w.failed = true;
                false
            }
        }
    }

    /// Reads a blob back and checks it.
    ///
    /// # Errors
    /// `Corrupt` naming file and offset; `Unavailable` when the file cannot be read.
    pub fn read(&self, place: BlobPlace, tag: u8) -> Result<Bytes> {
        let size = ENTRY_HEADER + place.len as usize;
        let mut entry = vec![0; size];
        let buffered = {
            let w = self.writer.lock();
            let waiting = (w.file == place.file)
                .then(|| place.offset.checked_sub(w.flushed))
                .flatten()
                .and_then(|at| w.tail.get(at as usize..at as usize + size));
            if let Some(waiting) = waiting {
                entry.copy_from_slice(waiting);
            }
            waiting.is_some()
        };
        if !buffered {
            let handle = self
                .files
                .read()
                .get(&place.file)
                .map(|f| Arc::clone(&f.handle));
            let handle =
                handle.ok_or_else(|| Error::NotFound(format!("chunk file {}", place.file)))?;
            let broken = |reason: &str| self.broken(place, reason);
            handle
                .read_exact_at(&mut entry, u64::from(place.offset))
                .map_err(|e| match e.kind() {
                    io::ErrorKind::UnexpectedEof => broken("the file ends before the entry does"),
                    _ => Error::Unavailable(format!(
                        "chunk file {} at byte {}: {e}",
                        place.file, place.offset
                    )),
                })?;
        }
        let broken = |reason: &str| self.broken(place, reason);
        let field = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        if field(0) != place.len || entry[8] != tag {
            return Err(broken("length or tag is not what the head knows"));
        }
        if crc32c(&entry[8..]) != field(4) {
            return Err(broken("checksum does not match"));
        }
        Ok(Bytes::from(entry).slice(ENTRY_HEADER..))
    }

    fn broken(&self, place: BlobPlace, reason: &str) -> Error {
        let source = DecodeError::new("chunk file entry", u64::from(place.offset), reason);
        Error::corrupt(path(&self.dir, place.file), source)
    }

    /// Notes that a blob cannot be read, and keeps its bytes, damaged as they are, beside its file. False when that was known.
    pub fn set_aside(&self, place: BlobPlace) -> bool {
        if !self.damaged.lock().insert(place) {
            return false;
        }
        self.damaged_count.fetch_add(1, Ordering::Relaxed);
        let mut files = self.files.write();
        let Some(f) = files.get_mut(&place.file) else {
            return true;
        };
        f.copies += 1;
        if f.copies > MAX_COPIES {
            f.is_kept = true;
            return true;
        }
        let handle = Arc::clone(&f.handle);
        drop(files);
        if let Err(e) = self.copy_aside(place, &*handle) {
            tracing::warn!(file = place.file, offset = place.offset, error = %e, "damaged chunk cannot be copied aside; its file is kept");
            if let Some(f) = self.files.write().get_mut(&place.file) {
                f.is_kept = true;
            }
        }
        true
    }

    fn copy_aside(&self, place: BlobPlace, from: &dyn DiskFile) -> io::Result<()> {
        let mut entry = vec![0; ENTRY_HEADER + place.len as usize];
        from.read_exact_at(&mut entry, u64::from(place.offset))?;
        let name = path(&self.dir, place.file);
        match self
            .disk
            .create_new(&format!("{name}.corrupt-{}", place.offset))
        {
            Ok(copy) => copy.append(&entry),
            // An earlier process has done it.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whether a blob is known to be damaged.
    pub fn is_damaged(&self, place: BlobPlace) -> bool {
        self.damaged_count.load(Ordering::Relaxed) > 0 && self.damaged.lock().contains(&place)
    }

    /// Blobs found damaged since the files were opened.
    pub fn damaged_count(&self) -> u64 {
        self.damaged_count.load(Ordering::Relaxed)
    }

    /// Keeps the files that are there now, under another name when they are not needed any more: parts of the log that told what stands
    /// in them are damaged.
    pub fn keep_found(&self) {
        self.files
            .write()
            .values_mut()
            .for_each(|f| f.is_kept = true);
    }

    /// Counts a blob that a checkpoint refers to as live; false when the files do not hold it.
    pub fn adopt(&self, place: BlobPlace) -> bool {
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

    /// Gives blobs up.
    pub fn release(&self, places: &[BlobPlace]) {
        let mut files = self.files.write();
        for p in places {
            if let Some(f) = files.get_mut(&p.file) {
                f.live = f.live.saturating_sub(1);
            }
        }
    }

    /// The files in which no live blob stands and none will: a checkpoint that begins now will not refer to them.
    pub fn unused(&self) -> Vec<u32> {
        let w = self.writer.lock();
        let files = self.files.read();
        let unused = files
            .iter()
            .filter(|(number, f)| f.live == 0 && **number != w.file);
        unused.map(|(number, _)| *number).collect()
    }

    /// Removes files to which nothing refers any more: those that were [`BlobFiles::unused`] when the last finished checkpoint began.
    pub fn remove(&self, unused: &[u32]) {
        let w = self.writer.lock();
        let mut files = self.files.write();
        for number in unused {
            let Some(f) = files
                .get(number)
                .filter(|f| f.live == 0 && *number != w.file)
            else {
                continue;
            };
            let name = path(&self.dir, *number);
            let gone = if f.is_kept {
                self.disk.rename(&name, &format!("{name}.kept"))
            } else {
                self.disk.remove(&name)
            };
            match gone {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(file = number, error = %e, "unused chunk file cannot be removed; it goes with the next checkpoint");
                }
                _ => drop(files.remove(number)),
            }
        }
        // Their places may come again under another number only, so that what was damaged there needs no memory.
        self.damaged.lock().retain(|p| files.contains_key(&p.file));
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses.
    pub fn flush(&self) -> Result<()> {
        if self.write_tail(&mut self.writer.lock()) {
            Ok(())
        } else {
            Err(Error::Unavailable("chunk file cannot be written".into()))
        }
    }

    /// Makes all that was flushed survive a power loss, but for what stands in `unused` files.
    ///
    /// # Errors
    /// `Unavailable` when the disk refuses, and while a file is in use whose sync failed once.
    pub fn sync(&self, unused: &[u32]) -> Result<()> {
        let dirty: Vec<(u32, Arc<dyn DiskFile>)> = {
            let mut files = self.files.write();
            let dirty = files
                .iter_mut()
                .filter(|(number, f)| f.is_dirty && !unused.contains(number));
            dirty
                .map(|(number, f)| {
                    f.is_dirty = false;
                    (*number, Arc::clone(&f.handle))
                })
                .collect()
        };
        // Appends go on meanwhile; what they write is dirty again.
        for (number, handle) in dirty {
            if let Err(e) = handle.sync() {
                tracing::error!(file = number, error = %e, "sync of a chunk file failed; no checkpoint is taken while it is needed");
                if let Some(f) = self.files.write().get_mut(&number) {
                    f.is_doubtful = true;
                }
            }
        }
        if self.has_new_names.swap(false, Ordering::AcqRel)
            && let Err(e) = self.disk.sync_dir(&self.dir)
        {
            self.has_new_names.store(true, Ordering::Release);
            return Err(Error::Unavailable(format!(
                "chunk files in {}: {e}",
                self.dir
            )));
        }
        let files = self.files.read();
        let mut doubtful = files.iter().filter(|(_, f)| f.is_doubtful);
        match doubtful.find(|(number, _)| !unused.contains(number)) {
            None => Ok(()),
            Some((number, _)) => Err(Error::Unavailable(format!(
                "chunk file {number} could not be synced: no checkpoint until its chunks are in blocks or the process starts anew"
            ))),
        }
    }

    /// Bytes in all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.read().values().map(|f| u64::from(f.len)).sum()
    }
}

fn path(dir: &str, number: u32) -> String {
    format!("{dir}/{number:08}")
}
