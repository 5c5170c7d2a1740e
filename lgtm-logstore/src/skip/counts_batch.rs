//! Counts of the chunks of a batch, one behind the other (`docs/format/side_object.md`).

use std::collections::BTreeMap;

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::TimestampNs;

use super::counts::{ChunkCounts, LevelCounts, MAX_LEVELS, MinuteCount, put_minutes, read_minutes};

const WHAT: &str = "counts of a batch";

/// The entries of a small chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallCounts {
    /// As of any chunk; without minutes where there was no room for them.
    pub counts: ChunkCounts,
    /// Lines and bytes by level.
    pub totals: Box<[(u64, u64)]>,
    /// Whether minutes are known.
    pub is_by_minute: bool,
}

/// Writes the counts of all chunks of a batch; `None` for those that cannot be counted.
pub(super) fn encode_counts(chunks: &[Option<&ChunkCounts>], by_minute: bool) -> Vec<u8> {
    let known = || chunks.iter().copied().flatten();
    let base_ns = known().map(|c| c.min_ns).min();
    let base_ns = base_ns.unwrap_or(TimestampNs::EPOCH);
    let mut texts: BTreeMap<&str, u64> = BTreeMap::new();
    for counts in known() {
        let levels = counts.levels.iter().filter_map(|l| l.level.as_deref());
        let names = counts.names.iter().map(String::as_str);
        texts.extend(levels.chain(names).map(|text| (text, 0)));
    }
    let mut out = Vec::new();
    put_svarint(&mut out, base_ns.get());
    put_uvarint(&mut out, texts.len() as u64);
    for (n, (text, number)) in texts.iter_mut().enumerate() {
        *number = n as u64;
        put_bytes(&mut out, text.as_bytes());
    }
    let number = |text: &str| texts.get(text).copied().unwrap_or(0);
    put_uvarint(&mut out, chunks.len() as u64);
    let mut record = Vec::new();
    for counts in chunks {
        record.clear();
        if let Some(counts) = counts {
            put_record(counts, base_ns, by_minute, &number, &mut record);
        }
        put_bytes(&mut out, &record);
    }
    out
}

fn put_record(
    counts: &ChunkCounts,
    base_ns: TimestampNs,
    by_minute: bool,
    number: &impl Fn(&str) -> u64,
    out: &mut Vec<u8>,
) {
    put_uvarint(out, counts.min_ns.wrapping_since(base_ns) as u64);
    put_uvarint(out, counts.max_ns.wrapping_since(counts.min_ns) as u64);
    put_uvarint(out, counts.names.len() as u64);
    for name in &counts.names {
        put_uvarint(out, number(name));
    }
    put_uvarint(out, counts.levels.len() as u64);
    for level in &counts.levels {
        put_uvarint(out, level.level.as_deref().map_or(0, |l| number(l) + 1));
        if by_minute {
            put_minutes(&level.minutes, counts.min_ns, out);
        } else {
            let (lines, bytes) = level.total();
            for n in [0, lines, bytes] {
                put_uvarint(out, n);
            }
        }
    }
}

/// The counts of the chunks of a batch. Keeps the bytes that it was read from, and reads a chunk's when it is asked for.
#[derive(Debug, Clone)]
pub struct BatchCounts {
    bytes: Bytes,
    base_ns: TimestampNs,
    texts: Vec<String>,
    /// Where the record of each chunk begins and ends.
    records: Vec<(u32, u32)>,
}

impl BatchCounts {
    /// Reads a section whose checksum was found to fit.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(WHAT, &bytes);
        let base_ns = TimestampNs::new(r.svarint()?);
        let texts = super::filters::read_names(&mut r)?;
        let count = r.uvarint()?;
        if count > r.remaining() as u64 {
            return Err(r.error(format!("{count} chunks in {} bytes", r.remaining())));
        }
        let mut records = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let len = r.bytes()?.len();
            let end = r.position();
            let place = (u32::try_from(end - len), u32::try_from(end));
            let (Ok(begin), Ok(end)) = place else {
                return Err(r.error("more than 4 GiB"));
            };
            records.push((begin, end));
        }
        if !r.is_empty() {
            return Err(r.error("bytes behind the last chunk"));
        }
        Ok(Self {
            base_ns,
            texts,
            records,
            bytes,
        })
    }

    /// The counts of the chunk of a number; `None` if it was not counted.
    ///
    /// # Errors
    /// Bytes that are none; minutes that do not ascend or lie outside of the times.
    pub fn chunk(&self, number: u16) -> Result<Option<SmallCounts>, DecodeError> {
        let place = self.records.get(usize::from(number));
        let record = place.and_then(|(begin, end)| self.bytes.get(*begin as usize..*end as usize));
        match record {
            None | Some([]) => Ok(None),
            Some(record) => self.record(record).map(Some),
        }
    }

    fn record(&self, record: &[u8]) -> Result<SmallCounts, DecodeError> {
        let mut r = Reader::new(WHAT, record);
        let later = |t_ns: TimestampNs, by: u64| t_ns.checked_add(i64::try_from(by).ok()?);
        let min_ns = later(self.base_ns, r.uvarint()?);
        let span = r.uvarint()?;
        let (Some(min_ns), Some(max_ns)) = (min_ns, min_ns.and_then(|t| later(t, span))) else {
            return Err(r.error("times out of range"));
        };
        let text = |r: &Reader<'_>, number: u64| {
            let text = usize::try_from(number).ok().and_then(|n| self.texts.get(n));
            text.cloned()
                .ok_or_else(|| r.error(format!("text {number} of {}", self.texts.len())))
        };
        let count = r.uvarint()?;
        if count > r.remaining() as u64 {
            return Err(r.error(format!("{count} names in {} bytes", r.remaining())));
        }
        let mut names = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let number = r.uvarint()?;
            names.push(text(&r, number)?);
        }
        let count = r.uvarint()?;
        if count > MAX_LEVELS as u64 {
            return Err(r.error(format!("{count} levels, at most {MAX_LEVELS}")));
        }
        let (mut levels, mut totals) = (Vec::new(), Vec::new());
        let mut is_by_minute = true;
        for _ in 0..count {
            let level = match r.uvarint()? {
                0 => None,
                n => Some(text(&r, n - 1)?),
            };
            let minutes: Vec<MinuteCount> = read_minutes(&mut r, (min_ns, max_ns))?;
            let has_minutes = !minutes.is_empty();
            let counts = LevelCounts { level, minutes };
            totals.push(match has_minutes {
                true => counts.total(),
                false => (r.uvarint()?, r.uvarint()?),
            });
            is_by_minute &= has_minutes;
            levels.push(counts);
        }
        if !r.is_empty() {
            return Err(r.error("bytes behind the last level"));
        }
        Ok(SmallCounts {
            counts: ChunkCounts {
                min_ns,
                max_ns,
                names,
                levels,
            },
            totals: totals.into(),
            is_by_minute,
        })
    }

    /// Bytes of memory.
    pub fn size_bytes(&self) -> usize {
        let texts = self.texts.iter().map(|t| t.len() + size_of::<String>());
        self.bytes.len() + texts.sum::<usize>() + size_of_val(&*self.records)
    }
}
