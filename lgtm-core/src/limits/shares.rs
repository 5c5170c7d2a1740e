//! What one process may take of what holds for several together.

/// What of the limits that hold for all ingesters together one of them may take.
pub trait GlobalLimits: std::fmt::Debug + Send + Sync + 'static {
    /// This ingester's part of `limit`, of a tenant whose series or streams go to `shard_size` ingesters (0: all of them).
    fn local(&self, limit: u64, shard_size: u64) -> u64;
}

/// Knows how many distributors share the rates of tenants.
pub trait RateShare: std::fmt::Debug + Send + Sync + 'static {
    /// Those that take requests now, this one among them.
    fn distributors(&self) -> usize;
}
