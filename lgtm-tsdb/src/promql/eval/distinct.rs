//! Whether series stay apart when the metric's name is dropped.
//!
//! The fold behind a chain may be an aggregation that never sees the labels, so the chain itself looks, at the place where names are
//! lost. Where a selector asks for one name nothing is looked at.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use lgtm_core::model::{Labels, METRIC_NAME, MatchOp};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use super::cells::{Cells, Series};
use super::context::{Charge, Context};
use super::labels::{is_metadata, same_labelset};
use crate::promql::plan::Selector;
use crate::promql::query_error::Result;

/// Memory of an entry of the table, with its free room.
const ENTRY_BYTES: u64 = 96;

/// What must not be there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// A label set, at whichever steps: range functions, which Prometheus evaluates series by series.
    Series,
    /// A label set at one step: all else.
    Step,
}

/// What the label sets of one chain were without their names, as hashes of 128 bits, and at which steps.
#[derive(Debug)]
pub(super) struct Distinct {
    scope: Scope,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    steps: HashMap<u128, Steps>,
    charge: Charge,
}

impl Distinct {
    /// Nothing yet; `None` if the selector asks for one name, so that series cannot become equal by losing it.
    pub(super) fn of(ctx: &Context, selector: &Selector, scope: Scope) -> Option<Self> {
        let one_name = selector
            .matchers
            .iter()
            .any(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal);
        (!one_name).then(|| Self::new(ctx, scope)).flatten()
    }

    /// Nothing yet, for series that were computed; `None` if they tell the same of their metrics.
    pub(super) fn of_series(ctx: &Context, series: &[Series], scope: Scope) -> Option<Self> {
        fn metadata(s: &Series) -> impl Iterator<Item = (&str, &str)> {
            s.labels.iter().filter(|(name, _)| is_metadata(name))
        }
        let (first, others) = series.split_first()?;
        let differ = others.iter().any(|s| !metadata(s).eq(metadata(first)));
        differ.then(|| Self::new(ctx, scope)).flatten()
    }

    fn new(ctx: &Context, scope: Scope) -> Option<Self> {
        let seen = Mutex::new(Seen {
            steps: HashMap::new(),
            charge: Charge::none(&ctx.usage),
        });
        // Where names are dropped at the end of the query, equal label sets are found there.
        (!ctx.switches.delayed_names).then_some(Self { scope, seen })
    }
}

/// What one batch brings to a [`Distinct`].
#[derive(Debug)]
pub(super) struct Found {
    distinct: Arc<Distinct>,
    series: Vec<(u128, Steps)>,
    /// Kept for its memory.
    buffer: Vec<u8>,
}

impl Found {
    /// Nothing yet.
    pub(super) fn of(distinct: Arc<Distinct>) -> Self {
        Self {
            distinct,
            series: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Takes in a series that has just lost its name, if it has a value.
    pub(super) fn add(&mut self, labels: &Labels, cells: &Cells) {
        let steps = match self.distinct.scope {
            Scope::Series if cells.is_empty() => None,
            Scope::Series => Some(Steps::run(0, u32::MAX)),
            Scope::Step => Steps::of(cells),
        };
        if let Some(steps) = steps {
            self.series.push((hash(labels, &mut self.buffer), steps));
        }
    }

    /// Compares them with what other batches have brought.
    ///
    /// # Errors
    /// `Execution` when two have become equal; or when memory is used up.
    pub(super) fn finish(self) -> Result<()> {
        if self.series.is_empty() {
            return Ok(());
        }
        let mut seen = self.distinct.seen.lock();
        let bytes = |(_, steps): &(u128, Steps)| ENTRY_BYTES + 8 * steps.bits.len() as u64;
        seen.charge.grow(0, self.series.iter().map(bytes).sum())?;
        for (hash, steps) in self.series {
            match seen.steps.entry(hash) {
                Entry::Vacant(free) => {
                    free.insert(steps);
                }
                Entry::Occupied(mut first) => {
                    if first.get().meet(&steps) {
                        return Err(same_labelset());
                    }
                    first.get_mut().join(&steps);
                }
            }
        }
        Ok(())
    }
}

/// The hash of labels without what tells of the metric.
fn hash(labels: &Labels, buffer: &mut Vec<u8>) -> u128 {
    buffer.clear();
    for (name, value) in labels.iter().filter(|(name, _)| !is_metadata(name)) {
        // Neither byte is part of UTF-8.
        buffer.extend_from_slice(name.as_bytes());
        buffer.push(0xff);
        buffer.extend_from_slice(value.as_bytes());
        buffer.push(0xfe);
    }
    xxh3_128(buffer)
}

/// At which steps a series has a value.
#[derive(Debug, Clone)]
struct Steps {
    first: u32,
    /// Behind the last one.
    end: u32,
    /// One bit a step from `first`, if there are gaps in between: most series have none.
    bits: Vec<u64>,
}

impl Steps {
    fn run(first: u32, end: u32) -> Self {
        Self {
            first,
            end,
            bits: Vec::new(),
        }
    }

    /// `None` if there is no value at all.
    fn of(cells: &Cells) -> Option<Self> {
        let mut present = (0..cells.steps()).filter(|step| cells.has(*step));
        let first = present.next()?;
        let (last, others) = present.fold((first, 0), |(_, n), step| (step, n + 1));
        let mut steps = Self::run(first as u32, last as u32 + 1);
        if last - first > others {
            steps.bits = bits(steps.first..steps.end, |step| cells.has(step as usize));
        }
        Some(steps)
    }

    fn has(&self, step: u32) -> bool {
        let Some(at) = step.checked_sub(self.first) else {
            return false;
        };
        step < self.end
            && match self.bits.get(at as usize / 64) {
                Some(word) => word >> (at % 64) & 1 == 1,
                None => true,
            }
    }

    fn meet(&self, other: &Self) -> bool {
        let (first, end) = (self.first.max(other.first), self.end.min(other.end));
        if self.bits.is_empty() && other.bits.is_empty() {
            return first < end;
        }
        (first..end).any(|step| self.has(step) && other.has(step))
    }

    fn join(&mut self, other: &Self) {
        let (first, end) = (self.first.min(other.first), self.end.max(other.end));
        let has_gap = !self.bits.is_empty()
            || !other.bits.is_empty()
            || self.end < other.first
            || other.end < self.first;
        let bits = if has_gap {
            bits(first..end, |step| self.has(step) || other.has(step))
        } else {
            Vec::new()
        };
        *self = Self { first, end, bits };
    }
}

/// One bit a step.
fn bits(steps: Range<u32>, is_set: impl Fn(u32) -> bool) -> Vec<u64> {
    let mut bits = vec![0; steps.len().div_ceil(64)];
    for (at, _) in steps.enumerate().filter(|(_, step)| is_set(*step)) {
        bits[at / 64] |= 1 << (at % 64);
    }
    bits
}

#[cfg(test)]
mod tests {
    use lgtm_core::vector::GAP;
    use proptest::prelude::*;

    use super::*;

    fn cells(present: &[bool]) -> Cells {
        let value = |there: &bool| if *there { 1.0 } else { GAP };
        Cells::of_floats(present.iter().map(value).collect())
    }

    proptest! {
        #[test]
        fn steps_meet_where_both_have_a_value(
            (a, b, c) in (1usize..150).prop_flat_map(|n| {
                let some = || proptest::collection::vec(proptest::bool::weighted(0.3), n);
                (some(), some(), some())
            }),
        ) {
            let joined: Vec<bool> = a.iter().zip(&b).map(|(a, b)| *a || *b).collect();
            let [of_a, of_b, of_c] = [&a, &b, &c].map(|x| Steps::of(&cells(x)));
            prop_assert_eq!(of_a.is_some(), a.contains(&true));
            let (Some(mut of_a), Some(of_b), Some(of_c)) = (of_a, of_b, of_c) else {
                return Ok(());
            };
            let meet = |x: &[bool], y: &[bool]| x.iter().zip(y).any(|(x, y)| *x && *y);
            prop_assert_eq!(of_a.meet(&of_b), meet(&a, &b));
            of_a.join(&of_b);
            prop_assert_eq!(of_a.meet(&of_c), meet(&joined, &c));
            for (step, there) in joined.iter().enumerate() {
                prop_assert_eq!(of_a.has(step as u32), *there);
            }
        }
    }
}
