//! A set of hashes that is filled and emptied again and again.

/// Hashes, each once: a table with open addressing, whose memory is kept when it is emptied. The hashes must be well mixed, and none of them 0.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    /// 0: free. Its length is a power of two, or nothing.
    slots: Vec<u64>,
    len: usize,
}

const FIRST_SLOTS: usize = 256;

impl KeySet {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        self.slots.fill(0);
        self.len = 0;
    }

    /// Whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, key: u64) -> bool {
        if self.len * 2 >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = key as usize & mask;
        loop {
            match self.slots[at] {
                0 => {
                    self.slots[at] = key;
                    self.len += 1;
                    return true;
                }
                known if known == key => return false,
                _ => at = (at + 1) & mask,
            }
        }
    }

    pub(super) fn has(&self, key: u64) -> bool {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = key as usize & mask;
        while let Some(known) = self.slots.get(at).filter(|k| **k != 0) {
            if *known == key {
                return true;
            }
            at = (at + 1) & mask;
        }
        false
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().copied().filter(|k| *k != 0)
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(FIRST_SLOTS);
        let before = std::mem::replace(&mut self.slots, vec![0; size]);
        self.len = 0;
        for key in before.into_iter().filter(|k| *k != 0) {
            self.insert(key);
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
        for round in 0..2 {
            set.clear();
            known.clear();
            for n in 0..2000u64 {
                let key = super::super::ribbon::mixed(n % 700 + round + 1);
                assert_eq!(set.insert(key), known.insert(key));
            }
            assert_eq!(set.len(), known.len());
            assert_eq!(set.iter().collect::<BTreeSet<_>>(), known);
            assert!(known.iter().all(|k| set.has(*k)) && !set.has(1) && !set.has(u64::MAX));
        }
    }
}
