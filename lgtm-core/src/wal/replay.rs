//! Reading the log back, and mending it.
//!
//! Frames are read one at a time; memory holds the largest one. What does not decode is copied to `NAME.corrupt-OFFSET` beside
//! its file, and reading goes on with the next intact frame. Segments that are missing are reported as damage is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::frame::{FILE_HEADER, HEADER_LEN, Header, MAGIC, decode_body};
use super::names::{FileName, checkpoint_path, segment_path};
use super::shared::Shared;
use super::tail::cut_torn_tail;
use crate::codec::Reader;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};

/// Bytes looked through at once for the next intact frame.
const SCAN_BYTES: usize = 1 << 20;

/// A record as it was appended.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// The kind given to append.
    pub kind: u8,
    /// The payload given to append.
    pub payload: &'a [u8],
    /// Segment (or checkpoint) that it was read from.
    pub segment: u64,
    /// Offset of its frame there.
    pub offset: u64,
}

/// Bytes that could not be read and were set aside, or segments that are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The file they stand in.
    pub file: String,
    /// Where they begin.
    pub offset: u64,
    /// How many they are; 0 when the file is missing.
    pub bytes: u64,
    /// What is wrong.
    pub reason: String,
}

/// What a replay found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Files read.
    pub files: u64,
    /// Bytes cut off the end of the last segment, which had been half written.
    pub torn_tail: u64,
    /// What was damaged elsewhere, and what is missing.
    pub set_aside: Vec<SetAside>,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Bytes read.
    pub done_bytes: u64,
    /// Bytes there are.
    pub total_bytes: u64,
}

/// The log as it was found, to be read once. Until it was read to its end the log takes no checkpoint.
#[derive(Debug)]
#[must_use = "the log takes no checkpoint before it was read back"]
pub struct WalReplay {
    disk: Arc<dyn Disk>,
    dir: String,
    checkpoint: Option<u64>,
    segments: Vec<u64>,
    total_bytes: u64,
    /// What was seen already when the log was opened.
    found: ReplayReport,
    log: Option<Arc<Shared>>,
}

impl WalReplay {
    /// Looks for the log in `dir`, and cuts off what a process that died left half written.
    pub(super) fn find(disk: Arc<dyn Disk>, dir: &str) -> io::Result<Self> {
        let (mut checkpoint, mut segments) = (None, Vec::new());
        for name in disk.list(dir)? {
            match FileName::parse(&name) {
                FileName::Segment(n) => segments.push(n),
                FileName::Checkpoint(n) => checkpoint = checkpoint.max(Some(n)),
                FileName::Unfinished(_) | FileName::Other => {}
                FileName::Foreign => {
                    tracing::warn!(dir, name, "file that is none of the log's is left alone");
                }
            }
        }
        segments.retain(|s| checkpoint.is_none_or(|c| *s >= c));
        segments.sort_unstable();
        let mut replay = Self {
            disk,
            dir: dir.to_owned(),
            checkpoint,
            segments,
            total_bytes: 0,
            found: ReplayReport::default(),
            log: None,
        };
        replay.report_missing();
        if let Some(last) = replay.segments.last() {
            let cut = cut_torn_tail(&*replay.disk, &segment_path(dir, *last));
            replay.found.torn_tail = match cut {
                // A link that leads nowhere: the replay tells of it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
                cut => cut?,
            };
        }
        for (path, _) in replay.files() {
            replay.total_bytes += match replay.disk.open_read(&path) {
                Ok(file) => file.size()?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
                Err(e) => return Err(e),
            };
        }
        Ok(replay)
    }

    /// Paths and numbers of all files in the order of the log.
    fn files(&self) -> Vec<(String, u64)> {
        let checkpoint = self.checkpoint.iter();
        let checkpoint = checkpoint.map(|c| (checkpoint_path(&self.dir, *c), *c));
        let segments = self.segments.iter();
        let segments = segments.map(|s| (segment_path(&self.dir, *s), *s));
        checkpoint.chain(segments).collect()
    }

    /// Segments follow each other without a gap, from the checkpoint's number or from 1 on.
    fn report_missing(&mut self) {
        let mut expected = self.checkpoint.unwrap_or(1);
        let known = self.segments.iter().copied();
        // The checkpoint's own segment was there before it.
        let end = self.segments.is_empty().then_some(expected + 1);
        let end = end.filter(|_| self.checkpoint.is_some());
        for segment in known.chain(end) {
            if segment > expected {
                let reason = format!(
                    "{} segments of the log are missing, {expected:08} to {:08}",
                    segment - expected,
                    segment - 1
                );
                set_aside(
                    &mut self.found,
                    &segment_path(&self.dir, expected),
                    0,
                    0,
                    reason,
                );
            }
            expected = segment + 1;
        }
    }

    /// Has the log take checkpoints once this was read to its end.
    pub(super) fn tell_when_done(&mut self, log: &Arc<Shared>) {
        if self.checkpoint.is_none() && self.segments.is_empty() {
            log.is_replayed.store(true, Ordering::Release);
        }
        self.log = Some(Arc::clone(log));
    }

    pub(super) fn next_segment(&self) -> u64 {
        self.segments
            .last()
            .copied()
            .max(self.checkpoint)
            .map_or(1, |n| n + 1)
    }

    /// Bytes of everything there is to read.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Hands every record to `sink`, in the order in which they were appended.
    ///
    /// # Errors
    /// Those of `sink`, and `Unavailable` when a file cannot be read at all. Damage is no error.
    pub fn for_each(self, sink: impl FnMut(RecordRef<'_>) -> Result<()>) -> Result<ReplayReport> {
        self.for_each_with_progress(sink, |_| {})
    }

    /// As [`WalReplay::for_each`]; `progress` is called after every frame.
    ///
    /// # Errors
    /// As [`WalReplay::for_each`].
    pub fn for_each_with_progress(
        mut self,
        mut sink: impl FnMut(RecordRef<'_>) -> Result<()>,
        mut progress: impl FnMut(ReplayProgress),
    ) -> Result<ReplayReport> {
        let mut report = std::mem::take(&mut self.found);
        for (path, number) in self.files() {
            let io = |e: io::Error| Error::Unavailable(format!("write-ahead log {path}: {e}"));
            let file = match self.disk.open_read(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let reason =
                        format!("cannot be opened, perhaps a link that leads nowhere: {e}");
                    set_aside(&mut report, &path, 0, 0, reason);
                    continue;
                }
                Err(e) => return Err(io(e)),
            };
            let size = file.size().map_err(io)?;
            let mut scan = Scan {
                disk: &*self.disk,
                path: &path,
                file: &*file,
                size,
                report: &mut report,
            };
            let (mut stored, mut body) = (Vec::new(), Vec::new());
            let mut at = scan.file_header().map_err(io)?;
            while at < size {
                match scan.frame(at, &mut stored, &mut body).map_err(io)? {
                    Ok(next) => {
                        records(&body, number, at, &mut scan, &mut sink)?;
                        at = next;
                    }
                    Err(reason) => at = scan.damage(at, reason).map_err(io)?,
                }
                let done_bytes = scan.report.bytes + at;
                progress(ReplayProgress {
                    done_bytes,
                    total_bytes: self.total_bytes,
                });
            }
            report.bytes += size;
            report.files += 1;
        }
        if let Some(log) = &self.log {
            log.is_replayed.store(true, Ordering::Release);
        }
        Ok(report)
    }
}

fn records(
    body: &[u8],
    segment: u64,
    offset: u64,
    scan: &mut Scan<'_>,
    sink: &mut impl FnMut(RecordRef<'_>) -> Result<()>,
) -> Result<()> {
    let mut r = Reader::new("log record", body);
    while !r.is_empty() {
        let record = r.u8().and_then(|kind| Ok((kind, r.bytes()?)));
        let (kind, payload) = match record {
            Ok(record) => record,
            Err(e) => {
                // The checksum passed, so that this is a fault of the writer; say so and go on with the next frame.
                scan.set_aside(offset, 0, e.to_string());
                return Ok(());
            }
        };
        scan.report.records += 1;
        sink(RecordRef {
            kind,
            payload,
            segment,
            offset,
        })?;
    }
    Ok(())
}

/// One file being read.
struct Scan<'a> {
    disk: &'a dyn Disk,
    path: &'a str,
    file: &'a dyn DiskFile,
    size: u64,
    report: &'a mut ReplayReport,
}

impl Scan<'_> {
    fn file_header(&mut self) -> io::Result<u64> {
        let mut header = [0; FILE_HEADER.len()];
        if self.size >= header.len() as u64 {
            self.file.read_exact_at(&mut header, 0)?;
        }
        if header == *FILE_HEADER {
            return Ok(header.len() as u64);
        }
        // Not even the header was written, or it is damaged: frames may follow all the same.
        if self.size < header.len() as u64 {
            return Ok(self.size);
        }
        self.set_aside(0, header.len() as u64, "file header is damaged".into());
        Ok(header.len() as u64)
    }

    /// Reads the frame at an offset; gives the offset behind it, or what is wrong.
    fn frame(
        &self,
        at: u64,
        stored: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> io::Result<Result<u64, String>> {
        let mut bytes = [0; HEADER_LEN];
        if self.size - at < HEADER_LEN as u64 {
            return Ok(Err("frame header is cut off".into()));
        }
        self.file.read_exact_at(&mut bytes, at)?;
        let header = match Header::decode(&bytes) {
            Ok(h) => h,
            Err(e) => return Ok(Err(e.reason)),
        };
        let from = at + HEADER_LEN as u64;
        let end = from + u64::from(header.stored_len);
        if end > self.size {
            return Ok(Err("frame is cut off".into()));
        }
        stored.resize(header.stored_len as usize, 0);
        self.file.read_exact_at(stored, from)?;
        Ok(decode_body(header, stored, body)
            .map(|()| end)
            .map_err(|e| e.reason))
    }

    /// Deals with damage at an offset; gives where to go on.
    fn damage(&mut self, at: u64, reason: String) -> io::Result<u64> {
        let next = next_frame(self.file, self.size, at + 1)?;
        self.keep_copy(at, next)?;
        self.set_aside(at, next - at, reason);
        Ok(next)
    }

    fn set_aside(&mut self, offset: u64, bytes: u64, reason: String) {
        set_aside(self.report, self.path, offset, bytes, reason);
    }

    /// Copies damaged bytes beside their file, piece by piece.
    fn keep_copy(&self, from: u64, to: u64) -> io::Result<()> {
        let copy = self
            .disk
            .open_append(&format!("{}.corrupt-{from}", self.path))?;
        copy.truncate(0)?;
        let mut at = from;
        let mut piece = Vec::new();
        while at < to {
            piece.resize((to - at).min(SCAN_BYTES as u64) as usize, 0);
            self.file.read_exact_at(&mut piece, at)?;
            copy.append(&piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

fn set_aside(report: &mut ReplayReport, file: &str, offset: u64, bytes: u64, reason: String) {
    tracing::error!(
        file,
        offset,
        bytes,
        reason,
        "damaged part of the write-ahead log set aside"
    );
    report.set_aside.push(SetAside {
        file: file.to_owned(),
        offset,
        bytes,
        reason,
    });
}

/// Where the next frame with an intact header begins in a file, or its end.
pub(super) fn next_frame(file: &dyn DiskFile, size: u64, from: u64) -> io::Result<u64> {
    let mut window = Vec::new();
    let mut at = from;
    while at < size {
        window.resize((size - at).min(SCAN_BYTES as u64) as usize, 0);
        file.read_exact_at(&mut window, at)?;
        for (i, _) in window
            .windows(MAGIC.len())
            .enumerate()
            .filter(|(_, w)| *w == MAGIC)
        {
            let mut header = [0; HEADER_LEN];
            let found = at + i as u64;
            if size - found >= HEADER_LEN as u64 {
                file.read_exact_at(&mut header, found)?;
                if Header::decode(&header).is_ok() {
                    return Ok(found);
                }
            }
        }
        // The magic may lie across two windows.
        at += (window.len() - (MAGIC.len() - 1).min(window.len() - 1)) as u64;
        if window.len() < SCAN_BYTES {
            break;
        }
    }
    Ok(size)
}
