//! Putting a gossip store together.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::telemetry::Registry;
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::kv::gossip::codecs::Codecs;
use crate::kv::gossip::gossip::GossipKv;
use crate::kv::gossip::seeds::{Resolver, SystemResolver};
use crate::kv::gossip::settings::GossipSettings;

/// How this member is reached and reaches others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportSettings {
    /// Where to listen, UDP and TCP. Port 7946 of all IPv4 addresses; port 0 takes any free one.
    pub bind: SocketAddr,
    /// The address that others send to, if it is not the one bound. Must be given when all addresses are bound.
    pub advertise: Option<SocketAddr>,
    /// The first part of the node's name, usually the host's. At most 100 bytes.
    pub node_name: String,
    /// Members to begin with: `host:port`, `dns+host:port`. Without any this is the first of its cluster.
    pub seeds: Vec<String>,
    /// How long the start waits for the first answer of a seed. 10 s; then it goes on alone and keeps trying.
    #[serde(with = "lgtm_core::units::duration")]
    pub join_timeout: Duration,
    /// Whether a start without an answer of any seed fails. False: all members of a cluster may start at once.
    pub abort_if_join_fails: bool,
    /// How long resolving one seed may take; all are resolved at once. 5 s, less than `join_timeout`, so that a dead name server for one
    /// does not make the start go on alone.
    #[serde(with = "lgtm_core::units::duration")]
    pub resolve_timeout: Duration,
    /// How long a connection may take to be made. 2 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub dial_timeout: Duration,
    /// How long all of a conversation over a connection may take. 10 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub stream_timeout: Duration,
    /// How long leaving may take. 20 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub leave_timeout: Duration,
    /// Connections at once, those from others and those to others each. 64; further ones are closed, packets for them dropped.
    pub max_streams: usize,
    /// Bytes being read from others at once. 256 MiB; connections wait for room.
    pub max_inbound_bytes: ByteSize,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7946)),
            advertise: None,
            node_name: String::new(),
            seeds: Vec::new(),
            join_timeout: Duration::from_secs(10),
            abort_if_join_fails: false,
            resolve_timeout: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(2),
            stream_timeout: Duration::from_secs(10),
            leave_timeout: Duration::from_secs(20),
            max_streams: 64,
            max_inbound_bytes: ByteSize::mib(256),
        }
    }
}

impl TransportSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting and its bound.
    pub fn validate(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::InvalidInput(text));
        if self.node_name.is_empty() || self.node_name.len() > 100 {
            return wrong(format!(
                "node_name {:?} must have 1 to 100 bytes",
                self.node_name
            ));
        }
        if self.bind.ip().is_unspecified() && self.advertise.is_none() {
            return wrong(format!(
                "bind is {}, so advertise must say at which address others reach this node",
                self.bind
            ));
        }
        if let Some(advertise) = self.advertise
            && advertise.ip().is_unspecified()
        {
            return wrong(format!(
                "advertise is {advertise}, which nobody can send to"
            ));
        }
        if !(1..=10_000).contains(&self.max_streams) {
            return wrong(format!(
                "max_streams is {}, must be 1 to 10000",
                self.max_streams
            ));
        }
        for (name, value) in [
            ("resolve_timeout", self.resolve_timeout),
            ("dial_timeout", self.dial_timeout),
            ("stream_timeout", self.stream_timeout),
        ] {
            if value.is_zero() {
                return wrong(format!("{name} is 0, must be more"));
            }
        }
        Ok(())
    }
}

/// Collects the parts of a [`GossipKv`].
#[derive(Debug)]
pub struct GossipBuilder {
    pub(super) settings: GossipSettings,
    pub(super) transport: TransportSettings,
    pub(super) codecs: Codecs,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) registry: Option<(Registry, String)>,
    pub(super) seed: u64,
}

impl GossipBuilder {
    pub(super) fn new(
        settings: GossipSettings,
        transport: TransportSettings,
        codecs: Codecs,
    ) -> Self {
        Self {
            settings,
            transport,
            codecs,
            clock: Arc::new(SystemClock::new()),
            resolver: Arc::new(SystemResolver),
            registry: None,
            seed: std::process::id().into(),
        }
    }

    /// The clock, if it is not the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What resolves the seeds, if it is not the operating system.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Where metrics go, and what stands before `memberlist_` in their names, e.g. `cortex_`.
    #[must_use]
    pub fn metrics(mut self, registry: Registry, prefix: impl Into<String>) -> Self {
        self.registry = Some((registry, prefix.into()));
        self
    }

    /// A random number: the end of the node's name and all choices of peers derive from it and from the time of the start. Without
    /// it, the process id serves.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput`, naming the fault.
    pub fn build(self) -> Result<GossipKv> {
        self.settings.validate()?;
        self.transport.validate()?;
        self.codecs.validate()?;
        for seed in &self.transport.seeds {
            self.resolver.check(seed)?;
        }
        Ok(GossipKv::from_builder(self))
    }
}
