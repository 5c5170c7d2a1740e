//! Collects, while series are written, which series bear which label, and hands it back list by list.
//!
//! In memory it is a log: per series its reference and the ids of its label pairs, four bytes each. Grouping it by pair is one
//! counting sort at the end. When the log outgrows its bound it is grouped early and written to a scratch file as a *run*; at the
//! end the runs are merged. A later run holds later series only, so merging a list is concatenation.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::codec::put_uvarint;
use crate::error::{Error, Result};
use hashbrown::HashTable;

/// A label pair: name symbol in the upper half, value symbol in the lower. Orders as the index does; 0 stands for "all series".
pub type PairKey = u64;

/// The key of a pair of symbols.
#[inline]
pub fn pair_key(name: u32, value: u32) -> PairKey {
    u64::from(name) << 32 | u64::from(value)
}

/// Memory per distinct pair in a log: key, count, its slot in the hash table, and its share of the sort.
const PAIR_BYTES: usize = 8 + 4 + 8 + 12;

/// Which series bear which label, in the making.
#[derive(Debug)]
pub struct PostingsLog {
    max_bytes: usize,
    scratch: Option<PathBuf>,
    runs: Vec<File>,
    current: Log,
    previous: Vec<(u32, u32)>,
    previous_ids: Vec<u32>,
}

#[derive(Debug, Default)]
struct Log {
    ids: HashTable<u32>,
    keys: Vec<PairKey>,
    counts: Vec<u32>,
    /// Per series: reference, number of pairs, pair ids.
    entries: Vec<u32>,
}

impl PostingsLog {
    /// A log that takes up to `max_bytes` of memory and then spills to a file in `scratch`, an existing directory; the file has no name once
    /// open and vanishes with the log.
    pub fn new(max_bytes: usize, scratch: Option<PathBuf>) -> Self {
        Self {
            max_bytes,
            scratch,
            runs: Vec::new(),
            current: Log::default(),
            previous: Vec::new(),
            previous_ids: Vec::new(),
        }
    }

    /// Notes a series with its labels as pairs of symbols. References must ascend.
    ///
    /// # Errors
    /// `LimitExceeded` naming `max_postings_memory_bytes` past the bound without a scratch directory; `Unavailable` when that fails.
    pub fn push(&mut self, reference: u32, labels: &[(u32, u32)]) -> Result<()> {
        if self.current.size_bytes() + 8 * (labels.len() + 2) > self.max_bytes {
            self.spill()?;
        }
        let log = &mut self.current;
        log.entries.push(reference);
        log.entries.push(labels.len() as u32);
        // Sorted series repeat most pairs of their predecessor at the same place: those need no lookup.
        for (i, &label) in labels.iter().enumerate() {
            let id = match self.previous.get(i) {
                Some(&previous) if previous == label => self.previous_ids[i],
                _ => log.id(pair_key(label.0, label.1)),
            };
            log.counts[id as usize] += 1;
            log.entries.push(id);
        }
        let ids = log.entries.len() - labels.len();
        self.previous.clear();
        self.previous.extend_from_slice(labels);
        self.previous_ids.clear();
        self.previous_ids.extend_from_slice(&log.entries[ids..]);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        if self.current.entries.is_empty() {
            return Ok(());
        }
        let Some(scratch) = &self.scratch else {
            return Err(Error::LimitExceeded(format!(
                "postings exceed max_postings_memory_bytes = {} and no scratch directory was given",
                self.max_bytes
            )));
        };
        let sorted = std::mem::take(&mut self.current).sort();
        self.previous.clear();
        self.previous_ids.clear();
        let file = write_run(scratch, self.runs.len(), sorted)
            .map_err(|e| scratch_error(scratch, "write", &e))?;
        self.runs.push(file);
        Ok(())
    }

    /// The lists, in order of their pairs.
    ///
    /// # Errors
    /// `Unavailable` when the scratch directory fails.
    pub fn into_lists(self) -> Result<PostingsLists> {
        let mut sources = Vec::with_capacity(self.runs.len() + 1);
        for run in self.runs {
            sources.push(SortedRun::File(RunReader::open(run)?));
        }
        sources.push(SortedRun::Memory(self.current.sort()));
        Ok(PostingsLists { sources })
    }
}

fn scratch_error(place: &Path, verb: &str, error: &std::io::Error) -> Error {
    Error::Unavailable(format!(
        "cannot {verb} postings in scratch directory {}: {error}",
        place.display()
    ))
}

impl Log {
    fn id(&mut self, key: PairKey) -> u32 {
        let (keys, counts) = (&mut self.keys, &mut self.counts);
        let found = self.ids.entry(
            hash(key),
            |&id| keys[id as usize] == key,
            |&id| hash(keys[id as usize]),
        );
        match found {
            hashbrown::hash_table::Entry::Occupied(slot) => *slot.get(),
            hashbrown::hash_table::Entry::Vacant(slot) => {
                let id = keys.len() as u32;
                slot.insert(id);
                keys.push(key);
                counts.push(0);
                id
            }
        }
    }

    /// What the log takes, and what sorting it will take.
    fn size_bytes(&self) -> usize {
        self.entries.len() * 8 + self.keys.len() * PAIR_BYTES
    }

    fn sort(self) -> SortedLog {
        drop(self.ids);
        let mut order: Vec<(PairKey, u32)> = self.keys.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let series_count = count_series(&self.entries);
        let mut lists = Vec::with_capacity(order.len() + 1);
        lists.push((0, series_count));
        let mut next = vec![0; order.len()];
        let mut total = series_count as usize;
        for &(key, id) in &order {
            let count = self.counts[id as usize];
            lists.push((key, count));
            next[id as usize] = total;
            total += count as usize;
        }
        let mut refs = vec![0; total];
        let (mut all, mut at) = (0, 0);
        while let [reference, count, ..] = self.entries[at..] {
            refs[all] = reference;
            all += 1;
            let ids = at + 2..at + 2 + count as usize;
            at = ids.end;
            for &id in &self.entries[ids] {
                refs[next[id as usize]] = reference;
                next[id as usize] += 1;
            }
        }
        SortedLog {
            lists,
            refs,
            list: 0,
            at: 0,
        }
    }
}

fn count_series(entries: &[u32]) -> u32 {
    let (mut n, mut at) = (0, 0);
    while let Some(&labels) = entries.get(at + 1) {
        n += 1;
        at += 2 + labels as usize;
    }
    n
}

fn hash(key: PairKey) -> u64 {
    let mixed = (key ^ (key >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

/// A log grouped by pair, and how far it has been read.
#[derive(Debug)]
struct SortedLog {
    lists: Vec<(PairKey, u32)>,
    refs: Vec<u32>,
    list: usize,
    at: usize,
}

fn write_run(scratch: &Path, number: usize, sorted: SortedLog) -> std::io::Result<File> {
    let path = scratch.join(format!("postings-run-{number:06}"));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    // Without a name the file goes away with its handle, after a crash too.
    std::fs::remove_file(&path)?;
    let mut out = BufWriter::with_capacity(1 << 18, &file);
    let mut buf = Vec::new();
    let mut at = 0;
    for &(key, count) in &sorted.lists {
        put_uvarint(&mut buf, key >> 32);
        put_uvarint(&mut buf, key & 0xffff_ffff);
        put_uvarint(&mut buf, u64::from(count));
        let mut last = 0;
        for &reference in &sorted.refs[at..at + count as usize] {
            put_uvarint(&mut buf, u64::from(reference - last));
            last = reference;
            if buf.len() > 1 << 16 {
                out.write_all(&buf)?;
                buf.clear();
            }
        }
        at += count as usize;
    }
    out.write_all(&buf)?;
    out.flush()?;
    drop(out);
    Ok(file)
}

/// A run being read back.
#[derive(Debug)]
struct RunReader {
    file: BufReader<File>,
    key: Option<PairKey>,
    count: u32,
    left: u32,
    last: u32,
}

impl RunReader {
    fn open(mut file: File) -> Result<Self> {
        file.rewind().map_err(|e| run_error(&e))?;
        let mut run = Self {
            file: BufReader::with_capacity(1 << 17, file),
            key: None,
            count: 0,
            left: 0,
            last: 0,
        };
        run.next_list()?;
        Ok(run)
    }

    fn next_list(&mut self) -> Result<()> {
        self.key = None;
        let Some(name) = self.varint()? else {
            return Ok(());
        };
        let (value, count) = (self.more()?, self.more()?);
        self.key = Some(pair_key(name, value));
        (self.count, self.left, self.last) = (count, count, 0);
        Ok(())
    }

    #[inline]
    fn more(&mut self) -> Result<u32> {
        self.varint()?
            .ok_or_else(|| Error::Internal("a postings run ends too early".into()))
    }

    /// `None` at the end of the file.
    fn varint(&mut self) -> Result<Option<u32>> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let mut byte = [0];
            match self.file.read(&mut byte) {
                Ok(0) if shift == 0 => return Ok(None),
                Ok(1) => {}
                Ok(_) => break,
                Err(e) => return Err(run_error(&e)),
            }
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return u32::try_from(value)
                    .map(Some)
                    .map_err(|_| Error::Internal("a postings run is damaged".into()));
            }
        }
        Err(Error::Internal("a postings run is damaged".into()))
    }
}

fn run_error(error: &std::io::Error) -> Error {
    Error::Unavailable(format!("cannot read a postings run back: {error}"))
}

#[derive(Debug)]
enum SortedRun {
    Memory(SortedLog),
    File(RunReader),
}

impl SortedRun {
    /// The list it stands at, and its length.
    #[inline]
    fn head(&self) -> Option<(PairKey, u32)> {
        match self {
            Self::Memory(log) => log.lists.get(log.list).copied(),
            Self::File(run) => run.key.map(|key| (key, run.count)),
        }
    }

    /// Hands out up to `max` references of the present list; goes to the next list when there are no more.
    fn drain(&mut self, max: usize, mut emit: impl FnMut(u32)) -> Result<Drained> {
        match self {
            Self::Memory(log) => {
                let left = log.lists[log.list].1 as usize;
                let n = left.min(max);
                log.refs[log.at..log.at + n].iter().for_each(|&r| emit(r));
                log.at += n;
                log.lists[log.list].1 -= n as u32;
                if n < left {
                    return Ok(Drained::More);
                }
                log.list += 1;
            }
            Self::File(run) => {
                for _ in 0..max.min(run.left as usize) {
                    run.last += run.more()?;
                    run.left -= 1;
                    emit(run.last);
                }
                if run.left > 0 {
                    return Ok(Drained::More);
                }
                run.next_list()?;
            }
        }
        Ok(Drained::End)
    }
}

/// Whether a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// The list goes on.
    More,
    /// That was all of it.
    End,
}

/// All lists in order, each to be drained before the next is asked for.
#[derive(Debug)]
pub struct PostingsLists {
    sources: Vec<SortedRun>,
}

impl PostingsLists {
    /// The next list and the number of its references.
    pub fn head(&self) -> Option<(PairKey, u64)> {
        let key = self.sources.iter().filter_map(SortedRun::head).min()?.0;
        let heads = self.sources.iter().filter_map(SortedRun::head);
        let count = heads
            .filter(|&(k, _)| k == key)
            .map(|(_, n)| u64::from(n))
            .sum();
        Some((key, count))
    }

    /// Hands out roughly `max` references of list `key`, ascending.
    ///
    /// # Errors
    /// `Unavailable` when the scratch directory fails, `Internal` when a spilled run is damaged.
    pub fn drain(
        &mut self,
        key: PairKey,
        max: usize,
        mut emit: impl FnMut(u32),
    ) -> Result<Drained> {
        for source in &mut self.sources {
            if source.head().is_some_and(|(k, _)| k == key)
                && source.drain(max, &mut emit)? == Drained::More
            {
                return Ok(Drained::More);
            }
        }
        Ok(Drained::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn collect(log: PostingsLog) -> Vec<(PairKey, Vec<u32>)> {
        let mut lists = log.into_lists().unwrap();
        let mut out = Vec::new();
        while let Some((key, count)) = lists.head() {
            let mut refs = Vec::new();
            while lists.drain(key, 3, |r| refs.push(r)).unwrap() == Drained::More {}
            assert_eq!(refs.len() as u64, count);
            out.push((key, refs));
        }
        out
    }

    #[test]
    fn without_a_scratch_directory_the_bound_is_an_error_that_names_it() {
        let mut log = PostingsLog::new(100, None);
        let error = (1..100).find_map(|i| log.push(i, &[(1, i + 1)]).err());
        assert!(
            error
                .unwrap()
                .to_string()
                .contains("max_postings_memory_bytes = 100")
        );
    }

    proptest! {
        #[test]
        fn lists_are_the_same_however_often_the_log_spills(
            series in proptest::collection::vec(
                proptest::collection::btree_map(1u32..6, 1u32..20, 0..5), 0..60),
            max_bytes in prop_oneof![Just(usize::MAX), 50usize..2000],
        ) {
            let scratch = tempfile::tempdir().unwrap();
            let mut log = PostingsLog::new(max_bytes, Some(scratch.path().to_owned()));
            let mut model: BTreeMap<PairKey, Vec<u32>> = BTreeMap::new();
            model.insert(0, Vec::new());
            for (i, labels) in series.into_iter().enumerate() {
                let labels: Vec<_> = labels.into_iter().collect();
                let reference = i as u32 * 300 + 1;
                log.push(reference, &labels).unwrap();
                model.get_mut(&0).unwrap().push(reference);
                for (n, v) in labels {
                    model.entry(pair_key(n, v)).or_default().push(reference);
                }
            }
            prop_assert_eq!(collect(log), model.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        }
    }
}
