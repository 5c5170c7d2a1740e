//! From objects to index files that can be read by ranges.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lgtm_core::codec::{DecodeFail, Decompressor};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::storage::{LocalFile, MemoryFile, ReadAt, file_error};
use lgtm_core::{Error, Result};

use crate::index::packed::{unpack, unpack_into};

/// Numbers the local files of a process.
static NEXT_FILE: AtomicU64 = AtomicU64::new(0);

/// Unpacks index files: small ones to memory, large ones to files that have no name any more once they are open.
#[derive(Debug)]
pub struct IndexUnpacker {
    executor: Executor,
    folder: Option<PathBuf>,
    /// Bytes that a file may unpack to.
    max_bytes: u64,
    /// Packed size from which on files are unpacked to the folder.
    local_bytes: u64,
}

impl IndexUnpacker {
    /// Unpacks on `executor`, up to `max_bytes` a file; those of more than `local_bytes` packed to `folder`, an existing local one, if there is
    /// one.
    pub fn new(
        executor: Executor,
        folder: Option<PathBuf>,
        max_bytes: u64,
        local_bytes: u64,
    ) -> Self {
        Self {
            executor,
            folder,
            max_bytes,
            local_bytes,
        }
    }

    /// The unpacked file, and the bytes of memory that it takes.
    ///
    /// # Errors
    /// `Corrupt` naming `path`, `LimitExceeded` for a file of more bytes than it may have, `Unavailable` when the local disk refuses.
    pub async fn unpacked(&self, path: &str, packed: Bytes) -> Result<(Arc<dyn ReadAt>, u64)> {
        let path = path.to_owned();
        let max = self.max_bytes;
        let is_large = packed.len() as u64 > self.local_bytes;
        if let Some(folder) = self.folder.clone().filter(|_| is_large) {
            let number = NEXT_FILE.fetch_add(1, Ordering::Relaxed);
            let to = folder.join(format!("{}-{number}.tsdb", std::process::id()));
            let unpacked = move || -> Result<LocalFile> {
                let made = unpack_to_file(&path, &packed, max, &to);
                // It has no name any more, and is gone when the last reader is.
                let removed = std::fs::remove_file(&to);
                let file = made?;
                removed.map_err(|e| file_error(&to.display().to_string(), &e))?;
                Ok(file)
            };
            let file = self.executor.run_blocking(unpacked).await?;
            return Ok((Arc::new(file), 0));
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let job = move |_: &CancelToken| -> Result<MemoryFile> {
            match unpack(&packed, max, &mut Decompressor::default()) {
                Ok(bytes) => Ok(MemoryFile::new(path, bytes)),
                Err(DecodeFail::Broken(e)) => Err(Error::corrupt(path, e)),
                Err(DecodeFail::Refused(e)) => Err(e),
            }
        };
        let file = self.executor.run(job, &CancelToken::new()).await?;
        let size = file.size();
        Ok((Arc::new(file), size))
    }
}

fn unpack_to_file(path: &str, packed: &[u8], max: u64, to: &Path) -> Result<LocalFile> {
    let failed = |e: &std::io::Error| file_error(&to.display().to_string(), e);
    let file = std::fs::File::create_new(to).map_err(|e| failed(&e))?;
    let mut out = std::io::BufWriter::new(file);
    unpack_into(path, packed, max, &mut out)?;
    out.flush().map_err(|e| failed(&e))?;
    LocalFile::open(to)
}
