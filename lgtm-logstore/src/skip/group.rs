//! What is known of the lines of some blocks that stand together.

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_uvarint};

use super::key_set::KeySet;
use super::parts::{KeptLineParts, LineNeedle, LineParts, RunLengths};
use lgtm_core::codec::ribbon::{self, MAX_COLUMNS, Ribbon, RibbonPlace};

const WHAT: &str = "block group";
const WHOLES: u8 = 1;
const WORDS: u8 = 2;
const MIXED: u8 = 4;
const METADATA: u8 = 8;
const ESCAPES: u8 = 16;
/// Grams have a table of their own, and parts of long runs are indexed. Without it one table has all, as in version 1.
const APART: u8 = 32;

/// Columns below which a kind of grams is left out instead.
const LEAST_COLUMNS: usize = 4;
/// Columns for grams: a text has several, all of which must pass.
const GRAM_COLUMNS: usize = 5;
/// Columns with which wholes are kept, each of which must tell by itself.
const FEWEST_COLUMNS: usize = 2;

/// What some blocks of a group are made of, put aside until the next ones come.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptGroupParts {
    blocks: usize,
    lines: KeptLineParts,
    values: Box<[u64]>,
    has_escapes: bool,
}

impl KeptGroupParts {
    /// Bytes of memory beside its own.
    pub(super) fn size_bytes(&self) -> usize {
        self.lines.size_bytes() + self.values.len() * size_of::<u64>()
    }
}

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

    /// What there is so far.
    pub(super) fn keep(&self) -> KeptGroupParts {
        KeptGroupParts {
            blocks: self.blocks,
            lines: self.lines.keep(),
            values: self.values.keys().into(),
            has_escapes: self.has_escapes,
        }
    }

    /// Takes in what was kept; both were [reset](GroupParts::reset) with the same bound.
    pub(super) fn add(&mut self, kept: &KeptGroupParts) {
        self.blocks += kept.blocks;
        self.lines.add(&kept.lines);
        self.values.reserve(kept.values.len());
        for key in &kept.values {
            self.values.insert(*key);
        }
        self.has_escapes |= kept.has_escapes;
    }

    /// Bytes of memory.
    pub(super) fn size_bytes(&self) -> usize {
        self.lines.size_bytes() + self.values.size_bytes()
    }

    /// Writes the group in about `max_bytes`: what does not fit is left out, what tells the least first.
    pub(super) fn encode(&self, max_bytes: usize, out: &mut Vec<u8>) {
        self.encode_as(self.blocks, max_bytes, out);
    }

    /// The same, as a group of so many blocks.
    pub(super) fn encode_as(&self, blocks: usize, max_bytes: usize, out: &mut Vec<u8>) {
        let lines = &self.lines;
        let begin = out.len();
        let columns = |max_bytes: usize, keys| {
            let rows = ribbon::rows_for(keys);
            (max_bytes * 8).checked_div(rows).unwrap_or(MAX_COLUMNS)
        };
        let mut kinds = APART | if self.has_escapes { ESCAPES } else { 0 };
        out.push(0);
        put_uvarint(out, blocks as u64);
        put_uvarint(out, lines.lengths.decimal);
        put_uvarint(out, lines.lengths.hex);
        // Many values stand in the line too.
        let values = self.values.keys().iter();
        let values = values.filter(|v| !lines.wholes.has(**v));
        let mut keys = lines.wholes.keys().to_vec();
        keys.extend(values);
        let of_wholes = columns(max_bytes, keys.len());
        if of_wholes >= FEWEST_COLUMNS {
            kinds |= WHOLES | METADATA;
        } else {
            keys.clear();
        }
        ribbon::encode(&keys, of_wholes.clamp(1, MAX_COLUMNS), out);
        keys.clear();
        let left = max_bytes.saturating_sub(out.len() - begin);
        let kept = [
            (WORDS, &lines.words, !lines.has_too_many_words()),
            (MIXED, &lines.mixed, !lines.has_too_many_mixed()),
        ];
        for (kind, set, is_whole) in kept {
            if is_whole && columns(left, keys.len() + set.len()) >= LEAST_COLUMNS {
                kinds |= kind;
                keys.extend_from_slice(set.keys());
            }
        }
        let of_grams = columns(left, keys.len()).clamp(1, GRAM_COLUMNS);
        ribbon::encode(&keys, of_grams, out);
        out[begin] = kinds;
    }
}

/// Where a group stands in a section.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupPlace {
    kinds: u8,
    blocks: u32,
    lengths: RunLengths,
    wholes: RibbonPlace,
    grams: RibbonPlace,
}

impl GroupPlace {
    /// Reads what [`GroupParts::encode`] writes, out of a reader of the whole section.
    ///
    /// # Errors
    /// What is cut off; more blocks than a chunk can have.
    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kinds = r.u8()?;
        let blocks = r.uvarint()?;
        let Ok(blocks) = u32::try_from(blocks) else {
            return Err(r.error(format!("{blocks} blocks in a {WHAT}")));
        };
        let lengths = RunLengths {
            decimal: r.uvarint()?,
            hex: r.uvarint()?,
        };
        let wholes = Ribbon::decode(r)?.place(r.position());
        let grams = if kinds & APART > 0 {
            Ribbon::decode(r)?.place(r.position())
        } else {
            wholes
        };
        Ok(Self {
            kinds,
            blocks,
            lengths,
            wholes,
            grams,
        })
    }

    /// The group in the section that it was read from.
    pub(super) fn read(self, section: &[u8]) -> BlockGroup<'_> {
        BlockGroup {
            kinds: self.kinds,
            blocks: self.blocks as usize,
            lengths: self.lengths,
            wholes: self.wholes.read(section),
            grams: self.grams.read(section),
        }
    }
}

/// A group in its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockGroup<'a> {
    kinds: u8,
    /// Blocks of it, in the order of the chunk's table.
    pub(super) blocks: usize,
    lengths: RunLengths,
    wholes: Ribbon<'a>,
    grams: Ribbon<'a>,
}

impl BlockGroup<'_> {
    fn knows(&self, kind: u8) -> bool {
        self.kinds & kind != 0
    }

    /// Whether surely no line has the needle.
    pub(super) fn lacks_line(&self, needle: &LineNeedle) -> bool {
        let has = |key| self.grams.may_hold(key);
        let has_whole = |key| self.wholes.may_hold(key);
        self.knows(WHOLES) && needle.lacks_wholes((self.lengths, self.knows(APART)), &has_whole)
            || self.knows(WORDS) && needle.lacks_words(&has)
            || self.knows(MIXED) && needle.lacks_mixed(&has)
    }

    /// Whether surely no entry has structured metadata with this value.
    pub(super) fn lacks_value(&self, key: u64) -> bool {
        self.knows(METADATA) && !self.wholes.may_hold(key)
    }

    /// Whether a line may have a backslash.
    pub(super) fn has_escapes(&self) -> bool {
        self.knows(ESCAPES)
    }
}
