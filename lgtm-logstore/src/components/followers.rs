//! Who follows what comes in: entries of pushes are handed to queries that wait for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hashbrown::HashMap;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, TenantId, TimestampNs};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::clients::{TailFeed, TailFrame, TailRequest};
use crate::entry::{EntryBlock, EntryBlockBuilder, SymbolListBuilder, SymbolPair};
use crate::limits::Accepted;
use crate::logql::{AnswerStream, QueryError, TailQuery, TailScratch};
use crate::select::StreamBlock;
use crate::wire::{PushBatch, StreamView};

/// Entries of a frame, as in Loki.
pub(super) const FRAME_ENTRIES: usize = 100;
/// Entries left out that are told with a frame, as in Loki.
pub(super) const TOLD_DROPS: usize = 1000;

/// Bytes of a push after which others have their turn: a fraction of a millisecond. A stream that is looked at counts as some.
const TURN_BYTES: usize = 256 << 10;

/// How entries are handed to those who follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FollowSettings {
    /// Bytes of entries that wait for one follower before its query has looked at them; what comes beyond them is left out, and told. Default
    /// 4 MiB: several pushes of the usual size, so that a query that keeps one line in thousands loses none.
    pub max_queued: ByteSize,
    /// The same for all followers of the process together. Default 64 MiB.
    pub max_queued_total: ByteSize,
    /// A follower that has fetched nothing for so long while its queue was full is given up. Default 15s, as in Loki.
    #[serde(with = "lgtm_core::units::duration")]
    pub give_up_after: Duration,
}

impl Default for FollowSettings {
    fn default() -> Self {
        Self {
            max_queued: ByteSize::mib(4),
            max_queued_total: ByteSize::mib(64),
            give_up_after: Duration::from_secs(15),
        }
    }
}

/// Entries that wait for a follower.
#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<(StreamBlock, usize)>,
    bytes: usize,
    dropped: Vec<(TimestampNs, Labels)>,
    /// Since when there is no room and nothing is fetched, on the clock that never goes back.
    full_since: Option<Duration>,
    is_over: bool,
}

#[derive(Debug)]
struct Follower {
    query: TailQuery,
    start_ns: TimestampNs,
    queue: Mutex<Queue>,
    wake: Notify,
}

type TenantFollowers = Arc<[Arc<Follower>]>;

/// Those who follow a holder of recent entries.
///
/// A push costs one look at a counter while nobody follows; else its matching entries are copied once, whoever wants them. It never waits for
/// a follower: queries run when their entries are fetched.
#[derive(Debug)]
pub struct Followers {
    settings: FollowSettings,
    clock: Arc<dyn Clock>,
    executor: Executor,
    count: AtomicUsize,
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
    tenants: RwLock<HashMap<TenantId, TenantFollowers>>,
}

impl Followers {
    /// Nobody follows yet. Queries run on `executor`.
    pub fn new(settings: FollowSettings, clock: Arc<dyn Clock>, executor: Executor) -> Arc<Self> {
        Arc::new(Self {
            settings,
            clock,
            executor,
            count: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            tenants: RwLock::default(),
        })
    }

    /// How many follow.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Entries that were left out for followers that were too slow, so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Bytes of entries that wait for followers.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Hands on the entries of a push that were taken. Waits for nobody; of a large push others have their turn now and then.
    #[inline]
    pub async fn publish(&self, tenant: &TenantId, batch: &PushBatch, taken: &Accepted) {
        if self.count() > 0 {
            self.hand_on(tenant, batch, taken).await;
        }
    }

    async fn hand_on(&self, tenant: &TenantId, batch: &PushBatch, taken: &Accepted) {
        let Some(followers) = self.tenants.read().get(tenant).cloned() else {
            return;
        };
        let mut since_turn = 0;
        for view in batch.streams() {
            let labels = view.labels();
            let value_of = |name: &str| labels.iter().find(|(n, _)| *n == name).map(|(_, v)| v);
            let mut labels = None;
            let mut next = 0;
            since_turn += TURN_BYTES / 256;
            let takes = |f: &&Arc<Follower>| f.query.takes(value_of);
            let wanting: SmallVec<[&Arc<Follower>; 4]> = followers.iter().filter(takes).collect();
            while !wanting.is_empty() && next < view.len() {
                let labels = labels.get_or_insert_with(|| view.labels().to_labels().ok());
                let Some(labels) = labels.clone() else { break };
                if let Some(block) = block(labels, &view, &mut next, taken) {
                    since_turn += block.block.bytes().len();
                    wanting.iter().for_each(|f| self.offer(f, &block));
                }
                if since_turn >= TURN_BYTES {
                    since_turn = 0;
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Puts a block into the queue of a follower, as much of it as there is room for.
    fn offer(&self, follower: &Follower, stream_block: &StreamBlock) {
        let block = &stream_block.block;
        let block = block.between(follower.start_ns, TimestampNs::MAX);
        if block.is_empty() {
            return;
        }
        let whole = block.len();
        let mut queue = follower.queue.lock();
        if queue.is_over {
            return;
        }
        let own = self.settings.max_queued.as_usize();
        let total = self.settings.max_queued_total.as_usize();
        let room = own.saturating_sub(queue.bytes);
        let room = room.min(total.saturating_sub(self.queued_bytes()));
        let (fits, bytes) = fitting(&block, room);
        if fits > 0 {
            queue.bytes += bytes;
            self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
            let part = StreamBlock {
                labels: stream_block.labels.clone(),
                block: block.slice(0..fits),
            };
            queue.blocks.push_back((part, bytes));
        }
        if fits == whole {
            queue.full_since = None;
        } else {
            self.dropped
                .fetch_add((whole - fits) as u64, Ordering::Relaxed);
            let untold = TOLD_DROPS.saturating_sub(queue.dropped.len());
            let times = block.times()[fits..].iter().take(untold);
            let labels = &stream_block.labels;
            (queue.dropped).extend(times.map(|t_ns| (*t_ns, labels.clone())));
            let now = self.clock.monotonic();
            let since = *queue.full_since.get_or_insert(now);
            queue.is_over = now.saturating_sub(since) > self.settings.give_up_after;
        }
        drop(queue);
        follower.wake.notify_one();
    }

    /// Follows a query, from now on. Of a request start and query count: the past is not here, and who joins several holders delays.
    ///
    /// # Errors
    /// `Parse`; `Invalid` for a metric query; `Limit` when the tenant has `max_tails` already (0: any number).
    pub async fn tail(
        self: &Arc<Self>,
        tenant: &TenantId,
        request: &TailRequest,
        max_tails: usize,
    ) -> Result<Box<dyn TailFeed>, QueryError> {
        let text = request.query.clone();
        let executor = self.executor.in_line(tenant.as_str());
        let compiled = executor
            .run(move |_| TailQuery::new(&text), &CancelToken::new())
            .await?;
        let follower = Arc::new(Follower {
            query: compiled,
            start_ns: request.start_ns,
            queue: Mutex::default(),
            wake: Notify::new(),
        });
        let mut tenants = self.tenants.write();
        let known = tenants
            .entry(tenant.clone())
            .or_insert_with(|| Arc::new([]));
        if max_tails > 0 && known.len() >= max_tails {
            let count = known.len() + 1;
            return Err(QueryError::Limit(format!(
                "max concurrent tail requests limit exceeded, count > limit ({count} > {max_tails})"
            )));
        }
        let all = known.iter().cloned().chain([Arc::clone(&follower)]);
        *known = all.collect();
        drop(tenants);
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(FollowerFeed {
            followers: Arc::clone(self),
            tenant: tenant.clone(),
            follower,
            executor,
            taken: None,
        }))
    }

    /// Forgets one who no longer follows.
    fn leave(&self, tenant: &TenantId, follower: &Arc<Follower>) {
        let mut tenants = self.tenants.write();
        if let Some(known) = tenants.get_mut(tenant) {
            let rest = known.iter().filter(|f| !Arc::ptr_eq(f, follower));
            let rest: TenantFollowers = rest.cloned().collect();
            if rest.is_empty() {
                drop(tenants.remove(tenant))
            } else {
                *known = rest
            }
        }
        drop(tenants);
        self.count.fetch_sub(1, Ordering::Relaxed);
        let mut queue = follower.queue.lock();
        queue.is_over = true;
        queue.blocks.clear();
        let bytes = std::mem::take(&mut queue.bytes);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Some of the taken entries of a stream, from `next` on, which moves behind them.
fn block(
    labels: Labels,
    view: &StreamView<'_>,
    next: &mut usize,
    taken: &Accepted,
) -> Option<StreamBlock> {
    let first = view.first_entry();
    let mut block = EntryBlockBuilder::copying(0);
    let mut symbols = SymbolListBuilder::default();
    while *next < view.len() && block.copied_bytes() < TURN_BYTES {
        let (n, entry) = (first + *next, view.entry(*next));
        *next += 1;
        if !taken.takes(n) {
            continue;
        }
        block.push_copy(entry.t_ns, entry.line).ok()?;
        for (name, value) in entry.metadata() {
            let (name, value) = (symbols.intern(name)?, symbols.intern(value)?);
            block.push_metadata(SymbolPair { name, value });
        }
    }
    let block = block.finish(Arc::new(symbols.finish()));
    (!block.is_empty()).then_some(StreamBlock { labels, block })
}

/// How many of the first entries of a block fit into so many bytes, and how many they take.
fn fitting(block: &EntryBlock, room: usize) -> (usize, usize) {
    /// What an entry takes beside its line.
    const ENTRY: usize = 48;
    let mut bytes = 0;
    for n in 0..block.len() {
        let pairs = size_of_val(block.metadata(n));
        let with = bytes + block.line(n).len() + pairs + ENTRY;
        if with > room {
            return (n, bytes);
        }
        bytes = with;
    }
    (block.len(), bytes)
}

/// Blocks whose entries go through the query now.
#[derive(Debug, Clone)]
struct Taken {
    block: StreamBlock,
    dropped: Vec<(TimestampNs, Labels)>,
}

/// What one follower gets.
#[derive(Debug)]
struct FollowerFeed {
    followers: Arc<Followers>,
    tenant: TenantId,
    follower: Arc<Follower>,
    executor: Executor,
    /// Kept until what came of it is handed out, so that a fetch that was given up loses nothing.
    taken: Option<Taken>,
}

impl FollowerFeed {
    /// Takes the next block out of the queue; `None` when there is none yet, false when none will come.
    fn take(&mut self) -> Option<bool> {
        let mut queue = self.follower.queue.lock();
        let Some((block, bytes)) = queue.blocks.pop_front() else {
            return queue.is_over.then_some(false);
        };
        queue.bytes -= bytes;
        queue.full_since = None;
        let counted = &self.followers.queued_bytes;
        counted.fetch_sub(bytes, Ordering::Relaxed);
        let dropped = std::mem::take(&mut queue.dropped);
        self.taken = Some(Taken { block, dropped });
        Some(true)
    }
}

#[async_trait]
impl TailFeed for FollowerFeed {
    async fn next_frame(&mut self) -> Result<Option<TailFrame>> {
        loop {
            let Some(taken) = &self.taken else {
                match self.take() {
                    Some(true) => {}
                    Some(false) => return Ok(None),
                    None => self.follower.wake.notified().await,
                }
                continue;
            };
            let (follower, block) = (Arc::clone(&self.follower), taken.block.clone());
            let now_ns = self.followers.clock.now_ms().to_ns();
            let job =
                move |cancel: &CancelToken| -> Result<(Vec<AnswerStream>, usize), QueryError> {
                    let mut passed = Vec::new();
                    let mut scratch = TailScratch::at(now_ns);
                    let query = &follower.query;
                    let next =
                        query.pass(&block, FRAME_ENTRIES, &mut scratch, cancel, &mut passed)?;
                    Ok((passed, next))
                };
            let done = self.executor.run(job, &CancelToken::new()).await;
            let (streams, next) = done.map_err(|e| match e {
                QueryError::Source(e) => e,
                other => Error::Internal(other.to_string()),
            })?;
            // Nothing waits from here on.
            let Some(mut taken) = self.taken.take() else {
                continue;
            };
            let dropped = std::mem::take(&mut taken.dropped);
            let len = taken.block.block.len();
            if next < len {
                taken.block.block = taken.block.block.slice(next..len);
                self.taken = Some(taken);
            }
            if !streams.is_empty() || !dropped.is_empty() {
                return Ok(Some(TailFrame { streams, dropped }));
            }
        }
    }
}

impl Drop for FollowerFeed {
    fn drop(&mut self) {
        self.followers.leave(&self.tenant, &self.follower);
    }
}

#[cfg(test)]
mod tests;
