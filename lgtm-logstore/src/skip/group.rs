//! What is known of the lines of some blocks that stand together.

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_uvarint};

use super::key_set::KeySet;
use super::parts::{LineNeedle, LineParts, RunLengths};
use super::ribbon::{self, MAX_COLUMNS, Ribbon};

const WHAT: &str = "block group";
const WHOLES: u8 = 1;
const WORDS: u8 = 2;
const MIXED: u8 = 4;
const METADATA: u8 = 8;
const ESCAPES: u8 = 16;

/// Columns below which a kind of parts is left out instead.
const LEAST_COLUMNS: usize = 4;
/// Columns with which the parts are kept that tell the most.
const FEWEST_COLUMNS: usize = 2;

/// What a group of blocks is made of.
#[derive(Debug, Default)]
pub(super) struct GroupParts {
    pub(super) blocks: usize,
    pub(super) lines: LineParts,
    /// Values of structured metadata.
    pub(super) values: KeySet,
    /// Whether a line has a backslash.
    pub(super) has_escapes: bool,
}

impl GroupParts {
    /// Empties it for another group, which may take `max_bytes`.
    pub(super) fn reset(&mut self, max_bytes: usize) {
        self.blocks = 0;
        self.lines.reset(max_bytes * 8 / LEAST_COLUMNS);
        self.values.clear();
        self.has_escapes = false;
    }

    /// Writes the group in about `max_bytes`: what does not fit is left out, what tells the least first.
    pub(super) fn encode(&self, max_bytes: usize, out: &mut Vec<u8>) {
        let lines = &self.lines;
        let mut kinds = WHOLES | METADATA;
        let mut count = lines.wholes.len() + self.values.len();
        let columns = |keys| {
            let rows = ribbon::rows_for(keys);
            (max_bytes * 8).checked_div(rows).unwrap_or(MAX_COLUMNS)
        };
        let mut add = |kind, set: &KeySet, is_whole: bool| {
            if is_whole && columns(count + set.len()) >= LEAST_COLUMNS {
                kinds |= kind;
                count += set.len();
            }
        };
        add(WORDS, &lines.words, !lines.has_too_many_words());
        add(MIXED, &lines.mixed, !lines.has_too_many_mixed());
        if columns(count) < FEWEST_COLUMNS {
            (kinds, count) = (0, 0);
        }
        let mut keys = Vec::with_capacity(count);
        for (kind, set) in [
            (WHOLES, &lines.wholes),
            (METADATA, &self.values),
            (WORDS, &lines.words),
            (MIXED, &lines.mixed),
        ] {
            if kinds & kind != 0 {
                keys.extend(set.iter());
            }
        }
        out.push(kinds | if self.has_escapes { ESCAPES } else { 0 });
        put_uvarint(out, self.blocks as u64);
        put_uvarint(out, lines.lengths.decimal);
        put_uvarint(out, lines.lengths.hex);
        let columns = columns(count).clamp(1, MAX_COLUMNS);
        ribbon::encode(&keys, columns, out);
    }
}

/// A group in its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockGroup<'a> {
    kinds: u8,
    /// Blocks of it, in the order of the chunk's table.
    pub(super) blocks: usize,
    lengths: RunLengths,
    filter: Ribbon<'a>,
}

impl<'a> BlockGroup<'a> {
    /// Reads what [`GroupParts::encode`] writes.
    ///
    /// # Errors
    /// What is cut off; more blocks than a chunk can have.
    pub(super) fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kinds = r.u8()?;
        let blocks = r.uvarint()?;
        let Ok(blocks) = u32::try_from(blocks) else {
            return Err(r.error(format!("{blocks} blocks in a {WHAT}")));
        };
        let lengths = RunLengths {
            decimal: r.uvarint()?,
            hex: r.uvarint()?,
        };
        Ok(Self {
            kinds,
            blocks: blocks as usize,
            lengths,
            filter: Ribbon::decode(r)?,
        })
    }

    fn knows(&self, kind: u8) -> bool {
        self.kinds & kind != 0
    }

    /// Whether surely no line has the needle.
    pub(super) fn lacks_line(&self, needle: &LineNeedle) -> bool {
        let has = |key| self.filter.may_hold(key);
        self.knows(WHOLES) && needle.lacks_wholes(self.lengths, &has)
            || self.knows(WORDS) && needle.lacks_words(&has)
            || self.knows(MIXED) && needle.lacks_mixed(&has)
    }

    /// Whether surely no entry has structured metadata with this value.
    pub(super) fn lacks_value(&self, key: u64) -> bool {
        self.knows(METADATA) && !self.filter.may_hold(key)
    }

    /// Whether a line may have a backslash.
    pub(super) fn has_escapes(&self) -> bool {
        self.knows(ESCAPES)
    }
}
