//! Additive lagged Fibonacci generator, 607/273, as Go's `math/rand` seeded it before version 2.

use std::fmt;

use crate::prng::seed_words::SEED_WORDS;

const LEN: usize = 607;
const TAP_DISTANCE: usize = 334;
/// Steps of the seeding generator thrown away.
const DISCARDED: usize = 20;
/// 2^31 - 1, the modulus of the seeding generator.
const MODULUS: u64 = (1 << 31) - 1;
const MULTIPLIER: u64 = 48_271;
/// The seed that stands for 0, which would be a fixed point.
const INSTEAD_OF_ZERO: u64 = 89_482_311;

/// Go's original `math/rand` source.
///
/// Seeding costs about 2000 multiplications and 5 KB, a draw a few instructions. Not for secrets.
#[derive(Clone)]
pub struct GoRand {
    state: Box<[u64; LEN]>,
    tap: usize,
    feed: usize,
}

impl GoRand {
    /// The generator that Go's `rand.New(rand.NewSource(seed))` is.
    pub fn from_seed(seed: i64) -> Self {
        // The modulo keeps the sign of the seed, then the result is made positive.
        let mut x = (seed % MODULUS as i64 + MODULUS as i64) as u64 % MODULUS;
        if x == 0 {
            x = INSTEAD_OF_ZERO;
        }
        let mut step = || {
            x = x * MULTIPLIER % MODULUS;
            x
        };
        for _ in 0..DISCARDED {
            step();
        }
        let mut state = Box::new(SEED_WORDS);
        for word in state.iter_mut() {
            let (a, b, c) = (step(), step(), step());
            *word ^= (a << 40) ^ (b << 20) ^ c;
        }
        Self {
            state,
            tap: 0,
            feed: TAP_DISTANCE,
        }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.tap = self.tap.checked_sub(1).unwrap_or(LEN - 1);
        self.feed = self.feed.checked_sub(1).unwrap_or(LEN - 1);
        let value = self.state[self.feed].wrapping_add(self.state[self.tap]);
        self.state[self.feed] = value;
        value
    }

    /// What Go's `Int63` gives.
    pub fn next_i63(&mut self) -> i64 {
        (self.next_u64() & (u64::MAX >> 1)) as i64
    }

    /// What Go's `Uint32` gives.
    pub fn next_u32(&mut self) -> u32 {
        (self.next_i63() >> 31) as u32
    }

    /// A number below `bound`, for choices that are no contract. 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

impl fmt::Debug for GoRand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoRand").finish_non_exhaustive()
    }
}
