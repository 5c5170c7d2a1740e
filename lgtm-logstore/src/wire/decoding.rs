//! What all decoders of a push do with what they find: streams of labels and entries become columns of a batch.
//!
//! An entry is noted as it comes; names of metadata are made normal and the level is found when its stream ends, since the labels may stand
//! behind the entries and may tell the level.

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::first_chars;
use lgtm_core::model::TimestampNs;
use lgtm_core::{Error, Result};

use super::batch::{PairPlace, Place, PushBatch, SentMetadata, StreamPlace};
use super::level::{DETECTED_LEVEL, Level};
use super::options::PushOptions;
use super::stream_labels::{LabelPairs, StreamLabels};
use crate::entry::{is_normal_metadata_name, normal_metadata_name};

/// Metadata by which OTLP tells a level.
const SEVERITY_NUMBER: &str = "severity_number";

/// What ends a step of a decode.
pub(super) type Decoded<T = ()> = std::result::Result<T, DecodeFail>;

/// A request that is being decoded.
pub(super) struct Decoding<'d, 'b, 'g> {
    pub(super) batch: &'d mut PushBatch,
    body: &'b [u8],
    pub(super) options: &'d PushOptions<'d>,
    pub(super) allowance: &'d mut Allowance<'g>,
    /// The first entry of the open stream.
    first: usize,
    /// Where its name and its values stand in the arena, once they were needed.
    level_name: Option<Place>,
    levels: [Option<Place>; Level::COUNT],
}

/// Decodes a request that `fill` writes into the buffer given; the batch is empty afterwards if anything fails.
pub(super) fn decode_with(
    batch: &mut PushBatch,
    options: &PushOptions<'_>,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
    decode: impl FnOnce(&mut Decoding<'_, '_, '_>, &[u8]) -> Decoded,
) -> Result<()> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let decoded = fill(&mut body, allowance).and_then(|()| {
        let Ok(body_len) = u32::try_from(body.len()) else {
            return Err(Error::LimitExceeded("request exceeds 4 GiB".into()));
        };
        batch.body_len = body_len;
        let mut decoding = Decoding {
            batch,
            body: &body,
            options,
            allowance,
            first: 0,
            level_name: None,
            levels: [None; Level::COUNT],
        };
        Ok(decode(&mut decoding, &body)?)
    });
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
    }
    decoded
}

impl Decoding<'_, '_, '_> {
    /// The place of a text: where it stands in the body, or a copy.
    #[inline]
    pub(super) fn place(&mut self, text: &[u8]) -> Result<Place> {
        let offset = (text.as_ptr() as usize).wrapping_sub(self.body.as_ptr() as usize);
        let is_inside = offset <= self.body.len() && text.len() <= self.body.len() - offset;
        if is_inside || text.is_empty() {
            let start = if text.is_empty() { 0 } else { offset as u32 };
            let end = start + text.len() as u32;
            return Ok(Place { start, end });
        }
        self.batch.keep(text, self.allowance)
    }

    /// Adds a pair of metadata to the entry that comes next.
    pub(super) fn pair(&mut self, name: Place, value: Place) -> Result<()> {
        let pair = PairPlace { name, value };
        self.allowance.push(&mut self.batch.sent_pairs, pair)
    }

    /// Adds a pair whose texts may have bytes that are no UTF-8: each of them becomes a space.
    pub(super) fn pair_of_bytes(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        let name = self.valid(name)?;
        let value = self.valid(value)?;
        self.pair(name, value)
    }

    pub(super) fn valid(&mut self, text: &[u8]) -> Result<Place> {
        if std::str::from_utf8(text).is_ok() {
            return self.place(text);
        }
        let start = self.batch.arena.len();
        self.allowance.reserve(&mut self.batch.arena, text.len())?;
        for chunk in text.utf8_chunks() {
            let arena = &mut self.batch.arena;
            arena.extend_from_slice(chunk.valid().as_bytes());
            arena.resize(arena.len() + chunk.invalid().len(), b' ');
        }
        self.batch.arena_from(start)
    }

    /// Forgets pairs that were added for an entry which does not come.
    pub(super) fn drop_pairs_from(&mut self, count: usize) {
        self.batch.sent_pairs.truncate(count);
    }

    /// Adds an entry to the open stream; its pairs are those that were added since the last one.
    #[inline]
    pub(super) fn entry(&mut self, t_ns: TimestampNs, line: Place) -> Result<()> {
        let line = match self.options.truncate_lines {
            Some(cut) if (line.end - line.start) as usize > cut.max_bytes => {
                self.cut_line(line, cut.max_bytes, cut.identifier)?
            }
            _ => line,
        };
        let batch = &mut *self.batch;
        self.allowance.push(&mut batch.t_ns, t_ns)?;
        self.allowance.push(&mut batch.lines, line)?;
        // Until the stream ends, `pair_ends` counts pairs as they were sent.
        let end = batch.sent_pairs.len() as u32;
        self.allowance.push(&mut batch.pair_ends, end)
    }

    #[cold]
    fn cut_line(&mut self, line: Place, max_bytes: usize, identifier: &str) -> Result<Place> {
        let kept = max_bytes.saturating_sub(identifier.len()) as u32;
        let cut = Place {
            start: line.start,
            end: line.start + kept,
        };
        if identifier.is_empty() {
            return Ok(cut);
        }
        let start = self.batch.arena.len();
        let room = kept as usize + identifier.len();
        self.allowance.reserve(&mut self.batch.arena, room)?;
        let body_len = self.batch.body_len;
        if cut.end <= body_len {
            let text = &self.body[cut.start as usize..cut.end as usize];
            self.batch.arena.extend_from_slice(text);
        } else {
            let from = (cut.start - body_len) as usize;
            self.batch
                .arena
                .extend_from_within(from..from + kept as usize);
        }
        self.batch.arena.extend_from_slice(identifier.as_bytes());
        self.batch.arena_from(start)
    }

    /// Whether the open stream has entries.
    pub(super) fn has_entries(&self) -> bool {
        self.batch.t_ns.len() > self.first
    }

    /// Ends the open stream, which has entries, with labels that are not finished.
    pub(super) fn end_stream(&mut self, mut labels: LabelPairs<'_>) -> Decoded {
        labels.finish(
            self.options.discover_service_name,
            self.options.backfill_shard,
        )?;
        let level = self.level_of_labels(&labels)?;
        let start = self.batch.arena.len();
        let room = labels.encoded_bytes();
        self.allowance.reserve(&mut self.batch.arena, room)?;
        labels.encode(&mut self.batch.arena);
        let labels = self.batch.arena_from(start)?;
        self.finish_entries(labels, level)?;
        let (first, end) = (self.first, self.batch.t_ns.len());
        if self.options.increment_duplicate_timestamps {
            self.spread_equal_times();
        }
        let batch = &*self.batch;
        let lines = batch.lines[first..end].iter();
        let lines: u64 = lines.map(|l| u64::from(l.end - l.start)).sum();
        let metadata = batch.sent[first..end].iter();
        let metadata: u64 = metadata.map(|s| u64::from(s.bytes)).sum();
        let stream = StreamPlace {
            labels,
            first: first as u32,
            end: end as u32,
            bytes: lines + metadata,
        };
        self.first = end;
        if end > first {
            self.allowance.push(&mut self.batch.streams, stream)?;
        }
        Ok(())
    }

    /// The text of a place while the body is not in the batch.
    fn text(&self, place: Place) -> &[u8] {
        if place.end <= self.batch.body_len {
            &self.body[place.start as usize..place.end as usize]
        } else {
            self.batch.text(place)
        }
    }

    fn level_of_labels(&mut self, labels: &LabelPairs<'_>) -> Result<Option<Place>> {
        let rules = &self.options.levels;
        if !rules.is_on {
            return Ok(None);
        }
        let Some(value) = rules.fields.iter().find_map(|f| labels.get(f)) else {
            return Ok(None);
        };
        match Level::from_value(value.as_bytes()) {
            Some(level) => self.level(level).map(Some),
            None => self.batch.keep(value.as_bytes(), self.allowance).map(Some),
        }
    }

    fn level(&mut self, level: Level) -> Result<Place> {
        if let Some(place) = self.levels[level as usize] {
            return Ok(place);
        }
        let place = self.batch.keep(level.as_str().as_bytes(), self.allowance)?;
        self.levels[level as usize] = Some(place);
        Ok(place)
    }

    /// Makes the metadata of the open stream's entries what is stored: normal names, each once, in order, and the level.
    fn finish_entries(&mut self, labels: Place, level_of_labels: Option<Place>) -> Decoded {
        let sent_pairs = std::mem::take(&mut self.batch.sent_pairs);
        let done = self.finish_pairs(&sent_pairs, labels, level_of_labels);
        self.batch.sent_pairs = sent_pairs;
        self.batch.sent_pairs.clear();
        done
    }

    fn finish_pairs(
        &mut self,
        sent: &[PairPlace],
        labels: Place,
        level_of_labels: Option<Place>,
    ) -> Decoded {
        let mut kept = self.first;
        let mut start = 0;
        for at in self.first..self.batch.t_ns.len() {
            let end = self.batch.pair_ends[at] as usize;
            let pairs = &sent[start..end];
            start = end;
            let line = self.batch.lines[at];
            let first_pair = self.batch.pairs.len();
            let mut bytes = 0u32;
            let mut bad_name = None;
            for pair in pairs {
                let size = |p: Place| p.end - p.start;
                bytes = bytes.saturating_add(size(pair.name) + size(pair.value));
                match self.normal_name(pair.name)? {
                    Some(name) => self.put_pair(first_pair, name, pair.value)?,
                    None => bad_name = Some(pair.name),
                }
            }
            if let Some(name) = bad_name {
                let name = String::from_utf8_lossy(self.text(name)).into_owned();
                let size = u64::from(line.end - line.start) + u64::from(bytes);
                self.batch.pairs.truncate(first_pair);
                self.batch.leave_out(size, self.allowance, |batch| {
                    let labels = StreamLabels::new(batch.text(labels)).to_string();
                    let (labels, name) = (first_chars(&labels, 1000), first_chars(&name, 100));
                    format!(
                        "stream '{labels}': normalization for label name \"{name}\" resulted in invalid name \"\""
                    )
                })?;
                continue;
            }
            if self.options.levels.is_on {
                self.put_level(first_pair, line, level_of_labels)?;
            }
            let batch = &mut *self.batch;
            batch.t_ns[kept] = batch.t_ns[at];
            batch.lines[kept] = line;
            batch.pair_ends[kept] = batch.pairs.len() as u32;
            kept += 1;
            let count = pairs.len() as u32;
            let sent = SentMetadata { count, bytes };
            self.allowance.push(&mut batch.sent, sent)?;
        }
        let batch = &mut *self.batch;
        batch.t_ns.truncate(kept);
        batch.lines.truncate(kept);
        batch.pair_ends.truncate(kept);
        Ok(())
    }

    /// The normal form of a name; `None` when it has none.
    #[inline]
    fn normal_name(&mut self, name: Place) -> Result<Option<Place>> {
        let text = self.text(name);
        // Decoders have checked it.
        let text = std::str::from_utf8(text).unwrap_or_default();
        if is_normal_metadata_name(text) {
            return Ok(Some(name));
        }
        match normal_metadata_name(text) {
            Some(normal) => (self.batch.keep(normal.as_bytes(), self.allowance)).map(Some),
            None => Ok(None),
        }
    }

    /// Adds a pair where it belongs among those of its entry; of two with one name the last counts, and one without a value means none.
    fn put_pair(&mut self, first_pair: usize, name: Place, value: Place) -> Result<()> {
        let pairs = &self.batch.pairs[first_pair..];
        let text = self.text(name);
        let found = match pairs.last() {
            Some(last) if self.text(last.name) < text => Err(pairs.len()),
            _ => pairs.binary_search_by(|p| self.text(p.name).cmp(text)),
        };
        let pair = PairPlace { name, value };
        match found {
            Ok(at) if value.start == value.end => drop(self.batch.pairs.remove(first_pair + at)),
            Err(_) if value.start == value.end => {}
            Ok(at) => self.batch.pairs[first_pair + at].value = value,
            Err(at) => {
                self.allowance.reserve(&mut self.batch.pairs, 1)?;
                self.batch.pairs.insert(first_pair + at, pair);
            }
        }
        Ok(())
    }

    fn metadata(&self, first_pair: usize, name: &[u8]) -> Option<Place> {
        let mut pairs = self.batch.pairs[first_pair..].iter();
        let found = pairs.find(|p| self.text(p.name) == name);
        found.map(|p| p.value)
    }

    fn put_level(
        &mut self,
        first_pair: usize,
        line: Place,
        level_of_labels: Option<Place>,
    ) -> Result<()> {
        let rules = self.options.levels;
        let value = if self.batch.pairs.len() == first_pair {
            match level_of_labels {
                Some(value) => value,
                None => self.level(Level::of_line(self.text(line), &rules))?,
            }
        } else {
            let given = self.metadata(first_pair, DETECTED_LEVEL.as_bytes());
            let told = given.or(level_of_labels).or_else(|| {
                let mut fields = rules.fields.iter();
                fields.find_map(|f| self.metadata(first_pair, f.as_bytes()))
            });
            match told {
                Some(value) => match Level::from_value(self.text(value)) {
                    Some(level) => self.level(level)?,
                    None => value,
                },
                None => {
                    let number = self.metadata(first_pair, SEVERITY_NUMBER.as_bytes());
                    let level = match number.map(|n| std::str::from_utf8(self.text(n))) {
                        Some(Ok(number)) => Level::from_severity_number(number),
                        _ => Level::of_line(self.text(line), &rules),
                    };
                    self.level(level)?
                }
            }
        };
        let name = match self.level_name {
            Some(name) => name,
            None => {
                let name = DETECTED_LEVEL.as_bytes();
                *(self.level_name).insert(self.batch.keep(name, self.allowance)?)
            }
        };
        self.put_pair(first_pair, name, value)
    }

    /// Moves an entry that has the time of the one before it, and another line, one nanosecond behind it.
    fn spread_equal_times(&mut self) {
        for at in self.first + 1..self.batch.t_ns.len() {
            let is_same_time = self.batch.t_ns[at] == self.batch.t_ns[at - 1];
            let (line, before) = (self.batch.lines[at], self.batch.lines[at - 1]);
            if is_same_time && self.text(line) != self.text(before) {
                self.batch.t_ns[at] = self.batch.t_ns[at].saturating_add(1);
            }
        }
    }
}
