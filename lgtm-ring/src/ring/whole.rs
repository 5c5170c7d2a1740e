//! Sets of everybody, for reads that ask all.

use std::collections::BTreeSet;

use lgtm_core::{Error, Result};

use crate::ring::lookup::empty_ring;
use crate::ring::{Operation, ReplicationSet, Ring};

impl Ring {
    /// The instances to ask when all data is wanted, and how many of them, or of their zones, may fail.
    ///
    /// Zone aware, a zone with one unhealthy instance counts as lost and is left out whole: the other zones have its data. So does a zone that is missing
    /// from the ring, because it was removed or is excluded: with fewer zones than replicas, quorums wrote to some that are not asked. dskit does not
    /// count it, and such a read may miss what was acknowledged. (Of more zones than replicas nobody can see that one is missing: empty it first.) Instances
    /// without a zone may hold several copies of a key, so none of them may fail.
    ///
    /// # Errors
    /// `Unavailable` for an empty ring, or when so many are unhealthy or missing that data may be.
    pub fn replication_set(&self, operation: Operation, now_s: i64) -> Result<ReplicationSet> {
        if self.topology.circle.is_empty() {
            return Err(empty_ring());
        }
        if self.settings.zone_awareness_enabled {
            self.set_by_zones(operation, now_s)
        } else {
            self.set_by_instances(operation, now_s)
        }
    }

    fn set_by_instances(&self, operation: Operation, now_s: i64) -> Result<ReplicationSet> {
        let replicas = self.settings.replication_factor;
        let required = self.len().max(replicas) - replicas / 2;
        let healthy = self.healthy(operation, now_s);
        let instances: Vec<_> = healthy.map(|m| self.record(m).clone()).collect();
        let max_errors = instances.len().checked_sub(required);
        Ok(ReplicationSet {
            max_errors: max_errors.ok_or_else(too_many_unhealthy)?,
            instances,
            max_unavailable_zones: 0,
            zone_awareness_enabled: false,
        })
    }

    fn set_by_zones(&self, operation: Operation, now_s: i64) -> Result<ReplicationSet> {
        let zone_of = |member: u32| self.topology.zones.slot_of[member as usize];
        let members = || self.topology.members.iter().copied();
        let oldest_s = self.oldest_fresh_s(now_s);
        let lost: BTreeSet<u32> = members()
            .filter(|&m| !self.is_healthy(m, operation, oldest_s))
            .map(zone_of)
            .collect();
        let (zones, replicas) = (self.topology.zone_count(), self.settings.replication_factor);
        let is_unnamed = |slot: &u32| self.topology.zones.is_unnamed(*slot);
        let has_unnamed = self.topology.zone_slots().any(|slot| is_unnamed(&slot));
        // Instances without a zone stand in for any that are missing.
        let missing = if has_unnamed {
            0
        } else {
            replicas.saturating_sub(zones)
        };
        let tolerated = (replicas / 2).checked_sub(missing).ok_or_else(|| {
            let needed = replicas - replicas / 2;
            Error::Unavailable(format!(
                "data may be missing: {zones} zones are in the ring, at least {needed} are needed with replication factor {replicas}"
            ))
        })?;
        let left = tolerated.checked_sub(lost.len());
        let left = left.filter(|_| !lost.iter().any(is_unnamed));
        let kept = members().filter(|&m| !lost.contains(&zone_of(m)));
        let left = left.ok_or_else(too_many_unhealthy)?;
        Ok(ReplicationSet {
            max_unavailable_zones: if has_unnamed { 0 } else { left },
            instances: kept.map(|m| self.record(m).clone()).collect(),
            max_errors: 0,
            zone_awareness_enabled: true,
        })
    }

    /// Every healthy instance, by id; all of them must answer.
    ///
    /// # Errors
    /// `Unavailable` for a ring without instances.
    pub fn all_healthy(&self, operation: Operation, now_s: i64) -> Result<ReplicationSet> {
        if self.is_empty() {
            return Err(empty_ring());
        }
        let healthy = self.healthy(operation, now_s);
        Ok(ReplicationSet {
            instances: healthy.map(|m| self.record(m).clone()).collect(),
            max_errors: 0,
            max_unavailable_zones: 0,
            zone_awareness_enabled: false,
        })
    }

    fn healthy(&self, operation: Operation, now_s: i64) -> impl Iterator<Item = u32> + '_ {
        let oldest_s = self.oldest_fresh_s(now_s);
        let members = self.topology.members.iter().copied();
        members.filter(move |&m| self.is_healthy(m, operation, oldest_s))
    }
}

fn too_many_unhealthy() -> Error {
    Error::Unavailable("too many unhealthy instances in the ring".into())
}
