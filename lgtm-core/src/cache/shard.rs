//! One shard of the in-memory cache: a table, and the order in which values leave.
//!
//! The order is S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023). New values enter a small queue; those asked
//! for again there move to the main queue, the others leave and only their hash is remembered, so that a second try enters the main
//! queue at once. One scan over cold data thus cannot flush what is hot, and a hit moves nothing.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashTable;

use crate::cache::CacheStats;

/// Bytes that an entry costs beside key and value: its slot and a spare one (vectors double), table, allocator, remembered hash.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 256;

/// The small queue's part of the shard, as in the paper.
const SMALL_PERCENT: usize = 10;

/// Hits that are counted; more would only delay leaving.
const MAX_HEAT: u8 = 3;

/// No slot.
const NIL: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Shard {
    max_bytes: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots by the hash of their key.
    table: HashTable<u32>,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    pub(super) stats: CacheStats,
}

#[derive(Debug, Default)]
struct Slot {
    key: Box<str>,
    value: Bytes,
    hash: u64,
    /// On the monotonic clock.
    expires: Option<Duration>,
    older: u32,
    newer: u32,
    heat: u8,
    in_main: bool,
}

impl Slot {
    fn cost(&self) -> usize {
        cost(&self.key, &self.value)
    }

    fn is_expired(&self, now: Duration) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

pub(super) fn cost(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD_BYTES
}

#[derive(Debug)]
struct Queue {
    oldest: u32,
    newest: u32,
    bytes: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            oldest: NIL,
            newest: NIL,
            bytes: 0,
        }
    }
}

impl Shard {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            slots: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            small: Queue::default(),
            main: Queue::default(),
            ghosts: Ghosts::default(),
            stats: CacheStats::default(),
        }
    }

    pub(super) fn get(&mut self, key: &str, hash: u64, now: Duration) -> Option<Bytes> {
        self.stats.requests += 1;
        let at = self.find(key, hash)?;
        let slot = &mut self.slots[at as usize];
        if slot.is_expired(now) {
            self.remove(at);
            self.stats.expired += 1;
            return None;
        }
        slot.heat = (slot.heat + 1).min(MAX_HEAT);
        self.stats.hits += 1;
        Some(slot.value.clone())
    }

    pub(super) fn set(
        &mut self,
        key: &str,
        value: Bytes,
        hash: u64,
        expires: Option<Duration>,
        now: Duration,
    ) {
        let old = self.find(key, hash);
        // Replacing keeps the standing of the key.
        let (mut in_main, mut heat) = (false, 0);
        if let Some(old) = old {
            let slot = &self.slots[old as usize];
            (in_main, heat) = (slot.in_main, slot.heat);
            self.remove(old);
        }
        let cost = cost(key, &value);
        if cost > self.max_bytes {
            self.stats.skipped += 1;
            return;
        }
        in_main |= self.ghosts.take(hash);
        while self.bytes() + cost > self.max_bytes {
            self.evict_one(now);
        }
        let slot = Slot {
            key: key.into(),
            value,
            hash,
            expires,
            older: NIL,
            newer: NIL,
            heat,
            in_main,
        };
        let at = self.place(slot);
        self.push(at);
        let slots = &self.slots;
        self.table
            .insert_unique(hash, at, |&at| slots[at as usize].hash);
        self.stats.stores += 1;
    }

    pub(super) fn delete(&mut self, key: &str, hash: u64) {
        if let Some(at) = self.find(key, hash) {
            self.remove(at);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.small.bytes + self.main.bytes
    }

    pub(super) fn items(&self) -> usize {
        self.table.len()
    }

    fn find(&self, key: &str, hash: u64) -> Option<u32> {
        let slots = &self.slots;
        self.table
            .find(hash, |&at| &*slots[at as usize].key == key)
            .copied()
    }

    /// Drops one value, or brings the queues nearer to that: a value moves at most once out of the small queue and as often as it
    /// has heat round the main one.
    fn evict_one(&mut self, now: Duration) {
        let small_is_full = self.small.bytes > self.max_bytes / 100 * SMALL_PERCENT;
        let from_small = self.small.oldest != NIL && (small_is_full || self.main.oldest == NIL);
        let at = if from_small {
            self.small.oldest
        } else {
            self.main.oldest
        };
        let slot = &mut self.slots[at as usize];
        if slot.is_expired(now) {
            self.remove(at);
            self.stats.expired += 1;
        } else if from_small && slot.heat > 1 {
            self.unlink(at);
            let slot = &mut self.slots[at as usize];
            (slot.heat, slot.in_main) = (0, true);
            self.push(at);
        } else if !from_small && slot.heat > 0 {
            self.unlink(at);
            self.slots[at as usize].heat -= 1;
            self.push(at);
        } else {
            let hash = slot.hash;
            self.remove(at);
            if from_small {
                self.ghosts.add(hash, self.table.len());
            }
            self.stats.evicted += 1;
        }
    }

    fn place(&mut self, slot: Slot) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                // Each slot costs more than 256 bytes of the bound, which is far from 2^32 of them.
                (self.slots.len() - 1) as u32
            }
        }
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        let slot = std::mem::take(&mut self.slots[at as usize]);
        if let Ok(entry) = self.table.find_entry(slot.hash, |&other| other == at) {
            entry.remove();
        }
        self.free.push(at);
    }

    /// Puts a slot at the new end of its queue.
    fn push(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        let queue = if slot.in_main {
            &mut self.main
        } else {
            &mut self.small
        };
        (slot.older, slot.newer) = (queue.newest, NIL);
        queue.bytes += slot.cost();
        let before = std::mem::replace(&mut queue.newest, at);
        match before {
            NIL => queue.oldest = at,
            before => self.slots[before as usize].newer = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let slot = &self.slots[at as usize];
        let (older, newer, cost) = (slot.older, slot.newer, slot.cost());
        let queue = if slot.in_main {
            &mut self.main
        } else {
            &mut self.small
        };
        queue.bytes -= cost;
        match older {
            NIL => queue.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NIL => queue.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }
}

/// Hashes of keys that left the small queue lately: no more than there are values.
#[derive(Debug, Default)]
struct Ghosts {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Ghosts {
    fn add(&mut self, hash: u64, max: usize) {
        if self.known.insert(hash) {
            self.order.push_back(hash);
        }
        while self.order.len() > max.max(1) {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    /// Whether the hash was known. Its place in the order stays until its turn, and may then take a
    /// younger one of the same hash with it: a hint lost, nothing else.
    fn take(&mut self, hash: u64) -> bool {
        self.known.remove(&hash)
    }
}
