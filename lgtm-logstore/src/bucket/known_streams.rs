//! What selectors found in index files lately.
//!
//! A dashboard asks for the same streams again and again, and a query that is cut in time asks every piece of it. What an index file answers to the
//! matchers never changes, so it is kept, with the chunks of all times: within a bound, and as long as the file's reader is open.

use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use lgtm_core::model::{Labels, Matcher};
use parking_lot::Mutex;

use crate::index::{ChunkMeta, IndexReader};

/// A stream of an index file: labels without the tenant's.
#[derive(Debug, Clone)]
pub(super) struct IndexedStream {
    pub(super) labels: Labels,
    pub(super) fingerprint: u64,
    pub(super) chunks: Box<[ChunkMeta]>,
}

/// Streams in the order of their labels.
pub(super) type IndexedStreams = Arc<[IndexedStream]>;

#[derive(Debug)]
struct Known {
    /// Whose answer it is.
    reader: Weak<IndexReader>,
    streams: IndexedStreams,
    bytes: u64,
}

/// Answers within a bound, in two generations: when the young one is full, it becomes the old one, and what was not asked for meanwhile is
/// forgotten.
#[derive(Debug)]
pub(super) struct KnownStreams {
    max_bytes: u64,
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    young: HashMap<String, Known>,
    young_bytes: u64,
    old: HashMap<String, Known>,
}

/// What names a question to a file.
pub(super) fn question_key(path: &str, matchers: &[Matcher]) -> String {
    use std::fmt::Write as _;
    let mut key = path.to_owned();
    for m in matchers {
        // Quoted, so that no two questions read the same.
        let _ = write!(key, "\0{:?}{:?}{:?}", m.name(), m.op(), m.value());
    }
    key
}

impl KnownStreams {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            answers: Mutex::default(),
        }
    }

    /// The most bytes of one answer that is kept.
    fn max_answer(&self) -> u64 {
        self.max_bytes / 4
    }

    pub(super) fn get(&self, key: &str, reader: &Arc<IndexReader>) -> Option<IndexedStreams> {
        let is_of = |k: &Known| std::ptr::eq(k.reader.as_ptr(), Arc::as_ptr(reader));
        let mut answers = self.answers.lock();
        if let Some(known) = answers.young.get(key).filter(|k| is_of(k)) {
            return Some(Arc::clone(&known.streams));
        }
        let known = answers.old.remove(key).filter(is_of)?;
        let streams = Arc::clone(&known.streams);
        self.keep(&mut answers, key.to_owned(), known);
        Some(streams)
    }

    pub(super) fn insert(&self, key: String, reader: &Arc<IndexReader>, streams: &IndexedStreams) {
        let own = streams.iter().map(|s| {
            let chunks = s.chunks.len() * size_of::<ChunkMeta>();
            (size_of::<IndexedStream>() + chunks + s.labels.size_bytes() + 32) as u64
        });
        let bytes = own.sum::<u64>() + key.len() as u64 + size_of::<Known>() as u64;
        if bytes > self.max_answer() {
            return;
        }
        let known = Known {
            reader: Arc::downgrade(reader),
            streams: Arc::clone(streams),
            bytes,
        };
        self.keep(&mut self.answers.lock(), key, known);
    }

    fn keep(&self, answers: &mut Answers, key: String, known: Known) {
        if answers.young_bytes + known.bytes > self.max_bytes / 2 {
            answers.old = std::mem::take(&mut answers.young);
            answers.young_bytes = 0;
        }
        answers.young_bytes += known.bytes;
        if let Some(before) = answers.young.insert(key, known) {
            answers.young_bytes = answers.young_bytes.saturating_sub(before.bytes);
        }
    }

    /// Lets go of answers of files that are not open any more.
    pub(super) fn forget_closed(&self) {
        let mut answers = self.answers.lock();
        let is_open = |_: &String, k: &mut Known| k.reader.strong_count() > 0;
        answers.young.retain(is_open);
        answers.old.retain(is_open);
        answers.young_bytes = answers.young.values().map(|k| k.bytes).sum();
    }
}
