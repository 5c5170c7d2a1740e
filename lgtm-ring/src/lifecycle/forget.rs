//! Removing the long dead, and nobody else.

use std::collections::HashMap;
use std::time::Duration;

use crate::instance::{Instance, RingDesc, Stamp};

/// Whether this instance's own heartbeats have gone through long enough to judge others by theirs.
///
/// When the store was down for an hour, everybody's heartbeat is an hour old, and the first to write again must not remove all others.
/// So an instance forgets only after its own heartbeats have gone through without a gap for as long as others are given.
#[derive(Debug, Clone, Default)]
pub(super) struct Steadiness {
    since: Option<Duration>,
    last: Duration,
}

impl Steadiness {
    /// Notes a heartbeat that was written at `now` (monotonic). A longer gap than `longest_gap` begins anew.
    pub(super) fn beat(&mut self, now: Duration, longest_gap: Duration) {
        if self.since.is_none() || now.saturating_sub(self.last) > longest_gap {
            self.since = Some(now);
        }
        self.last = now;
    }

    /// Whether heartbeats have gone through for `period`, the one at `now` included.
    pub(super) fn has_lasted(
        &self,
        period: Duration,
        now: Duration,
        longest_gap: Duration,
    ) -> bool {
        let unbroken = now.saturating_sub(self.last) <= longest_gap;
        let since = self.since.filter(|_| unbroken);
        since.is_some_and(|since| now.saturating_sub(since) >= period)
    }
}

/// Since when the heartbeat of each instance stands still, by the clock of the one that looks.
///
/// An age is the difference of two clocks, and a clock that runs ahead by minutes makes everybody look dead to the one that has it. A heartbeat that
/// moves is a sign of life whatever it says.
#[derive(Debug, Clone, Default)]
pub(super) struct Standstill(HashMap<String, SeenHeartbeat>);

#[derive(Debug, Clone, Copy)]
struct SeenHeartbeat {
    stamp: Stamp,
    since: Duration,
}

impl Standstill {
    /// Notes the heartbeats of a ring that was read at `now` (monotonic). Remembers nobody who is not in it.
    pub(super) fn note(&mut self, ring: &RingDesc, now: Duration) {
        self.0.retain(|id, _| ring.get(id).is_some());
        for instance in ring.iter() {
            let stamp = instance.stamp();
            let new = SeenHeartbeat { stamp, since: now };
            match self.0.get_mut(&instance.id) {
                Some(seen) if seen.stamp == stamp => {}
                Some(seen) => *seen = new,
                None => _ = self.0.insert(instance.id.clone(), new),
            }
        }
    }

    /// Whether the instance's heartbeat has not moved for `period`.
    fn has_lasted(&self, instance: &Instance, period: Duration, now: Duration) -> bool {
        let seen = self.0.get(&instance.id);
        seen.is_some_and(|seen| {
            seen.stamp == instance.stamp() && now.saturating_sub(seen.since) >= period
        })
    }
}

/// Removes the records, `own` excepted, whose heartbeat is more than `after` old, or from the future, and has stood still for as long. Names them.
pub(super) fn remove_dead(
    ring: &mut RingDesc,
    own: &str,
    after: Duration,
    still: &Standstill,
    (now_s, now): (i64, Duration),
) -> Vec<String> {
    let after_s = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    let mut forgotten = Vec::new();
    ring.retain(|instance| {
        let keep = instance.id == own
            || (now_s.saturating_sub(after_s)..=now_s).contains(&instance.timestamp_s)
            || !still.has_lasted(instance, after, now);
        if !keep {
            forgotten.push(instance.id.clone());
        }
        keep
    });
    forgotten
}
