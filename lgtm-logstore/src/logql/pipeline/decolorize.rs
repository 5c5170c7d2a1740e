//! Removing terminal colours.

use smallvec::{SmallVec, smallvec};

/// Appends a line without its escape sequences; false, and nothing is appended, if it has none.
///
/// A sequence is ESC or U+009B, any of `[ ] ( ) # ; ?`, then either letters, digits and `;` up to a BEL, or numbers of at most four
/// digits with `;` between and one final byte.
pub(super) fn decolorize(line: &[u8], out: &mut Vec<u8>) -> bool {
    let mut copied = 0;
    let mut at = 0;
    while at < line.len() {
        let intro = match &line[at..] {
            [0x1b, ..] => 1,
            [0xc2, 0x9b, ..] => 2,
            _ => {
                at += 1;
                continue;
            }
        };
        match sequence_len(&line[at + intro..]) {
            Some(len) => {
                out.extend_from_slice(&line[copied..at]);
                at += intro + len;
                copied = at;
            }
            None => at += intro,
        }
    }
    if copied > 0 {
        out.extend_from_slice(&line[copied..]);
    }
    copied > 0
}

/// Bytes of the sequence behind its introducer. The signs may take part in what follows them, so the longest run of them is tried first.
fn sequence_len(rest: &[u8]) -> Option<usize> {
    let is_sign = |b: &u8| b"[]()#;?".contains(b);
    let signs = rest.iter().take_while(|b| is_sign(b)).count();
    (0..=signs)
        .rev()
        .find_map(|n| tail_len(&rest[n..]).map(|len| n + len))
}

fn tail_len(rest: &[u8]) -> Option<usize> {
    let is_part = |b: &&u8| b.is_ascii_alphanumeric() || **b == b';';
    let run = rest.iter().take_while(is_part).count();
    if rest.get(run) == Some(&7) {
        return Some(run + 1);
    }
    // Where the numbers may end: fewer of their digits where the final byte would be one of them.
    let digits = |from: usize| {
        let rest = rest.get(from..).unwrap_or_default();
        rest.iter()
            .take(4)
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut ends: SmallVec<[usize; 32]> = smallvec![0];
    let mut at = digits(0);
    ends.extend(1..=at);
    while at > 0 && rest.get(at) == Some(&b';') {
        let more = digits(at + 1);
        ends.extend(at + 1..=at + 1 + more);
        at += 1 + more;
    }
    ends.into_iter().rev().find_map(|end| {
        let last = *rest.get(end)?;
        is_final(last).then_some(end + 1)
    })
}

fn is_final(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'A'..=b'P' | b'R' | b'Z' | b'c' | b'f'..=b'n' | b'q' | b'r' | b't' | b'y' | b'=' | b'>' | b'<' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_and_the_rest_stays() {
        let plain = |line: &str| {
            let mut out = Vec::new();
            if decolorize(line.as_bytes(), &mut out) {
                String::from_utf8(out).unwrap()
            } else {
                line.to_owned()
            }
        };
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m x"), "red x");
        assert_eq!(plain("\u{1b}[1;31;42mx"), "x");
        assert_eq!(plain("a \u{1b}[ b"), "a \u{1b}[ b");
        assert_eq!(plain("none"), "none");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_line(line: Vec<u8>, escapes in proptest::collection::vec(
            proptest::sample::select(b"\x1b[];0123mHA\x07\xc2\x9b?".to_vec()), 0..40)) {
            let mut out = Vec::new();
            decolorize(&line, &mut out);
            decolorize(&escapes, &mut out);
        }
    }
}
