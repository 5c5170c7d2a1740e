//! Names and values of structured metadata, each once.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Texts by number, from 0. A number beyond the end reads as the empty text, as Loki reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SymbolList {
    text: String,
    /// Where each text ends in `text`.
    ends: Vec<u32>,
}

impl SymbolList {
    /// The texts in order. What is no UTF-8 has replacement characters there.
    ///
    /// Texts that would make the list longer than 4 GiB are left out, and read as the empty text.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut list = Self::default();
        for text in texts {
            if list.push(&String::from_utf8_lossy(text)).is_none() {
                break;
            }
        }
        list
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text with a number.
    #[inline]
    pub fn get(&self, symbol: u32) -> &str {
        let n = symbol as usize;
        let Some(&end) = self.ends.get(n) else {
            return "";
        };
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..end as usize]
    }

    /// All texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|n| self.get(n as u32))
    }

    /// The number of a text. Costs a walk over the list.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.iter().position(|t| t == text).map(|n| n as u32)
    }

    /// Bytes of all texts together.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Bytes of memory.
    pub fn size_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    fn push(&mut self, text: &str) -> Option<u32> {
        let end = u32::try_from(self.text.len() + text.len()).ok()?;
        let symbol = u32::try_from(self.ends.len()).ok()?;
        self.text.push_str(text);
        self.ends.push(end);
        Some(symbol)
    }
}

/// Gives every text a number, in order of first use.
#[derive(Debug, Default)]
pub struct SymbolListBuilder {
    list: SymbolList,
    numbers: HashTable<u32>,
    hashers: DefaultHashBuilder,
}

impl SymbolListBuilder {
    /// The number of a text, a new one when it is the first of its kind. `None` when the list is full (4 GiB).
    pub fn intern(&mut self, text: &str) -> Option<u32> {
        let (list, hashers) = (&mut self.list, &self.hashers);
        let hash = hashers.hash_one(text);
        if let Some(known) = self.numbers.find(hash, |n| list.get(*n) == text) {
            return Some(*known);
        }
        let symbol = list.push(text)?;
        self.numbers
            .insert_unique(hash, symbol, |n| hashers.hash_one(list.get(*n)));
        Some(symbol)
    }

    /// The list as it is now.
    pub fn list(&self) -> &SymbolList {
        &self.list
    }

    /// The list for who must share it. Copies nothing, if nobody keeps it beyond what this gives.
    pub fn share(&mut self) -> SharedSymbols<'_> {
        SharedSymbols {
            shared: Arc::new(std::mem::take(&mut self.list)),
            list: &mut self.list,
        }
    }

    /// Bytes of memory.
    pub fn size_bytes(&self) -> usize {
        self.list.size_bytes() + self.numbers.capacity() * 8
    }

    /// The list.
    pub fn finish(self) -> SymbolList {
        self.list
    }
}

/// The list of a builder, shared for a while; the builder has it back when this is dropped.
#[derive(Debug)]
pub struct SharedSymbols<'a> {
    list: &'a mut SymbolList,
    shared: Arc<SymbolList>,
}

impl SharedSymbols<'_> {
    /// The list.
    pub fn list(&self) -> &Arc<SymbolList> {
        &self.shared
    }
}

impl Drop for SharedSymbols<'_> {
    fn drop(&mut self) {
        let shared = std::mem::take(&mut self.shared);
        *self.list = Arc::try_unwrap(shared).unwrap_or_else(|kept| SymbolList::clone(&kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_numbers_in_order_of_first_use() {
        let mut builder = SymbolListBuilder::default();
        let numbers: Vec<_> = ["a", "bc", "a", "", "bc"]
            .into_iter()
            .map(|t| builder.intern(t).unwrap())
            .collect();
        assert_eq!(numbers, [0, 1, 0, 2, 1]);
        let shared = builder.share();
        let kept = Arc::clone(shared.list());
        drop(shared);
        assert_eq!((kept.len(), builder.intern("bc")), (3, Some(1)));
        let list = builder.finish();
        assert_eq!(list.iter().collect::<Vec<_>>(), ["a", "bc", ""]);
        assert_eq!((list.get(1), list.get(9)), ("bc", ""));
        assert_eq!((list.find("bc"), list.find("x")), (Some(1), None));
    }

    #[test]
    fn what_is_no_utf8_is_replaced() {
        let list = SymbolList::from_texts([&b"a\xff"[..], b"b"]);
        assert_eq!(list.iter().collect::<Vec<_>>(), ["a\u{fffd}", "b"]);
    }
}
