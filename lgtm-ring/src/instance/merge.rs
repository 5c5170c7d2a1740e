//! How two copies of a ring become one.
//!
//! The rules are dskit's (format page `ring.md`, section 11.2): per instance the record with the greater heartbeat wins whole; of two with
//! the same heartbeat a tombstone wins. Ours goes further where a clock went back: the heartbeat is part of a [`Stamp`], which counts that. So the merge is
//! commutative, associative and idempotent as long as *an instance changes its stamp with every change of its record, and nobody else writes the
//! record except to remove it*. Two different live records with one stamp break that premise: whoever comes first then stays, until the next
//! heartbeat settles it.
//!
//! Tokens that two instances hold are given to one of them (`conflict.rs`); the loser's record shrinks without a new heartbeat, so copies may
//! differ in it until the loser notices and writes a new record.

use std::sync::Arc;

use crate::instance::conflict;
use crate::instance::{Instance, InstanceState, RingDesc, Stamp};
use crate::kv::MergeKind;
use crate::token::Token;

/// What [`RingDesc::remove_tombstones`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedTombstones {
    /// Tombstones still there.
    pub left: usize,
    /// Tombstones dropped.
    pub removed: usize,
}

impl RingDesc {
    /// Merges `incoming` into `self` and returns the records that changed, if any. `now_unix_s` is the time of tombstones made here.
    ///
    /// Costs a look at each incoming record; when tokens changed, a scan over all tokens too.
    pub fn merge(
        &mut self,
        incoming: &RingDesc,
        kind: MergeKind,
        now_unix_s: i64,
    ) -> Option<RingDesc> {
        let mut changed: Vec<String> = Vec::new();
        let mut new_tokens: Vec<String> = Vec::new();
        for (id, theirs) in &incoming.instances {
            let ours = self.instances.get(id);
            let tombstone =
                ours.filter(|ours| kind == MergeKind::Local && is_revived(theirs, ours));
            if tombstone.is_none() && !wins(theirs, ours.map(Arc::as_ref)) {
                continue;
            }
            let mut theirs = normalised(id, theirs);
            if let Some(tombstone) = tombstone {
                Arc::make_mut(&mut theirs).clock_epoch = tombstone.clock_epoch.saturating_add(1);
            }
            let before: &[Token] = ours.map_or(&[], |ours| &ours.tokens);
            if theirs.state != InstanceState::Left && *before != *theirs.tokens {
                new_tokens.push(id.clone());
            }
            changed.push(id.clone());
            self.instances.insert(id.clone(), theirs);
        }
        if kind == MergeKind::Local {
            changed.extend(self.bury_missing(incoming, now_unix_s));
        }
        if changed.is_empty() {
            return None;
        }
        conflict::resolve(&mut self.instances, &new_tokens);
        let records = changed.into_iter().filter_map(|id| {
            let record = self.instances.get(&id)?.clone();
            Some((id, record))
        });
        Some(RingDesc {
            instances: records.collect(),
        })
    }

    /// Whoever is here but not in `incoming` was removed by the author of `incoming`.
    fn bury_missing(&mut self, incoming: &RingDesc, now_unix_s: i64) -> Vec<String> {
        let mut buried = Vec::new();
        for (id, ours) in &mut self.instances {
            if ours.state == InstanceState::Left || incoming.instances.contains_key(id) {
                continue;
            }
            let ours = Arc::make_mut(ours);
            ours.state = InstanceState::Left;
            ours.tokens = Arc::default();
            // Not the old heartbeat: one that is still on its way would bring the instance back. Nor an earlier time, when its clock ran ahead: others
            // would ignore the tombstone, and nobody could ever remove the instance.
            ours.timestamp_s = now_unix_s.max(ours.timestamp_s);
            buried.push(id.clone());
        }
        buried
    }

    /// Drops tombstones whose time is before `limit_unix_s`; all of them for `None`.
    pub fn remove_tombstones(&mut self, limit_unix_s: Option<i64>) -> RemovedTombstones {
        let (mut left, before) = (0, self.len());
        self.retain(|i| {
            let is_tombstone = i.state == InstanceState::Left;
            let keep = !is_tombstone || limit_unix_s.is_some_and(|limit| i.timestamp_s >= limit);
            left += usize::from(is_tombstone && keep);
            keep
        });
        RemovedTombstones {
            left,
            removed: before - self.len(),
        }
    }
}

/// Whether a record written here is of an instance that has a tombstone of the same time or a later one. Writers do not see tombstones, so this one put
/// the record there because the instance lives. A tombstone is from the future when whoever removed the instance has a clock that runs
/// ahead; without a newer stamp the instance would stay out until its own clock is there.
fn is_revived(theirs: &Instance, ours: &Instance) -> bool {
    let left = InstanceState::Left;
    theirs.state != left && ours.state == left && theirs.stamp() <= ours.stamp()
}

/// Whether `theirs` replaces `ours`. Whoever is absent has heartbeat 0.
fn wins(theirs: &Instance, ours: Option<&Instance>) -> bool {
    let (stamp, left) = ours.map_or((Stamp::default(), false), |ours| {
        (ours.stamp(), ours.state == InstanceState::Left)
    });
    theirs.stamp() > stamp
        || theirs.stamp() == stamp && theirs.state == InstanceState::Left && !left
}

/// A tombstone has no tokens; tokens ascend, each once; the id is the key.
fn normalised(id: &str, instance: &Arc<Instance>) -> Arc<Instance> {
    let is_left = instance.state == InstanceState::Left;
    let sorted = instance.tokens.windows(2).all(|w| w[0] < w[1]);
    if instance.id == id && sorted && (!is_left || instance.tokens.is_empty()) {
        return Arc::clone(instance);
    }
    let mut instance = Instance::clone(instance);
    instance.id = id.to_owned();
    let mut tokens = if is_left {
        Vec::new()
    } else {
        instance.tokens.to_vec()
    };
    tokens.sort_unstable();
    tokens.dedup();
    instance.tokens = tokens.into();
    Arc::new(instance)
}
