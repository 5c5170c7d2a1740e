//! One decoded push request.
//!
//! Flat columns that keep their capacity from request to request: decoding allocates nothing per line once they have grown. Texts are
//! ranges of the request's own bytes, or of an arena for what the request spells otherwise.

use lgtm_core::codec::Allowance;
use lgtm_core::limits::Reusable;
use lgtm_core::model::TimestampNs;
use lgtm_core::{Error, Result};

use super::stream_labels::StreamLabels;

/// Where a text stands: in the body, or behind its end in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Name and value of one structured metadata field.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairPlace {
    pub(super) name: Place,
    pub(super) value: Place,
}

/// What an entry's structured metadata was when it was sent, which is what limits judge: before names are made normal, doubles left out, and
/// the level added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentMetadata {
    /// Number of pairs.
    pub count: u32,
    /// Bytes of names and values.
    pub bytes: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct StreamPlace {
    pub(super) labels: Place,
    pub(super) first: u32,
    pub(super) end: u32,
    pub(super) bytes: u64,
}

/// Entries that were left out of the batch because they break a rule, while the rest was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedEntries {
    /// How many.
    pub count: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// What is wrong with the first of them, and in which stream.
    pub message: String,
}

/// Faults of a request told one by one; further ones are counted with the last.
const MAX_FAULTS: usize = 64;

/// One decoded push request: streams, each with its entries.
#[derive(Debug, Default)]
pub struct PushBatch {
    /// The request, decompressed.
    pub(super) body: Vec<u8>,
    pub(super) arena: Vec<u8>,
    /// Length of the body, where places in the arena begin.
    pub(super) body_len: u32,
    pub(super) streams: Vec<StreamPlace>,
    pub(super) t_ns: Vec<TimestampNs>,
    pub(super) lines: Vec<Place>,
    pub(super) sent: Vec<SentMetadata>,
    /// Where the pairs of each entry end.
    pub(super) pair_ends: Vec<u32>,
    pub(super) pairs: Vec<PairPlace>,
    /// Pairs of the open stream as they were sent.
    pub(super) sent_pairs: Vec<PairPlace>,
    pub(super) malformed: Vec<MalformedEntries>,
    pub(super) streams_sent: u64,
}

/// A [`PushBatch`] under way.
pub type PooledBatch = lgtm_core::limits::PooledBatch<PushBatch>;

impl Reusable for PushBatch {
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn heap_bytes(&self) -> usize {
        Self::heap_bytes(self)
    }
}

impl PushBatch {
    /// Forgets the request but keeps the memory.
    pub fn clear(&mut self) {
        self.body.clear();
        self.arena.clear();
        self.body_len = 0;
        self.streams.clear();
        self.t_ns.clear();
        self.lines.clear();
        self.sent.clear();
        self.pair_ends.clear();
        self.pairs.clear();
        self.sent_pairs.clear();
        self.malformed.clear();
        self.streams_sent = 0;
    }

    /// Heap bytes of the batch; after [`PushBatch::clear`], what it keeps for the next request.
    pub fn heap_bytes(&self) -> usize {
        let messages = self.malformed.iter().map(|m| m.message.capacity());
        bytes_of(&self.body)
            + bytes_of(&self.arena)
            + bytes_of(&self.streams)
            + bytes_of(&self.t_ns)
            + bytes_of(&self.lines)
            + bytes_of(&self.sent)
            + bytes_of(&self.pair_ends)
            + bytes_of(&self.pairs)
            + bytes_of(&self.sent_pairs)
            + bytes_of(&self.malformed)
            + messages.sum::<usize>()
    }

    /// Number of streams that have entries.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Streams of the request, those without entries included. A request without any is refused; one whose streams are all empty is not.
    pub fn streams_sent(&self) -> u64 {
        self.streams_sent
    }

    /// Number of entries.
    pub fn entry_count(&self) -> usize {
        self.t_ns.len()
    }

    /// Bytes by which rates count: lines, and metadata as they were sent.
    pub fn byte_count(&self) -> u64 {
        self.streams.iter().map(|s| s.bytes).sum()
    }

    /// What was left out: the first faults one by one, the others counted with the last of them.
    pub fn malformed(&self) -> &[MalformedEntries] {
        &self.malformed
    }

    /// A stream by its number in the request.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn stream(&self, number: usize) -> StreamView<'_> {
        StreamView {
            batch: self,
            place: self.streams[number],
        }
    }

    /// The streams in the order in which they came.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = StreamView<'_>> {
        (0..self.streams.len()).map(|n| self.stream(n))
    }

    #[inline]
    pub(super) fn text(&self, place: Place) -> &[u8] {
        let (start, end) = (place.start as usize, place.end as usize);
        if place.end <= self.body_len {
            &self.body[start..end]
        } else {
            let body = self.body_len as usize;
            &self.arena[start - body..end - body]
        }
    }

    /// Copies a text into the arena.
    pub(super) fn keep(&mut self, text: &[u8], allowance: &mut Allowance<'_>) -> Result<Place> {
        allowance.reserve(&mut self.arena, text.len())?;
        let start = self.arena.len();
        self.arena.extend_from_slice(text);
        self.arena_from(start)
    }

    /// The place of what stands in the arena from `start` on.
    pub(super) fn arena_from(&self, start: usize) -> Result<Place> {
        let at = |offset: usize| u32::try_from(self.body_len as usize + offset);
        match (at(start), at(self.arena.len())) {
            // What is empty would be looked for in the body.
            _ if start == self.arena.len() => Ok(Place::default()),
            (Ok(start), Ok(end)) => Ok(Place { start, end }),
            _ => Err(Error::LimitExceeded(
                "the request takes more than 4 GiB when it is decoded".into(),
            )),
        }
    }

    /// Notes an entry that is left out.
    pub(super) fn leave_out(
        &mut self,
        bytes: u64,
        allowance: &mut Allowance<'_>,
        message: impl FnOnce(&Self) -> String,
    ) -> Result<()> {
        if self.malformed.len() >= MAX_FAULTS
            && let Some(last) = self.malformed.last_mut()
        {
            last.count += 1;
            last.bytes += bytes;
            return Ok(());
        }
        let mut message = message(self);
        message.shrink_to_fit();
        allowance.take(message.capacity())?;
        let entries = MalformedEntries {
            count: 1,
            bytes,
            message,
        };
        allowance.push(&mut self.malformed, entries)
    }
}

/// A stream of a request.
#[derive(Debug, Clone, Copy)]
pub struct StreamView<'a> {
    batch: &'a PushBatch,
    place: StreamPlace,
}

impl<'a> StreamView<'a> {
    /// Its labels.
    #[inline]
    pub fn labels(&self) -> StreamLabels<'a> {
        StreamLabels::new(self.batch.text(self.place.labels))
    }

    /// The number of its first entry in the batch.
    #[inline]
    pub fn first_entry(&self) -> usize {
        self.place.first as usize
    }

    /// Number of its entries.
    #[inline]
    pub fn len(&self) -> usize {
        (self.place.end - self.place.first) as usize
    }

    /// Whether it has none; such streams are not in a batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes by which rates count: lines, and metadata as they were sent.
    pub fn byte_count(&self) -> u64 {
        self.place.bytes
    }

    /// An entry by its number in the stream.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn entry(&self, number: usize) -> PushEntry<'a> {
        assert!(number < self.len(), "entry {number} of {}", self.len());
        let (batch, at) = (self.batch, self.place.first as usize + number);
        let start = at
            .checked_sub(1)
            .map_or(0, |before| batch.pair_ends[before]);
        PushEntry {
            t_ns: batch.t_ns[at],
            line: batch.text(batch.lines[at]),
            sent: batch.sent[at],
            batch,
            pairs: &batch.pairs[start as usize..batch.pair_ends[at] as usize],
        }
    }

    /// The entries in the order in which they came.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = PushEntry<'a>> + use<'a> {
        let this = *self;
        (0..this.len()).map(move |n| this.entry(n))
    }
}

/// An entry of a request.
#[derive(Debug, Clone, Copy)]
pub struct PushEntry<'a> {
    /// When, nanoseconds.
    pub t_ns: TimestampNs,
    /// The line; any bytes.
    pub line: &'a [u8],
    /// Its structured metadata as they were sent.
    pub sent: SentMetadata,
    batch: &'a PushBatch,
    pairs: &'a [PairPlace],
}

impl<'a> PushEntry<'a> {
    /// Structured metadata as they are stored: names normal, each once, in order.
    #[inline]
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + use<'a> {
        let batch = self.batch;
        let text = move |place| {
            // Decoders have checked it.
            std::str::from_utf8(batch.text(place)).unwrap_or_default()
        };
        self.pairs
            .iter()
            .map(move |p| (text(p.name), text(p.value)))
    }

    /// Number of pairs of [`PushEntry::metadata`], and bytes of their names and values.
    #[inline]
    pub(crate) fn metadata_size(&self) -> (usize, usize) {
        let size = |p: Place| (p.end - p.start) as usize;
        let sizes = self.pairs.iter().map(|p| size(p.name) + size(p.value));
        (self.pairs.len(), sizes.sum())
    }

    /// Bytes by which rates count.
    #[inline]
    pub fn byte_count(&self) -> u64 {
        self.line.len() as u64 + u64::from(self.sent.bytes)
    }
}

fn bytes_of<T>(vec: &Vec<T>) -> usize {
    vec.capacity() * size_of::<T>()
}
