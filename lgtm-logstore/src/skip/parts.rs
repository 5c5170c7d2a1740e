//! Which parts of a text are indexed.
//!
//! A question is a substring test: a text may be asked for whatever stands in it, cut anywhere. So a part must be found in a line by its own
//! bytes, whatever stands around it, or the question must know what it cannot see. There are four kinds:
//!
//! * *UUIDs*: 36 bytes of that shape, wherever they stand.
//! * *Runs*: hexadecimal digits, 16 or more with a decimal digit among them, up to where they end. In a question a run that stands at the edge
//!   may go on in the line; which lengths there are in the lines is kept beside the filter, so that such a question can be answered too, unless
//!   there are longer runs. Of these, if they have more than 32 digits, some grams of 16 are kept: of each 17 that follow each other the one of the
//!   least hash. So whatever 32 digits of such a run a question has, it knows one that must be there.
//! * *Words*: each four letters that stand together.
//! * *Mixed*: six bytes of which the third or fourth is a digit behind none, with a letter before it that is no hexadecimal digit: `r-4242`, `us=503`.
//!
//! Short numbers alone are not indexed: times and measurements are new in each line, and take more to index than they take compressed.

use super::key_set::KeySet;
use super::scan::{ByteClasses, LetterBeforeDigit};
use lgtm_core::codec::ribbon::mixed;

const LETTER: u8 = 1;
const HEX_LETTER: u8 = 2;
const DIGIT: u8 = 4;
const HEX: u8 = HEX_LETTER | DIGIT;

/// Letters of a gram of words.
const WORD_GRAM: usize = 4;
/// Bytes of a mixed gram.
const MIXED_GRAM: usize = 6;
/// Where the first digit of a mixed gram stands.
const MIXED_PLACES: [usize; 2] = [2, 3];
/// Hexadecimal digits from which on a run is indexed.
pub(super) const MIN_RUN: usize = 16;
const UUID_LEN: usize = 36;
/// Digits of which a run that has more is kept in parts, too.
const LONG_RUN: usize = 32;
/// Digits of such a part.
const LONG_GRAM: usize = 16;
/// Where the dashes of a UUID stand.
const UUID_DASHES: [usize; 4] = [8, 13, 18, 23];

const fn classes() -> [u8; 256] {
    let mut out = [0; 256];
    let mut b = 0;
    while b < 256 {
        out[b] = match b as u8 {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' | b'A'..=b'F' => HEX_LETTER,
            b'g'..=b'z' | b'G'..=b'Z' | 0x80.. => LETTER,
            _ => 0,
        };
        b += 1;
    }
    out
}

static CLASS: [u8; 256] = classes();

#[inline]
fn class(b: u8) -> u8 {
    CLASS[b as usize]
}

/// The hash of what is found as a whole: UUIDs, runs, and values of structured metadata, which are often the same texts.
pub(super) fn whole_key(text: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text).max(1)
}

#[inline]
fn word_key(gram: [u8; WORD_GRAM]) -> u64 {
    mixed(u64::from(u32::from_le_bytes(gram)) | 1 << 40)
}

#[inline]
fn mixed_key(gram: [u8; MIXED_GRAM]) -> u64 {
    let [a, b, c, d, e, f] = gram;
    mixed(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) | 1 << 60)
}

/// The hashes of the grams of a long run, one after the other.
fn long_grams(run: &[u8]) -> impl Iterator<Item = u64> {
    let grams = run.windows(LONG_GRAM).filter_map(<[u8]>::first_chunk);
    grams.map(|gram: &[u8; LONG_GRAM]| {
        let both = u128::from_le_bytes(*gram);
        mixed((both as u64) ^ mixed((both >> 64) as u64)).max(1)
    })
}

/// Grams of 32 digits, the least of which stands for them.
const LONG_WINDOW: usize = LONG_RUN - LONG_GRAM + 1;

/// Which lengths runs have: bit 0 for the least one, the last bit for all from there on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RunLengths {
    /// Of runs of decimal digits only.
    pub(super) decimal: u64,
    /// Of the others.
    pub(super) hex: u64,
}

fn length_bit(len: usize) -> u32 {
    (len - MIN_RUN).min(63) as u32
}

impl RunLengths {
    fn add(&mut self, len: usize, is_decimal: bool) {
        let bits = if is_decimal {
            &mut self.decimal
        } else {
            &mut self.hex
        };
        *bits |= 1 << length_bit(len);
    }

    /// Whether there are runs that a longer run than `len` could be, of which a question sees only a part.
    fn has_longer(self, len: usize, is_decimal: bool) -> bool {
        let bits = match is_decimal {
            // A decimal part may be of a hexadecimal run.
            true => self.decimal | self.hex,
            false => self.hex,
        };
        match length_bit(len) {
            63 => bits >> 63 > 0,
            bit => bits >> (bit + 1) > 0,
        }
    }
}

/// The parts of the lines of some blocks, put aside until the next ones come.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptLineParts {
    wholes: Box<[u64]>,
    words: Box<[u64]>,
    mixed: Box<[u64]>,
    lengths: RunLengths,
}

impl KeptLineParts {
    /// Bytes of memory beside its own.
    pub(super) fn size_bytes(&self) -> usize {
        (self.wholes.len() + self.words.len() + self.mixed.len()) * size_of::<u64>()
    }
}

/// The parts of the lines of a group of blocks.
#[derive(Debug, Default)]
pub(super) struct LineParts {
    /// UUIDs and runs.
    pub(super) wholes: KeySet,
    pub(super) words: KeySet,
    pub(super) mixed: KeySet,
    pub(super) lengths: RunLengths,
    seen_words: KeySet,
    classes: ByteClasses,
    long: Vec<u64>,
    /// More mixed parts than this are of no use: they will not fit.
    max_mixed: usize,
    max_words: usize,
}

impl LineParts {
    /// Empties it for another group; more parts of a kind than `max` will not be used.
    pub(super) fn reset(&mut self, max: usize) {
        for set in [
            &mut self.wholes,
            &mut self.words,
            &mut self.mixed,
            &mut self.seen_words,
        ] {
            set.clear();
        }
        self.lengths = RunLengths::default();
        self.max_mixed = max;
        self.max_words = max;
    }

    /// What there is so far.
    pub(super) fn keep(&self) -> KeptLineParts {
        KeptLineParts {
            wholes: self.wholes.keys().into(),
            words: self.words.keys().into(),
            mixed: self.mixed.keys().into(),
            lengths: self.lengths,
        }
    }

    /// Takes in what was kept; both were [reset](LineParts::reset) with the same bound.
    pub(super) fn add(&mut self, kept: &KeptLineParts) {
        for (set, keys) in [
            (&mut self.wholes, &kept.wholes),
            (&mut self.words, &kept.words),
            (&mut self.mixed, &kept.mixed),
        ] {
            set.reserve(keys.len());
            for key in keys {
                set.insert(*key);
            }
        }
        self.lengths.decimal |= kept.lengths.decimal;
        self.lengths.hex |= kept.lengths.hex;
    }

    /// Bytes of memory.
    pub(super) fn size_bytes(&self) -> usize {
        let sets = [&self.wholes, &self.words, &self.mixed, &self.seen_words];
        sets.iter().map(|s| s.size_bytes()).sum()
    }

    /// Whether there were more of the mixed parts than may be.
    pub(super) fn has_too_many_mixed(&self) -> bool {
        self.mixed.len() > self.max_mixed
    }

    /// Whether there were more parts of words than may be.
    pub(super) fn has_too_many_words(&self) -> bool {
        self.words.len() > self.max_words
    }

    /// Takes in a line.
    pub(super) fn add_line(&mut self, line: &[u8]) {
        let mut classes = std::mem::take(&mut self.classes);
        classes.read(line);
        classes.words(|begin, end| self.add_word(line, begin, end));
        classes.hex_runs(|begin, end, has| self.add_run(line, begin, end, has));
        classes.letters_before_digits(|at| self.add_mixed(line, at));
        self.classes = classes;
    }

    /// A run of letters.
    fn add_word(&mut self, line: &[u8], begin: usize, end: usize) {
        if self.has_too_many_words() || !self.seen_words.insert(text_hash(line, begin, end)) {
            return;
        }
        for gram in line[begin..end].windows(WORD_GRAM) {
            if let Some(gram) = gram.first_chunk() {
                self.words.insert(word_key(*gram));
            }
        }
    }

    /// A run of eight hexadecimal digits or more, and the UUID that may begin with its last eight.
    #[inline]
    fn add_run(&mut self, line: &[u8], begin: usize, end: usize, has: [bool; 2]) {
        let [has_digit, has_letter] = has;
        let len = end - begin;
        if len >= MIN_RUN && has_digit {
            self.wholes.insert(whole_key(&line[begin..end]));
            self.lengths.add(len, !has_letter);
            if len > LONG_RUN {
                self.add_long(&line[begin..end]);
            }
        }
        if line.get(end) == Some(&b'-') {
            self.add_uuid(line, end - 8);
        }
    }

    fn add_long(&mut self, run: &[u8]) {
        self.long.clear();
        self.long.extend(long_grams(run));
        let mut last = 0;
        for window in self.long.windows(LONG_WINDOW) {
            let least = window.iter().copied().min().unwrap_or(0);
            if least != last {
                self.wholes.insert(least);
                last = least;
            }
        }
    }

    #[inline]
    fn add_uuid(&mut self, line: &[u8], at: usize) {
        if let Some(uuid) = uuid_at(line, at) {
            self.wholes.insert(whole_key(uuid));
        }
    }

    /// The mixed grams around a digit that follows none.
    #[inline]
    fn add_mixed(&mut self, line: &[u8], at: LetterBeforeDigit) {
        if self.has_too_many_mixed() {
            return;
        }
        for (before, is_mixed) in MIXED_PLACES.into_iter().zip([at.is_near, true]) {
            if is_mixed
                && let Some(start) = at.digit.checked_sub(before)
                && let Some(gram) = line[start..].first_chunk()
            {
                self.mixed.insert(mixed_key(*gram));
            }
        }
    }
}

/// A hash that lives as long as a table of known words.
#[inline]
fn text_hash(line: &[u8], begin: usize, end: usize) -> u64 {
    let mut h = (end - begin) as u64;
    let mut at = begin;
    while at < end {
        let part = match line[at..].first_chunk::<8>() {
            Some(eight) => {
                let left = end - at;
                let eight = u64::from_le_bytes(*eight);
                if left < 8 {
                    eight & ((1 << (8 * left)) - 1)
                } else {
                    eight
                }
            }
            None => {
                let rest = line[at..end].iter().take(8).rev();
                rest.fold(0, |all, b| all << 8 | u64::from(*b))
            }
        };
        h = (h.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        at += 8;
    }
    (h ^ h >> 32).max(1)
}

/// A UUID that stands at a place.
fn uuid_at(text: &[u8], at: usize) -> Option<&[u8]> {
    let uuid = text.get(at..at + UUID_LEN)?;
    if UUID_DASHES.iter().any(|n| uuid[*n] != b'-') {
        return None;
    }
    let is_hex = |(n, b): (usize, &u8)| UUID_DASHES.contains(&n) || class(*b) & HEX != 0;
    uuid.iter().enumerate().all(is_hex).then_some(uuid)
}

/// A run in a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AskedRun {
    key: u64,
    len: usize,
    is_decimal: bool,
    /// Whether it may go on in the line.
    is_open: bool,
    /// The part that stands for its first digits, if it may be one of a longer run.
    long: Option<u64>,
}

/// Bytes that a line must hold, taken apart: what may be asked of a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineNeedle {
    uuids: Vec<u64>,
    runs: Vec<AskedRun>,
    words: Vec<u64>,
    mixed: Vec<u64>,
}

/// Parts of a kind that are asked at most: more of them exclude hardly anything more.
const MAX_ASKED: usize = 48;

impl LineNeedle {
    /// Takes a needle apart.
    pub fn new(needle: &[u8]) -> Self {
        let mut out = Self::default();
        out.find_runs(needle);
        for at in 0..needle.len() {
            out.uuids.extend(uuid_at(needle, at).map(whole_key));
        }
        for gram in needle.windows(WORD_GRAM).filter_map(<[u8]>::first_chunk) {
            if gram.iter().all(|b| class(*b) & (LETTER | HEX_LETTER) != 0) {
                out.words.push(word_key(*gram));
            }
        }
        for gram in needle.windows(MIXED_GRAM).filter_map(<[u8]>::first_chunk) {
            let is_mixed = MIXED_PLACES.into_iter().any(|at: usize| {
                class(gram[at]) == DIGIT
                    && class(gram[at - 1]) != DIGIT
                    && gram[..at].iter().any(|b| class(*b) == LETTER)
            });
            if is_mixed {
                out.mixed.push(mixed_key(*gram));
            }
        }
        for keys in [&mut out.uuids, &mut out.words, &mut out.mixed] {
            keys.truncate(MAX_ASKED);
        }
        out.runs.truncate(MAX_ASKED);
        out
    }

    fn find_runs(&mut self, needle: &[u8]) {
        let mut at = 0;
        while at < needle.len() {
            let run = &needle[at..];
            let len = run.iter().position(|b| class(*b) & HEX == 0);
            let end = at + len.unwrap_or(run.len());
            let run = &needle[at..end];
            if run.len() >= MIN_RUN && run.iter().any(|b| class(*b) == DIGIT) {
                self.runs.push(AskedRun {
                    key: whole_key(run),
                    len: run.len(),
                    is_decimal: run.iter().all(|b| class(*b) == DIGIT),
                    is_open: at == 0 || end == needle.len(),
                    long: match run.len() >= LONG_RUN {
                        true => long_grams(&run[..LONG_RUN]).min(),
                        false => None,
                    },
                });
            }
            at = end + 1;
        }
    }

    /// Whether there is anything to ask.
    pub fn is_empty(&self) -> bool {
        self.uuids.is_empty()
            && self.runs.is_empty()
            && self.words.is_empty()
            && self.mixed.is_empty()
    }

    /// Whether a UUID or run that a line must hold is surely in none; `knows_long`: parts of long runs are among what is had.
    pub(super) fn lacks_wholes(
        &self,
        (lengths, knows_long): (RunLengths, bool),
        has: &impl Fn(u64) -> bool,
    ) -> bool {
        let may_be_part = |run: &AskedRun| {
            let lacks_part = |key| knows_long && !has(key);
            run.is_open
                && lengths.has_longer(run.len, run.is_decimal)
                && !run.long.is_some_and(lacks_part)
        };
        let is_gone = |run: &AskedRun| !has(run.key) && !may_be_part(run);
        self.uuids.iter().any(|k| !has(*k)) || self.runs.iter().any(is_gone)
    }

    /// Whether a part of a word is surely in no line.
    pub(super) fn lacks_words(&self, has: &impl Fn(u64) -> bool) -> bool {
        self.words.iter().any(|k| !has(*k))
    }

    /// Whether a mixed part is surely in no line.
    pub(super) fn lacks_mixed(&self, has: &impl Fn(u64) -> bool) -> bool {
        self.mixed.iter().any(|k| !has(*k))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(lines: &[Vec<u8>]) -> LineParts {
        let mut parts = LineParts::default();
        parts.reset(usize::MAX - 1);
        for line in lines {
            parts.add_line(line);
        }
        parts
    }

    /// The same parts, found byte by byte.
    fn parts_one_by_one(line: &[u8]) -> LineParts {
        let mut parts = LineParts::default();
        parts.reset(usize::MAX - 1);
        let class_at = |at: usize| line.get(at).map_or(0, |b| class(*b));
        let ends = |of: u8, at: usize| class_at(at) & of != 0 && class_at(at + 1) & of == 0;
        let begin_of = |of: u8, end: usize| {
            let before = (0..=end).rev().take_while(|at| class_at(*at) & of != 0);
            before.last().unwrap()
        };
        for at in 0..line.len() {
            if ends(LETTER | HEX_LETTER, at) {
                for gram in line[begin_of(LETTER | HEX_LETTER, at)..=at].windows(WORD_GRAM) {
                    parts.words.insert(word_key(*gram.first_chunk().unwrap()));
                }
            }
            if ends(HEX, at) {
                let run = &line[begin_of(HEX, at)..=at];
                let digits = run.iter().filter(|b| class(**b) == DIGIT).count();
                if run.len() >= MIN_RUN && digits > 0 {
                    parts.wholes.insert(whole_key(run));
                    parts.lengths.add(run.len(), digits == run.len());
                    if run.len() > LONG_RUN {
                        parts.add_long(run);
                    }
                }
            }
            if let Some(uuid) = uuid_at(line, at) {
                parts.wholes.insert(whole_key(uuid));
            }
            let is_first = class_at(at) == DIGIT && (at == 0 || class_at(at - 1) != DIGIT);
            for before in MIXED_PLACES {
                let has_letter = at >= before && (at - before..at).any(|at| class_at(at) == LETTER);
                if let Some(gram) = line
                    .get(at.wrapping_sub(before)..)
                    .filter(|_| is_first && has_letter)
                    && let Some(gram) = gram.first_chunk()
                {
                    parts.mixed.insert(mixed_key(*gram));
                }
            }
        }
        parts
    }

    fn may_hold(parts: &LineParts, needle: &[u8]) -> bool {
        let needle = LineNeedle::new(needle);
        !(needle.lacks_wholes((parts.lengths, true), &|k| parts.wholes.has(k))
            || needle.lacks_words(&|k| parts.words.has(k))
            || needle.lacks_mixed(&|k| parts.mixed.has(k)))
    }

    #[test]
    fn what_no_line_holds_is_known() {
        let line = br#"{"user":"user-4242","trace":"4bf92f3577b34da6a3ce929d0e0e4736","id":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6","blk":"blk_-7200400342436668240"}"#;
        let parts = parts(&[line.to_vec()]);
        for held in [
            "user-4242",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "7200400342436668240",
            "trace\":\"4bf92f3577b34da6a3ce929d0e0e4736\"",
            "f92f3577b34da6a3",
        ] {
            assert!(may_hold(&parts, held.as_bytes()), "{held}");
        }
        for absent in [
            "user-4343",
            "timeout",
            "4bf92f3577b34da6a3ce929d0e0e4737",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf7",
            "_-7200400342436668241x",
            "\"4bf92f3577b34da6\"",
            "trace 4bf92f3577b34da6a3ce929d0e0e47361",
        ] {
            assert!(!may_hold(&parts, absent.as_bytes()), "{absent}");
        }
    }

    #[test]
    fn thirty_two_digits_are_told_from_longer_runs() {
        let parts = parts(&[b"base=a489c868f0c37da93b76227c91bb03908ac0e742".to_vec()]);
        for held in [
            "a489c868f0c37da93b76227c91bb0390",
            "f0c37da93b76227c91bb03908ac0e742",
            "89c868f0c37da93b",
        ] {
            assert!(may_hold(&parts, held.as_bytes()), "{held}");
        }
        // Sixteen may be a part of any longer run.
        assert!(may_hold(&parts, b"0123456789a1b2c3"));
        assert!(!may_hold(&parts, b"0123456789a1b2c30123456789a1b2c3"));
    }

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        // Much of it hexadecimal and of the shapes that are looked for.
        let piece = prop_oneof![
            "[0-9a-f]{14,20}",
            "[0-9]{14,40}",
            "[0-9a-f]{30,50}",
            "[0-9a-f]{6,9}(-[0-9a-f]{4}){3}-[0-9a-f]{11,14}",
            "[a-hx ]{0,9}",
            "[g-k][-=_:\" ]{0,3}[0-9a]{1,5}",
            "[ -~é]{0,8}",
        ];
        prop::collection::vec(piece, 0..6).prop_map(|all| all.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn parts_are_those_that_are_found_byte_by_byte(pieces in prop::collection::vec(texts(), 1..4), any: Vec<u8>) {
            let line = [&pieces.concat()[..], &any].concat();
            let (found, wanted) = (parts(std::slice::from_ref(&line)), parts_one_by_one(&line));
            let sorted = |set: &KeySet| {
                let mut keys = set.keys().to_vec();
                keys.sort_unstable();
                keys
            };
            prop_assert_eq!(sorted(&found.wholes), sorted(&wanted.wholes));
            prop_assert_eq!(sorted(&found.words), sorted(&wanted.words));
            prop_assert_eq!(sorted(&found.mixed), sorted(&wanted.mixed));
            prop_assert_eq!(found.lengths, wanted.lengths);
        }

        #[test]
        fn whatever_stands_in_a_line_is_never_excluded(
            lines in prop::collection::vec(texts(), 1..4), from: prop::sample::Index, to: prop::sample::Index,
        ) {
            let parts = parts(&lines);
            let line = &lines[0];
            let (from, to) = (from.index(line.len() + 1), to.index(line.len() + 1));
            let needle = &line[from.min(to)..from.max(to)];
            prop_assert!(may_hold(&parts, needle), "{:?}", String::from_utf8_lossy(needle));
        }
    }
}
