//! Runs of fingerprints: how an index is cut into shards.

use lgtm_core::{Error, Result};

/// Fingerprints from `first` to `last`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FingerprintRange {
    /// The least.
    pub first: u64,
    /// The greatest.
    pub last: u64,
}

impl FingerprintRange {
    /// All of them.
    pub const ALL: Self = Self {
        first: 0,
        last: u64::MAX,
    };

    /// Shard `shard` of `count`, counted from 0: those whose highest bits are its number.
    ///
    /// # Errors
    /// `InvalidInput` for a count that is no power of two above 1, or a shard that is not below it.
    pub fn of_shard(shard: u32, count: u32) -> Result<Self> {
        if count < 2 || !count.is_power_of_two() || shard >= count {
            return Err(Error::InvalidInput(format!(
                "shard {shard} of {count}: the count must be a power of two above 1 and the shard below it"
            )));
        }
        let free_bits = 64 - count.trailing_zeros();
        let first = u64::from(shard) << free_bits;
        Ok(Self {
            first,
            last: first | ((1 << free_bits) - 1),
        })
    }

    /// Whether a fingerprint is inside.
    pub fn contains(&self, fingerprint: u64) -> bool {
        (self.first..=self.last).contains(&fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_all_fingerprints_out() {
        for count in [2u32, 16, 1 << 10] {
            let mut next = 0u64;
            for shard in 0..count {
                let range = FingerprintRange::of_shard(shard, count).unwrap();
                assert_eq!(range.first, next);
                assert!(range.contains(range.last) && range.first < range.last);
                next = range.last.wrapping_add(1);
            }
            assert_eq!(next, 0);
        }
        for (shard, count) in [(0, 0), (0, 1), (0, 3), (2, 2)] {
            assert!(FingerprintRange::of_shard(shard, count).is_err());
        }
    }
}
