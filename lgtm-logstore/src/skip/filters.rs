//! What a chunk's side file knows of its lines and metadata, by group of blocks (`docs/format/side_object.md`).

use std::ops::Range;

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_uvarint};

use super::group::{BlockGroup, GroupPlace};
use super::parts::{LineNeedle, whole_key};

const WHAT: &str = "skip filters";

/// What entries of interest have: all of it.
#[derive(Debug, Clone, Default)]
pub struct SkipQuestion {
    lines: Vec<LineNeedle>,
    line_choices: Vec<Vec<LineNeedle>>,
    fields: Vec<FieldNeedle>,
    values: Vec<(String, u64)>,
}

/// A label with a value, which is the stream's, structured metadata, or stands in a line without escapes.
#[derive(Debug, Clone)]
struct FieldNeedle {
    label: String,
    value: u64,
    line: LineNeedle,
}

impl SkipQuestion {
    /// Asks for lines that hold these bytes.
    pub fn line(&mut self, needle: &[u8]) {
        let needle = LineNeedle::new(needle);
        if !needle.is_empty() {
            self.lines.push(needle);
        }
    }

    /// Asks for lines that hold one of these.
    pub fn line_with_one_of(&mut self, needles: &[Vec<u8>]) {
        let needles: Vec<LineNeedle> = needles.iter().map(|n| LineNeedle::new(n)).collect();
        if !needles.is_empty() && !needles.iter().any(LineNeedle::is_empty) {
            self.line_choices.push(needles);
        }
    }

    /// Asks for entries that have the label, of their stream or as structured metadata, or whose line has a backslash or holds `value`.
    pub fn field(&mut self, label: &str, value: &str) {
        let line = LineNeedle::new(value.as_bytes());
        if !line.is_empty() {
            self.fields.push(FieldNeedle {
                label: label.to_owned(),
                value: whole_key(value.as_bytes()),
                line,
            });
        }
    }

    /// Asks for entries that have the label, of their stream, or this value in structured metadata.
    pub fn metadata(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            let key = whole_key(value.as_bytes());
            self.values.push((label.to_owned(), key));
        }
    }

    /// Labels that the stream of an entry may have.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().map(|f| f.label.as_str());
        fields.chain(self.values.iter().map(|(label, _)| label.as_str()))
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
            && self.line_choices.is_empty()
            && self.fields.is_empty()
            && self.values.is_empty()
    }
}

/// Some of the blocks of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockChoice {
    /// Places in the chunk's table, ascending and apart.
    ranges: Vec<Range<usize>>,
    /// Blocks that the chunk had when its filters were made.
    block_count: usize,
}

impl BlockChoice {
    /// Whether no block is wanted.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many blocks are wanted.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// Blocks of the chunk that the choice is of.
    pub fn block_count(&self) -> usize {
        self.block_count
    }

    /// Whether a block is wanted, by its place in the chunk's table.
    pub fn has(&self, block: usize) -> bool {
        let at = self.ranges.partition_point(|r| r.end <= block);
        self.ranges.get(at).is_some_and(|r| r.start <= block)
    }
}

/// What is known of a chunk's lines and metadata. Keeps the bytes that it was read from.
#[derive(Debug, Clone)]
pub struct SkipFilters {
    bytes: Bytes,
    /// Names of structured metadata.
    names: Vec<String>,
    /// Where each group stands.
    groups: Vec<GroupPlace>,
}

impl SkipFilters {
    /// Reads a section whose checksum was found to fit.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(WHAT, &bytes);
        let names = read_names(&mut r)?;
        let count = r.uvarint()?;
        if count > r.remaining() as u64 {
            return Err(r.error(format!("{count} groups in {} bytes", r.remaining())));
        }
        let mut groups = Vec::new();
        for _ in 0..count {
            groups.push(GroupPlace::decode(&mut r)?);
        }
        if !r.is_empty() {
            return Err(r.error("bytes behind the last group"));
        }
        Ok(Self {
            bytes,
            names,
            groups,
        })
    }

    fn groups(&self) -> impl Iterator<Item = BlockGroup<'_>> {
        self.groups.iter().map(|place| place.read(&self.bytes))
    }

    fn has_name(&self, label: &str) -> bool {
        self.names.iter().any(|n| n == label)
    }

    /// The blocks that may have entries of interest; `is_of_stream` tells the labels of the chunk's stream.
    pub fn choose(
        &self,
        question: &SkipQuestion,
        is_of_stream: impl Fn(&str) -> bool,
    ) -> BlockChoice {
        let fields = question.fields.iter().filter(|f| !is_of_stream(&f.label));
        let is_metadata = |label: &str| {
            // One that has the name of a label of the stream goes by another.
            let stem = label.strip_suffix("_extracted");
            self.has_name(label) || stem.is_some_and(|stem| self.has_name(stem))
        };
        let fields: Vec<(&FieldNeedle, bool)> =
            fields.map(|f| (f, is_metadata(&f.label))).collect();
        let values = question.values.iter().filter(|(l, _)| !is_of_stream(l));
        let values: Vec<u64> = values.map(|(_, key)| *key).collect();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut first = 0usize;
        for group in self.groups() {
            let end = first.saturating_add(group.blocks);
            let lacks_field = |(field, is_metadata): &(&FieldNeedle, bool)| {
                !group.has_escapes()
                    && group.lacks_line(&field.line)
                    && (!is_metadata || group.lacks_value(field.value))
            };
            let lacks_all = |list: &Vec<LineNeedle>| list.iter().all(|n| group.lacks_line(n));
            let is_out = question.lines.iter().any(|n| group.lacks_line(n))
                || question.line_choices.iter().any(lacks_all)
                || values.iter().any(|v| group.lacks_value(*v))
                || fields.iter().any(lacks_field);
            if !is_out && group.blocks > 0 {
                match ranges.last_mut() {
                    Some(last) if last.end == first => last.end = end,
                    _ => ranges.push(first..end),
                }
            }
            first = end;
        }
        BlockChoice {
            ranges,
            block_count: first,
        }
    }

    /// Bytes of memory.
    pub fn size_bytes(&self) -> usize {
        let names = self.names.iter().map(|n| n.len() + size_of::<String>());
        self.bytes.len() + names.sum::<usize>() + self.groups.capacity() * size_of::<GroupPlace>()
    }
}

/// Reads names behind their number.
pub(super) fn read_names(r: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let count = r.uvarint()?;
    if count > r.remaining() as u64 {
        return Err(r.error(format!("{count} names in {} bytes", r.remaining())));
    }
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(r.str()?.to_owned());
    }
    Ok(names)
}

/// Writes names behind their number.
pub(super) fn put_names<'a>(names: impl ExactSizeIterator<Item = &'a str>, out: &mut Vec<u8>) {
    put_uvarint(out, names.len() as u64);
    for name in names {
        put_bytes(out, name.as_bytes());
    }
}
