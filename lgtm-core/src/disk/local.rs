//! The machine's own disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile, DiskLock};

/// The file in a folder whose lock is the folder's. It stays when the lock is given up: removing it would let two in.
const LOCK_FILE: &str = "lock";

/// A folder of the machine's file system.
#[derive(Debug, Clone)]
pub struct LocalDisk {
    root: PathBuf,
}

impl LocalDisk {
    /// Everything below `root`, which is made when something is first put there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Disk for LocalDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        fs::create_dir_all(self.root.join(dir))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            let entry = entry?;
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && is_file(&entry)?
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open_append(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(self.root.join(path))?;
        Ok(Box::new(LocalFile(file)))
    }

    fn create_new(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .read(true)
            .open(self.root.join(path))?;
        Ok(Box::new(LocalFile(file)))
    }

    fn open_read(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(LocalFile(File::open(self.root.join(path))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.root.join(dir))?.sync_all()
    }

    fn lock(&self, dir: &str, holder: &str) -> io::Result<Box<dyn DiskLock>> {
        let folder = match dir {
            "." => self.root.clone(),
            dir => self.root.join(dir),
        };
        fs::create_dir_all(&folder)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(folder.join(LOCK_FILE))?;
        // The kernel's lock belongs to the open file: it ends with the process and holds between two opens of one process too.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) => {
                let mut other = String::new();
                let read = (&file).take(1 << 10).read_to_string(&mut other);
                let other = match read.map(|_| other.trim()) {
                    Ok(other) if !other.is_empty() => other,
                    _ => "somebody who did not say who",
                };
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("folder {} is held by {other}", folder.display()),
                ));
            }
        }
        // Who holds it is told for people; the lock holds without it (on a full disk).
        let told = file
            .set_len(0)
            .and_then(|()| (&file).write_all(format!("{holder}\n").as_bytes()));
        if let Err(e) = told {
            tracing::warn!(folder = %folder.display(), error = %e, "the holder of a folder cannot be written into its lock file");
        }
        Ok(Box::new(LocalLock { _file: file }))
    }
}

/// Whether an entry is a file or leads to one, or leads nowhere.
fn is_file(entry: &fs::DirEntry) -> io::Result<bool> {
    let kind = entry.file_type()?;
    if !kind.is_symlink() {
        return Ok(kind.is_file());
    }
    match fs::metadata(entry.path()) {
        Ok(target) => Ok(target.is_file()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}

/// The lock of a folder, which ends when its file is closed.
#[derive(Debug)]
struct LocalLock {
    _file: File,
}

impl DiskLock for LocalLock {}

#[derive(Debug)]
struct LocalFile(File);

impl DiskFile for LocalFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    fn append_parts(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
        let mut left = slices.as_mut_slice();
        // Goes behind parts that are empty.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match (&self.0).write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut left, n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_and_a_file_left_by_a_dead_one_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/lock"), "process 1, long dead\n").unwrap();
        let disk = LocalDisk::new(dir.path());
        let held = disk.lock("sub", "process 7").unwrap();
        let refused = disk.lock("sub", "process 8").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let text = refused.to_string();
        assert!(text.contains("process 7") && text.contains("sub"), "{text}");
        // Another folder is another lock.
        disk.lock(".", "process 8").unwrap();
        drop(held);
        disk.lock("sub", "process 8").unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("sub/lock")).unwrap(),
            "process 8\n"
        );
    }

    #[test]
    fn parts_are_appended_one_behind_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new(dir.path());
        let file = disk.create_new("file").unwrap();
        file.append(b"a").unwrap();
        let many = vec![b'x'; 100_000];
        file.append_parts(&[b"", b"bc", &many, b"", b"d"]).unwrap();
        file.append_parts(&[]).unwrap();
        let wanted = [b"abc", &many[..], b"d"].concat();
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), wanted);
    }

    #[test]
    fn links_are_listed_as_files_and_nothing_is_made_over_them() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("moved"), "moved").unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(elsewhere.path().join(to), dir.path().join(name)).unwrap();
        };
        link("moved", "to_file");
        link("gone", "to_nothing");
        link(".", "to_folder");
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let disk = LocalDisk::new(dir.path());
        let mut names = disk.list(".").unwrap();
        names.sort();
        assert_eq!(names, ["file", "to_file", "to_nothing"]);
        for taken in ["to_file", "to_nothing", "to_folder", "folder", "file"] {
            let refused = disk.create_new(taken).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{taken}");
        }
        disk.create_new("new").unwrap().append(b"x").unwrap();
        assert_eq!(fs::read(elsewhere.path().join("moved")).unwrap(), b"moved");
    }
}
