//! Lines and bytes of a chunk, counted by minute and level (`docs/format/side_object.md`).

use std::collections::BTreeSet;
use std::sync::Arc;

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::TimestampNs;

use super::filters::{put_names, read_names};
use crate::entry::{EntryBlock, detached, disjoint};
use crate::wire::DETECTED_LEVEL;

const WHAT: &str = "skip counts";
/// Nanoseconds that are counted together.
pub const MINUTE_NS: i64 = 60_000_000_000;
/// Levels of a chunk that are told apart; one with more is not counted.
pub(super) const MAX_LEVELS: usize = 16;

/// What came in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinuteCount {
    /// Number of the minute: entries later than so many times 60 s, up to 60 s more, inclusive: as windows of LogQL are.
    pub minute: i64,
    /// Entries, more than 0.
    pub lines: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// The entries of one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelCounts {
    /// The value of `detected_level`; `None`: entries without.
    pub level: Option<String>,
    /// Minutes that have any, ascending.
    pub minutes: Vec<MinuteCount>,
}

/// The entries of one chunk, each counted once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkCounts {
    /// Time of the first entry, nanoseconds.
    pub min_ns: TimestampNs,
    /// Time of the last entry, nanoseconds; inclusive.
    pub max_ns: TimestampNs,
    /// Names of structured metadata other than `detected_level`, in order.
    pub names: Vec<String>,
    /// By level.
    pub levels: Vec<LevelCounts>,
}

/// The minute of a time.
pub fn minute_of(t_ns: TimestampNs) -> i64 {
    t_ns.saturating_sub(1).get().div_euclid(MINUTE_NS)
}

impl ChunkCounts {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_svarint(&mut out, self.min_ns.get());
        put_uvarint(&mut out, self.max_ns.wrapping_since(self.min_ns) as u64);
        put_names(self.names.iter().map(String::as_str), &mut out);
        put_uvarint(&mut out, self.levels.len() as u64);
        for level in &self.levels {
            match &level.level {
                None => out.push(0),
                Some(text) => {
                    out.push(1);
                    put_bytes(&mut out, text.as_bytes());
                }
            }
            put_minutes(&level.minutes, self.min_ns, &mut out);
        }
        out
    }

    /// Reads a section whose checksum was found to fit.
    ///
    /// # Errors
    /// Bytes that are none; minutes that do not ascend or lie outside of the times.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(WHAT, bytes);
        let min_ns = TimestampNs::new(r.svarint()?);
        let span = i64::try_from(r.uvarint()?).ok();
        let Some(max_ns) = span.and_then(|span| min_ns.checked_add(span)) else {
            return Err(r.error("times out of range"));
        };
        let names = read_names(&mut r)?;
        let count = r.uvarint()?;
        if count > MAX_LEVELS as u64 {
            return Err(r.error(format!("{count} levels, at most {MAX_LEVELS}")));
        }
        let mut levels = Vec::new();
        for _ in 0..count {
            let level = match r.u8()? {
                0 => None,
                1 => Some(r.str()?.to_owned()),
                other => return Err(r.error(format!("{other} before a level"))),
            };
            let minutes = read_minutes(&mut r, (min_ns, max_ns))?;
            levels.push(LevelCounts { level, minutes });
        }
        if !r.is_empty() {
            return Err(r.error("bytes behind the last level"));
        }
        Ok(Self {
            min_ns,
            max_ns,
            names,
            levels,
        })
    }

    /// Bytes of memory.
    pub fn size_bytes(&self) -> usize {
        let names = self.names.iter().map(|n| n.len() + size_of::<String>());
        let levels = self.levels.iter().map(|l| {
            let text = l.level.as_ref().map_or(0, String::len);
            size_of::<LevelCounts>() + text + l.minutes.len() * size_of::<MinuteCount>()
        });
        size_of::<Self>() + names.sum::<usize>() + levels.sum::<usize>()
    }
}

impl LevelCounts {
    /// Lines and bytes of all minutes.
    pub fn total(&self) -> (u64, u64) {
        let minutes = self.minutes.iter();
        minutes.fold((0, 0), |(lines, bytes): (u64, u64), m| {
            (lines.saturating_add(m.lines), bytes.saturating_add(m.bytes))
        })
    }
}

/// Writes minutes behind their number; `min_ns` is the time of the chunk's first entry.
pub(super) fn put_minutes(minutes: &[MinuteCount], min_ns: TimestampNs, out: &mut Vec<u8>) {
    put_uvarint(out, minutes.len() as u64);
    let mut before = minute_of(min_ns);
    for m in minutes {
        put_uvarint(out, m.minute.wrapping_sub(before) as u64);
        put_uvarint(out, m.lines);
        put_uvarint(out, m.bytes);
        before = m.minute;
    }
}

/// Reads what [`put_minutes`] writes of a chunk with entries from `min_ns` to `max_ns`.
///
/// # Errors
/// Minutes that do not ascend or lie outside of the times.
pub(super) fn read_minutes(
    r: &mut Reader<'_>,
    (min_ns, max_ns): (TimestampNs, TimestampNs),
) -> Result<Vec<MinuteCount>, DecodeError> {
    let (first, last) = (minute_of(min_ns), minute_of(max_ns));
    let count = r.uvarint()?;
    if count > (r.remaining() / 3) as u64 {
        return Err(r.error(format!("{count} minutes in {} bytes", r.remaining())));
    }
    let mut minutes: Vec<MinuteCount> = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (skipped, lines, bytes) = (r.uvarint()?, r.uvarint()?, r.uvarint()?);
        let before = minutes.last().map(|m| m.minute);
        let minute = i64::try_from(skipped).ok();
        let minute = minute.and_then(|n| before.unwrap_or(first).checked_add(n));
        let Some(minute) = minute.filter(|m| *m <= last && before.is_none_or(|b| b < *m)) else {
            return Err(r.error("minutes that do not ascend to the last time"));
        };
        minutes.push(MinuteCount {
            minute,
            lines,
            bytes,
        });
    }
    Ok(minutes)
}

/// Counts the blocks of a chunk, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter {
    names: BTreeSet<String>,
    levels: Vec<LevelCounts>,
    /// The entries of the last time so far: the next block may have them again.
    last: Option<EntryBlock>,
    times: Option<(TimestampNs, TimestampNs)>,
    /// Whether the chunk is one that cannot be counted.
    is_untidy: bool,
}

impl Counter {
    /// Takes the next block in the order of the chunk's table.
    pub(super) fn add(&mut self, block: &EntryBlock) {
        let (Some(min_ns), Some(max_ns)) = (block.min_ns(), block.max_ns()) else {
            return;
        };
        let (first, before) = self.times.unwrap_or((min_ns, min_ns));
        self.times = Some((first, max_ns));
        // Blocks that overlap are joined by readers; a chunk that has such was not closed properly.
        self.is_untidy |= min_ns < before;
        if self.is_untidy {
            return;
        }
        let mut rest = block.clone();
        if let Some(last) = self.last.take() {
            if last.min_ns() == Some(min_ns) {
                let same = rest.times().partition_point(|t| *t <= min_ns);
                // Equal entries count once, as they are read once.
                match disjoint(vec![last, rest.slice(0..same)]) {
                    Ok(joined) => {
                        let joined = joined.blocks;
                        rest = rest.slice(same..rest.len());
                        if rest.is_empty() {
                            // All of one time; the next one may go on with it.
                            match &joined[..] {
                                [one] => self.last = Some(one.clone()),
                                _ => self.is_untidy = true,
                            }
                            return;
                        }
                        for block in &joined {
                            self.count(block);
                        }
                    }
                    Err(_) => self.is_untidy = true,
                }
            } else {
                self.count(&last);
            }
        }
        let cut = rest.times().partition_point(|t| *t < max_ns);
        self.count(&rest.slice(0..cut));
        self.last = Some(rest.slice(cut..rest.len()));
    }

    /// Lets go of the bytes of the blocks so far, where the next one may take its time.
    pub(super) fn let_go(&mut self) {
        let Some(last) = self.last.take() else { return };
        match detached(&last) {
            Ok(own) => self.last = Some(own),
            Err(_) => self.is_untidy = true,
        }
    }

    /// About the bytes of memory.
    pub(super) fn size_bytes(&self) -> usize {
        let levels = self
            .levels
            .iter()
            .map(|l| size_of::<LevelCounts>() + l.minutes.capacity() * size_of::<MinuteCount>());
        let names = self.names.iter().map(|n| n.len() + size_of::<String>());
        let last = self.last.as_ref().map_or(0, EntryBlock::size_bytes);
        levels.sum::<usize>() + names.sum::<usize>() + last
    }

    fn count(&mut self, block: &EntryBlock) {
        let symbols = Arc::clone(block.symbols());
        let mut names: Vec<u32> = Vec::new();
        // Symbols of levels, and their places.
        let mut known: Vec<(Option<u32>, usize)> = Vec::new();
        let level_name = block
            .has_metadata()
            .then(|| symbols.find(DETECTED_LEVEL))
            .flatten();
        let mut minute = i64::MIN;
        let (mut begin, mut end) = (TimestampNs::EPOCH, TimestampNs::EPOCH);
        for n in 0..block.len() {
            let mut level = None;
            for pair in block.metadata(n) {
                if Some(pair.name) == level_name {
                    self.is_untidy |= level.is_some();
                    level = Some(pair.value);
                } else if !names.contains(&pair.name) {
                    names.push(pair.name);
                }
            }
            let place = match known.iter().find(|(symbol, _)| *symbol == level) {
                Some((_, place)) => *place,
                None => {
                    let text = level.map(|symbol| symbols.get(symbol));
                    let Some(place) = self.level(text) else {
                        self.is_untidy = true;
                        return;
                    };
                    known.push((level, place));
                    place
                }
            };
            let t_ns = block.times()[n];
            if minute == i64::MIN || t_ns <= begin || t_ns > end {
                minute = minute_of(t_ns);
                begin = TimestampNs::new(minute.saturating_mul(MINUTE_NS));
                end = begin.saturating_add(MINUTE_NS);
            }
            let bytes = block.lines()[n].len() as u64;
            let minutes = &mut self.levels[place].minutes;
            match minutes.last_mut() {
                Some(last) if last.minute == minute => {
                    last.lines += 1;
                    last.bytes += bytes;
                }
                _ => minutes.push(MinuteCount {
                    minute,
                    lines: 1,
                    bytes,
                }),
            }
        }
        for name in names {
            let text = symbols.get(name);
            // A name that reads as nothing, or as one of two, is none to reckon with.
            self.is_untidy |= text.is_empty() || text == DETECTED_LEVEL;
            if !self.names.contains(text) {
                self.names.insert(text.to_owned());
            }
        }
    }

    /// The place of a level.
    fn level(&mut self, text: Option<&str>) -> Option<usize> {
        let known = self.levels.iter().position(|l| l.level.as_deref() == text);
        if known.is_none() && self.levels.len() < MAX_LEVELS {
            self.levels.push(LevelCounts {
                level: text.map(str::to_owned),
                minutes: Vec::new(),
            });
            return Some(self.levels.len() - 1);
        }
        known
    }

    /// The counts; `None` for a chunk that cannot be counted so that a reader of its entries would find the same.
    pub(super) fn finish(mut self) -> Option<ChunkCounts> {
        if let Some(last) = self.last.take() {
            self.count(&last);
        }
        let (min_ns, max_ns) = self.times?;
        let ascends = |m: &[MinuteCount]| m.is_sorted_by(|a, b| a.minute < b.minute);
        if self.is_untidy || !self.levels.iter().all(|l| ascends(&l.minutes)) {
            return None;
        }
        Some(ChunkCounts {
            min_ns,
            max_ns,
            names: self.names.into_iter().collect(),
            levels: self.levels,
        })
    }
}
