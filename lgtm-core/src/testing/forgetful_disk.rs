//! A disk that does not do in one of its folders what a store may rely on: by it a store's tests show that they would find such a fault.

use std::io;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, DiskLock};
use crate::testing::CrashDisk;

/// What is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgets {
    /// Syncs succeed and do nothing.
    Syncs,
    /// What was appended last stays in memory until more comes, as if the process had a buffer for it.
    LastAppend,
}

/// Wraps a disk and forgets what is done to the files of one folder.
#[derive(Debug)]
pub struct ForgetfulDisk {
    inner: CrashDisk,
    folder: &'static str,
    forgets: Forgets,
}

impl ForgetfulDisk {
    /// `inner`, which forgets in files whose path has `folder` in it.
    pub fn new(inner: CrashDisk, folder: &'static str, forgets: Forgets) -> Self {
        Self {
            inner,
            folder,
            forgets,
        }
    }

    fn wrap(&self, path: &str, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        if path.contains(self.folder) {
            Box::new(ForgetfulFile {
                inner: file,
                forgets: self.forgets,
                held: Mutex::default(),
            })
        } else {
            file
        }
    }
}

impl Disk for ForgetfulDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn open_append(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.open_append(path)?))
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.create_new(path)?))
    }

    fn open_read(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.open_read(path)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, dir: &str, holder: &str) -> io::Result<Box<dyn DiskLock>> {
        self.inner.lock(dir, holder)
    }
}

#[derive(Debug)]
struct ForgetfulFile {
    inner: Box<dyn DiskFile>,
    forgets: Forgets,
    /// Appended, but not there yet.
    held: Mutex<Vec<u8>>,
}

impl DiskFile for ForgetfulFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut held = self.held.lock();
        self.inner.append(&held)?;
        held.clear();
        match self.forgets {
            Forgets::LastAppend => held.extend_from_slice(bytes),
            Forgets::Syncs => self.inner.append(bytes)?,
        }
        Ok(())
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let held = self.held.lock();
        let there = self.inner.size()?;
        let split = there.saturating_sub(offset).min(out.len() as u64) as usize;
        let (first, rest) = out.split_at_mut(split);
        self.inner.read_exact_at(first, offset)?;
        let from = (offset + split as u64).saturating_sub(there) as usize;
        let held = held.get(from..from + rest.len());
        rest.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.inner.size()? + self.held.lock().len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut held = self.held.lock();
        self.inner.append(&held)?;
        held.clear();
        self.inner.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        match self.forgets {
            Forgets::Syncs => Ok(()),
            Forgets::LastAppend => self.inner.sync(),
        }
    }
}
