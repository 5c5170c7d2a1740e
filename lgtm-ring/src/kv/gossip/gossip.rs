//! The gossip store as a part of a process.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, TaskGroup};
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::kv::gossip::builder::{GossipBuilder, TransportSettings};
use crate::kv::gossip::codecs::Codecs;
use crate::kv::gossip::node::Node;
use crate::kv::gossip::seeds::Resolver;
use crate::kv::gossip::settings::GossipSettings;
use crate::kv::gossip::state::{GossipState, Now, WriteOutcome};
use crate::kv::gossip::stats::{GossipStats, collect};
use crate::kv::gossip::transport::Transport;
use crate::kv::kv::{Kv, MAX_CAS_ATTEMPTS, check_key, too_many_conflicts};
use crate::kv::watch::{KvWatch, Scope};

/// How long a write waits when the merge saw nothing newer in it: members have a time in whole seconds.
const NEXT_SECOND: Duration = Duration::from_secs(1);

/// A store whose values are gossiped between the members. Clones share it.
///
/// It is a [`Service`]: sockets are bound and the cluster is joined in `start`; before that every operation is `Unavailable`. A write
/// returns as soon as it is merged here; the others learn of it within a second or two. Compare-and-set is atomic among the users of
/// this member only; concurrent writes on two members are merged by the codec.
///
/// Merging runs where the message arrives, on the host's runtime: microseconds for a change, some milliseconds for the whole state
/// of a thousand instances.
#[derive(Debug, Clone)]
pub struct GossipKv {
    inner: Arc<GossipMember>,
    /// Not in `inner`, which the tasks hold: with the last clone of the store its tasks end and its sockets close, as if the process
    /// had died.
    tasks: Arc<OnceLock<TaskGroup>>,
}

#[derive(Debug)]
pub(super) struct GossipMember {
    pub(super) settings: GossipSettings,
    pub(super) transport: TransportSettings,
    codecs: Codecs,
    clock: Arc<dyn Clock>,
    pub(super) resolver: Arc<dyn Resolver>,
    registry: Option<(Registry, String)>,
    seed: u64,
    state: OnceLock<Mutex<GossipState>>,
    /// Told when there may be something to send.
    pub(super) wake: Notify,
    /// Told when something came in.
    pub(super) heard: Notify,
}

impl GossipKv {
    /// A store with these settings; `codecs` say how values are merged.
    pub fn builder(
        settings: GossipSettings,
        transport: TransportSettings,
        codecs: Codecs,
    ) -> GossipBuilder {
        GossipBuilder::new(settings, transport, codecs)
    }

    pub(super) fn from_builder(builder: GossipBuilder) -> Self {
        let inner = GossipMember {
            settings: builder.settings,
            transport: builder.transport,
            codecs: builder.codecs,
            clock: builder.clock,
            resolver: builder.resolver,
            registry: builder.registry,
            seed: builder.seed,
            state: OnceLock::new(),
            wake: Notify::new(),
            heard: Notify::new(),
        };
        Self {
            inner: Arc::new(inner),
            tasks: Arc::default(),
        }
    }

    /// The address that others send to, once started.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.inner.state.get().map(|s| s.lock().node().addr)
    }

    /// All members that are remembered, this one first, each with whether it lives. Empty before the start.
    pub fn members(&self) -> Vec<(Node, bool)> {
        let Some(state) = self.inner.state.get() else {
            return Vec::new();
        };
        let state = state.lock();
        let mut members = vec![(state.node().clone(), true)];
        members.extend(state.members());
        members
    }

    /// What was counted.
    pub fn stats(&self) -> GossipStats {
        let state = self.inner.state.get();
        state.map_or_else(GossipStats::default, |s| s.lock().stats().clone())
    }

    /// Works on the state, then lets the transport look for what is to be sent.
    fn with<T>(&self, work: impl FnOnce(&mut GossipState, Now) -> Result<T>) -> Result<T> {
        let Some(state) = self.inner.state.get() else {
            return Err(Error::Unavailable("the gossip store is not started".into()));
        };
        let outcome = work(&mut state.lock(), self.inner.now());
        self.inner.wake.notify_one();
        outcome
    }

    async fn bind(&self) -> Result<Transport> {
        let inner = &self.inner;
        let transport = Transport::bind(&inner.transport).await?;
        let bound = transport.local_addr();
        let mut addr = inner.transport.advertise.unwrap_or(bound);
        if addr.port() == 0 {
            addr.set_port(bound.port());
        }
        let now = inner.now();
        // Two processes of one host must not choose alike, nor the same one after a restart.
        let seed = inner.seed ^ (now.unix_ms as u64).rotate_left(20) ^ u64::from(addr.port());
        let digits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let node = Node {
            name: format!("{}-{digits:08x}", inner.transport.node_name).into(),
            addr,
            generation: now.unix_ms.max(0) as u64,
        };
        let has_seeds = !inner.transport.seeds.is_empty();
        let state = GossipState::new(
            inner.settings.clone(),
            node,
            inner.codecs.clone(),
            has_seeds,
            seed,
            now,
        )?;
        if inner.state.set(Mutex::new(state)).is_err() {
            return Err(Error::Internal("a gossip store is started once".into()));
        }
        Ok(transport)
    }

    fn register(&self) {
        if let Some((registry, prefix)) = &self.inner.registry {
            let (inner, prefix) = (Arc::downgrade(&self.inner), prefix.clone());
            registry.collect(move |c| {
                if let Some(inner) = inner.upgrade()
                    && let Some(state) = inner.state.get()
                {
                    collect(&state.lock(), &prefix, c);
                }
            });
        }
    }

    /// Waits until the cluster answered.
    async fn joined(&self) {
        loop {
            let heard = self.inner.heard.notified();
            if self.inner.state().lock().has_joined() {
                return;
            }
            heard.await;
        }
    }
}

impl GossipMember {
    pub(super) fn now(&self) -> Now {
        Now::of(&*self.clock)
    }

    /// The state of a started store.
    pub(super) fn state(&self) -> &Mutex<GossipState> {
        self.state
            .get()
            .expect("the transport runs after the start")
    }
}

#[async_trait]
impl Service for GossipKv {
    fn name(&self) -> &str {
        "memberlist-kv"
    }

    async fn start(&self) -> Result<()> {
        let transport = self.bind().await?;
        self.register();
        let tasks = TaskGroup::new(Handle::current());
        let stop = tasks.cancel_token().clone();
        tasks.spawn("gossip", transport.run(self.inner.clone(), stop));
        let _ = self.tasks.set(tasks);
        let timeout = self.inner.transport.join_timeout;
        if tokio::time::timeout(timeout, self.joined()).await.is_err() {
            let seeds = &self.inner.transport.seeds;
            if self.inner.transport.abort_if_join_fails {
                self.stop().await?;
                return Err(Error::Unavailable(format!(
                    "no seed of {seeds:?} answered within {timeout:?}"
                )));
            }
            tracing::warn!(?seeds, ?timeout, "no seed answered yet; going on alone");
        }
        Ok(())
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    /// Sends what is to be told, tells the others that this member goes, closes the sockets.
    async fn stop(&self) -> Result<()> {
        let Some(tasks) = self.tasks.get() else {
            return Ok(());
        };
        self.with(|state, now| {
            state.leave(now);
            Ok(())
        })?;
        let left = async {
            loop {
                let heard = self.inner.heard.notified();
                if self.inner.state().lock().has_left() {
                    return;
                }
                heard.await;
            }
        };
        let timeout = self.inner.transport.leave_timeout;
        if tokio::time::timeout(timeout, left).await.is_err() {
            tracing::warn!(?timeout, "left without telling everything");
        }
        tasks.shutdown().await
    }
}

#[async_trait]
impl Kv for GossipKv {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(key)?;
        self.with(|state, _| Ok(state.read(key)?.0))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.with(|state, _| Ok(state.list(prefix)))
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.with(|state, now| {
            state.delete(key, now);
            Ok(())
        })
    }

    /// A value that the merge sees nothing newer in is tried again a second later, since members have their time in seconds; one that
    /// equals what is there is done at once.
    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        check_key(key)?;
        for _ in 0..MAX_CAS_ATTEMPTS {
            let (current, seen) = self.with(|state, _| state.read(key))?;
            let Some(value) = change(current.clone())? else {
                return Ok(());
            };
            if current.as_ref() == Some(&value) {
                return Ok(());
            }
            match self.with(|state, now| state.write(key, seen, &value, now))? {
                WriteOutcome::Done => return Ok(()),
                WriteOutcome::Outdated => {}
                WriteOutcome::Unchanged => tokio::time::sleep(NEXT_SECOND).await,
            }
        }
        self.with(|state, _| {
            state.stats.cas_failures += 1;
            Ok(())
        })?;
        Err(too_many_conflicts(key))
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        check_key(key)?;
        self.with(|state, _| state.watch(Scope::Key(key.to_owned())))
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        self.with(|state, _| state.watch(Scope::Prefix(prefix.to_owned())))
    }
}
