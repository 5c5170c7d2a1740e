//! What a process has of its cluster: where the members meet, the rings that it follows, and its own places in them.

use std::net::SocketAddr;
use std::sync::Arc;

use lgtm_core::clock::Clock;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::service::Services;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use lgtm_ring::instance::{InstanceState, RingCodec};
use lgtm_ring::kv::gossip::{Codecs, GossipSettings, TransportSettings};
use lgtm_ring::kv::{ConsulKv, EtcdKv, GossipKv, Kv};
use lgtm_ring::lifecycle::{Identity, Lifecycler, OnStopping, Role};
use lgtm_ring::ring::{ReplicationStrategy, RingSettings};
use lgtm_ring::store::RingStore;
use lgtm_ring::token::TokensFile;
use lgtm_ring::watch::{RingHandle, RingWatcher};
use tokio::runtime::Handle;

use crate::config::{Config, KvStore};

/// What stands before the names of metrics of rings, as in the peers.
const PREFIX: &str = "cortex_";
/// The service on which all lifecyclers wait: nobody joins before it can be called.
pub(crate) const GRPC_SERVER: &str = "grpc-server";

/// A ring that this process follows.
#[derive(Debug, Clone)]
pub(crate) struct RingOfCluster {
    /// Signal and component, as in `metrics-ingester`.
    pub(crate) name: &'static str,
    /// Paths of its page.
    pub(crate) paths: [&'static str; 2],
    pub(crate) ring: RingHandle,
    pub(crate) store: RingStore,
}

/// What holds for all instances of a ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingKind {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    pub(super) paths: [&'static str; 2],
    /// Tokens of an instance that holds no data.
    pub(super) tokens: usize,
    /// Whether its instances hold data of their own, so that it takes a quorum of them.
    pub(super) holds_data: bool,
}

pub(super) const METRICS_INGESTERS: RingKind = RingKind {
    name: "metrics-ingester",
    key: "metrics/collectors/ring",
    paths: ["/metrics/ingester/ring", "/ingester/ring"],
    tokens: 0,
    holds_data: true,
};

pub(super) const METRICS_STORE_GATEWAYS: RingKind = RingKind {
    name: "metrics-store-gateway",
    key: "metrics/collectors/store-gateway",
    paths: ["/metrics/store-gateway/ring", "/store-gateway/ring"],
    tokens: 1,
    holds_data: false,
};

pub(super) const METRICS_COMPACTORS: RingKind = RingKind {
    name: "metrics-compactor",
    key: "metrics/collectors/compactor",
    paths: ["/metrics/compactor/ring", "/compactor/ring"],
    tokens: 128,
    holds_data: false,
};

/// Counted only, since they share the rates of tenants.
pub(super) const METRICS_DISTRIBUTORS: RingKind = RingKind {
    name: "metrics-distributor",
    key: "metrics/collectors/distributor",
    paths: ["/metrics/distributor/ring", "/distributor/ring"],
    tokens: 1,
    holds_data: false,
};

pub(super) const LOGS_INGESTERS: RingKind = RingKind {
    name: "logs-ingester",
    key: "logs/collectors/ring",
    paths: ["/logs/ingester/ring", "/loki/ingester/ring"],
    tokens: 0,
    holds_data: true,
};

pub(super) const LOGS_INDEX_GATEWAYS: RingKind = RingKind {
    name: "logs-index-gateway",
    key: "logs/collectors/index-gateway",
    paths: ["/logs/index-gateway/ring", "/indexgateway/ring"],
    tokens: 1,
    holds_data: false,
};

/// One of them does all the work.
pub(super) const LOGS_COMPACTORS: RingKind = RingKind {
    name: "logs-compactor",
    key: "logs/collectors/compactor",
    paths: ["/logs/compactor/ring", "/loki/compactor/ring"],
    tokens: 128,
    holds_data: false,
};

/// Counted only, since they share the rates of tenants.
pub(super) const LOGS_DISTRIBUTORS: RingKind = RingKind {
    name: "logs-distributor",
    key: "logs/collectors/distributor",
    paths: ["/logs/distributor/ring", "/loki/distributor/ring"],
    tokens: 1,
    holds_data: false,
};

pub(super) const TRACES_INGESTERS: RingKind = RingKind {
    name: "traces-ingester",
    key: "traces/collectors/ring",
    paths: ["/traces/ingester/ring", "/tempo/ingester/ring"],
    tokens: 0,
    holds_data: true,
};

/// Each tenant has one of them.
pub(super) const TRACES_COMPACTORS: RingKind = RingKind {
    name: "traces-compactor",
    key: "traces/collectors/compactor",
    paths: ["/traces/compactor/ring", "/tempo/compactor/ring"],
    tokens: 128,
    holds_data: false,
};

/// Counted only, since they share the rates of tenants.
pub(super) const TRACES_DISTRIBUTORS: RingKind = RingKind {
    name: "traces-distributor",
    key: "traces/collectors/distributor",
    paths: ["/traces/distributor/ring", "/tempo/distributor/ring"],
    tokens: 1,
    holds_data: false,
};

/// What a process has of its cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    kv: Arc<dyn Kv>,
    /// The members, where they gossip.
    pub(crate) gossip: Option<GossipKv>,
    pub(super) identity: Identity,
    pub(crate) rings: Vec<RingOfCluster>,
    /// Own places in rings, each with the service that it is about.
    joins: Vec<(Arc<Lifecycler>, &'static str)>,
    clock: Arc<dyn Clock>,
    registry: Registry,
}

impl Cluster {
    /// The cluster that the settings name; nothing when this process is all there is.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn new(
        config: &Config,
        clock: &Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Option<Self>> {
        let ring = &config.ring;
        let id = ring.id(&config.server);
        let mut gossip = None;
        let kv: Arc<dyn Kv> = match ring.kvstore {
            KvStore::Memory => return Ok(None),
            KvStore::Gossip => {
                let members = members(config, &id, registry)?;
                Arc::new(gossip.insert(members).clone())
            }
            KvStore::Etcd => {
                let etcd = EtcdKv::builder(ring.etcd.clone());
                Arc::new(etcd.build(Handle::current())?)
            }
            KvStore::Consul => {
                let consul = ConsulKv::builder(ring.consul.clone());
                Arc::new(consul.build(Handle::current())?)
            }
        };
        Ok(Some(Self {
            kv,
            gossip,
            identity: Identity {
                id,
                addr: ring.address(&config.server),
                zone: ring.zone.clone(),
            },
            rings: Vec::new(),
            joins: Vec::new(),
            clock: Arc::clone(clock),
            registry: registry.clone(),
        }))
    }

    /// The service that everything else of the cluster comes after.
    pub(super) fn first(&self) -> Option<&'static str> {
        // The name of the gossip store.
        self.gossip.as_ref().map(|_| "memberlist-kv")
    }

    /// Follows a ring, if that is not done already; the service that follows it is added to `services`.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn follow(
        &mut self,
        kind: RingKind,
        config: &Config,
        services: &mut Services,
    ) -> Result<RingHandle> {
        if let Some(known) = self.rings.iter().find(|r| r.name == kind.name) {
            return Ok(known.ring.clone());
        }
        let store = RingStore::new(Arc::clone(&self.kv), kind.key)?;
        let settings = RingSettings {
            replication_factor: if kind.holds_data {
                config.ring.replicas()
            } else {
                1
            },
            zone_awareness_enabled: kind.holds_data && !config.ring.zone.is_empty(),
            heartbeat_timeout: config.ring.lifecycler.heartbeat_timeout,
            strategy: if kind.holds_data {
                ReplicationStrategy::Quorum
            } else {
                ReplicationStrategy::IgnoreUnhealthy
            },
            ..RingSettings::default()
        };
        let mut watcher = RingWatcher::builder(kind.name, store.clone())
            .settings(settings)
            .clock(Arc::clone(&self.clock))
            .metrics(self.registry.clone(), PREFIX);
        if let Some(first) = self.first() {
            watcher = watcher.depends_on(first);
        }
        let watcher = watcher.build()?;
        let ring = watcher.handle();
        *services = std::mem::take(services).add(watcher);
        self.rings.push(RingOfCluster {
            name: kind.name,
            paths: kind.paths,
            ring: ring.clone(),
            store,
        });
        Ok(ring)
    }

    /// Takes a place in a ring that is followed, once the service `after` runs; `at_leave` is done before it is given up.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn join(
        &mut self,
        kind: RingKind,
        config: &Config,
        executor: &Executor,
        after: &'static str,
        at_leave: Option<Arc<dyn OnStopping>>,
    ) -> Result<Arc<Lifecycler>> {
        let ring = self.rings.iter().find(|r| r.name == kind.name);
        let ring = ring.ok_or_else(|| Error::Internal(format!("{} is not followed", kind.name)))?;
        let own = &config.ring.lifecycler;
        let (role, settings) = if kind.holds_data {
            (Role::HoldsData, own.settings())
        } else {
            let joins_as = InstanceState::Active;
            let settings = own.settings_without_data(kind.tokens);
            (Role::DoesWork { joins_as }, settings)
        };
        let mut lifecycler =
            Lifecycler::builder(kind.name, ring.store.clone(), self.identity.clone(), role)
                .settings(settings)
                .clock(Arc::clone(&self.clock))
                .metrics(self.registry.clone(), PREFIX)
                .depends_on(GRPC_SERVER);
        if kind.holds_data {
            // Beside the log of the signal.
            let signal = kind.name.split('-').next().unwrap_or_default();
            let disk = Arc::new(LocalDisk::new(format!("{}/{signal}", config.data.dir)));
            let file = TokensFile::new(disk, "ring-tokens.json");
            lifecycler = lifecycler.tokens_file(file, executor.clone());
        }
        if let Some(work) = at_leave {
            lifecycler = lifecycler.on_stopping(work);
        }
        if let Some(first) = self.first() {
            lifecycler = lifecycler.depends_on(first);
        }
        let lifecycler = lifecycler.build()?;
        self.joins.push((Arc::clone(&lifecycler), after));
        Ok(lifecycler)
    }

    /// Own places in rings, each with the service that it comes after.
    pub(crate) fn take_joins(&mut self) -> Vec<(Arc<Lifecycler>, &'static str)> {
        std::mem::take(&mut self.joins)
    }
}

/// The members, which gossip.
fn members(config: &Config, id: &str, registry: &Registry) -> Result<GossipKv> {
    let ring = &config.ring;
    let bind = format!("{}:{}", ring.gossip_listen_address, ring.gossip_listen_port);
    let bind: SocketAddr = bind.parse().map_err(|_| {
        Error::InvalidInput(format!(
            "ring.gossip_listen_address: {bind:?} is no address"
        ))
    })?;
    let seeds = ring.join.split(',').map(str::trim);
    let transport = TransportSettings {
        bind,
        node_name: id.to_owned(),
        seeds: seeds.filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        ..TransportSettings::default()
    };
    let settings = GossipSettings::for_cluster(&ring.cluster_label);
    let codecs = Codecs::single(Arc::new(RingCodec));
    let members = GossipKv::builder(settings, transport, codecs);
    members.metrics(registry.clone(), PREFIX).build()
}
