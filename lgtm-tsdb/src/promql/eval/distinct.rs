//! Whether series stay apart when the metric's name is dropped.

use std::collections::HashSet;

use lgtm_core::model::{Labels, METRIC_NAME, MatchOp};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use super::context::{Charge, Context};
use super::labels::is_metadata;
use crate::promql::plan::Selector;
use crate::promql::query_error::{QueryError, Result};

/// Memory of an entry of the set, with its free room.
const ENTRY_BYTES: u64 = 40;

/// What the label sets of one selector were without their names, as hashes of 128 bits.
#[derive(Debug)]
pub(super) struct Distinct(Mutex<(HashSet<u128>, Charge)>);

impl Distinct {
    /// Nothing yet; `None` if the selector asks for one name, so that series cannot become equal by losing it.
    pub(super) fn of(ctx: &Context, selector: &Selector) -> Option<Self> {
        let one_name = selector
            .matchers
            .iter()
            .any(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal && !m.value().is_empty());
        let empty = || Self(Mutex::new((HashSet::new(), Charge::none(&ctx.usage))));
        (!one_name && !ctx.switches.delayed_names).then(empty)
    }

    /// The hash of labels without what tells of the metric. `buffer` is kept for its memory.
    pub(super) fn hash(labels: &Labels, buffer: &mut Vec<u8>) -> u128 {
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

    /// Takes in the hashes of a batch.
    ///
    /// # Errors
    /// `Execution` when one was there already, as Prometheus has it for range functions whatever the steps at which they have
    /// values; or when memory is used up.
    pub(super) fn add(&self, hashes: &[u128]) -> Result<()> {
        if hashes.is_empty() {
            return Ok(());
        }
        let mut guard = self.0.lock();
        let (all, charge) = &mut *guard;
        charge.grow(0, ENTRY_BYTES * hashes.len() as u64)?;
        match hashes.iter().all(|hash| all.insert(*hash)) {
            true => Ok(()),
            false => Err(QueryError::execution(
                "vector cannot contain metrics with the same labelset",
            )),
        }
    }
}
