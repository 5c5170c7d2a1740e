//! The dictionary of a column while it grows: texts by number, numbers by text.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Texts, each once, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct TextTable {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    last: u32,
    /// Of each text the number of the one that came behind it last: spans have their attributes in the same order, and are like those before.
    behind: Vec<u32>,
}

impl TextTable {
    /// The number of a text.
    #[inline]
    pub(crate) fn number(&mut self, text: &[u8]) -> u32 {
        if let Some(&expected) = self.behind.get(self.last as usize)
            && self.get(expected) == Some(text)
        {
            self.last = expected;
            return expected;
        }
        let hash = self.hasher.hash_one(text);
        let (bytes, ends) = (&self.bytes, &self.ends);
        let found = self
            .numbers
            .find(hash, |n| text_of(bytes, ends, *n) == Some(text));
        let number = match found {
            Some(number) => *number,
            None => self.add(hash, text),
        };
        if let Some(behind) = self.behind.get_mut(self.last as usize) {
            *behind = number;
        }
        self.last = number;
        number
    }

    #[cold]
    fn add(&mut self, hash: u64, text: &[u8]) -> u32 {
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        self.behind.push(number);
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        self.numbers.insert_unique(hash, number, |n| {
            hasher.hash_one(text_of(bytes, ends, *n).unwrap_or_default())
        });
        number
    }

    /// A text by its number.
    pub(crate) fn get(&self, number: u32) -> Option<&[u8]> {
        text_of(&self.bytes, &self.ends, number)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Appends them in order, each behind its length.
    pub(crate) fn put_plain(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes.len() + 4 * self.ends.len());
        for number in 0..self.ends.len() as u32 {
            let text = self.get(number).unwrap_or_default();
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text);
        }
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.numbers.clear();
        self.behind.clear();
        self.last = 0;
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * 8
            + self.behind.capacity() * 4
            + self.numbers.capacity() * 5
    }
}

fn text_of<'t>(bytes: &'t [u8], ends: &[usize], number: u32) -> Option<&'t [u8]> {
    let number = number as usize;
    let end = *ends.get(number)?;
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    bytes.get(start..end)
}
