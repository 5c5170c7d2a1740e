//! How often something came, by time.

use std::collections::VecDeque;

use lgtm_core::model::{TimeRangeNs, TimestampNs};

/// Time that is counted together, nanoseconds.
pub const STEP_NS: i64 = 10_000_000_000;

/// Counts by steps of 10 seconds since the epoch. Takes 8 bytes a step in which there was something.
#[derive(Debug, Default)]
pub struct StepCounts {
    /// Number of the step, count; ascending.
    steps: VecDeque<(u32, u32)>,
}

impl StepCounts {
    /// Adds to the step of a time. Of more than `max_steps` steps the oldest are forgotten. Times before 1970 do not count.
    pub fn add(&mut self, t_ns: TimestampNs, count: u32, max_steps: usize) {
        let Ok(step) = u32::try_from(t_ns.div_euclid(STEP_NS)) else {
            return;
        };
        // Entries come nearly in order.
        let mut at = self.steps.len();
        while at > 0 && self.steps[at - 1].0 > step {
            at -= 1;
        }
        match at.checked_sub(1).and_then(|n| self.steps.get_mut(n)) {
            Some((known, counted)) if *known == step => *counted = counted.saturating_add(count),
            _ => self.steps.insert(at, (step, count)),
        }
        while self.steps.len() > max_steps {
            self.steps.pop_front();
        }
    }

    /// Forgets what came before a time, and gives memory back.
    pub fn forget_before(&mut self, t_ns: TimestampNs) {
        let kept = self.steps.iter().position(|(s, _)| begin_ns(*s) >= t_ns);
        self.steps.drain(..kept.unwrap_or(self.steps.len()));
        if self.steps.capacity() > 2 * self.steps.len() + 8 {
            self.steps.shrink_to_fit();
        }
    }

    /// Begins of the steps that begin in a range, and their counts.
    pub fn within(&self, range: TimeRangeNs) -> impl Iterator<Item = (TimestampNs, u64)> {
        let steps = self.steps.iter();
        let steps = steps.map(|(step, count)| (begin_ns(*step), u64::from(*count)));
        steps.filter(move |(t_ns, _)| range.contains(*t_ns))
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Heap bytes.
    pub fn heap_bytes(&self) -> usize {
        self.steps.capacity() * size_of::<(u32, u32)>()
    }
}

fn begin_ns(step: u32) -> TimestampNs {
    i64::from(step) * STEP_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_in_order_and_are_bounded() {
        let mut counts = StepCounts::default();
        for (step, count) in [(7, 1), (9, 2), (7, 3), (8, 1), (-5, 9)] {
            counts.add(step * STEP_NS + 5, count, 3);
        }
        let all = TimeRangeNs::ALL;
        let seen: Vec<_> = counts.within(all).collect();
        assert_eq!(seen, [(7 * STEP_NS, 4), (8 * STEP_NS, 1), (9 * STEP_NS, 2)]);
        counts.add(10 * STEP_NS, 1, 3);
        let some = TimeRangeNs::new(8 * STEP_NS, 10 * STEP_NS);
        assert_eq!(counts.within(some).count(), 2);
        assert_eq!(counts.within(all).next(), Some((8 * STEP_NS, 1)));
        counts.forget_before(10 * STEP_NS);
        assert_eq!(counts.within(all).count(), 1);
        counts.forget_before(i64::MAX);
        assert!(counts.is_empty());
    }
}
