//! Clients of the instances, one per address, kept while the instance is in the ring and healthy.

mod client;
mod pool;
mod settings;
#[cfg(test)]
mod tests;

pub use client::{ClientFactory, PoolClient};
pub use pool::ClientPool;
pub use settings::ClientPoolSettings;
