//! A set of hashes that is filled and emptied again and again.

/// Hashes, each once, in the order in which they came: a table with open addressing, whose memory is kept when it is emptied. The hashes must be
/// well mixed, and none of them 0.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    /// 0: free. The first `size` of them are used, the others are free.
    slots: Vec<u64>,
    /// A power of two, or 0.
    size: usize,
    keys: Vec<u64>,
}

const FIRST_SLOTS: usize = 256;
/// A table that is so many times larger than what was in it is used in part from then on.
const ROOMY: usize = 8;

impl KeySet {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Empties it. A set of few after one of many soon costs no more than few.
    pub(super) fn clear(&mut self) {
        self.slots[..self.size].fill(0);
        let enough = slots_for(self.keys.len());
        if self.size > enough * ROOMY {
            self.size = enough;
        }
        self.keys.clear();
    }

    /// Bytes of memory.
    pub(super) fn size_bytes(&self) -> usize {
        (self.slots.capacity() + self.keys.capacity()) * size_of::<u64>()
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        let size = slots_for(self.keys.len() + more);
        if size > self.size {
            self.grow(size);
        }
        self.keys.reserve(more);
    }

    /// Whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, key: u64) -> bool {
        if self.keys.len() * 2 >= self.size {
            self.grow((self.size * 2).max(FIRST_SLOTS));
        }
        if put(&mut self.slots[..self.size], key) {
            self.keys.push(key);
            return true;
        }
        false
    }

    pub(super) fn has(&self, key: u64) -> bool {
        let slots = &self.slots[..self.size];
        let mask = slots.len().wrapping_sub(1);
        let mut at = key as usize & mask;
        while let Some(known) = slots.get(at).filter(|k| **k != 0) {
            if *known == key {
                return true;
            }
            at = (at + 1) & mask;
        }
        false
    }

    /// All of them, in the order in which they came.
    pub(super) fn keys(&self) -> &[u64] {
        &self.keys
    }

    #[cold]
    fn grow(&mut self, size: usize) {
        self.slots[..self.size].fill(0);
        if self.slots.len() < size {
            // All are free: nothing needs to be kept.
            self.slots = vec![0; size];
        }
        self.size = size;
        let slots = &mut self.slots[..size];
        for key in &self.keys {
            put(slots, *key);
        }
    }
}

fn slots_for(keys: usize) -> usize {
    (keys * 2 + 1).next_power_of_two().max(FIRST_SLOTS)
}

/// Puts a key into a table with a free slot; false if it was there.
#[inline]
fn put(slots: &mut [u64], key: u64) -> bool {
    let mask = slots.len() - 1;
    let mut at = key as usize & mask;
    loop {
        match slots[at] {
            0 => {
                slots[at] = key;
                return true;
            }
            known if known == key => return false,
            _ => at = (at + 1) & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_is_there_once() {
        let mut set = KeySet::default();
        let mut known = BTreeSet::new();
        for (round, count) in [700, 50_000, 3, 5, 900].into_iter().enumerate() {
            set.clear();
            known.clear();
            if round % 2 == 1 {
                set.reserve(count as usize / 2);
            }
            for n in 0..70_000u64 {
                let key = lgtm_core::codec::ribbon::mixed(n % count + round as u64 + 1);
                assert_eq!(set.insert(key), known.insert(key));
            }
            assert_eq!(set.len(), known.len());
            assert_eq!(set.keys().iter().copied().collect::<BTreeSet<_>>(), known);
            assert!(known.iter().all(|k| set.has(*k)) && !set.has(1) && !set.has(u64::MAX));
        }
    }
}
