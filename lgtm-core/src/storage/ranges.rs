//! Many ranges of one object by few requests.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::Result;

use crate::storage::fault::Fault;

/// Requests of one call at a time; the component's slots bound them further.
const PARALLEL: usize = 10;

/// Reads `ranges` in the order asked. Those that overlap or stand at most `gap` bytes apart share a request.
///
/// `fetch` may give less than asked where the object ends. Then this fails: nobody gets fewer bytes than asked for.
pub(super) async fn read_ranges<F>(
    ranges: &[Range<u64>],
    gap: u64,
    fetch: impl Fn(Range<u64>) -> F,
) -> Result<Vec<Bytes>>
where
    F: Future<Output = Result<Bytes>>,
{
    let merged = merge(ranges, gap);
    let fetched: Vec<Bytes> = stream::iter(merged.iter().cloned())
        .map(fetch)
        .buffered(PARALLEL)
        .try_collect()
        .await?;
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
            let fetch = async |range: Range<u64>| {
                Ok(object.slice(range.start.min(10) as usize..range.end.min(10) as usize))
            };
            let result = read_ranges(&ranges, 100, fetch).now_or_never().unwrap();
            assert!(result.is_err(), "{ranges:?}");
        }
    }

    proptest! {
        #[test]
        fn ranges_come_back_whatever_is_merged(
            asked in prop::collection::vec((0u64..1000, 0u64..80), 0..20), gap in 0u64..100
        ) {
            let object: Bytes = (0..1100u32).map(|i| (i % 251) as u8).collect();
            let ranges: Vec<_> = asked.iter().map(|(start, len)| *start..start + len).collect();
            let (requests, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let fetch = async |range: Range<u64>| {
                requests.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add((range.end - range.start) as usize, Ordering::Relaxed);
                Ok(object.slice(range.start as usize..range.end as usize))
            };
            let parts = read_ranges(&ranges, gap, fetch).now_or_never().unwrap().unwrap();
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
