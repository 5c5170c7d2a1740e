//! Many ranges of one object by few requests.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::Result;

use crate::storage::fault::Fault;

/// Requests of one call at a time; the component's slots bound them further.
const PARALLEL: usize = 10;

/// How ranges are put together.
#[derive(Debug, Clone, Copy)]
pub(super) struct RangeRule {
    /// Ranges that stand at most so many bytes apart are read as one.
    pub(super) gap: u64,
    /// Ranges of so many bytes in all are fetched by one call; one that is larger alone. 0: each by itself.
    pub(super) batch_bytes: u64,
}

/// Reads `ranges` in the order asked, put together by `rule`.
///
/// `fetch` gets ranges that ascend, and answers each of them. It may give less than asked where the object ends. Then this fails: nobody gets fewer bytes than asked for.
pub(super) async fn read_ranges<F>(
    ranges: &[Range<u64>],
    rule: RangeRule,
    fetch: impl Fn(Vec<Range<u64>>) -> F,
) -> Result<Vec<Bytes>>
where
    F: Future<Output = Result<Vec<Bytes>>>,
{
    let merged = merge(ranges, rule.gap);
    let mut fetched: Vec<Bytes> = Vec::with_capacity(merged.len());
    let mut answers = stream::iter(batches(&merged, rule.batch_bytes))
        .map(fetch)
        .buffered(PARALLEL);
    while let Some(bytes) = answers.try_next().await? {
        fetched.extend(bytes);
    }
    ranges
        .iter()
        .map(|range| cut(range, &merged, &fetched))
        .collect()
}

/// Ranges that cover all of `ranges`, ascending, more than `gap` apart. Empty and reversed ones are left out.
fn merge(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start.saturating_sub(last.end) <= gap => {
                last.end = last.end.max(range.end)
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The same ranges in runs of at most so many bytes, each of one range at least.
fn batches(merged: &[Range<u64>], max_bytes: u64) -> Vec<Vec<Range<u64>>> {
    let mut out: Vec<Vec<Range<u64>>> = Vec::new();
    let mut bytes = 0u64;
    for range in merged {
        let len = range.end - range.start;
        bytes = bytes.saturating_add(len);
        match out.last_mut() {
            Some(batch) if bytes <= max_bytes => batch.push(range.clone()),
            _ => {
                out.push(vec![range.clone()]);
                bytes = len;
            }
        }
    }
    out
}

fn cut(range: &Range<u64>, merged: &[Range<u64>], fetched: &[Bytes]) -> Result<Bytes> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let after = merged.partition_point(|m| m.start <= range.start);
    let at = after
        .checked_sub(1)
        .expect("the merged ranges cover every range that is not empty");
    let (base, bytes) = (merged[at].start, &fetched[at]);
    let end_of_object = base + bytes.len() as u64;
    if range.end > end_of_object {
        return Err(Fault::PastEnd {
            range: range.clone(),
            end: end_of_object,
        }
        .into());
    }
    Ok(bytes.slice((range.start - base) as usize..(range.end - base) as usize))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_past_the_end_is_an_error_even_behind_a_gap() {
        let object = Bytes::from_static(b"0123456789");
        for past in [12..14, 9..11, 10..11, 3..u64::MAX] {
            let ranges = [0..2, past];
            for batch_bytes in [0, 100, u64::MAX] {
                let part =
                    |r: Range<u64>| object.slice(r.start.min(10) as usize..r.end.min(10) as usize);
                let fetch =
                    async |batch: Vec<Range<u64>>| Ok(batch.into_iter().map(part).collect());
                let rule = RangeRule {
                    gap: 100,
                    batch_bytes,
                };
                let result = read_ranges(&ranges, rule, fetch).now_or_never().unwrap();
                assert!(result.is_err(), "{ranges:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn ranges_come_back_whatever_is_merged(
            asked in prop::collection::vec((0u64..1000, 0u64..80), 0..20),
            gap in 0u64..100,
            batch_bytes in prop_oneof![Just(0u64), 1u64..300],
        ) {
            let object: Bytes = (0..1100u32).map(|i| (i % 251) as u8).collect();
            let ranges: Vec<_> = asked.iter().map(|(start, len)| *start..start + len).collect();
            let (requests, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let part = |range: Range<u64>| {
                bytes.fetch_add((range.end - range.start) as usize, Ordering::Relaxed);
                object.slice(range.start as usize..range.end as usize)
            };
            let fetch = async |batch: Vec<Range<u64>>| {
                requests.fetch_add(1, Ordering::Relaxed);
                let len: u64 = batch.iter().map(|r| r.end - r.start).sum();
                assert!(batch.len() == 1 || len <= batch_bytes, "{batch:?}");
                Ok(batch.into_iter().map(part).collect())
            };
            let rule = RangeRule { gap, batch_bytes };
            let parts = read_ranges(&ranges, rule, fetch).now_or_never().unwrap().unwrap();
            prop_assert_eq!(parts.len(), ranges.len());
            for (range, part) in ranges.iter().zip(parts) {
                prop_assert_eq!(part, object.slice(range.start as usize..range.end as usize));
            }
            let wanted: u64 = ranges.iter().map(|r| r.end - r.start).sum();
            let gaps = gap as usize * ranges.len();
            prop_assert!(bytes.into_inner() <= wanted as usize + gaps);
            prop_assert!(requests.into_inner() <= ranges.len());
        }
    }
}
