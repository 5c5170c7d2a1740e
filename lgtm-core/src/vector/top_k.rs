//! The best k of a stream.

use std::cmp::Ordering;

/// Keeps the `k` entries of highest rank. Of equal ones the first stays.
///
/// Memory follows what was offered, never more than `k` entries; an offer costs O(log k).
#[derive(Debug, Clone)]
pub struct TopK<V, T> {
    k: usize,
    rank: fn(&V, &V) -> Ordering,
    /// A heap with the lowest rank on top; entries of equal rank are ordered by `born`, the youngest on top.
    heap: Vec<RankedEntry<V, T>>,
    born: u64,
}

#[derive(Debug, Clone)]
struct RankedEntry<V, T> {
    value: V,
    item: T,
    born: u64,
}

impl<V, T> TopK<V, T> {
    /// Keeps the best `k` by `rank`.
    pub fn new(k: usize, rank: fn(&V, &V) -> Ordering) -> Self {
        Self {
            k,
            rank,
            heap: Vec::new(),
            born: 0,
        }
    }

    /// Number of entries held.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Whether a value would be kept now.
    #[inline]
    pub fn would_take(&self, value: &V) -> bool {
        self.heap.len() < self.k
            || self
                .heap
                .first()
                .is_some_and(|worst| (self.rank)(value, &worst.value) == Ordering::Greater)
    }

    /// Offers an entry; it pushes out the lowest when there are `k`.
    pub fn offer(&mut self, value: V, item: T) {
        if !self.would_take(&value) {
            return;
        }
        let entry = RankedEntry {
            value,
            item,
            born: self.born,
        };
        self.born += 1;
        if self.heap.len() < self.k {
            self.heap.push(entry);
            self.sift_up(self.heap.len() - 1);
        } else {
            self.heap[0] = entry;
            self.sift_down();
        }
    }

    /// The entries, best first; of equal ones the first offered comes first.
    pub fn into_sorted(mut self) -> Vec<(V, T)> {
        let rank = self.rank;
        self.heap
            .sort_by(|a, b| rank(&b.value, &a.value).then(a.born.cmp(&b.born)));
        self.heap.into_iter().map(|e| (e.value, e.item)).collect()
    }

    fn is_worse(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.heap[a], &self.heap[b]);
        match (self.rank)(&a.value, &b.value) {
            Ordering::Less => true,
            Ordering::Equal => a.born > b.born,
            Ordering::Greater => false,
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.is_worse(at, parent) {
                return;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn sift_down(&mut self) {
        let mut at = 0;
        loop {
            let mut worst = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.is_worse(child, worst) {
                    worst = child;
                }
            }
            if worst == at {
                return;
            }
            self.heap.swap(at, worst);
            at = worst;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_keeps_what_a_stable_sort_would(values: Vec<u8>, k in 0usize..8) {
            let mut top = TopK::new(k, u8::cmp);
            for (place, v) in values.iter().enumerate() {
                top.offer(*v, place);
            }
            let mut wanted: Vec<(u8, usize)> =
                values.iter().copied().enumerate().map(|(p, v)| (v, p)).collect();
            wanted.sort_by_key(|w| std::cmp::Reverse(w.0));
            wanted.truncate(k);
            prop_assert_eq!(top.into_sorted(), wanted);
        }
    }
}
