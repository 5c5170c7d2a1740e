//! The nodes, the messages between them, and time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_core::Result;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::kv::gossip::{
    Codecs, GossipOutput, GossipSettings, GossipState, Node, Now, WriteOutcome,
};
use crate::testing::sim::network::Network;

/// The wall clock at the begin of a simulation, ms since the Unix epoch: an arbitrary day.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// A node of a [`SimCluster`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// What all nodes of a simulation have in common.
#[derive(Debug, Clone)]
pub struct SimSettings {
    /// How the members behave. The label stands for the nodes that [`SimCluster::add`] gives none.
    pub gossip: GossipSettings,
    /// How values are merged.
    pub codecs: Codecs,
    /// How the network behaves at the begin.
    pub network: Network,
}

/// Nodes and a network, in one thread.
#[derive(Debug)]
pub struct SimCluster {
    settings: SimSettings,
    now: Duration,
    rng: SmallRng,
    events: BTreeMap<(Duration, u64), SimEvent>,
    next_event: u64,
    nodes: Vec<SimNode>,
    handled: u64,
    bytes: u64,
}

#[derive(Debug)]
struct SimNode {
    addr: SocketAddr,
    label: String,
    seeds: Vec<NodeId>,
    state: Option<GossipState>,
    starts: u64,
    /// How much the wall clock is ahead of the true time.
    clock_ahead_ms: i64,
    /// Which side of the partition it is on.
    side: u8,
    tick_at: Option<Duration>,
    sent_bytes: u64,
}

#[derive(Debug)]
enum SimEvent {
    Tick(NodeId),
    Datagram {
        from: NodeId,
        to: NodeId,
        packet: Bytes,
    },
    /// A packet over a connection; `life` is that of the sender.
    Request {
        from: NodeId,
        life: u64,
        to: NodeId,
        packet: Bytes,
        answer: bool,
    },
    Answer {
        from: NodeId,
        to: NodeId,
        life: u64,
        packet: Bytes,
    },
    Failed {
        node: NodeId,
        life: u64,
        peer: SocketAddr,
    },
    Seeds {
        node: NodeId,
        life: u64,
    },
}

impl SimCluster {
    /// No node yet. All chances derive from `seed`.
    pub fn new(settings: SimSettings, seed: u64) -> Self {
        Self {
            settings,
            now: Duration::ZERO,
            rng: SmallRng::seed_from_u64(seed),
            events: BTreeMap::new(),
            next_event: 0,
            nodes: Vec::new(),
            handled: 0,
            bytes: 0,
        }
    }

    /// Adds a node that knows `seeds` and does not run yet.
    pub fn add(&mut self, seeds: &[NodeId]) -> NodeId {
        let label = self.settings.gossip.cluster_label.clone();
        self.add_labelled(&label, seeds)
    }

    /// Adds a node of the cluster `label`.
    pub fn add_labelled(&mut self, label: &str, seeds: &[NodeId]) -> NodeId {
        let id = self.nodes.len();
        let ip = Ipv4Addr::from(0x0a00_0001 + id as u32);
        self.nodes.push(SimNode {
            addr: SocketAddr::from((ip, 7946)),
            label: label.to_owned(),
            seeds: seeds.to_vec(),
            state: None,
            starts: 0,
            clock_ahead_ms: 0,
            side: 0,
            tick_at: None,
            sent_bytes: 0,
        });
        NodeId(id)
    }

    /// Starts a node, anew if it runs: it remembers nothing.
    ///
    /// # Panics
    /// When the settings are not valid.
    pub fn start(&mut self, id: NodeId) {
        let (now, seed) = (self.now_at(id), self.rng.random());
        let settings = GossipSettings {
            cluster_label: self.nodes[id.0].label.clone(),
            ..self.settings.gossip.clone()
        };
        let node = &mut self.nodes[id.0];
        node.starts += 1;
        let identity = Node {
            name: format!("node-{}-{}", id.0, node.starts).into(),
            addr: node.addr,
            generation: now.unix_ms as u64,
        };
        let has_seeds = !node.seeds.is_empty();
        let codecs = self.settings.codecs.clone();
        let state = GossipState::new(settings, identity, codecs, has_seeds, seed, now);
        node.state = Some(state.expect("settings of a simulation are valid"));
        node.tick_at = None;
        self.drive(id);
    }

    /// Stops a node without a word.
    pub fn crash(&mut self, id: NodeId) {
        self.nodes[id.0].state = None;
    }

    /// Lets a node begin to leave; it is gone once it told the others.
    pub fn leave(&mut self, id: NodeId) {
        let now = self.now_at(id);
        if let Some(state) = &mut self.nodes[id.0].state {
            state.leave(now);
            self.drive(id);
        }
    }

    /// Sets how far a node's wall clock is ahead of the true time; negative is behind.
    pub fn set_clock_ahead_ms(&mut self, id: NodeId, ms: i64) {
        self.nodes[id.0].clock_ahead_ms = ms;
    }

    /// Changes the network.
    pub fn set_network(&mut self, network: Network) {
        self.settings.network = network;
    }

    /// Cuts these nodes off from all others. What is under way still arrives.
    pub fn partition(&mut self, side: &[NodeId]) {
        for (n, node) in self.nodes.iter_mut().enumerate() {
            node.side = u8::from(side.contains(&NodeId(n)));
        }
    }

    /// Ends the partition.
    pub fn heal(&mut self) {
        self.partition(&[]);
    }

    /// The time since the begin.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The time as a node's clocks show it.
    pub fn now_at(&self, id: NodeId) -> Now {
        Now {
            monotonic: self.now,
            unix_ms: BEGIN_MS + self.now.as_millis() as i64 + self.nodes[id.0].clock_ahead_ms,
        }
    }

    /// All nodes that run.
    pub fn running(&self) -> Vec<NodeId> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter(|(_, n)| n.state.is_some())
            .map(|(n, _)| NodeId(n))
            .collect()
    }

    /// A node's state, if it runs.
    pub fn state(&self, id: NodeId) -> Option<&GossipState> {
        self.nodes[id.0].state.as_ref()
    }

    /// The address of a node.
    pub fn addr(&self, id: NodeId) -> SocketAddr {
        self.nodes[id.0].addr
    }

    /// Bytes that a node sent so far, datagrams and connections.
    pub fn sent_bytes(&self, id: NodeId) -> u64 {
        self.nodes[id.0].sent_bytes
    }

    /// Bytes that all nodes sent so far.
    pub fn total_bytes(&self) -> u64 {
        self.bytes
    }

    /// Events handled so far; of two runs of one seed the same.
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// What a reader at this node sees.
    ///
    /// # Panics
    /// When the node does not run or its value cannot be read.
    pub fn read(&mut self, id: NodeId, key: &str) -> Option<Bytes> {
        let state = self.nodes[id.0].state.as_mut().expect("the node runs");
        state.read(key).expect("a stored value can be read").0
    }

    /// Writes at this node what `change` makes of the value. `None` leaves it alone.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Panics
    /// When the node does not run.
    pub fn write(
        &mut self,
        id: NodeId,
        key: &str,
        change: impl FnOnce(Option<Bytes>) -> Option<Bytes>,
    ) -> Result<WriteOutcome> {
        let now = self.now_at(id);
        let state = self.nodes[id.0].state.as_mut().expect("the node runs");
        let (current, seen) = state.read(key)?;
        let Some(value) = change(current) else {
            return Ok(WriteOutcome::Unchanged);
        };
        let outcome = state.write(key, seen, &value, now);
        self.drive(id);
        outcome
    }

    /// Deletes a key at this node, if it runs.
    pub fn delete(&mut self, id: NodeId, key: &str) {
        let now = self.now_at(id);
        if let Some(state) = &mut self.nodes[id.0].state {
            state.delete(key, now);
            self.drive(id);
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(entry) = self.events.first_entry() {
            let at = entry.key().0;
            if at > until {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.handled += 1;
            self.happen(event);
        }
        self.now = until;
    }

    /// Lets time pass in steps until `done`; how long it took, or `None` after `limit`.
    pub fn run_until(
        &mut self,
        limit: Duration,
        step: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Option<Duration> {
        let begin = self.now;
        loop {
            if done(self) {
                return Some(self.now - begin);
            }
            if self.now - begin >= limit {
                return None;
            }
            self.run_for(step);
        }
    }

    fn happen(&mut self, event: SimEvent) {
        match event {
            SimEvent::Tick(id) => {
                if self.nodes[id.0].tick_at == Some(self.now) {
                    self.nodes[id.0].tick_at = None;
                    self.drive(id);
                }
            }
            SimEvent::Datagram { from, to, packet } => {
                if self.connected(from, to) {
                    self.with(to, |state, now| drop(state.handle_datagram(&packet, now)));
                }
            }
            SimEvent::Request {
                from,
                life,
                to,
                packet,
                answer,
            } => {
                self.request(from, life, to, &packet, answer);
            }
            SimEvent::Answer {
                from,
                to,
                life,
                packet,
            } => {
                if self.connected(from, to) && self.lives(to, life) {
                    self.with(to, |state, now| drop(state.handle_stream(&packet, now)));
                } else {
                    self.fail(to, life, from);
                }
            }
            SimEvent::Failed { node, life, peer } => {
                if self.lives(node, life) {
                    self.with(node, |state, _| state.exchange_failed(peer));
                }
            }
            SimEvent::Seeds { node, life } => {
                if self.lives(node, life) {
                    let seeds = self.nodes[node.0].seeds.iter();
                    let addrs: Vec<_> = seeds.map(|s| self.nodes[s.0].addr).collect();
                    self.with(node, |state, now| state.seeds_resolved(&addrs, now));
                }
            }
        }
    }

    fn request(&mut self, from: NodeId, life: u64, to: NodeId, packet: &Bytes, wanted: bool) {
        let mut answer = None;
        let reached = self.connected(from, to) && self.nodes[to.0].state.is_some();
        if reached {
            self.with(to, |state, now| {
                answer = state.handle_stream(packet, now).ok().flatten();
            });
        }
        match answer {
            Some(packet) if wanted => {
                self.count(to, packet.len());
                let delay = self.settings.network.stream(&mut self.rng);
                let event = SimEvent::Answer {
                    from: to,
                    to: from,
                    life,
                    packet,
                };
                self.schedule(delay, event);
            }
            _ if wanted => self.fail(from, life, to),
            _ => {}
        }
    }

    fn fail(&mut self, node: NodeId, life: u64, peer: NodeId) {
        let peer = self.nodes[peer.0].addr;
        self.schedule(
            Duration::from_secs(2),
            SimEvent::Failed { node, life, peer },
        );
    }

    fn connected(&self, a: NodeId, b: NodeId) -> bool {
        self.nodes[a.0].side == self.nodes[b.0].side
    }

    fn lives(&self, id: NodeId, life: u64) -> bool {
        self.nodes[id.0].starts == life && self.nodes[id.0].state.is_some()
    }

    fn with(&mut self, id: NodeId, work: impl FnOnce(&mut GossipState, Now)) {
        let now = self.now_at(id);
        if let Some(state) = &mut self.nodes[id.0].state {
            work(state, now);
            self.drive(id);
        }
    }

    /// Lets a node do what is due, sends what it wants sent, and notes when it has to be looked at again.
    fn drive(&mut self, id: NodeId) {
        let now = self.now_at(id);
        let Some(state) = &mut self.nodes[id.0].state else {
            return;
        };
        if state.next_tick() <= self.now {
            state.tick(now);
        }
        let outputs: Vec<_> = std::iter::from_fn(|| state.poll()).collect();
        let (left, next) = (state.has_left(), state.next_tick());
        for output in outputs {
            self.deliver(id, output);
        }
        let node = &mut self.nodes[id.0];
        if left {
            node.state = None;
            return;
        }
        // A tick that is due now was done above; the soonest next one is a moment later.
        let next = next.max(self.now + Duration::from_micros(1));
        if node.tick_at.is_none_or(|at| next < at || at <= self.now) {
            node.tick_at = Some(next);
            self.schedule(next - self.now, SimEvent::Tick(id));
        }
    }

    fn deliver(&mut self, from: NodeId, output: GossipOutput) {
        let life = self.nodes[from.0].starts;
        match output {
            GossipOutput::Send { to, packet } => {
                self.count(from, packet.len());
                let Some(to) = self.by_addr(to) else { return };
                if packet.len() > self.settings.gossip.max_datagram_bytes.as_usize() {
                    let delay = self.settings.network.stream(&mut self.rng);
                    let answer = false;
                    self.schedule(
                        delay,
                        SimEvent::Request {
                            from,
                            life,
                            to,
                            packet,
                            answer,
                        },
                    );
                    return;
                }
                for delay in self.settings.network.datagram(&mut self.rng) {
                    let packet = packet.clone();
                    self.schedule(delay, SimEvent::Datagram { from, to, packet });
                }
            }
            GossipOutput::Exchange { to, packet } => {
                self.count(from, packet.len());
                let Some(to) = self.by_addr(to) else { return };
                let delay = self.settings.network.stream(&mut self.rng);
                let answer = true;
                self.schedule(
                    delay,
                    SimEvent::Request {
                        from,
                        life,
                        to,
                        packet,
                        answer,
                    },
                );
            }
            GossipOutput::ResolveSeeds => {
                self.schedule(
                    Duration::from_millis(1),
                    SimEvent::Seeds { node: from, life },
                );
            }
        }
    }

    fn count(&mut self, id: NodeId, bytes: usize) {
        self.nodes[id.0].sent_bytes += bytes as u64;
        self.bytes += bytes as u64;
    }

    fn by_addr(&self, addr: SocketAddr) -> Option<NodeId> {
        let SocketAddr::V4(v4) = addr else {
            return None;
        };
        let id = u32::from(*v4.ip()).checked_sub(0x0a00_0001)? as usize;
        (id < self.nodes.len()).then_some(NodeId(id))
    }

    fn schedule(&mut self, delay: Duration, event: SimEvent) {
        self.events
            .insert((self.now + delay, self.next_event), event);
        self.next_event += 1;
    }
}

impl SimSettings {
    /// Default members of the cluster `label` on a good network, one codec for all keys.
    pub fn new(label: &str, codec: Arc<dyn crate::kv::ValueCodec>) -> Self {
        Self {
            gossip: GossipSettings::for_cluster(label),
            codecs: Codecs::single(codec),
            network: Network::default(),
        }
    }
}
