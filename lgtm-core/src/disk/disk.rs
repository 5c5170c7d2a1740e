//! The traits.

use std::fmt::Debug;
use std::io;

/// A folder tree of plain files. Paths are relative to its root and use `/`.
///
/// Errors are those of the operating system. Nothing but [`DiskFile::sync`] and [`Disk::sync_dir`] is expected to survive a
/// power loss; everything that returned is expected to survive the end of the process.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a folder and those above it.
    fn create_dir_all(&self, dir: &str) -> io::Result<()>;
    /// Names of the files in a folder, in no order. A link counts as what it leads to; one that leads nowhere is named too, so that
    /// whoever opens it learns what is missing.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Opens a file for appending and reading, making it if need be.
    fn open_append(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a file that is not there yet, for appending and reading. `AlreadyExists` when anything bears the name, be it a folder
    /// or a link that leads nowhere: what others left is never written over.
    fn create_new(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading.
    fn open_read(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file, replacing what bears the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder survive a power loss.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Takes a folder, which is made if need be, for one owner, until the lock is dropped or the process ends, however it ends.
    /// `holder` is what the next one who tries is told.
    ///
    /// `WouldBlock`, naming folder and holder, when somebody has it, in this process or in another.
    fn lock(&self, dir: &str, holder: &str) -> io::Result<Box<dyn DiskLock>>;
}

/// A folder's lock; dropping it gives the folder up.
pub trait DiskLock: Debug + Send + Sync + 'static {}

/// An open file.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Appends all of `bytes`. After an error some of them may be in the file.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Appends all of `parts`, one behind the other. After an error some of their bytes may be in the file.
    fn append_parts(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.append(&parts.concat())
    }
    /// Fills `out` from `offset` on; fewer bytes there are an error.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn size(&self) -> io::Result<u64>;
    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes what was appended survive a power loss.
    fn sync(&self) -> io::Result<()>;
}
