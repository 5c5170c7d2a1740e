//! Interned label strings.
//!
//! Every label name and value of a head is stored once; series and postings hold its `u32`. Strings stand back to back in one
//! arena, so that a symbol costs its bytes plus about ten.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::error::{Error, Result};

/// The number of an interned string.
pub type SymbolId = u32;

/// An append-only table of unique strings.
#[derive(Debug, Default)]
pub struct Interner {
    arena: String,
    /// End of each symbol in the arena.
    ends: Vec<u32>,
    by_hash: HashTable<SymbolId>,
    hasher: std::hash::RandomState,
}

impl Interner {
    /// Whether nothing is interned.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of symbols.
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string of a symbol of this table.
    ///
    /// # Panics
    /// For a symbol of another table that this one does not reach.
    #[inline]
    pub fn resolve(&self, id: SymbolId) -> &str {
        text_of(&self.arena, &self.ends, id)
    }

    /// The symbol of `text`, if it is interned.
    #[inline]
    pub fn find(&self, text: &str) -> Option<SymbolId> {
        let hash = self.hasher.hash_one(text.as_bytes());
        self.by_hash
            .find(hash, |&id| text_of(&self.arena, &self.ends, id) == text)
            .copied()
    }

    /// The symbol of `text`, interned now if it was not.
    ///
    /// # Errors
    /// `LimitExceeded` when the arena would pass 4 GiB.
    pub fn intern(&mut self, text: &str) -> Result<SymbolId> {
        let Self {
            arena,
            ends,
            by_hash,
            hasher,
        } = self;
        let hash = hasher.hash_one(text.as_bytes());
        if let Some(&id) = by_hash.find(hash, |&id| text_of(arena, ends, id) == text) {
            return Ok(id);
        }
        let end = u32::try_from(arena.len() + text.len()).map_err(|_| {
            Error::LimitExceeded(format!("symbols of one head exceed {} bytes", u32::MAX))
        })?;
        let id = ends.len() as SymbolId;
        arena.push_str(text);
        ends.push(end);
        by_hash.insert_unique(hash, id, |&id| {
            hasher.hash_one(text_of(arena, ends, id).as_bytes())
        });
        Ok(id)
    }

    /// Heap bytes held, nearly.
    pub fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.ends.capacity() * 4 + self.by_hash.capacity() * 5
    }
}

#[inline]
fn text_of<'a>(arena: &'a str, ends: &[u32], id: SymbolId) -> &'a str {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &arena[start..ends[id] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_share_a_symbol() {
        let mut s = Interner::default();
        let ids: Vec<_> = ["a", "", "b", "a", "ä", ""]
            .iter()
            .map(|t| s.intern(t).unwrap())
            .collect();
        assert_eq!(ids, [0, 1, 2, 0, 3, 1]);
        assert_eq!(
            (s.len(), s.resolve(3), s.find("b"), s.find("c")),
            (4, "ä", Some(2), None)
        );
    }
}
