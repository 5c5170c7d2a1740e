//! Who owns a key.

use std::sync::Arc;

use lgtm_core::{Error, Result};

use crate::instance::Instance;
use crate::ring::topology::Topology;
use crate::ring::{Operation, ReplicationSet, ReplicationStrategy, Ring};
use crate::token::Token;

/// Memory that lookups use again and again. One serves any ring; keep one per thread or per batch.
#[derive(Debug, Default)]
pub struct LookupBuffer {
    /// The records found, in the order of the walk; then the healthy ones of them.
    walked: Vec<u32>,
    unhealthy: Vec<u32>,
    /// The walk in which each record was last found.
    found_in: Vec<u64>,
    walk: u64,
    zones: Vec<ZoneProgress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ZoneProgress {
    counted: u32,
    examined: u32,
}

/// The replicas of one key, nearest first.
#[derive(Debug, Clone, Copy)]
pub struct Replicas<'r, 'b> {
    ring: &'r Ring,
    records: &'b [u32],
    max_errors: usize,
}

impl<'r, 'b> Replicas<'r, 'b> {
    /// The instances.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'r Arc<Instance>> + use<'r, 'b> {
        let ring = self.ring;
        self.records.iter().map(|&record| ring.record(record))
    }

    /// Numbers of the instances, stable for this ring, for tables beside it.
    pub fn places(&self) -> &'b [u32] {
        self.records
    }

    /// How many there are, never 0.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none, which does not happen.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many may fail.
    pub fn max_errors(&self) -> usize {
        self.max_errors
    }

    /// How many must answer.
    pub fn min_success(&self) -> usize {
        self.records.len() - self.max_errors
    }

    /// The same as a value of its own.
    pub fn to_set(&self) -> ReplicationSet {
        ReplicationSet {
            instances: self.iter().cloned().collect(),
            max_errors: self.max_errors,
            max_unavailable_zones: 0,
            zone_awareness_enabled: false,
        }
    }
}

impl Ring {
    /// The replicas of `key` that can serve `operation` now. Allocates nothing but on an error.
    ///
    /// An instance whose state extends the set is replaced by the next one; one that only missed heartbeats is left out and not
    /// replaced. Read-only instances are found like others: whoever writes looks in a shard first.
    ///
    /// # Errors
    /// `Unavailable` for an empty ring or too few healthy replicas.
    #[inline]
    pub fn lookup<'r, 'b>(
        &'r self,
        key: Token,
        operation: Operation,
        now_s: i64,
        buffer: &'b mut LookupBuffer,
    ) -> Result<Replicas<'r, 'b>> {
        self.search(
            key,
            operation,
            self.settings.replication_factor,
            now_s,
            buffer,
        )
    }

    /// As [`Ring::lookup`] for more replicas than the ring is set to.
    ///
    /// # Errors
    /// `InvalidInput` for a factor smaller than the ring's, with the quorum strategy (its reads and writes would no longer meet), or, zone
    /// aware, one that is no multiple of the zones.
    pub fn lookup_wider<'r, 'b>(
        &'r self,
        key: Token,
        operation: Operation,
        replication_factor: usize,
        now_s: i64,
        buffer: &'b mut LookupBuffer,
    ) -> Result<Replicas<'r, 'b>> {
        let usual = self.settings.replication_factor;
        let zones = self.topology.zone_count().max(1);
        let wrong = if replication_factor < usual {
            format!("is smaller than the ring's {usual}")
        } else if replication_factor == usual {
            return self.lookup(key, operation, now_s, buffer);
        } else if self.settings.strategy == ReplicationStrategy::Quorum {
            format!("is not the ring's {usual}, which the quorum strategy needs")
        } else if self.settings.zone_awareness_enabled && !replication_factor.is_multiple_of(zones)
        {
            format!("is no multiple of the {zones} zones")
        } else {
            return self.search(key, operation, replication_factor, now_s, buffer);
        };
        Err(Error::InvalidInput(format!(
            "replication factor {replication_factor} of a lookup {wrong}"
        )))
    }

    fn search<'r, 'b>(
        &'r self,
        key: Token,
        operation: Operation,
        replication_factor: usize,
        now_s: i64,
        buffer: &'b mut LookupBuffer,
    ) -> Result<Replicas<'r, 'b>> {
        let topology = &*self.topology;
        if topology.circle.is_empty() {
            return Err(empty_ring());
        }
        buffer.begin(self.records.instances.len());
        if self.settings.zone_awareness_enabled {
            let usual = self.settings.replication_factor.max(1);
            let per_zone = (replication_factor / usual).max(1);
            self.walk_zones(key, operation, replication_factor, per_zone as u32, buffer);
        } else {
            self.walk(key, operation, replication_factor, buffer);
        }
        let walked = buffer.walked.len();
        buffer.unhealthy.clear();
        let oldest_s = self.oldest_fresh_s(now_s);
        let (records, unhealthy) = (&mut buffer.walked, &mut buffer.unhealthy);
        records.retain(|&record| {
            let healthy = self.is_healthy(record, operation, oldest_s);
            if !healthy {
                unhealthy.push(record);
            }
            healthy
        });
        let max_errors = self.settings.strategy.max_errors(
            replication_factor,
            walked,
            records.len(),
            self.settings.zone_awareness_enabled,
            unhealthy.iter().map(|&r| self.record(r).addr.as_str()),
        )?;
        Ok(Replicas {
            ring: self,
            records,
            max_errors,
        })
    }

    /// The replicas of `key` as a value of its own, for those who look up seldom.
    ///
    /// # Errors
    /// As [`Ring::lookup`].
    pub fn get(&self, key: Token, operation: Operation, now_s: i64) -> Result<ReplicationSet> {
        let mut buffer = LookupBuffer::default();
        let replicas = self.lookup(key, operation, now_s, &mut buffer)?;
        Ok(replicas.to_set())
    }

    fn walk(&self, key: Token, operation: Operation, replicas: usize, buffer: &mut LookupBuffer) {
        let circle = &self.topology.circle;
        let all = self.topology.owners;
        let mut wanted = replicas;
        for owner in circle.owners_from(circle.position(key)) {
            if buffer.walked.len() >= wanted.min(all) {
                return;
            }
            if buffer.was_found(owner) {
                continue;
            }
            buffer.take(owner);
            if operation.extends(self.records.health[owner as usize].state) {
                wanted += 1;
            }
        }
    }

    /// As `walk`, with at most `per_zone` of a zone; a replacement comes from the zone of the one it replaces.
    fn walk_zones(
        &self,
        key: Token,
        operation: Operation,
        replicas: usize,
        per_zone: u32,
        buffer: &mut LookupBuffer,
    ) {
        let topology = &*self.topology;
        let all = topology.owners;
        buffer.zones.clear();
        buffer
            .zones
            .resize(topology.zone_sizes.len(), ZoneProgress::default());
        let mut open_zones = topology.zone_owners.iter().filter(|&&n| n > 0).count();
        let mut wanted = replicas;
        for owner in topology.circle.owners_from(topology.circle.position(key)) {
            if buffer.walked.len() >= wanted.min(all) || open_zones == 0 {
                return;
            }
            if buffer.was_found(owner) {
                continue;
            }
            let extends = operation.extends(self.records.health[owner as usize].state);
            let slot = topology.zones.slot_of[owner as usize];
            if !topology.zones.is_unnamed(slot) {
                let zone = &mut buffer.zones[slot as usize];
                if zone.counted >= per_zone {
                    continue;
                }
                zone.examined += 1;
                zone.counted += u32::from(!extends);
                open_zones -= usize::from(zone.is_done(topology, slot, per_zone));
            }
            buffer.take(owner);
            if extends {
                wanted += 1;
            }
        }
    }
}

impl ZoneProgress {
    /// Whether the zone has given what it can. Asked once after each step, so it is true once.
    fn is_done(self, topology: &Topology, slot: u32, per_zone: u32) -> bool {
        self.counted >= per_zone || self.examined >= topology.zone_owners[slot as usize]
    }
}

impl LookupBuffer {
    fn begin(&mut self, records: usize) {
        self.walked.clear();
        self.walk += 1;
        if self.found_in.len() < records {
            self.found_in.resize(records, 0);
        }
    }

    #[inline]
    fn was_found(&self, record: u32) -> bool {
        self.found_in[record as usize] == self.walk
    }

    #[inline]
    fn take(&mut self, record: u32) {
        self.found_in[record as usize] = self.walk;
        self.walked.push(record);
    }
}

pub(super) fn empty_ring() -> Error {
    Error::Unavailable("empty ring".into())
}
