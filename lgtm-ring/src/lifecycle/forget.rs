//! Removing the long dead, and nobody else.

use std::time::Duration;

use crate::instance::RingDesc;

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

/// Removes the records, `own` excepted, whose heartbeat is more than `after` old. Names them.
pub(super) fn remove_dead(
    ring: &mut RingDesc,
    own: &str,
    after: Duration,
    now_s: i64,
) -> Vec<String> {
    let after_s = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    let mut forgotten = Vec::new();
    ring.retain(|instance| {
        let keep = instance.id == own || instance.is_alive(now_s, after_s);
        if !keep {
            forgotten.push(instance.id.clone());
        }
        keep
    });
    forgotten
}
