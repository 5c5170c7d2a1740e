//! Counts that several replicas tell of the same things.

use crate::ring::Ring;

/// How often each thing is in the answers of some replicas, in the mean.
#[derive(Debug, Clone, Copy)]
pub struct Copies(f64);

impl Copies {
    /// So often.
    pub fn new(copies: f64) -> Self {
        Self(copies)
    }

    /// As often as so many answers of instances of a ring have each of its keys.
    pub fn of(ring: &Ring, answers: usize) -> Self {
        let instances = ring.instances_with_tokens().max(1);
        let replicas = ring.settings().replication_factor.clamp(1, instances);
        Self(replicas as f64 * answers as f64 / instances as f64)
    }

    /// The number itself.
    pub fn get(self) -> f64 {
        self.0
    }

    /// What is told once of what was told so often. What is there at all is at least one. Without copies it is what it is.
    pub fn once(self, sum: u64) -> u64 {
        if self.0 <= 0.0 {
            return sum;
        }
        ((sum as f64 / self.0).round() as u64).max(u64::from(sum > 0))
    }
}
