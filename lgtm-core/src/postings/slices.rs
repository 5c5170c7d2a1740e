//! Set operations over two lists that are whole in memory.
//!
//! Streams ([`Postings`](super::Postings)) do the same in any number and without a list of the result. For two slices, as a head has them, these
//! take down to half the time (`benches/postings.rs`).

/// The ids in both of two ascending lists: about a nanosecond for each of the shorter one, by galloping through the longer.
pub fn intersect_slices(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = Vec::with_capacity(small.len());
    let mut rest = large;
    for &id in small {
        // Gallop: the next candidate is most often near.
        let mut step = 1;
        while step < rest.len() && rest[step] < id {
            step *= 2;
        }
        let at = rest[..rest.len().min(step + 1)].partition_point(|x| *x < id);
        rest = &rest[at..];
        match rest.first() {
            Some(&x) if x == id => out.push(id),
            Some(_) => {}
            None => break,
        }
    }
    out
}

/// Takes the ascending ids of `drop` out of the ascending list `from`, in place: about a nanosecond for each of either.
pub fn subtract_slice(from: &mut Vec<u32>, drop: &[u32]) {
    let mut d = drop.iter().copied().peekable();
    from.retain(|id| {
        while d.peek().is_some_and(|x| x < id) {
            d.next();
        }
        d.peek() != Some(id)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn set_operations_agree_with_sets(a in proptest::collection::btree_set(0u32..200, 0..80), b in proptest::collection::btree_set(0u32..200, 0..80)) {
            let (va, vb): (Vec<_>, Vec<_>) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert_eq!(intersect_slices(&va, &vb), a.intersection(&b).copied().collect::<Vec<_>>());
            let mut sub = va.clone();
            subtract_slice(&mut sub, &vb);
            prop_assert_eq!(sub, a.difference(&b).copied().collect::<Vec<_>>());
        }
    }
}
