//! The half-written end that a process leaves which died while it wrote.
//!
//! It is cut off when the log is opened, before a new segment stands behind it: later nobody could tell it from a segment that lost its
//! end to damage. Only headers are looked at, a window at a time.

use std::io;

use super::frame::{FILE_HEADER, HEADER_LEN, Header};
use super::replay::next_frame;
use crate::disk::{Disk, DiskFile};

/// Bytes read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// Cuts half a frame off the end of the last segment. Gives the bytes that are gone.
///
/// # Errors
/// Those of the disk.
pub(super) fn cut_torn_tail(disk: &dyn Disk, path: &str) -> io::Result<u64> {
    let file = disk.open_read(path)?;
    let size = file.size()?;
    let Some(at) = torn_at(&*file, size)? else {
        return Ok(0);
    };
    disk.open_append(path)?.truncate(at)?;
    tracing::warn!(
        file = path,
        offset = at,
        bytes = size - at,
        "half-written end of the write-ahead log cut off"
    );
    Ok(size - at)
}

/// Where the frame begins that the end of the file cuts off.
fn torn_at(file: &dyn DiskFile, size: u64) -> io::Result<Option<u64>> {
    let (mut window, mut window_at) = (Vec::new(), 0);
    let mut at = FILE_HEADER.len() as u64;
    while at < size {
        let header = if size - at < HEADER_LEN as u64 {
            None
        } else {
            if at < window_at || at + HEADER_LEN as u64 > window_at + window.len() as u64 {
                window.resize((size - at).min(WINDOW_BYTES) as usize, 0);
                file.read_exact_at(&mut window, at)?;
                window_at = at;
            }
            let from = (at - window_at) as usize;
            match Header::decode(&window[from..from + HEADER_LEN]) {
                Ok(header) => Some(header),
                Err(_) => {
                    // Damage, which the replay will tell of.
                    at = next_frame(file, size, at + 1)?;
                    continue;
                }
            }
        };
        let end = header.map(|h| at + HEADER_LEN as u64 + u64::from(h.stored_len));
        match end {
            Some(end) if end <= size => at = end,
            // An intact frame behind it: then it is its length that is wrong.
            _ => match next_frame(file, size, at + 1)? {
                next if next < size => at = next,
                _ => return Ok(Some(at)),
            },
        }
    }
    Ok(None)
}
