//! The one pseudo-random generator whose output is part of a contract.
//!
//! Shuffle sharding must choose the same instances in every process and every version for ever, and the same as Mimir, Loki and Tempo
//! do; so the generator is pinned: Go's original `math/rand` source. Vectors: `golden/ring/prng_and_seeds.json`.

mod go_rand;
mod seed_words;

pub use go_rand::GoRand;
