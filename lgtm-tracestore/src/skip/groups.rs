//! Sets of row groups.

use lgtm_core::codec::{Reader, put_uvarint};
use lgtm_core::error::DecodeError;

/// Some of a block's row groups, a bit each. Blocks have some hundred at most.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupSet {
    words: Vec<u64>,
}

impl GroupSet {
    /// The first `count` ones.
    pub fn all(count: usize) -> Self {
        let mut out = Self::default();
        (0..count).for_each(|group| out.insert(group));
        out
    }

    /// Adds one.
    pub fn insert(&mut self, group: usize) {
        if self.words.len() <= group / 64 {
            self.words.resize(group / 64 + 1, 0);
        }
        self.words[group / 64] |= 1 << (group % 64);
    }

    /// Whether one is in it.
    pub fn contains(&self, group: usize) -> bool {
        self.words
            .get(group / 64)
            .is_some_and(|word| word >> (group % 64) & 1 == 1)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Those that are in either.
    pub fn add(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(a, b)| *a |= b);
    }

    /// Those that are in both.
    pub fn retain(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        self.words
            .iter_mut()
            .zip(&other.words)
            .for_each(|(a, b)| *a &= b);
    }

    /// Their numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.words.len() * 64).filter(|group| self.contains(*group))
    }

    /// As many numbers, then the steps from each to the next.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_uvarint(out, self.iter().count() as u64);
        let mut next = 0;
        for group in self.iter() {
            put_uvarint(out, (group - next) as u64);
            next = group + 1;
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>, groups: usize) -> Result<Self, DecodeError> {
        let mut out = Self::default();
        let mut next = 0u64;
        for _ in 0..r.uvarint()? {
            let group = next.saturating_add(r.uvarint()?);
            if group >= groups as u64 {
                return Err(r.error(format!("row group {group} of {groups}")));
            }
            out.insert(group as usize);
            next = group + 1;
        }
        Ok(out)
    }
}
