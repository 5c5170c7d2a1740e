//! From the bytes of a label set to the id of its series.
//!
//! A series is known by the 128-bit XXH3 of its labels in one canonical spelling of the caller's, seeded per
//! head so that nobody outside can make two label sets collide. With 10^9 series the chance that any two share a hash is
//! about 10^-21; the labels themselves are therefore not compared again on the write path.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::postings::mem::SeriesId;

/// Series on a page. Smaller pages would cost a head of millions of series more vectors, larger ones one of few series more memory.
const PAGE_LEN: usize = 512;

/// Hashes of one page's series; zero where the slot is empty. As long as its highest slot in use, so that a head of ten
/// series does not pay for 512.
type HashPage = Vec<u128>;

/// Finds series by the hash of their labels.
#[derive(Debug)]
pub struct RefCache {
    seed: u64,
    ids: HashTable<SeriesId>,
    pages: Vec<HashPage>,
}

impl RefCache {
    /// An empty table whose hashes nobody can foretell who does not know `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ids: HashTable::new(),
            pages: Vec::new(),
        }
    }

    /// The key of a label set in canonical spelling. Never zero.
    #[inline]
    pub fn key(&self, canonical: &[u8]) -> u128 {
        xxh3_128_with_seed(canonical, self.seed).max(1)
    }

    #[inline]
    fn key_at(pages: &[HashPage], id: SeriesId) -> u128 {
        let id = id as usize;
        pages
            .get(id / PAGE_LEN)
            .and_then(|p| p.get(id % PAGE_LEN))
            .copied()
            .unwrap_or(0)
    }

    /// The series of a key. `guess` is looked at first: senders repeat their series in the same order, and ids follow the
    /// order of first appearance, so that the guess "one more than the last" spares the random access nearly always.
    #[inline]
    pub fn find(&self, key: u128, guess: SeriesId) -> Option<SeriesId> {
        if Self::key_at(&self.pages, guess) == key {
            return Some(guess);
        }
        let pages = &self.pages;
        self.ids
            .find(key as u64, |&id| Self::key_at(pages, id) == key)
            .copied()
    }

    /// Adds a series that is not in yet.
    pub fn insert(&mut self, key: u128, id: SeriesId) {
        let page = id as usize / PAGE_LEN;
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, Vec::new);
        }
        let (page, slot) = (&mut self.pages[page], id as usize % PAGE_LEN);
        if page.len() <= slot {
            page.resize(slot + 1, 0);
        }
        page[slot] = key;
        let pages = &self.pages;
        self.ids
            .insert_unique(key as u64, id, |&id| Self::key_at(pages, id) as u64);
    }

    /// Forgets a series.
    pub fn remove(&mut self, id: SeriesId) {
        let key = Self::key_at(&self.pages, id);
        if key == 0 {
            return;
        }
        if let Ok(entry) = self.ids.find_entry(key as u64, |&x| x == id) {
            entry.remove();
        }
        let page = &mut self.pages[id as usize / PAGE_LEN];
        page[id as usize % PAGE_LEN] = 0;
        if page.iter().all(|h| *h == 0) {
            *page = Vec::new();
        }
    }

    /// Heap bytes held, nearly.
    pub fn heap_bytes(&self) -> usize {
        self.ids.capacity() * 5
            + self
                .pages
                .iter()
                .map(|p| 24 + p.capacity() * 16)
                .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_with_and_without_a_good_guess_until_removed() {
        let mut c = RefCache::new(7);
        let keys: Vec<u128> = (0..2000u32).map(|i| c.key(&i.to_le_bytes())).collect();
        for (i, k) in keys.iter().enumerate() {
            assert_eq!(c.find(*k, i as u32), None);
            c.insert(*k, i as u32);
        }
        for (i, k) in keys.iter().enumerate() {
            assert_eq!(c.find(*k, i as u32), Some(i as u32));
            assert_eq!(c.find(*k, 0), Some(i as u32));
        }
        for id in 0..PAGE_LEN as u32 {
            c.remove(id);
        }
        assert!(c.pages[0].is_empty());
        assert_eq!(c.find(keys[3], 3), None);
        assert_eq!(c.find(keys[600], 3), Some(600));
    }
}
