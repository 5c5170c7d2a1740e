//! Traces that were cut, packed: sorted by id, in compressed frames. See `docs/format/trace_batch.md`.
//!
//! A batch leaves memory for a local file; what stays is its directory, so that a trace is found with one read and one small decompression, and
//! a flush merges many batches with a frame of each in memory.

use lgtm_core::codec::{
    Compression, Compressor, DecodeFail, Decompressor, OutputSize, Reader, put_bytes, put_uvarint,
};
use lgtm_core::{DecodeError, Error, Result};

use super::run::{Run, put_trace};
use crate::trace::TraceId;

/// A frame ends when it has grown to this, before compression.
const FRAME_BYTES: usize = 128 << 10;
/// More than this never comes out of a frame: one trace may be larger than a frame, but not than what the log takes.
const MAX_FRAME_BYTES: usize = 1 << 30;
/// Of the format.
const VERSION: u8 = 1;
const WHAT: &str = "trace batch";

/// A trace, or a part of one, as it goes into a batch.
#[derive(Debug, Clone, Default)]
pub(super) struct CutTrace<'a> {
    pub(super) id: TraceId,
    pub(super) span_count: u32,
    /// First start and last end of its spans, nanoseconds since the epoch.
    pub(super) min_ns: u64,
    pub(super) max_ns: u64,
    /// Resources and scopes by the numbers of the batch's own tables.
    pub(super) runs: Vec<Run<'a>>,
}

/// What a batch is packed of.
#[derive(Debug, Default)]
pub(super) struct BatchContent<'a> {
    pub(super) resources: Vec<&'a [u8]>,
    pub(super) scopes: Vec<&'a [u8]>,
    /// By id; one that comes twice has two parts.
    pub(super) traces: Vec<CutTrace<'a>>,
}

/// What is in a batch, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct BatchDirectory {
    pub(super) span_count: u64,
    /// Bytes before compression, resources and scopes counted once.
    pub(super) raw_bytes: u64,
    /// First start and last end.
    pub(super) min_ns: u64,
    pub(super) max_ns: u64,
    tables: FrameRef,
    frames: Vec<FrameRef>,
    /// Ids in order; `ends` says where those of each frame end.
    ids: Vec<TraceId>,
    ends: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct FrameRef {
    offset: u32,
    len: u32,
    raw_len: u32,
    /// First start and last end of the traces in it.
    min_ns: u64,
    max_ns: u64,
}

/// Packs a batch, and tells what its directory will read back as.
///
/// # Errors
/// `LimitExceeded` for more than 4 GiB; `Internal` when the compression fails.
pub(super) fn pack(
    content: &BatchContent<'_>,
    compressor: &mut Compressor,
) -> Result<(Vec<u8>, BatchDirectory)> {
    let mut out = vec![VERSION];
    let mut directory = BatchDirectory {
        min_ns: u64::MAX,
        ..BatchDirectory::default()
    };
    let mut raw = Vec::with_capacity(FRAME_BYTES + FRAME_BYTES / 4);
    for table in [&content.resources, &content.scopes] {
        put_uvarint(&mut raw, table.len() as u64);
        table.iter().for_each(|bytes| put_bytes(&mut raw, bytes));
    }
    directory.tables = seal(&mut raw, (0, 0), compressor, &mut out)?;
    directory.raw_bytes = directory.tables.raw_len.into();
    let mut range = (u64::MAX, 0);
    for (n, trace) in content.traces.iter().enumerate() {
        raw.extend_from_slice(trace.id.as_bytes());
        let runs_bytes: usize = trace.runs.iter().map(Run::size_bytes).sum();
        put_uvarint(&mut raw, runs_bytes as u64);
        trace.runs.iter().for_each(|run| run.put(&mut raw));
        range = (range.0.min(trace.min_ns), range.1.max(trace.max_ns));
        directory.ids.push(trace.id);
        directory.span_count += u64::from(trace.span_count);
        // Parts of one trace stay in one frame.
        let next = content.traces.get(n + 1);
        let is_last = next.is_none_or(|next| raw.len() >= FRAME_BYTES && next.id != trace.id);
        if is_last {
            let frame = seal(&mut raw, range, compressor, &mut out)?;
            directory.raw_bytes += u64::from(frame.raw_len);
            directory.min_ns = directory.min_ns.min(range.0);
            directory.max_ns = directory.max_ns.max(range.1);
            directory.frames.push(frame);
            directory.ends.push(directory.ids.len() as u32);
            range = (u64::MAX, 0);
        }
    }
    let at = out.len();
    directory.put(&mut out);
    let len = u32::try_from(out.len() - at).map_err(|_| too_large())?;
    out.extend_from_slice(&len.to_le_bytes());
    Ok((out, directory))
}

fn too_large() -> Error {
    Error::LimitExceeded("a batch of traces exceeds 4 GiB".into())
}

/// Compresses `raw` behind `out`, and empties it.
fn seal(
    raw: &mut Vec<u8>,
    (min_ns, max_ns): (u64, u64),
    compressor: &mut Compressor,
    out: &mut Vec<u8>,
) -> Result<FrameRef> {
    let offset = out.len();
    compressor.compress(Compression::Zstd, raw, out)?;
    let place = (offset, out.len() - offset, raw.len());
    let fits = |n: usize| u32::try_from(n).map_err(|_| too_large());
    raw.clear();
    Ok(FrameRef {
        offset: fits(place.0)?,
        len: fits(place.1)?,
        raw_len: fits(place.2)?,
        min_ns,
        max_ns,
    })
}

impl FrameRef {
    fn put(&self, out: &mut Vec<u8>) {
        for n in [self.offset, self.len, self.raw_len] {
            put_uvarint(out, n.into());
        }
        for time in [self.min_ns, self.max_ns] {
            out.extend_from_slice(&time.to_le_bytes());
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut number = || {
            let n = r.uvarint()?;
            u32::try_from(n).map_err(|_| r.error(format!("{n} does not fit 32 bits")))
        };
        Ok(Self {
            offset: number()?,
            len: number()?,
            raw_len: number()?,
            min_ns: r.u64_le()?,
            max_ns: r.u64_le()?,
        })
    }
}

impl BatchDirectory {
    fn put(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.span_count);
        self.tables.put(out);
        put_uvarint(out, self.frames.len() as u64);
        let mut from = 0;
        for (frame, end) in self.frames.iter().zip(&self.ends) {
            frame.put(out);
            let ids = &self.ids[from as usize..*end as usize];
            put_uvarint(out, ids.len() as u64);
            ids.iter()
                .for_each(|id| out.extend_from_slice(id.as_bytes()));
            from = *end;
        }
    }

    /// Reads the directory of a packed batch.
    ///
    /// # Errors
    /// For bytes that are none: every place that it names lies within the batch, and ids are in order.
    pub(super) fn read(packed: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(WHAT, packed);
        match r.u8()? {
            VERSION => {}
            other => return Err(r.error(format!("unknown version {other}"))),
        }
        let Some((front, len)) = packed.split_last_chunk::<4>() else {
            return Err(r.error("cut off"));
        };
        let len = u32::from_le_bytes(*len) as usize;
        let at = front.len().checked_sub(len);
        let at = at.ok_or_else(|| r.error("directory is longer than the batch"))?;
        let mut r = Reader::new(WHAT, &front[at..]);
        let mut out = Self {
            span_count: r.uvarint()?,
            tables: FrameRef::read(&mut r)?,
            min_ns: u64::MAX,
            ..Self::default()
        };
        let frame_count = r.uvarint()?;
        for _ in 0..frame_count {
            let frame = FrameRef::read(&mut r)?;
            for _ in 0..r.uvarint()? {
                let mut id = [0; 16];
                id.copy_from_slice(r.take(16)?);
                let id = TraceId::new(id);
                if out.ids.last().is_some_and(|last| *last > id) {
                    return Err(r.error("ids are not in order"));
                }
                out.ids.push(id);
            }
            out.min_ns = out.min_ns.min(frame.min_ns);
            out.max_ns = out.max_ns.max(frame.max_ns);
            out.frames.push(frame);
            out.ends.push(out.ids.len() as u32);
        }
        if !r.is_empty() {
            return Err(r.error("bytes behind the directory"));
        }
        let places = std::iter::once(&out.tables).chain(&out.frames);
        for place in places.clone() {
            if place.offset as usize + place.len as usize > at {
                return Err(r.error("a frame lies beyond the batch"));
            }
        }
        out.raw_bytes = places.map(|f| u64::from(f.raw_len)).sum();
        Ok(out)
    }

    /// Ids of the traces in it, in order; one that has two parts stands twice.
    pub(super) fn ids(&self) -> &[TraceId] {
        &self.ids
    }

    /// Number of frames.
    pub(super) fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// The frame that has a trace.
    pub(super) fn frame_of(&self, id: TraceId) -> Option<usize> {
        let at = self.ids.binary_search(&id).ok()?;
        Some(self.ends.partition_point(|end| *end as usize <= at))
    }

    /// The last id of a frame.
    pub(super) fn last_of(&self, frame: usize) -> Option<TraceId> {
        let end = *self.ends.get(frame)? as usize;
        self.ids.get(end.checked_sub(1)?).copied()
    }

    /// First start and last end of the traces of a frame, nanoseconds.
    pub(super) fn range_of(&self, frame: usize) -> (u64, u64) {
        let frame = &self.frames[frame];
        (frame.min_ns, frame.max_ns)
    }
}

/// Resources and scopes of a batch, by number.
#[derive(Debug, Default)]
pub(super) struct BatchTables {
    raw: Vec<u8>,
    resources: Vec<(u32, u32)>,
    scopes: Vec<(u32, u32)>,
}

/// A trace of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedTrace<'a> {
    pub(super) id: TraceId,
    runs: &'a [u8],
}

fn fail(fail: DecodeFail) -> DecodeError {
    match fail {
        DecodeFail::Broken(e) => e,
        DecodeFail::Refused(e) => DecodeError::new(WHAT, 0, e.to_string()),
    }
}

/// Decompresses a frame, replacing what `out` had.
fn unseal(
    packed: &[u8],
    frame: &FrameRef,
    decompressor: &mut Decompressor,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    out.clear();
    let (offset, raw_len) = (frame.offset as usize, frame.raw_len as usize);
    let bytes = packed.get(offset..offset + frame.len as usize);
    let bytes = bytes.ok_or_else(|| DecodeError::new(WHAT, offset as u64, "cut off"))?;
    let size = OutputSize {
        expected_bytes: raw_len.min(4 * FRAME_BYTES),
        max_bytes: raw_len.min(MAX_FRAME_BYTES),
    };
    (decompressor.decompress(Compression::Zstd, bytes, size, out)).map_err(fail)
}

impl BatchTables {
    /// Reads the tables of a packed batch.
    ///
    /// # Errors
    /// For bytes that are none.
    pub(super) fn read(
        packed: &[u8],
        directory: &BatchDirectory,
        decompressor: &mut Decompressor,
    ) -> Result<Self, DecodeError> {
        let mut out = Self::default();
        unseal(packed, &directory.tables, decompressor, &mut out.raw)?;
        let mut r = Reader::new(WHAT, &out.raw);
        for table in [&mut out.resources, &mut out.scopes] {
            for _ in 0..r.uvarint()? {
                let len = r.bytes()?.len();
                table.push(((r.position() - len) as u32, len as u32));
            }
        }
        Ok(out)
    }

    fn entry(&self, table: &[(u32, u32)], n: u32) -> Option<&[u8]> {
        let (start, len) = *table.get(n as usize)?;
        self.raw.get(start as usize..(start + len) as usize)
    }

    /// A resource.
    pub(super) fn resource(&self, n: u32) -> Option<&[u8]> {
        self.entry(&self.resources, n)
    }

    /// A scope.
    pub(super) fn scope(&self, n: u32) -> Option<&[u8]> {
        self.entry(&self.scopes, n)
    }
}

/// Decompresses a frame of a packed batch into `raw`.
///
/// # Errors
/// For bytes that are none.
pub(super) fn read_frame(
    packed: &[u8],
    directory: &BatchDirectory,
    frame: usize,
    decompressor: &mut Decompressor,
    raw: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    unseal(packed, &directory.frames[frame], decompressor, raw)
}

/// The traces of a decompressed frame, in order. An error is the last item.
pub(super) fn traces_of(
    raw: &[u8],
) -> impl Iterator<Item = Result<PackedTrace<'_>, DecodeError>> + use<'_> {
    let mut r = Reader::new(WHAT, raw);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || r.is_empty() {
            return None;
        }
        let trace = PackedTrace::read(&mut r);
        failed = trace.is_err();
        Some(trace)
    })
}

impl<'a> PackedTrace<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut id = [0; 16];
        id.copy_from_slice(r.take(16)?);
        Ok(Self {
            id: TraceId::new(id),
            runs: r.bytes()?,
        })
    }

    /// Appends it as the protobuf message `Trace`.
    ///
    /// # Errors
    /// For runs that are none, or name what the tables have not.
    pub(super) fn put(&self, tables: &BatchTables, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let mut failed = None;
        let runs = Run::all(self.runs).map_while(|run| run.map_err(|e| failed = Some(e)).ok());
        put_trace(runs, |n| tables.resource(n), |n| tables.scope(n), out)?;
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn trace(id: u8, spans: &[u8], time: u64) -> CutTrace<'_> {
        let run = Run {
            resource: u32::from(id % 2),
            scope: 0,
            span_count: 1,
            spans,
        };
        CutTrace {
            id: TraceId::from_short(&[id]).unwrap(),
            span_count: 1,
            min_ns: time,
            max_ns: time + 5,
            runs: vec![run],
        }
    }

    fn content(traces: Vec<CutTrace<'_>>) -> BatchContent<'_> {
        BatchContent {
            resources: vec![b"", b"\x0a\x00"],
            scopes: vec![b"\x0a\x01s"],
            traces,
        }
    }

    /// All traces of a batch: ids and protobuf.
    fn unpacked(packed: &[u8]) -> Result<Vec<(TraceId, Vec<u8>)>, DecodeError> {
        let directory = BatchDirectory::read(packed)?;
        let mut decompressor = Decompressor::default();
        let tables = BatchTables::read(packed, &directory, &mut decompressor)?;
        let (mut raw, mut out) = (Vec::new(), Vec::new());
        for frame in 0..directory.frame_count() {
            read_frame(packed, &directory, frame, &mut decompressor, &mut raw)?;
            for trace in traces_of(&raw) {
                let trace = trace?;
                let mut bytes = Vec::new();
                trace.put(&tables, &mut bytes)?;
                out.push((trace.id, bytes));
            }
        }
        Ok(out)
    }

    #[test]
    fn a_batch_of_several_frames_finds_each_trace() {
        let body = vec![0x12, 0];
        let text = [&[0x12, 0x80, 0xe2, 3][..], &vec![0; 62_592 - 4]].concat();
        let mut traces: Vec<_> = (1..=200).map(|id| trace(id, &body, id.into())).collect();
        // Two frames and more: each of these is nearly half of one.
        for id in [50, 100, 150] {
            traces[id - 1] = trace(id as u8, &text, 9);
        }
        // A trace in two parts.
        traces.insert(100, trace(100, &body, 1000));
        let (packed, directory) = pack(&content(traces), &mut Compressor::default()).unwrap();
        assert_eq!(BatchDirectory::read(&packed).unwrap(), directory);
        assert!(directory.frame_count() >= 2);
        assert_eq!((directory.min_ns, directory.max_ns), (1, 1005));
        assert_eq!(directory.ids().len(), 201);
        let all = unpacked(&packed).unwrap();
        assert!(all.is_sorted_by_key(|(id, _)| *id) && all.len() == 201);
        let mut raw = Vec::new();
        for id in 0..=255u8 {
            let id = TraceId::from_short(&[id]).unwrap();
            let expected = all.iter().filter(|(known, _)| *known == id).count();
            let found = directory.frame_of(id).map(|frame| {
                read_frame(
                    &packed,
                    &directory,
                    frame,
                    &mut Decompressor::default(),
                    &mut raw,
                )
                .unwrap();
                traces_of(&raw)
                    .filter(|t| t.as_ref().unwrap().id == id)
                    .count()
            });
            assert_eq!(found.unwrap_or(0), expected, "{id}");
        }
    }

    proptest! {
        #[test]
        fn damaged_batches_never_panic(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let traces = (1..20).map(|id| trace(id, &[0x12, 0], 7)).collect();
            let (mut packed, _) = pack(&content(traces), &mut Compressor::default()).unwrap();
            let _ = unpacked(&packed[..cut.index(packed.len())]);
            let at = at.index(packed.len());
            packed[at] ^= 1 << bit;
            let _ = unpacked(&packed);
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = unpacked(&[&[VERSION][..], &bytes].concat());
        }
    }
}
