//! The filters of a block: which shard an id belongs to, how large they are, and how they are made.

use crate::bloom::murmur3::murmur3_128;
use crate::trace::TraceId;

/// Shards of a block whose meta names none: those of old blocks.
const OLD_SHARDS: u32 = 10;
/// Most shards that a block is given.
const MAX_SHARDS: u64 = 1000;

/// The shard of an id among `shards` (0 stands for 10, as in metas of old blocks): FNV-1 32 of its bytes.
pub fn shard_of(id: TraceId, shards: u32) -> u32 {
    let shards = if shards == 0 { OLD_SHARDS } else { shards };
    fnv1_32(id.as_bytes()) % shards
}

/// Fowler, Noll and Vo's hash 1 with 32 bits.
fn fnv1_32(bytes: &[u8]) -> u32 {
    (bytes.iter()).fold(0x811c_9dc5, |hash: u32, b| {
        hash.wrapping_mul(0x0100_0193) ^ u32::from(*b)
    })
}

/// Where the bits of a key are, before each is taken modulo the number of bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locations([u64; 4]);

impl Locations {
    pub(super) fn of_id(id: TraceId) -> Self {
        let mut key = [1; 17];
        key[..16].copy_from_slice(id.as_bytes());
        Self::of_both(&key[..16], &key)
    }

    fn of_both(key: &[u8], key_and_one: &[u8]) -> Self {
        let (h0, h1) = murmur3_128(key);
        let (h2, h3) = murmur3_128(key_and_one);
        Self([h0, h1, h2, h3])
    }

    pub(super) fn at(&self, i: u64) -> u64 {
        let h = &self.0;
        let step = h[2 + ((i + i % 2) % 4 / 2) as usize];
        h[(i % 2) as usize].wrapping_add(i.wrapping_mul(step))
    }
}

/// How large the filters of a block are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BloomShape {
    /// Number of filters.
    pub shards: u32,
    /// Bits of each.
    pub bits: u64,
    /// Bits that an id sets.
    pub hashes: u64,
}

/// What filters are made for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BloomOptions {
    /// Share of ids that are not in a filter and are taken to be. Tempo's default, 0.01.
    pub false_positive_rate: f64,
    /// Bytes of each filter, whatever it holds. Tempo's default, 100 KiB.
    pub shard_size_bytes: u32,
}

impl Default for BloomOptions {
    fn default() -> Self {
        Self {
            false_positive_rate: 0.01,
            shard_size_bytes: 100 << 10,
        }
    }
}

/// Bits and hashes that one filter for `traces` ids takes.
fn estimate(traces: u64, rate: f64) -> (u64, u64) {
    let n = traces.max(1) as f64;
    let ln_2 = std::f64::consts::LN_2;
    let bits = (-n * rate.ln() / ln_2.powi(2)).ceil();
    let hashes = (ln_2 * bits / n).ceil();
    (bits as u64, hashes as u64)
}

impl BloomShape {
    /// For a block of about `traces` traces. A rate that is none counts as the default.
    pub fn for_traces(traces: u64, options: BloomOptions) -> Self {
        let rate = options.false_positive_rate;
        let is_rate = rate > 1e-9 && rate < 1.0;
        let default = BloomOptions::default().false_positive_rate;
        let (needed, hashes) = estimate(traces, if is_rate { rate } else { default });
        let bits = u64::from(options.shard_size_bytes.max(8)) * 8;
        Self {
            shards: needed.div_ceil(bits).clamp(1, MAX_SHARDS) as u32,
            bits,
            hashes: hashes.max(1),
        }
    }

    /// Bytes of the filters in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.bits.div_ceil(64) * 8 * u64::from(self.shards)
    }
}

/// The filters of a block, being made. Takes [`BloomShape::memory_bytes`].
#[derive(Debug)]
pub struct BloomBuilder {
    shape: BloomShape,
    /// Of all shards, one after the other.
    words: Vec<u64>,
    words_per_shard: usize,
}

impl BloomBuilder {
    /// Empty filters.
    pub fn new(shape: BloomShape) -> Self {
        let words_per_shard = shape.bits.div_ceil(64) as usize;
        Self {
            shape,
            words: vec![0; words_per_shard * shape.shards as usize],
            words_per_shard,
        }
    }

    /// What they were made for.
    pub fn shape(&self) -> BloomShape {
        self.shape
    }

    /// Adds an id to its shard.
    pub fn insert(&mut self, id: TraceId) {
        let shard = shard_of(id, self.shape.shards) as usize;
        let words = &mut self.words[shard * self.words_per_shard..][..self.words_per_shard];
        let locations = Locations::of_id(id);
        for i in 0..self.shape.hashes {
            let bit = locations.at(i) % self.shape.bits;
            words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// Appends the file of a shard; see `docs/format/bloom.md`.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn encode_shard(&self, shard: u32, out: &mut Vec<u8>) {
        assert!(
            shard < self.shape.shards,
            "shard {shard} of {}",
            self.shape.shards
        );
        let at = shard as usize * self.words_per_shard;
        out.reserve((self.words_per_shard + 3) * 8);
        for number in [self.shape.bits, self.shape.hashes, self.shape.bits] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for word in &self.words[at..][..self.words_per_shard] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
