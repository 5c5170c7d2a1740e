//! What replicas have of the same time, counted once.

use std::collections::BTreeSet;

use lgtm_core::model::TimestampMs;

/// Spans of a stream that are told: the newest ones apart, all before them as one. Enough, since only recent times are with several holders.
const MAX_SPANS: usize = 64;

/// A part of a stream's time, and what is there. Plain data, which can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSpan {
    /// Where it begins.
    pub min_ms: TimestampMs,
    /// Where it ends; not inside.
    pub max_ms: TimestampMs,
    /// Bytes of lines and structured metadata.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl VolumeSpan {
    fn len(&self) -> u128 {
        (i128::from(self.max_ms) - i128::from(self.min_ms)).max(1) as u128
    }

    /// The part between two times inside, as if it were spread evenly; parts that follow each other are together what they are as one.
    fn part(&self, from: TimestampMs, to: TimestampMs) -> Self {
        let share = |whole: u64| {
            let up_to = |t: TimestampMs| {
                let before = (i128::from(t) - i128::from(self.min_ms)).max(0) as u128;
                u128::from(whole) * before.min(self.len()) / self.len()
            };
            u64::try_from(up_to(to).saturating_sub(up_to(from))).unwrap_or(whole)
        };
        Self {
            min_ms: from,
            max_ms: to,
            bytes: share(self.bytes),
            entries: share(self.entries),
        }
    }

    /// Bytes a millisecond, in an order: floats that are not negative are in the order of their bits.
    fn density(&self) -> u64 {
        (self.bytes as f64 / self.len() as f64).to_bits()
    }
}

/// The spans of copies of the same entries as one: apart, ascending; where several lie above each other, the densest counts. What two replicas have
/// alike counts once; of what one has and the other lacks, nothing is lost. Costs a sort.
pub fn densest(spans: impl IntoIterator<Item = VolumeSpan>) -> Vec<VolumeSpan> {
    let spans: Vec<VolumeSpan> = spans.into_iter().filter(|s| s.min_ms < s.max_ms).collect();
    let mut events = Vec::with_capacity(2 * spans.len());
    for (n, span) in spans.iter().enumerate() {
        events.push((span.min_ms, true, n));
        events.push((span.max_ms, false, n));
    }
    events.sort_unstable();
    let mut out: Vec<VolumeSpan> = Vec::new();
    let mut open: BTreeSet<(u64, usize)> = BTreeSet::new();
    // Of which span the part that is open is, and since when.
    let mut current: Option<(usize, TimestampMs)> = None;
    let mut events = events.into_iter().peekable();
    while let Some((at, is_begin, n)) = events.next() {
        let key = (spans[n].density(), n);
        if is_begin {
            open.insert(key);
        } else {
            open.remove(&key);
        }
        if events.peek().is_some_and(|next| next.0 == at) {
            continue;
        }
        let top = open.last().map(|(_, n)| *n);
        // Of equals the one that is open goes on.
        let stays = current.filter(|(n, _)| open.contains(&(spans[*n].density(), *n)));
        if let (Some((n, _)), Some(top)) = (stays, top)
            && spans[n].density() == spans[top].density()
        {
            continue;
        }
        if let Some((n, since)) = current
            && since < at
        {
            out.push(spans[n].part(since, at));
        }
        current = top.map(|n| (n, at));
    }
    out
}

/// The spans of one holder's own chunks, whose entries are all different, as one: apart, ascending. Costs the number of spans for each other that
/// one lies above.
pub(crate) fn added(spans: Vec<VolumeSpan>) -> Vec<VolumeSpan> {
    let mut spans = spans;
    spans.retain(|s| s.min_ms < s.max_ms);
    spans.sort_unstable_by_key(|s| (s.min_ms, s.max_ms));
    if spans.is_sorted_by(|a, b| a.max_ms <= b.min_ms) {
        return spans;
    }
    let mut edges: Vec<TimestampMs> = spans.iter().flat_map(|s| [s.min_ms, s.max_ms]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut out = Vec::with_capacity(edges.len());
    let (mut open, mut next): (Vec<VolumeSpan>, usize) = (Vec::new(), 0);
    for pair in edges.windows(2) {
        let [from, to] = [pair[0], pair[1]];
        open.retain(|s| s.max_ms > from);
        while let Some(span) = spans.get(next).filter(|s| s.min_ms <= from) {
            open.push(*span);
            next += 1;
        }
        let none = VolumeSpan {
            min_ms: from,
            max_ms: to,
            bytes: 0,
            entries: 0,
        };
        if !open.is_empty() {
            out.push(open.iter().fold(none, |mut all, span| {
                let part = span.part(from, to);
                all.bytes += part.bytes;
                all.entries += part.entries;
                all
            }));
        }
    }
    out
}

/// The same spans, the oldest of them as one where there are too many to be told.
pub(super) fn few(mut spans: Vec<VolumeSpan>) -> Vec<VolumeSpan> {
    let Some(surplus) = spans.len().checked_sub(MAX_SPANS).filter(|n| *n > 0) else {
        return spans;
    };
    let old = spans.drain(..=surplus).reduce(|all, span| VolumeSpan {
        max_ms: span.max_ms,
        bytes: all.bytes + span.bytes,
        entries: all.entries + span.entries,
        ..all
    });
    spans.splice(0..0, old);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(min: i64, max: i64, bytes: u64) -> VolumeSpan {
        VolumeSpan {
            min_ms: TimestampMs::new(min),
            max_ms: TimestampMs::new(max),
            bytes,
            entries: bytes / 10,
        }
    }

    fn bytes(spans: &[VolumeSpan]) -> u64 {
        spans.iter().map(|s| s.bytes).sum()
    }

    #[test]
    fn what_replicas_have_alike_counts_once() {
        let own = [span(0, 7, 1000), span(7, 20, 333), span(30, 31, 9)];
        let all = densest([own, own, own].concat());
        assert_eq!(all, own);
        // One lacks its second half, another its first.
        let halves = densest([span(0, 10, 500), span(10, 20, 500), span(0, 20, 1000)]);
        assert_eq!(bytes(&halves), 1000);
        assert_eq!(bytes(&densest([span(0, 10, 100), span(5, 15, 100)])), 150);
        assert!(densest([]).is_empty());
    }

    #[test]
    fn what_one_holder_has_is_added() {
        let own = [span(0, 10, 100), span(5, 15, 100)];
        assert_eq!(bytes(&added(own.to_vec())), 200);
        let many: Vec<_> = (0..200).map(|n| span(n, n + 1, 1)).collect();
        let told = few(added(many.clone()));
        assert_eq!((told.len(), bytes(&told)), (MAX_SPANS, 200));
        assert_eq!(told[1..], many[200 - MAX_SPANS + 1..]);
    }

    proptest! {
        #[test]
        fn spans_come_apart_and_lose_nothing(
            spans in prop::collection::vec((0i64..100, 1i64..30, 0u64..10_000), 0..20),
        ) {
            let spans: Vec<_> = spans.iter().map(|(t, len, n)| span(*t, t + len, *n)).collect();
            let (top, sum) = (densest(spans.clone()), added(spans.clone()));
            for list in [&top, &sum] {
                prop_assert!(list.is_sorted_by(|a, b| a.max_ms <= b.min_ms));
            }
            prop_assert_eq!(bytes(&sum), bytes(&spans));
            let most = spans.iter().map(|s| s.bytes).max().unwrap_or(0);
            prop_assert!(bytes(&top) <= bytes(&spans));
            // Parts are rounded by one each.
            prop_assert!(bytes(&top) + 2 * spans.len() as u64 >= most);
        }
    }
}
