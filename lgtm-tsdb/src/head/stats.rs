//! What a status page tells of one head.

use std::fmt::Write;

use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{METRIC_NAME, TenantId, TimestampMs};

use super::cardinality::Highest;
use super::heads::Heads;

/// Counts over one head, for status pages.
#[derive(Debug, Clone, Default)]
pub struct HeadStats {
    /// Series.
    pub series: u64,
    /// Distinct (name, value) pairs.
    pub label_pairs: u64,
    /// Chunks, in memory and in the chunk files.
    pub chunks: u64,
    /// Time of the oldest sample held, milliseconds.
    pub min_ms: Option<TimestampMs>,
    /// Time of the newest sample held, milliseconds.
    pub max_ms: Option<TimestampMs>,
    /// Series by metric name, most first.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values by label name, most first.
    pub values_by_name: Vec<(String, u64)>,
    /// Bytes of all values by label name, most first.
    pub bytes_by_name: Vec<(String, u64)>,
    /// Series by (name, value) pair, most first.
    pub series_by_pair: Vec<(String, u64)>,
}

/// How much a tenant has and brings.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TenantStats {
    /// Series in memory.
    pub series: u64,
    /// Samples a second between the last two rounds of maintenance.
    pub samples_per_s: f64,
}

impl Heads {
    /// Counts over a tenant's head; the lists have at most `limit` entries. A walk over all label pairs, in slices: for the compute pool.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(crate) fn stats(
        &self,
        tenant: &TenantId,
        limit: usize,
        cancel: &CancelToken,
    ) -> Result<HeadStats> {
        let Some(head) = self.get(tenant) else {
            return Ok(HeadStats::default());
        };
        let held = head.held_range();
        let chunks = head.chunk_count() as u64;
        let (series, label_pairs, names) = {
            let index = head.index.read();
            let names: Vec<String> = index.names().map(str::to_owned).collect();
            (index.series_count(), index.pair_count(), names)
        };
        let [mut by_metric, mut by_pair, mut values, mut bytes] =
            [(); 4].map(|()| Highest::new(limit));
        let mut pair = String::new();
        for name in &names {
            // A renumbering meanwhile shows some values twice, which a status page bears.
            let (mut value_count, mut byte_count) = (0, 0);
            head.each_value(name, cancel, &mut |index, value| {
                let series = index.postings_of_pair(name, value).len() as u64;
                let text = index.symbols().resolve(value);
                value_count += 1;
                byte_count += text.len() as u64 * series;
                if name == METRIC_NAME {
                    by_metric.offer(series, text);
                }
                if by_pair.takes(series) {
                    pair.clear();
                    let _ = write!(pair, "{name}={text}");
                    by_pair.offer(series, &pair);
                }
                Ok(())
            })?;
            values.offer(value_count, name);
            bytes.offer(byte_count, name);
        }
        Ok(HeadStats {
            series: series as u64,
            label_pairs: label_pairs as u64,
            chunks,
            min_ms: held.map(|h| h.0),
            max_ms: held.map(|h| h.1),
            series_by_metric: by_metric.in_order(),
            values_by_name: values.in_order(),
            bytes_by_name: bytes.in_order(),
            series_by_pair: by_pair.in_order(),
        })
    }
}
