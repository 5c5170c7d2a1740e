//! Local files as the write-ahead log and the chunk files use them: a trait, so that tests can lose, tear and fill disks.

mod disk;
mod folder_lock;
mod local;

pub use disk::{Disk, DiskFile, DiskLock};
pub use folder_lock::{FolderLock, open_when_free};
pub use local::LocalDisk;
