//! Where runs of characters of some classes stand in a line, by words of 64 bits: a bit for each byte.
//!
//! Looking at each byte of a line costs more than all that is made of what is found there; comparisons over 64 bytes are what processors do in a
//! few steps, and the places come out of the bits.

/// Which bytes of a line are of which class.
#[derive(Debug, Default)]
pub(super) struct ByteClasses {
    /// Decimal digits.
    digits: Vec<u64>,
    /// Letters that are no hexadecimal digits, and all bytes beyond ASCII.
    letters: Vec<u64>,
    /// Letters that are hexadecimal digits, of either case.
    hex_letters: Vec<u64>,
    /// Letters of both kinds, then hexadecimal digits of both kinds.
    all_letters: Vec<u64>,
    hex: Vec<u64>,
}

/// A digit behind none, with a letter that is no hexadecimal digit before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LetterBeforeDigit {
    /// Where the digit stands.
    pub(super) digit: usize,
    /// Whether the letter is one of the two bytes before; else it is the third.
    pub(super) is_near: bool,
}

const STEP: usize = 64;

impl ByteClasses {
    /// Looks at a line.
    pub(super) fn read(&mut self, line: &[u8]) {
        let columns = [
            &mut self.digits,
            &mut self.letters,
            &mut self.hex_letters,
            &mut self.all_letters,
            &mut self.hex,
        ];
        for column in columns {
            column.clear();
        }
        let (steps, rest) = line.as_chunks::<STEP>();
        for step in steps {
            self.push(classes(step));
        }
        if !rest.is_empty() {
            let mut step = [0; STEP];
            step[..rest.len()].copy_from_slice(rest);
            self.push(classes(&step));
        }
        // Every run ends before what is behind the line.
        self.push([0; 3]);
    }

    fn push(&mut self, [digits, letters, hex_letters]: [u64; 3]) {
        self.digits.push(digits);
        self.letters.push(letters);
        self.hex_letters.push(hex_letters);
        self.all_letters.push(letters | hex_letters);
        self.hex.push(digits | hex_letters);
    }

    /// Calls `take` with begin and end of each run of four letters or more.
    pub(super) fn words(&self, mut take: impl FnMut(usize, usize)) {
        let all = &self.all_letters;
        let (mut before, mut place) = (0, 0);
        for pair in all.windows(2) {
            let (here, next) = (pair[0], pair[1]);
            let mut starts = here & !(here << 1 | before >> 63);
            for n in 1..4 {
                starts &= here >> n | next << (64 - n);
            }
            while starts != 0 {
                let begin = place + starts.trailing_zeros() as usize;
                take(begin, run_end(all, begin));
                starts &= starts - 1;
            }
            (before, place) = (here, place + STEP);
        }
    }

    /// Calls `take` with begin and end of each run of eight hexadecimal digits or more, and whether there is a decimal digit, and a letter, in it.
    pub(super) fn hex_runs(&self, mut take: impl FnMut(usize, usize, [bool; 2])) {
        let all = &self.hex;
        let (mut before, mut place) = (0, 0);
        for pair in all.windows(2) {
            let (here, next) = (pair[0], pair[1]);
            let mut starts = here & !(here << 1 | before >> 63);
            for n in 1..8 {
                starts &= here >> n | next << (64 - n);
            }
            while starts != 0 {
                let begin = place + starts.trailing_zeros() as usize;
                let end = run_end(all, begin);
                let has = [&self.digits, &self.hex_letters].map(|of| has_any(of, begin, end));
                take(begin, end, has);
                starts &= starts - 1;
            }
            (before, place) = (here, place + STEP);
        }
    }

    /// Calls `take` with each digit behind none that has a letter within the three bytes before it.
    pub(super) fn letters_before_digits(&self, mut take: impl FnMut(LetterBeforeDigit)) {
        let (mut digits_before, mut letters_before, mut place) = (0u64, 0u64, 0);
        for (digits, letters) in self.digits.iter().zip(&self.letters) {
            let shifted = |n: u32| letters << n | letters_before >> (64 - n);
            let first = digits & !(digits << 1 | digits_before >> 63);
            let near = shifted(1) | shifted(2);
            let mut found = first & (near | shifted(3));
            while found != 0 {
                let bit = found.trailing_zeros();
                take(LetterBeforeDigit {
                    digit: place + bit as usize,
                    is_near: near >> bit & 1 == 1,
                });
                found &= found - 1;
            }
            (digits_before, letters_before) = (*digits, *letters);
            place += STEP;
        }
    }
}

/// Where the run ends that goes on at `begin`.
#[inline]
fn run_end(all: &[u64], begin: usize) -> usize {
    let (mut word, bit) = (begin / STEP, begin % STEP);
    let here = !all[word] >> bit;
    if here != 0 {
        return begin + here.trailing_zeros() as usize;
    }
    loop {
        word += 1;
        // Behind the last one nothing is set.
        let rest = !all.get(word).copied().unwrap_or(0);
        if rest != 0 {
            return word * STEP + rest.trailing_zeros() as usize;
        }
    }
}

/// Whether a bit is set from `begin` on before `end`.
#[inline]
fn has_any(all: &[u64], begin: usize, end: usize) -> bool {
    let (first, last) = (begin / STEP, (end - 1) / STEP);
    let low = u64::MAX << (begin % STEP);
    let high = u64::MAX >> (STEP - 1 - (end - 1) % STEP);
    if first == last {
        return all[first] & low & high != 0;
    }
    all[first] & low != 0 || all[first + 1..last].iter().any(|w| *w != 0) || all[last] & high != 0
}

/// Digits, letters that are no hexadecimal digits, letters that are.
#[inline]
fn classes(step: &[u8; STEP]) -> [u64; 3] {
    let (mut digits, mut letters, mut hex_letters) = ([0; STEP], [0; STEP], [0; STEP]);
    for n in 0..STEP {
        let b = step[n];
        let of_alphabet = (b | 0x20).wrapping_sub(b'a');
        let is_hex = of_alphabet < 6;
        digits[n] = u8::from(b.wrapping_sub(b'0') < 10);
        hex_letters[n] = u8::from(is_hex);
        letters[n] = u8::from(of_alphabet < 26 && !is_hex) | b >> 7;
    }
    [bits(&digits), bits(&letters), bits(&hex_letters)]
}

/// The lowest bits of all bytes.
#[inline]
fn bits(bytes: &[u8; STEP]) -> u64 {
    let (eights, _) = bytes.as_chunks::<8>();
    eights.iter().enumerate().fold(0, |all, (n, eight)| {
        // Gathers the lowest bits of eight bytes in the highest byte.
        let eight = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080);
        all | eight >> 56 << (8 * n)
    })
}
