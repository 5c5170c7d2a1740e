//! What several components tell, as one.

use std::cmp::Ordering;

/// Joins two lists that are in the order of `compare`; what both have is there once, after `add` has taken the second into the first.
pub(super) fn merge_sorted<T>(
    all: &mut Vec<T>,
    more: Vec<T>,
    compare: impl Fn(&T, &T) -> Ordering,
    add: impl Fn(&mut T, T),
) {
    if all.is_empty() || more.is_empty() {
        all.extend(more);
        return;
    }
    let before = std::mem::take(all);
    all.reserve(before.len().max(more.len()));
    let (mut a, mut b) = (before.into_iter().peekable(), more.into_iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match compare(x, y) {
            Ordering::Less => all.extend(a.next()),
            Ordering::Greater => all.extend(b.next()),
            Ordering::Equal => {
                if let (Some(mut x), Some(y)) = (a.next(), b.next()) {
                    add(&mut x, y);
                    all.push(x);
                }
            }
        }
    }
    all.extend(a);
    all.extend(b);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_tell_is_told_once() {
        let joined = |mut a: Vec<(u8, u8)>, b| {
            merge_sorted(&mut a, b, |x, y| x.0.cmp(&y.0), |x, y| x.1 += y.1);
            a
        };
        assert_eq!(
            joined(vec![(1, 1), (3, 1)], vec![(0, 1), (3, 2), (4, 1)]),
            [(0, 1), (1, 1), (3, 3), (4, 1)]
        );
        assert_eq!(joined(vec![], vec![(2, 1)]), [(2, 1)]);
        assert_eq!(joined(vec![(2, 1)], vec![]), [(2, 1)]);
    }
}
