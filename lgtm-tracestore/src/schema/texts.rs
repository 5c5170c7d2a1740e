//! Many texts in one buffer.

use std::ops::Range;
use std::sync::LazyLock;

use crate::schema::column_memory::ColumnMemory;

/// Many texts in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    pub(super) bytes: Vec<u8>,
    /// Where each ends.
    pub(super) ends: Vec<u32>,
}

impl Texts {
    /// One text, which is empty.
    pub fn one_empty() -> &'static Self {
        static ONE: LazyLock<Texts> = LazyLock::new(|| Texts {
            bytes: Vec::new(),
            ends: vec![0],
        });
        &ONE
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of them; empty beyond the last.
    #[inline]
    pub fn get(&self, n: usize) -> &[u8] {
        let start = match n.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default() as usize,
            None => 0,
        };
        let end = self.ends.get(n).map_or(start, |end| *end as usize);
        &self.bytes[start..end]
    }

    /// Bytes that they take.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + self.ends.len() * 4
    }

    /// Bytes of memory that they hold.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    /// Appends one, for which there is room.
    pub(super) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Of those from one on keeps these ranges, which ascend.
    pub(super) fn keep(&mut self, from: usize, ranges: &[Range<usize>]) {
        let end_of = |ends: &[u32], n: usize| ends.get(n).map_or(0, |end| *end as usize);
        let start = from.checked_sub(1).map_or(0, |n| end_of(&self.ends, n));
        let (mut len, mut kept) = (start, from);
        // Where the text before the next one ended.
        let (mut before, mut seen) = (start, from);
        for n in ranges.iter().cloned().flatten() {
            let n = n.saturating_add(from);
            if n >= self.ends.len() {
                break;
            }
            if n > seen {
                before = end_of(&self.ends, n - 1);
            }
            let end = end_of(&self.ends, n);
            self.bytes.copy_within(before..end, len);
            len += end - before;
            self.ends[kept] = len as u32;
            kept += 1;
            (before, seen) = (end, n + 1);
        }
        self.ends.truncate(kept);
        self.bytes.truncate(len);
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|n| self.get(n))
    }

    /// Leaves its memory to other columns.
    pub(crate) fn give(self, memory: &ColumnMemory) {
        memory.give(self.bytes);
        memory.give(self.ends);
    }
}
