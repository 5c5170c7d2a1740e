//! The replicas of a ring, written to and read from.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lgtm_core::Result;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{Executor, TaskGroup};
use lgtm_core::model::TenantId;
use parking_lot::Mutex;

use super::clients::InstancePool;
use super::push_tally::{PushAnswer, PushTally, Pushed};
use super::reserve::{groups_left, is_terminal};
use super::settings::ReplicationSettings;
use crate::batch::{Batch, do_batch, is_client_error};
use crate::fanout::{ReadOptions, read_quorum};
use crate::instance::Instance;
use crate::ring::{Operation, ReplicationSet, Ring};
use crate::token::Token;
use crate::watch::RingHandle;

/// What [`Replicas`] are made of.
#[derive(Debug)]
pub struct ReplicaParts<C: ?Sized> {
    /// The ring of all.
    pub ring: RingHandle,
    /// How they are reached.
    pub pool: Arc<dyn InstancePool<C>>,
    /// Where pushes go on.
    pub executor: Executor,
    /// The clock by which heartbeats are judged.
    pub clock: Arc<dyn Clock>,
    /// How they are asked.
    pub settings: ReplicationSettings,
}

/// Answers that are read on.
#[derive(Debug)]
pub struct Begun<T, C: ?Sized> {
    /// Those of a quorum.
    pub answers: Vec<T>,
    /// Groups of the others, each of which can go on in the place of one that breaks off.
    pub left: Vec<Vec<Arc<C>>>,
}

/// The replicas of a ring: who writes to them writes to a quorum of those of each key, who reads from them reads from so many that each write that a
/// quorum took is in the answers.
///
/// A push goes on in the background when its quorum is reached, so that slower replicas get it too. Dropping the future does not stop it. It returns when
/// all replicas have answered or a moment after the quorum (`straggler_wait`): a sender's next push, which it sends when this one is answered, would
/// overtake this one at a replica that is still at it, and be older than what that one has. Who was late once is not waited for until it is quick again.
#[derive(Debug)]
pub struct Replicas<C: ?Sized> {
    parts: ReplicaParts<C>,
    /// Pushes that go on.
    tasks: TaskGroup,
    /// Makes each read ask others first.
    reads: AtomicI64,
    /// Addresses of instances that pushes do not wait for, as they were late the last time.
    late: Arc<Mutex<HashSet<String>>>,
}

impl<C: ?Sized + Debug + Send + Sync + 'static> Replicas<C> {
    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense.
    pub fn new(parts: ReplicaParts<C>) -> Result<Self> {
        parts.settings.validate()?;
        Ok(Self {
            tasks: parts.executor.task_group(),
            reads: AtomicI64::new(parts.clock.now_ms().get()),
            late: Arc::default(),
            parts,
        })
    }

    /// The ring as it is now.
    pub fn ring(&self) -> Ring {
        self.parts.ring.current()
    }

    /// The time by which heartbeats are judged, Unix seconds.
    pub fn now_s(&self) -> i64 {
        self.parts.clock.now_ms().to_seconds()
    }

    /// The client of an instance.
    ///
    /// # Errors
    /// As [`InstancePool::instance`].
    pub fn client(&self, instance: &Instance) -> Result<Arc<C>> {
        self.parts.pool.instance(instance)
    }

    /// Those who take what a tenant writes that is to be with `shard_size` instances (0: with all).
    pub fn writers(&self, tenant: &TenantId, shard_size: u64) -> Ring {
        let ring = self.ring();
        ring.shuffle_shard(tenant.as_str(), shard_of(&ring, shard_size))
    }

    /// Those who may hold something of a tenant.
    pub fn readers(&self, tenant: &TenantId, shard_size: u64, now_s: i64) -> Ring {
        let ring = self.ring();
        match shard_of(&ring, shard_size) {
            0 => ring,
            size => {
                let lookback = self.parts.settings.shard_lookback;
                ring.shuffle_shard_with_lookback(tenant.as_str(), size, lookback, now_s)
            }
        }
    }

    /// Whether each instance of a ring has every key, so that one stands for all and nothing need be hashed.
    pub fn are_all_everywhere(ring: &Ring) -> bool {
        let settings = ring.settings();
        !settings.zone_awareness_enabled
            && ring.instances_with_tokens() <= settings.replication_factor
    }

    /// How reads ask.
    pub fn read_options(&self) -> ReadOptions {
        let settings = &self.parts.settings;
        let delay = settings.hedging_delay;
        ReadOptions {
            minimize_requests: settings.minimize_requests,
            hedging_delay: (!delay.is_zero()).then_some(delay),
            preferred_zones: settings.preferred_zones.clone(),
            seed: self.reads.fetch_add(1, Ordering::Relaxed),
            is_terminal,
        }
    }

    /// Asks those of a set, until a quorum has answered.
    ///
    /// # Errors
    /// As [`read_quorum`].
    pub async fn ask<T, F>(&self, set: &ReplicationSet, ask: impl Fn(Arc<C>) -> F) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let call = |instance: Arc<Instance>| {
            let asked = self.client(&instance).map(&ask);
            async move { asked?.await }
        };
        read_quorum(set, &self.read_options(), call).await
    }

    /// [`Replicas::ask`] of answers that are read on: with who is left to go on in the place of one that breaks off.
    ///
    /// # Errors
    /// As [`read_quorum`].
    pub async fn begin<T, F>(
        &self,
        set: &ReplicationSet,
        ask: impl Fn(Arc<C>) -> F,
    ) -> Result<Begun<T, C>>
    where
        F: Future<Output = Result<T>>,
    {
        let call = |instance: Arc<Instance>| {
            let asked = self.client(&instance).map(&ask);
            async move { Ok((instance, asked?.await?)) }
        };
        let begun = read_quorum(set, &self.read_options(), call).await?;
        let (answered, answers): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
        let clients = |group: Vec<Arc<Instance>>| {
            let group = group.iter().map(|i| self.client(i));
            group.collect::<Result<Vec<_>>>().ok()
        };
        let left = groups_left(set, &answered).into_iter();
        Ok(Begun {
            answers,
            left: left.filter_map(clients).collect(),
        })
    }

    /// Writes things, by their keys, to their replicas in `ring`; `push` gives a client the things of some places.
    ///
    /// # Errors
    /// `Unavailable` when too few replicas are healthy or answer well; those of the instances. What a quorum refuses is in the report, once all the
    /// rest is with a quorum.
    pub async fn push<R, F>(
        &self,
        ring: &Ring,
        keys: &[Token],
        push: impl Fn(Arc<C>, &[u32]) -> F,
    ) -> Result<Pushed<R>>
    where
        R: PushAnswer,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let needed = ring.settings().replication_factor / 2 + 1;
        let tally = PushTally::new(keys.len(), needed);
        let batch = Batch {
            ring,
            operation: Operation::WRITE_NO_EXTEND,
            keys,
            now_s: self.now_s(),
            is_client_error,
        };
        let moment = self.parts.settings.straggler_wait;
        let call = |instance: Arc<Instance>, places: Vec<u32>| {
            let pushed = self.client(&instance).map(|client| push(client, &places));
            let (tally, late) = (Arc::clone(&tally), Arc::clone(&self.late));
            let open = tally.open(&instance.addr);
            async move {
                let began = tokio::time::Instant::now();
                let answer = match pushed {
                    Ok(pushed) => pushed.await,
                    Err(error) => Err(error),
                };
                let is_quick = answer.is_ok() && began.elapsed() <= moment;
                let noted = tally.note(&places, answer);
                if is_quick {
                    late.lock().remove(&instance.addr);
                }
                drop(open);
                noted
            }
        };
        match do_batch(batch, &self.tasks, call, || ()).await {
            Ok(()) => {
                tally.wait_for_rest(moment, &self.late).await;
                Ok(Pushed::Whole(tally.succeeded()))
            }
            Err(failure) => {
                tally.failed(failure.error).await?;
                // With the answers of all replicas counts are exact.
                tally.wait_for_rest(moment, &self.late).await;
                Ok(Pushed::InPart(tally.joined()))
            }
        }
    }

    /// Waits for the pushes that go on.
    ///
    /// # Errors
    /// `Internal` when one of them panicked.
    pub async fn join(&self) -> Result<()> {
        self.tasks.join().await
    }
}

/// Instances that take what a tenant writes, at least as many as take each key; 0: all.
fn shard_of(ring: &Ring, shard_size: u64) -> usize {
    match usize::try_from(shard_size).unwrap_or(usize::MAX) {
        0 => 0,
        size => size.max(ring.settings().replication_factor),
    }
}
