//! A line cut into words.
//!
//! Words stand between spaces and the signs that programs put around values: `= " ' ( ) [ ] { } < > , ; |`, and `:` where it is at the edge of a word (so
//! `10:00:00` and `a:b` are words). What stands between words is the line's frame: lines of different frames have nothing in common.

use std::ops::Range;

/// What a byte does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Word,
    Digit,
    Colon,
    Gap,
}

const SIGNS: [Sign; 256] = {
    let mut signs = [Sign::Word; 256];
    let gaps = b" \t\r\n=\"'()[]{}<>,;|";
    let mut n = 0;
    while n < gaps.len() {
        signs[gaps[n] as usize] = Sign::Gap;
        n += 1;
    }
    let mut digit = b'0';
    while digit <= b'9' {
        signs[digit as usize] = Sign::Digit;
        digit += 1;
    }
    signs[b':' as usize] = Sign::Colon;
    signs
};

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) place: Range<u32>,
    /// Tells it from others; never 0.
    pub(super) hash: u64,
    /// Whether it has a digit, so that it likely changes from line to line.
    pub(super) has_digit: bool,
}

/// The words of one line. Buffers that live as long as whoever cuts lines.
#[derive(Debug, Default)]
pub struct LineWords {
    pub(super) words: Vec<Word>,
    /// Tells lines apart whose frames differ.
    pub(super) frame: u64,
}

impl LineWords {
    /// Cuts a line. False for one that has fewer or more words than it may; the words are of no use then.
    pub fn cut(&mut self, line: &[u8], words: Range<usize>) -> bool {
        self.words.clear();
        self.frame = SEED;
        let (mut at, mut gap) = (0, 0);
        while at < line.len() {
            if is_gap(line, at) {
                at += 1;
                continue;
            }
            let start = at;
            let mut has_digit = false;
            while at < line.len() && !is_gap(line, at) {
                has_digit |= SIGNS[line[at] as usize] == Sign::Digit;
                at += 1;
            }
            if self.words.len() + 1 >= words.end {
                return false;
            }
            self.frame = hash(self.frame, &line[gap..start]);
            self.words.push(Word {
                place: start as u32..at as u32,
                hash: hash(SEED, &line[start..at]) | 1,
                has_digit,
            });
            gap = at;
        }
        self.frame = hash(self.frame, &line[gap..]);
        self.words.len() >= words.start
    }
}

fn is_gap(line: &[u8], at: usize) -> bool {
    match SIGNS[line[at] as usize] {
        Sign::Gap => true,
        Sign::Word | Sign::Digit => false,
        Sign::Colon => {
            let is_word = |at: Option<usize>| {
                let sign = at.and_then(|n| line.get(n)).map(|b| SIGNS[*b as usize]);
                matches!(sign, Some(Sign::Word | Sign::Digit))
            };
            !(is_word(at.checked_sub(1)) && is_word(Some(at + 1)))
        }
    }
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A quick hash of short texts; whoever makes two of them equal gets one template for both.
fn hash(seed: u64, text: &[u8]) -> u64 {
    let mix = |state: u64, part: u64| {
        let wide = u128::from(state ^ part) * u128::from(0xa076_1d64_78bd_642f_u64);
        (wide as u64) ^ ((wide >> 64) as u64)
    };
    let (parts, rest) = text.as_chunks::<8>();
    let mut state = mix(seed, text.len() as u64);
    for part in parts {
        state = mix(state, u64::from_le_bytes(*part));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(line: &str) -> Vec<&str> {
        let mut words = LineWords::default();
        assert!(words.cut(line.as_bytes(), 0..81), "{line}");
        let places = words.words.iter();
        places
            .map(|w| &line[w.place.start as usize..w.place.end as usize])
            .collect()
    }

    #[test]
    fn words_stand_between_signs() {
        assert_eq!(
            cut(r#"ts=10:00:00 msg="GET /a/b: ok" [x-1]"#),
            ["ts", "10:00:00", "msg", "GET", "/a/b", "ok", "x-1"]
        );
        assert_eq!(cut(r#"{"a":"b", "c":5}"#), ["a", "b", "c", "5"]);
        assert_eq!(cut(" :: "), [""; 0]);
        assert_eq!(cut("é ünd 日本"), ["é", "ünd", "日本"]);
    }

    #[test]
    fn lines_differ_by_what_is_around_words() {
        let frame = |line: &str| {
            let mut words = LineWords::default();
            assert!(words.cut(line.as_bytes(), 0..81));
            words.frame
        };
        assert_eq!(frame("a=1 b"), frame("x=22 yy"));
        assert_ne!(frame("a=1 b"), frame("a 1 b"));
        assert_ne!(frame("a b"), frame("a b "));
        assert_ne!(frame("a, b"), frame("a ,b"));
    }

    #[test]
    fn too_few_and_too_many_words_are_told() {
        let mut words = LineWords::default();
        assert!(!words.cut(b"a b c", 4..81));
        assert!(words.cut(b"a b c d", 4..81));
        assert!(words.cut("w ".repeat(80).as_bytes(), 4..81));
        assert!(!words.cut("w ".repeat(81).as_bytes(), 4..81));
    }
}
