//! The order of texts in which `a10` comes after `a9`.

use std::cmp::Ordering;

/// Compares runs of digits as numbers and everything else by bytes.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (x, y) = (run(a), run(b));
        if x.is_empty() || y.is_empty() {
            return x.len().cmp(&y.len());
        }
        let order = match (x[0].is_ascii_digit(), y[0].is_ascii_digit()) {
            (true, true) => number(x)
                .cmp(&number(y))
                .then_with(|| x.len().cmp(&y.len())),
            _ => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (&a[x.len()..], &b[y.len()..]);
    }
}

/// The digits, or what is not digits, at the beginning.
fn run(text: &[u8]) -> &[u8] {
    let Some(first) = text.first() else {
        return text;
    };
    let kind = first.is_ascii_digit();
    let end = text.iter().position(|c| c.is_ascii_digit() != kind);
    &text[..end.unwrap_or(text.len())]
}

/// Digits without leading zeros, the longer first: so that they compare as numbers of any size.
fn number(digits: &[u8]) -> (usize, &[u8]) {
    let zeros = digits.iter().take_while(|c| **c == b'0').count();
    (digits.len() - zeros, &digits[zeros..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_inside_texts_count_as_numbers() {
        let mut list = ["a10", "a9", "a", "b1", "a09", "10", "9", ""];
        list.sort_by(|a, b| compare(a, b));
        assert_eq!(list, ["", "9", "10", "a", "a9", "a09", "a10", "b1"]);
    }
}
