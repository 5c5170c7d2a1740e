//! Randomness that is given from outside.

use std::sync::Arc;

/// Where ids of blocks, seeds of hashes and names of instances take their randomness from: fills what it is given.
pub type RandomSource = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// The operating system's randomness, by way of the standard library's hash keys.
pub fn os_random() -> RandomSource {
    use std::hash::{BuildHasher, RandomState};
    Arc::new(|out: &mut [u8]| {
        for chunk in out.chunks_mut(8) {
            let bytes = RandomState::new().hash_one(chunk.len()).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    })
}
