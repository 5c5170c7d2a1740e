//! How much the suite does.

/// How much the suite does with one seed. The default takes a store in memory about a tenth of a second in a debug build.
#[derive(Debug, Clone)]
pub struct SuiteSettings {
    /// Tenants.
    pub tenants: usize,
    /// Those who push at the same time, each to streams of its own.
    pub writers: u32,
    /// Those who ask at the same time.
    pub readers: u32,
    /// Streams of a writer in each tenant.
    pub streams: u32,
    /// Entries of a push, at most.
    pub entries: u64,
    /// What each writer, each reader and each keeper of the house does between two restarts.
    pub steps: u32,
    /// Restarts.
    pub rounds: u32,
    /// How far the clock moves with a push, at most.
    pub step_ms: u64,
    /// How far behind the clock the latest entries are. A store that refuses them may do so: they are few.
    pub late_ms: u64,
}

impl Default for SuiteSettings {
    /// Two of each are enough for two to meet; the clock crosses a range of a minute about every 15 pushes.
    fn default() -> Self {
        Self {
            tenants: 2,
            writers: 2,
            readers: 2,
            streams: 6,
            entries: 8,
            steps: 10,
            rounds: 3,
            step_ms: 8_000,
            late_ms: 100_000,
        }
    }
}
