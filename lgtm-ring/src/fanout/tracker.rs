//! Whom to ask, and when to stop.

use std::collections::BTreeMap;

use crate::prng::GoRand;
use crate::ring::ReplicationSet;

/// What an answer means for the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on waiting.
    Wait,
    /// Enough have answered.
    Enough,
    /// Too many have failed.
    Hopeless,
}

/// The state of one read of a replication set. Pure.
///
/// Instances form *groups*: each alone, or all of a zone. A group has answered when all its instances have, and has failed with the first that
/// fails. Groups beyond the quorum wait in reserve; each failure, and each tick of hedging, brings one in. A set that tolerates the failure of all its groups
/// still needs one of them: nobody's answer is no answer.
#[derive(Debug)]
pub struct QuorumTracker {
    groups: Vec<ReplicaGroup>,
    group_of: Vec<usize>,
    /// Groups not asked yet; the next is the last.
    reserve: Vec<usize>,
    needed: usize,
    max_failed: usize,
    succeeded: usize,
    failed: usize,
}

#[derive(Debug, Default)]
struct ReplicaGroup {
    instances: Vec<usize>,
    answered: usize,
    failed: bool,
}

impl QuorumTracker {
    /// A tracker for `set`. With `minimize`, groups beyond the quorum are kept in reserve: by chance, or those whose zones come late in
    /// `preferred_zones` or not at all.
    pub fn new(
        set: &ReplicationSet,
        minimize: bool,
        preferred_zones: &[String],
        seed: i64,
    ) -> Self {
        let by_zones = set.zone_awareness_enabled || set.max_unavailable_zones > 0;
        let mut group_of = vec![0; set.instances.len()];
        let mut groups: Vec<ReplicaGroup> = Vec::new();
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        for (n, instance) in set.instances.iter().enumerate() {
            let group = if by_zones {
                *zones.entry(&instance.zone).or_insert(groups.len())
            } else {
                groups.len()
            };
            if group == groups.len() {
                groups.push(ReplicaGroup::default());
            }
            groups[group].instances.push(n);
            group_of[n] = group;
        }
        let tolerated = if by_zones {
            set.max_unavailable_zones
        } else {
            set.max_errors
        };
        let needed = groups.len().saturating_sub(tolerated).max(1);
        let mut order: Vec<usize> = (0..groups.len()).collect();
        if minimize {
            shuffle(&mut order, seed);
            let zone = |g: &usize| &set.instances[groups[*g].instances[0]].zone;
            let rank = |g: &usize| preferred_zones.iter().position(|z| z == zone(g));
            order.sort_by_key(|g| rank(g).unwrap_or(usize::MAX));
        }
        order.reverse();
        Self {
            needed,
            max_failed: groups.len().saturating_sub(needed),
            reserve: order,
            groups,
            group_of,
            succeeded: 0,
            failed: 0,
        }
    }

    /// Instances to ask at once: those of the quorum when `minimize` is on, else all. They are no longer in reserve.
    pub fn begin(&mut self, minimize: bool) -> Vec<usize> {
        let groups = if minimize {
            self.needed
        } else {
            self.groups.len()
        };
        (0..groups).flat_map(|_| self.release()).collect()
    }

    /// One more group, from the reserve; empty when all were asked.
    pub fn release(&mut self) -> Vec<usize> {
        let group = self.reserve.pop();
        group.map_or_else(Vec::new, |g| self.groups[g].instances.clone())
    }

    /// Whether anybody is in reserve.
    pub fn has_reserve(&self) -> bool {
        !self.reserve.is_empty()
    }

    /// Notes that an instance has answered.
    pub fn answered(&mut self, instance: usize) -> Verdict {
        let group = &mut self.groups[self.group_of[instance]];
        group.answered += 1;
        if group.answered == group.instances.len() && !group.failed {
            self.succeeded += 1;
        }
        self.verdict()
    }

    /// Notes that an instance has failed. If it is the first of its group, one more group should be [released](Self::release), and the
    /// group's other instances need not be waited for.
    pub fn failed(&mut self, instance: usize) -> (Verdict, &[usize]) {
        let group = self.group_of[instance];
        let first = !std::mem::replace(&mut self.groups[group].failed, true);
        self.failed += usize::from(first);
        let verdict = self.verdict();
        let others: &[usize] = if first {
            &self.groups[group].instances
        } else {
            &[]
        };
        (verdict, others)
    }

    /// Whether an instance's answer is part of the result: all of its group have answered.
    pub fn counts(&self, instance: usize) -> bool {
        let group = &self.groups[self.group_of[instance]];
        !group.failed && group.answered == group.instances.len()
    }

    /// What is known now.
    pub fn verdict(&self) -> Verdict {
        if self.failed > self.max_failed {
            Verdict::Hopeless
        } else if self.succeeded >= self.needed {
            Verdict::Enough
        } else {
            Verdict::Wait
        }
    }
}

fn shuffle(order: &mut [usize], seed: i64) {
    let mut numbers = GoRand::from_seed(seed);
    for n in (1..order.len()).rev() {
        order.swap(n, numbers.below(n + 1));
    }
}
