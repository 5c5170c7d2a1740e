//! Sorted tokens and who owns each.

use std::sync::Arc;

use crate::instance::Instance;
use crate::token::Token;

/// Tokens in ascending order, their owners, and an index by a token's upper bits.
///
/// The index makes a search cost two cache misses rather than one per halving: with one bucket for every two tokens or so, what is left to
/// search is a handful. Where tokens crowd, the search inside a bucket is still binary.
#[derive(Debug, Default)]
pub(super) struct Circle {
    tokens: Box<[u32]>,
    owners: Box<[u32]>,
    /// For bucket `b`, the first place whose token falls into `b` or a later bucket; one more entry at the end.
    starts: Box<[u32]>,
    shift: u32,
}

impl Circle {
    /// The tokens of `members`, which index `instances` and ascend. If two hold a token, the first of them owns both entries.
    pub(super) fn of_instances(instances: &[Arc<Instance>], members: &[u32]) -> Self {
        let count = members.iter().map(|&m| instances[m as usize].tokens.len());
        let mut pairs: Vec<u64> = Vec::with_capacity(count.sum());
        for &member in members {
            let tokens = instances[member as usize].tokens.iter();
            pairs.extend(tokens.map(|t| u64::from(t.0) << 32 | u64::from(member)));
        }
        // Stable sorting merges runs that ascend already, and each member's tokens do.
        pairs.sort();
        Self::of_pairs(&pairs)
    }

    /// The part of this circle whose owners `keep` approves of.
    pub(super) fn filtered(&self, keep: impl Fn(u32) -> bool) -> Self {
        let pairs = self.iter().filter(|&(_, owner)| keep(owner));
        let pairs: Vec<u64> = pairs
            .map(|(token, owner)| u64::from(token.0) << 32 | u64::from(owner))
            .collect();
        Self::of_pairs(&pairs)
    }

    fn of_pairs(pairs: &[u64]) -> Self {
        let tokens: Box<[u32]> = pairs.iter().map(|p| (p >> 32) as u32).collect();
        let mut owners: Box<[u32]> = pairs.iter().map(|p| *p as u32).collect();
        for i in 1..tokens.len() {
            if tokens[i] == tokens[i - 1] {
                owners[i] = owners[i - 1];
            }
        }
        let buckets = (tokens.len() / 2).next_power_of_two();
        let shift = 32 - buckets.trailing_zeros();
        let mut starts = Vec::with_capacity(buckets + 1);
        for (place, &token) in tokens.iter().enumerate() {
            let bucket = (u64::from(token) >> shift) as usize;
            while starts.len() <= bucket {
                starts.push(place as u32);
            }
        }
        starts.resize(buckets + 1, tokens.len() as u32);
        Self {
            tokens,
            owners,
            starts: starts.into(),
            shift,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Bytes on the heap.
    pub(super) fn size_bytes(&self) -> usize {
        4 * (self.tokens.len() + self.owners.len() + self.starts.len())
    }

    /// The place of the first token greater than `key`; the first place if there is none. 0 for an empty circle.
    #[inline]
    pub(super) fn position(&self, key: Token) -> usize {
        let bucket = (u64::from(key.0) >> self.shift) as usize;
        let (from, to) = (
            self.starts[bucket] as usize,
            self.starts[bucket + 1] as usize,
        );
        let place = from + self.tokens[from..to].partition_point(|&t| t <= key.0);
        if place == self.tokens.len() { 0 } else { place }
    }

    /// Owners from `place` clockwise, once round.
    #[inline]
    pub(super) fn owners_from(&self, place: usize) -> impl Iterator<Item = u32> + '_ {
        let (before, after) = self.owners.split_at(place);
        after.iter().chain(before).copied()
    }

    /// Tokens and owners in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Token, u32)> + '_ {
        let tokens = self.tokens.iter().map(|&t| Token(t));
        tokens.zip(self.owners.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn circle(tokens: &[u32]) -> Circle {
        let mut tokens: Vec<_> = tokens.iter().map(|&t| Token(t)).collect();
        tokens.sort_unstable();
        let instance = Instance {
            tokens: tokens.into(),
            ..Instance::default()
        };
        Circle::of_instances(&[Arc::new(instance)], &[0])
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_search_over_all_finds(
            spread in prop::collection::vec(any::<u32>(), 1..200),
            crowd in prop::collection::vec(0u32..50, 0..50),
            keys in prop::collection::vec(any::<u32>(), 20),
        ) {
            let tokens: Vec<u32> = spread.iter().chain(&crowd).copied().collect();
            let circle = circle(&tokens);
            let near = tokens.iter().flat_map(|&t| [t, t.wrapping_sub(1), t.wrapping_add(1)]);
            for key in keys.into_iter().chain(near) {
                let all = circle.tokens.partition_point(|&t| t <= key);
                prop_assert_eq!(circle.position(Token(key)), all % circle.len());
            }
        }
    }

    #[test]
    fn an_empty_circle_has_a_position_too() {
        assert_eq!(circle(&[]).position(Token(u32::MAX)), 0);
        assert_eq!(circle(&[]).owners_from(0).count(), 0);
    }
}
