//! What the suite asks of a store, and what it gives it to stand on.

use std::sync::Arc;

use object_store::memory::InMemory;

use crate::cache::{Cache, MemoryCache, MemoryCacheSettings};
use crate::clock::ManualClock;
use crate::error::Result;
use crate::model::{TenantId, TimeRange};
use crate::testing::{Crash, CrashDisk, FaultyStore};
use crate::timestamp::TimestampMs;

/// The wall clock of a new [`Ground`]: 2023-11-14 22:00:00 UTC, the beginning of any range that people cut time into.
const BEGINNING_MS: i64 = 1_700_000_000_000 / 7_200_000 * 7_200_000;

/// What the suite writes and finds again; a store makes a sample, a line or a span of it.
///
/// Within a tenant, stream and time say which entry it is: the suite never pushes two values for them, but it pushes an entry again
/// when it does not know what became of it, as clients do, and that makes no second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Series, stream or service.
    pub stream: u32,
    /// Milliseconds since the Unix epoch.
    pub time_ms: TimestampMs,
    /// What is to be found again; below 2^53, so that a float holds it.
    pub value: u64,
}

/// What a question brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// In any order.
    pub entries: Vec<Entry>,
    /// What may be missing, as the API would say it. None: the answer is whole.
    pub warnings: Vec<String>,
}

/// A store as the suite drives it. All verbs may be called at once, and the future of each may be dropped at any await, as a server does
/// when a client goes away.
pub trait StoreUnderTest: Send + Sync + 'static {
    /// Reads back what a process before has logged. Called once, after [`StoreOpener::open`]; questions are asked meanwhile.
    ///
    /// # Errors
    /// Only when the store cannot go on. That its object store does not answer is no reason.
    fn recover(&self) -> impl Future<Output = Result<()>> + Send;

    /// Takes entries. `Ok` acknowledges all of them: from now on they are in every answer.
    ///
    /// # Errors
    /// When any of them was not taken. The suite then expects nothing of them: they may turn up or not.
    fn push(&self, tenant: &TenantId, entries: &[Entry])
    -> impl Future<Output = Result<()>> + Send;

    /// Everything of a tenant in a range of time, from wherever it is by now.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` when there cannot be an answer now, `Internal` when the object store refuses; any other is a fault of
    /// the store.
    fn ask(
        &self,
        tenant: &TenantId,
        range: TimeRange,
    ) -> impl Future<Output = Result<Answer>> + Send;

    /// Moves everything that was acknowledged before the call into the object store.
    ///
    /// # Errors
    /// When not all of it got there. It is still in every answer.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// One round of everything that the store does by itself from time to time: complete ranges flushed, lists brought up to date,
    /// compaction, retention, cleaning.
    ///
    /// # Errors
    /// When the round is not complete; the next one will do the rest.
    fn keep_house(&self) -> impl Future<Output = Result<()>> + Send;

    /// Makes the log shorter, if the store has one.
    ///
    /// # Errors
    /// When it is as long as before.
    fn checkpoint(&self) -> impl Future<Output = Result<()>> + Send;

    /// Ends in order. Nothing is called afterwards.
    ///
    /// # Errors
    /// When something was left undone; nothing that was acknowledged may be lost by it.
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
}

/// Opens a store, again and again over the same ground. The settings that an opener chooses should make rare things frequent: ranges of a
/// minute, small segments, checkpoints and buffers, little room for open blocks.
pub trait StoreOpener: Send + Sync + 'static {
    /// What is opened.
    type Store: StoreUnderTest;

    /// A store over what stands on the ground. It may be asked at once; it takes entries after [`StoreUnderTest::recover`].
    ///
    /// # Errors
    /// Only when the disk refuses. Damage, and an object store that does not answer, are no reasons.
    fn open(&self, ground: &Ground) -> impl Future<Output = Result<Self::Store>> + Send;

    /// Whether an acknowledged entry survives a power loss with these settings. What a crash of the process may take is no setting:
    /// nothing.
    fn survives_power_loss(&self) -> bool;
}

/// Disk, object store and clock of a store that is tested.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Log and local files.
    pub disk: CrashDisk,
    /// Blocks and chunks; not touched by crashes.
    pub objects: FaultyStore,
    /// Moved by the suite.
    pub clock: Arc<ManualClock>,
    /// For what a store decides by chance: another in each life, and the same again when the suite's seed is.
    pub seed: u64,
    cache: Arc<dyn Cache>,
}

impl Ground {
    /// Empty, for a seed.
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at_ms(BEGINNING_MS));
        let settings = MemoryCacheSettings::default();
        let cache = MemoryCache::new("suite", &settings, clock.clone());
        Self {
            disk: CrashDisk::new(seed),
            objects: FaultyStore::new(Arc::new(InMemory::new()), seed),
            clock,
            seed,
            cache: Arc::new(cache.expect("the default settings are good")),
        }
    }

    /// A cache that outlives crashes as one on another machine does, for every second seed: stores that keep something in a cache should keep it
    /// here, so that what they find there is older than they are, and now and then older than what a life without the cache has made.
    pub fn cache(&self) -> Option<Arc<dyn Cache>> {
        (self.seed % 2 == 1).then(|| Arc::clone(&self.cache))
    }

    /// The ground after a crash. The disk of this one stops.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        Self {
            disk: self.disk.crash(crash),
            ..self.clone()
        }
    }
}
