//! Bytes that many spans share, by number: resources and scopes.
//!
//! A resource is some hundred bytes and stands behind every span of a process. Here it is kept once for as long as somebody holds it.

use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes by number; each number is counted by those who hold it.
#[derive(Debug)]
pub(super) struct SharedBytes {
    seed: u64,
    by_bytes: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    size_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    bytes: Arc<[u8]>,
    hash: u64,
    holds: u32,
}

impl SharedBytes {
    /// Empty. The seed keeps senders from choosing bytes that fall together.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            by_bytes: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            size_bytes: 0,
        }
    }

    /// The number of `bytes`, held once more.
    pub(super) fn hold(&mut self, bytes: &[u8]) -> u32 {
        let hash = xxh3_64_with_seed(bytes, self.seed);
        let slots = &mut self.slots;
        let known = self.by_bytes.find(hash, |n| {
            let slot = &slots[*n as usize];
            slot.hash == hash && *slot.bytes == *bytes
        });
        if let Some(&number) = known {
            slots[number as usize].holds += 1;
            return number;
        }
        let slot = Slot {
            bytes: bytes.into(),
            hash,
            holds: 1,
        };
        let number = match self.free.pop() {
            Some(number) => {
                slots[number as usize] = slot;
                number
            }
            None => {
                slots.push(slot);
                slots.len() as u32 - 1
            }
        };
        let slots = &self.slots;
        (self.by_bytes).insert_unique(hash, number, |n| slots[*n as usize].hash);
        self.size_bytes += bytes.len();
        number
    }

    /// Gives up one hold; with the last one the bytes go.
    pub(super) fn release(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        slot.holds -= 1;
        if slot.holds > 0 {
            return;
        }
        self.size_bytes -= slot.bytes.len();
        let hash = slot.hash;
        slot.bytes = Arc::from([]);
        if let Ok(entry) = self.by_bytes.find_entry(hash, |n| *n == number) {
            entry.remove();
        }
        self.free.push(number);
    }

    /// What each number stands for now.
    pub(super) fn all(&self) -> Vec<Arc<[u8]>> {
        let slots = self.slots.iter();
        slots.map(|slot| Arc::clone(&slot.bytes)).collect()
    }

    /// Bytes held, each counted once.
    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_have_one_number_while_anybody_holds_it() {
        let mut shared = SharedBytes::new(7);
        let a = shared.hold(b"a");
        let b = shared.hold(b"bb");
        assert_eq!((shared.hold(b"a"), shared.size_bytes()), (a, 3));
        assert_ne!(a, b);
        shared.release(a);
        assert_eq!(&*shared.all()[a as usize], b"a");
        shared.release(a);
        assert_eq!(shared.size_bytes(), 2);
        // The number goes to the next one.
        assert_eq!(shared.hold(b"ccc"), a);
        assert_eq!(&*shared.all()[a as usize], b"ccc");
        assert_eq!(&*shared.all()[b as usize], b"bb");
    }
}
