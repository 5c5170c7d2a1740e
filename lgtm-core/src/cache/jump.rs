//! Jump consistent hash (Lamping and Veach, 2014): a bucket of `n` for a key, where adding a bucket moves `1/n` of the keys.

/// The bucket, below `buckets`, of a 64-bit key; 0 when there are no buckets.
///
/// No memory, `O(ln buckets)` steps. Buckets can be added and removed at the end only: for lists that are the same everywhere, such as
/// memcached servers in natural order (the key then is xxHash64 of the cache key), not for rings.
pub fn jump_hash(key: u64, buckets: u32) -> u32 {
    const MULTIPLIER: u64 = 2_862_933_555_777_941_757;
    let mut key = key;
    let (mut bucket, mut next) = (0u64, 0u64);
    while next < u64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(MULTIPLIER).wrapping_add(1);
        let divisor = ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * ((1u64 << 31) as f64 / divisor)) as u64;
    }
    bucket as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_bucket_takes_its_share_and_moves_nothing_else() {
        let keys = 10_000u64;
        let scrambled = |k: u64| k.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let moved = (0..keys)
            .map(scrambled)
            .filter(|&k| {
                let (before, after) = (jump_hash(k, 10), jump_hash(k, 11));
                assert!(before == after || after == 10);
                before != after
            })
            .count();
        assert!((600..1300).contains(&moved), "{moved}");
        assert_eq!(jump_hash(7, 0), 0);
    }
}
