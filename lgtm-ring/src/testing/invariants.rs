//! What must hold of rings, as functions that a simulation asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::instance::{InstanceState, RingDesc};
use crate::ring::{LookupBuffer, Operation, ReplicationSet, Ring};
use crate::token::Token;

/// An invariant that does not hold, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// Every key has replicas enough for `operation`. Asks for both sides of every token, which is every key there is.
pub fn every_key_has_an_owner(
    ring: &Ring,
    operation: Operation,
    now_s: i64,
) -> Result<(), Violation> {
    let mut buffer = LookupBuffer::default();
    let tokens = ring.instances().flat_map(|i| i.tokens.iter().copied());
    let keys = tokens.flat_map(|t| [t, Token(t.0.wrapping_sub(1))]);
    for key in keys.chain([Token(0), Token(u32::MAX)]) {
        if let Err(error) = ring.lookup(key, operation, now_s, &mut buffer) {
            return Err(Violation(format!("key {key} has no owner: {error}")));
        }
    }
    Ok(())
}

/// No token is held by two instances.
pub fn no_token_has_two_owners(ring: &RingDesc) -> Result<(), Violation> {
    let mut owners: HashMap<Token, &str> = HashMap::new();
    for instance in ring.iter().filter(|i| i.state != InstanceState::Left) {
        for &token in instance.tokens.iter() {
            if let Some(other) = owners.insert(token, &instance.id) {
                return Err(Violation(format!(
                    "token {token} has two owners, {other} and {}",
                    instance.id
                )));
            }
        }
    }
    Ok(())
}

/// Replicas hold the same records. Names the first two that differ.
pub fn replicas_agree<'a>(
    replicas: impl IntoIterator<Item = (&'a str, &'a RingDesc)>,
) -> Result<(), Violation> {
    let mut replicas = replicas.into_iter();
    let Some((first, expected)) = replicas.next() else {
        return Ok(());
    };
    for (name, replica) in replicas {
        if replica == expected {
            continue;
        }
        let ids: BTreeSet<&str> = [expected, replica]
            .iter()
            .flat_map(|r| r.iter().map(|i| i.id.as_str()))
            .collect();
        let differs = ids.iter().find(|id| expected.get(id) != replica.get(id));
        let id = differs.copied().unwrap_or_default();
        return Err(Violation(format!(
            "{first} and {name} differ in {id}: {:?} and {:?}",
            expected.get(id),
            replica.get(id)
        )));
    }
    Ok(())
}

/// None of `gone` is in the ring, but those who live.
pub fn the_forgotten_stay_away(
    ring: &RingDesc,
    gone: &BTreeSet<String>,
    alive: &BTreeSet<String>,
) -> Result<(), Violation> {
    let is_back = |id: &&String| ring.get(id).is_some_and(|i| i.state != InstanceState::Left);
    match gone.difference(alive).find(is_back) {
        None => Ok(()),
        Some(id) => Err(Violation(format!("{id} was forgotten and is back"))),
    }
}

/// Whatever replicas acknowledged a write, and whatever replicas a read gets its answers from while no more fail than each tolerates: at
/// least one did both.
///
/// Both sets are of the same key, or the read's is a whole-ring set, by instances or by zones.
pub fn quorums_meet(write: &ReplicationSet, read: &ReplicationSet) -> Result<(), Violation> {
    let readers: BTreeMap<&str, &str> = read
        .instances
        .iter()
        .map(|i| (i.id.as_str(), i.zone.as_str()))
        .collect();
    // The worst case: first those acknowledge who are not read at all, then zone by zone, fullest first.
    let mut by_zone: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unread = 0;
    for instance in &write.instances {
        match readers.get(instance.id.as_str()) {
            Some(zone) => *by_zone.entry(zone).or_default() += 1,
            None => unread += 1,
        }
    }
    let mut acknowledged = write.min_success().saturating_sub(unread);
    let (must_fail, tolerated) = if read.zone_awareness_enabled {
        let mut sizes: Vec<usize> = by_zone.into_values().collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let mut zones = 0;
        for size in sizes {
            if acknowledged == 0 {
                break;
            }
            acknowledged = acknowledged.saturating_sub(size);
            zones += 1;
        }
        (zones, read.max_unavailable_zones)
    } else {
        (acknowledged, read.max_errors)
    };
    if must_fail > tolerated {
        return Ok(());
    }
    Err(Violation(format!(
        "a write acknowledged by {} of {} is missed by a read of {} that tolerates {tolerated}: {must_fail} failures hide it",
        write.min_success(),
        write.instances.len(),
        read.instances.len(),
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::instance::Instance;
    use crate::ring::RingSettings;

    const NOW_S: i64 = 1_800_000_000;

    fn instance(id: &str, state: InstanceState, tokens: &[u32]) -> Instance {
        Instance {
            id: id.into(),
            state,
            zone: id[..1].to_owned(),
            timestamp_s: NOW_S,
            tokens: tokens.iter().map(|&t| Token(t)).collect(),
            ..Instance::default()
        }
    }

    fn ring(instances: &[(&str, InstanceState, &[u32])]) -> RingDesc {
        let instances = instances.iter().map(|(id, s, t)| instance(id, *s, t));
        instances.collect()
    }

    const ACTIVE: InstanceState = InstanceState::Active;

    #[test]
    fn a_key_without_an_owner_is_named() {
        let settings = RingSettings {
            replication_factor: 1,
            ..RingSettings::default()
        };
        let desc = ring(&[("a", ACTIVE, &[10]), ("b", ACTIVE, &[20])]);
        let view = Ring::new(settings, &desc);
        every_key_has_an_owner(&view, Operation::WRITE, NOW_S).unwrap();
        assert!(every_key_has_an_owner(&view, Operation::WRITE, NOW_S + 100).is_err());
        let mut dead = desc.clone();
        dead.get_mut("b").unwrap().timestamp_s = 0;
        let lost = every_key_has_an_owner(&view.updated(&dead), Operation::WRITE, NOW_S);
        assert!(lost.unwrap_err().0.contains("key 10 "));
    }

    #[test]
    fn a_token_with_two_owners_is_named() {
        let left = InstanceState::Left;
        let desc = ring(&[
            ("a", ACTIVE, &[10, 20]),
            ("b", left, &[20]),
            ("c", ACTIVE, &[5]),
        ]);
        no_token_has_two_owners(&desc).unwrap();
        let desc = ring(&[("a", ACTIVE, &[10, 20]), ("b", ACTIVE, &[20])]);
        assert!(
            no_token_has_two_owners(&desc)
                .unwrap_err()
                .0
                .contains("token 20")
        );
    }

    #[test]
    fn replicas_that_differ_are_named() {
        let (a, b) = (ring(&[("a", ACTIVE, &[1])]), ring(&[("a", ACTIVE, &[2])]));
        replicas_agree([("x", &a), ("y", &a.clone())]).unwrap();
        let violation = replicas_agree([("x", &a), ("y", &b)]).unwrap_err();
        assert!(violation.0.starts_with("x and y differ in a"));
    }

    #[test]
    fn a_ghost_is_named() {
        let desc = ring(&[("a", ACTIVE, &[1]), ("b", InstanceState::Left, &[])]);
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        the_forgotten_stay_away(&desc, &set(&["b", "c"]), &set(&[])).unwrap();
        the_forgotten_stay_away(&desc, &set(&["a"]), &set(&["a"])).unwrap();
        assert!(the_forgotten_stay_away(&desc, &set(&["a"]), &set(&[])).is_err());
    }

    fn set(ids: &[&str], max_errors: usize, zones: usize) -> ReplicationSet {
        let instances = ids.iter().map(|id| Arc::new(instance(id, ACTIVE, &[])));
        ReplicationSet {
            instances: instances.collect(),
            max_errors,
            max_unavailable_zones: zones,
            zone_awareness_enabled: zones > 0,
        }
    }

    #[test]
    fn quorums_that_may_miss_each_other_are_told_from_those_that_meet() {
        let three = set(&["a1", "b1", "c1"], 1, 0);
        quorums_meet(&three, &three).unwrap();
        quorums_meet(&three, &set(&["a1", "a2", "b1", "b2", "c1", "c2"], 0, 1)).unwrap();
        // A read of one of three.
        assert!(quorums_meet(&three, &set(&["a1", "b1", "c1"], 2, 0)).is_err());
        // A write that one acknowledges.
        assert!(quorums_meet(&set(&["a1", "b1", "c1"], 2, 0), &three).is_err());
        // Two of three were replaced between write and read.
        assert!(quorums_meet(&three, &set(&["a1", "d1", "e1"], 1, 0)).is_err());
        // Two copies in one zone, and that zone may fail.
        let crowded = set(&["a1", "a2", "b1"], 1, 0);
        assert!(quorums_meet(&crowded, &set(&["a1", "a2", "b1", "c1"], 0, 1)).is_err());
    }
}
