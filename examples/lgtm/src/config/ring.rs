//! How processes find each other.

use std::time::Duration;

use lgtm_core::rpc::{RpcClientSettings, RpcServerSettings};
use lgtm_core::{Error, Result};
use lgtm_ring::kv::{ConsulSettings, EtcdSettings};
use lgtm_ring::lifecycle::LifecyclerSettings;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::server::ServerSettings;

/// Where the members of a cluster keep what they know of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KvStore {
    Memory,
    Gossip,
    Etcd,
    Consul,
}

/// How processes find each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RingConfig {
    /// Where the members of the cluster keep what they know of each other: `memory` (this process is all there is), `gossip` (between them), `etcd`,
    /// `consul`.
    pub(crate) kvstore: KvStore,
    /// Members to begin with when they gossip, comma separated: host:port or dns+host:port.
    pub(crate) join: String,
    /// Address on which members gossip, UDP and TCP; the same address is told to the others.
    pub(crate) gossip_listen_address: String,
    /// Port on which members gossip.
    pub(crate) gossip_listen_port: u16,
    /// Name of the cluster, without which nobody gossips: packets of others are refused.
    pub(crate) cluster_label: String,
    /// How many ingesters take each series. 0: 3, or 1 where this process is all there is.
    pub(crate) replication_factor: usize,
    /// Availability zone of this process; with one, replicas lie in different zones.
    pub(crate) zone: String,
    /// Name of this process in the rings, the same after a restart; empty: that of the machine and the gRPC port.
    pub(crate) instance_id: String,
    /// Address at which the others call this process, host:port; empty: where the gRPC server listens.
    pub(crate) instance_addr: String,
    /// How ingesters join, stay in and leave their ring.
    pub(crate) lifecycler: LifecyclerConfig,
    /// The etcd cluster, where that is the store.
    pub(crate) etcd: EtcdSettings,
    /// The Consul agent, where that is the store.
    pub(crate) consul: ConsulSettings,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            kvstore: KvStore::Memory,
            join: String::new(),
            gossip_listen_address: "127.0.0.1".into(),
            gossip_listen_port: 7946,
            cluster_label: String::new(),
            replication_factor: 0,
            zone: String::new(),
            instance_id: String::new(),
            instance_addr: String::new(),
            lifecycler: LifecyclerConfig::default(),
            etcd: EtcdSettings::default(),
            consul: ConsulSettings::default(),
        }
    }
}

/// How ingesters join, stay in and leave their ring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LifecyclerConfig {
    /// Tokens of an ingester.
    pub(crate) num_tokens: usize,
    /// Time between heartbeats, of all components.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) heartbeat_period: Duration,
    /// The age of a heartbeat from which on an instance counts as unhealthy, in all rings.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) heartbeat_timeout: Duration,
    /// How long to stay PENDING before joining.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) join_after: Duration,
    /// How long to watch after joining whether another took the same tokens, as members that gossip may not agree at once.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) observe_period: Duration,
    /// How long the checks must have passed before an ingester says that it is ready.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) min_ready_duration: Duration,
    /// Whether an ingester leaves the ring at a shutdown; with no, as here, a restart finds its tokens and no series move, and one that goes for good is
    /// flushed first and forgotten by hand.
    pub(crate) unregister_on_shutdown: bool,
    /// How long heartbeats go on after the work of a shutdown is done.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) final_sleep: Duration,
    /// The longest that one read or write of a ring may take.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) store_timeout: Duration,
}

impl Default for LifecyclerConfig {
    fn default() -> Self {
        let usual = LifecyclerSettings::default();
        Self {
            num_tokens: usual.num_tokens,
            heartbeat_period: usual.heartbeat_period,
            heartbeat_timeout: usual.heartbeat_timeout,
            join_after: usual.join_after,
            observe_period: Duration::from_secs(1),
            min_ready_duration: usual.min_ready_duration,
            unregister_on_shutdown: false,
            final_sleep: usual.final_sleep,
            store_timeout: usual.store_timeout,
        }
    }
}

impl LifecyclerConfig {
    /// For instances that hold data.
    pub(crate) fn settings(&self) -> LifecyclerSettings {
        LifecyclerSettings {
            num_tokens: self.num_tokens,
            heartbeat_period: self.heartbeat_period,
            heartbeat_timeout: self.heartbeat_timeout,
            join_after: self.join_after,
            observe_period: self.observe_period,
            min_ready_duration: self.min_ready_duration,
            unregister_on_shutdown: self.unregister_on_shutdown,
            final_sleep: self.final_sleep,
            store_timeout: self.store_timeout,
            ..LifecyclerSettings::default()
        }
    }

    /// For instances that do work, with so many tokens.
    pub(crate) fn settings_without_data(&self, num_tokens: usize) -> LifecyclerSettings {
        let usual = LifecyclerSettings::without_data();
        LifecyclerSettings {
            num_tokens,
            heartbeat_period: self.heartbeat_period,
            heartbeat_timeout: self.heartbeat_timeout,
            store_timeout: self.store_timeout,
            forget_after: usual.forget_after.max(10 * self.heartbeat_timeout),
            ..usual
        }
    }
}

/// How processes call each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RpcConfig {
    /// How this process calls others.
    pub(crate) client: RpcClientSettings,
    /// How it answers them, on the gRPC port.
    pub(crate) server: RpcServerSettings,
}

impl RingConfig {
    /// Whether there may be other processes.
    pub(crate) fn is_cluster(&self) -> bool {
        self.kvstore != KvStore::Memory
    }

    /// How many ingesters take each series.
    pub(crate) fn replicas(&self) -> usize {
        match self.replication_factor {
            0 if self.is_cluster() => 3,
            0 => 1,
            n => n,
        }
    }

    /// Where the others call this process.
    pub(crate) fn address(&self, server: &ServerSettings) -> String {
        match self.instance_addr.as_str() {
            "" => server.grpc_address(),
            address => address.to_owned(),
        }
    }

    /// What the others call it.
    pub(crate) fn id(&self, server: &ServerSettings) -> String {
        match self.instance_id.as_str() {
            "" => {
                let machine = rustix::system::uname();
                let machine = machine.nodename().to_string_lossy();
                format!("{machine}-{}", server.grpc_listen_port)
            }
            id => id.to_owned(),
        }
    }
}

impl Config {
    /// Checks what processes need to find and call each other.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub(super) fn validate_ring(&self) -> Result<()> {
        let (ring, server) = (&self.ring, &self.server);
        let wrong = |text: &str| Err(Error::InvalidInput(text.to_owned()));
        let in_section = |section: &str, checked: Result<()>| {
            checked.map_err(|e| Error::InvalidInput(format!("{section}: {e}")))
        };
        in_section("rpc", self.rpc.client.validate())?;
        in_section("rpc", self.rpc.server.validate())?;
        in_section("metrics.remote", self.metrics.remote.validate())?;
        in_section("metrics.replication", self.metrics.replication.validate())?;
        in_section("logs.remote", self.logs.remote.validate())?;
        in_section("logs.replication", self.logs.replication.validate())?;
        in_section("traces.remote", self.traces.remote.validate())?;
        in_section("traces.replication", self.traces.replication.validate())?;
        if !ring.is_cluster() {
            return Ok(());
        }
        if ring.kvstore == KvStore::Gossip && ring.cluster_label.is_empty() {
            return wrong(
                "ring.cluster_label is empty: name the cluster, so that no other merges into it",
            );
        }
        if server.grpc_listen_port == 0 {
            return wrong("server.grpc_listen_port is 0: the others must know where to call");
        }
        let address = server.grpc_listen_address.parse::<std::net::IpAddr>();
        if ring.instance_addr.is_empty() && address.is_ok_and(|a| a.is_unspecified()) {
            return wrong(
                "the gRPC server listens on all addresses: ring.instance_addr must say at which one the others call",
            );
        }
        if ring.kvstore == KvStore::Etcd {
            in_section("ring.etcd", ring.etcd.validate())?;
        }
        if ring.kvstore == KvStore::Consul {
            in_section("ring.consul", ring.consul.validate())?;
        }
        in_section("ring", ring.lifecycler.settings().validate())
    }
}
