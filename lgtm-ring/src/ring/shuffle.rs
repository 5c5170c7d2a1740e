//! A tenant's part of the ring.
//!
//! Each tenant gets a pseudo-random choice of instances that changes by at most one when one instance comes or goes. Readers look back: they
//! also ask those who were in the shard during a period before now.

use std::time::Duration;

use crate::instance::Instance;
use crate::prng::GoRand;
use crate::ring::Ring;
use crate::ring::circle::Circle;
use crate::ring::shard_cache::{ShardRef, Validity};
use crate::ring::topology::Topology;
use crate::token::Token;

use std::sync::Arc;

/// The seed of a tenant's choice in a zone: the first half of an MD5 of the two.
pub fn shuffle_seed(identifier: &str, zone: &str) -> i64 {
    let mut hash = md5::Context::new();
    hash.consume(identifier.as_bytes());
    if !zone.is_empty() {
        hash.consume([0]);
        hash.consume(zone.as_bytes());
    }
    let digest = hash.finalize().0;
    let (half, _) = digest.split_at(8);
    half.iter().fold(0, |seed, &b| seed << 8 | i64::from(b))
}

/// Instances of each zone in a shard of `size`: the size is shared evenly and rounded up. `zones` of 0 counts as 1.
pub fn shuffle_instances_per_zone(size: usize, zones: usize) -> usize {
    size.div_ceil(zones.max(1))
}

/// The beginning of what readers look back on.
#[derive(Debug, Clone, Copy)]
struct Lookback {
    since_s: i64,
}

impl Ring {
    /// The shard of `identifier` (a tenant) for writing: `size` instances, rounded up to a multiple of the zones when zone aware. 0 is
    /// everybody. Read-only instances are left out.
    ///
    /// Cached; the first call for a tenant costs the seeding of a generator per zone and a sort of the shard's tokens.
    #[must_use]
    pub fn shuffle_shard(&self, identifier: &str, size: usize) -> Ring {
        let key = ShardRef {
            identifier,
            size,
            lookback_s: None,
        };
        if let Some(topology) = self.cached(&key, 0) {
            return self.with_topology(topology);
        }
        let shard = self.make_shard(identifier, size, None);
        self.remember(&key, &shard, Validity::ALWAYS);
        shard
    }

    /// The shard of `identifier` for reading: also those who joined, or became read-only, within `lookback` before `now_s`, and who would
    /// be in the shard without them. Never write to it.
    #[must_use]
    pub fn shuffle_shard_with_lookback(
        &self,
        identifier: &str,
        size: usize,
        lookback: Duration,
        now_s: i64,
    ) -> Ring {
        let lookback_s = i64::try_from(lookback.as_secs()).unwrap_or(i64::MAX);
        if lookback_s == 0 {
            return self.shuffle_shard(identifier, size);
        }
        let since_s = now_s.saturating_sub(lookback_s);
        let oldest = self.topology.oldest_registered_s;
        if oldest > 0 && oldest >= since_s {
            return self.clone();
        }
        let key = ShardRef {
            identifier,
            size,
            lookback_s: Some(lookback_s),
        };
        if let Some(topology) = self.cached(&key, since_s) {
            return self.with_topology(topology);
        }
        let shard = self.make_shard(identifier, size, Some(Lookback { since_s }));
        let times = shard
            .instances()
            .flat_map(|i| [i.registered_timestamp_s, i.read_only_updated_timestamp_s]);
        let validity = Validity {
            from_s: since_s,
            to_s: times.filter(|&t| t >= since_s).min().unwrap_or(i64::MAX),
        };
        self.remember(&key, &shard, validity);
        shard
    }

    fn make_shard(&self, identifier: &str, size: usize, lookback: Option<Lookback>) -> Ring {
        if size == 0 && !self.topology.has_read_only {
            return self.clone();
        }
        let mut chosen = Chosen::new(self, lookback);
        if size == 0 {
            chosen.take_all(self.topology.members.iter().copied());
        } else if self.settings.zone_awareness_enabled {
            self.choose_by_zones(identifier, size, &mut chosen);
        } else {
            chosen.pick(&self.topology.circle, shuffle_seed(identifier, ""), size);
        }
        let members = chosen.into_members();
        if members.len() == self.len() {
            return self.clone();
        }
        let zones = Arc::clone(&self.topology.zones);
        self.with_topology(Arc::new(Topology::of(&self.records, zones, members)))
    }

    fn choose_by_zones(&self, identifier: &str, size: usize, chosen: &mut Chosen<'_>) {
        let topology = &*self.topology;
        let per_zone = shuffle_instances_per_zone(size, topology.zone_count());
        for slot in topology.zone_slots() {
            if per_zone >= topology.zone_sizes[slot as usize] as usize {
                let in_zone = |m: &u32| topology.zones.slot_of[*m as usize] == slot;
                chosen.take_all(topology.members.iter().copied().filter(in_zone));
                continue;
            }
            let seed = shuffle_seed(identifier, &topology.zones.names[slot as usize]);
            chosen.pick(topology.zone_circle(slot), seed, per_zone);
        }
    }

    fn with_topology(&self, topology: Arc<Topology>) -> Ring {
        Ring {
            topology,
            settings: Arc::clone(&self.settings),
            records: Arc::clone(&self.records),
            shards: None,
        }
    }

    fn cached(&self, key: &ShardRef<'_>, since_s: i64) -> Option<Arc<Topology>> {
        self.shards.as_ref()?.get(key, since_s)
    }

    fn remember(&self, key: &ShardRef<'_>, shard: &Ring, validity: Validity) {
        // The whole ring as a shard needs no memory of its own.
        if let Some(cache) = &self.shards
            && !shard.shares_tables_with(self)
        {
            cache.put(key, &shard.topology, validity);
        }
    }
}

/// A shard being chosen.
struct Chosen<'a> {
    ring: &'a Ring,
    lookback: Option<Lookback>,
    is_in: Vec<bool>,
}

impl<'a> Chosen<'a> {
    fn new(ring: &'a Ring, lookback: Option<Lookback>) -> Self {
        Self {
            ring,
            lookback,
            is_in: vec![false; ring.records.instances.len()],
        }
    }

    fn take_all(&mut self, members: impl Iterator<Item = u32>) {
        for member in members {
            self.is_in[member as usize] = self.may_be_in(self.ring.record(member));
        }
    }

    /// Makes `picks` picks. Each starts at a random place and goes on until it finds an instance that counts.
    fn pick(&mut self, circle: &Circle, seed: i64, picks: usize) {
        let mut numbers = GoRand::from_seed(seed);
        for _ in 0..picks {
            let start = circle.position(Token(numbers.next_u32()));
            let mut ended = false;
            for owner in circle.owners_from(start) {
                let instance = self.ring.record(owner);
                if self.is_in[owner as usize] || !self.may_be_in(instance) {
                    continue;
                }
                self.is_in[owner as usize] = true;
                if !self.comes_in_addition(instance) {
                    ended = true;
                    break;
                }
            }
            if !ended {
                // A whole round found nobody: nor will the next.
                return;
            }
        }
    }

    fn may_be_in(&self, instance: &Instance) -> bool {
        let changed_s = instance.read_only_updated_timestamp_s;
        match self.lookback {
            _ if !instance.read_only => true,
            None => false,
            Some(Lookback { since_s }) => changed_s <= 0 || changed_s >= since_s,
        }
    }

    /// Whether somebody else was in the shard instead during the lookback, so that the pick goes on.
    fn comes_in_addition(&self, instance: &Instance) -> bool {
        self.lookback.is_some_and(|Lookback { since_s }| {
            instance.registered_timestamp_s >= since_s
                || instance.read_only
                || instance.read_only_updated_timestamp_s >= since_s
        })
    }

    fn into_members(self) -> Vec<u32> {
        let flags = self.is_in.into_iter().zip(0u32..);
        flags.filter_map(|(is_in, m)| is_in.then_some(m)).collect()
    }
}
