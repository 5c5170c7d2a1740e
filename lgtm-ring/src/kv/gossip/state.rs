//! One member of the gossip cluster, without its sockets and its clock.
//!
//! ```text
//!   handle_datagram, handle_stream ─┐                    ┌─ Send: one message, no answer
//!   tick ───────────────────────────┼──► GossipState ──► poll ─ Exchange: all that is known, the answer is fed back
//!   write, delete, seeds_resolved ──┘                    └─ ResolveSeeds
//! ```
//!
//! Whatever goes in, goes in with the time; whatever is to be sent is fetched with [`GossipState::poll`]. The service
//! [`GossipKv`](crate::kv::gossip::GossipKv) drives it with sockets, the simulation in `testing` with a seed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use foca::State;
use lgtm_core::codec::Reader;
use lgtm_core::{Error, Result};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::kv::gossip::broadcasts::{Broadcasts, Origin};
use crate::kv::gossip::codecs::Codecs;
use crate::kv::gossip::membership::Membership;
use crate::kv::gossip::node::{MAX_NODE_NAME_BYTES, Node};
use crate::kv::gossip::packet::{self, PacketKind};
use crate::kv::gossip::pair::Pair;
use crate::kv::gossip::refusal::Refusal;
use crate::kv::gossip::settings::GossipSettings;
use crate::kv::gossip::stats::GossipStats;
use crate::kv::gossip::store::{ReceivedPair, StoreWrite, ValueStore};
use crate::kv::watch::{KvWatch, Scope};

/// Both times of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; intervals are measured by it.
    pub monotonic: Duration,
    /// Milliseconds since the Unix epoch; what is said to others is stamped with it.
    pub unix_ms: i64,
}

impl Now {
    /// What `clock` shows.
    pub fn of(clock: &dyn lgtm_core::clock::Clock) -> Self {
        Self {
            monotonic: clock.monotonic(),
            unix_ms: clock.now_ms().get(),
        }
    }

    /// Seconds since the Unix epoch.
    pub fn unix_s(self) -> i64 {
        self.unix_ms.div_euclid(1000)
    }
}

/// What the member wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GossipOutput {
    /// Send a packet; as a datagram if it is not longer than `max_datagram_bytes`, else over a stream. Loss is fine.
    Send {
        /// To whom.
        to: SocketAddr,
        /// The packet.
        packet: Bytes,
    },
    /// Send a packet over a stream and give the answer to [`GossipState::handle_stream`], or tell
    /// [`GossipState::exchange_failed`].
    Exchange {
        /// To whom.
        to: SocketAddr,
        /// The packet.
        packet: Bytes,
    },
    /// Resolve the seeds and tell [`GossipState::seeds_resolved`].
    ResolveSeeds,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Taken, and on its way to the others.
    Done,
    /// The value changed since it was read: read again.
    Outdated,
    /// The merge found nothing newer in it, as when a member is written twice within the second that its time has.
    Unchanged,
}

/// One member.
#[derive(Debug)]
pub struct GossipState {
    pub(super) settings: GossipSettings,
    pub(super) membership: Membership,
    pub(super) store: ValueStore,
    pub(super) broadcasts: Broadcasts,
    pub(super) stats: GossipStats,
    rng: SmallRng,
    outputs: VecDeque<GossipOutput>,
    next_gossip: Duration,
    next_push_pull: Duration,
    next_join: Duration,
    last_notify: Option<Duration>,
    join: JoinProgress,
    leave: LeavePhase,
}

#[derive(Debug)]
struct JoinProgress {
    /// Whether there is anybody to join.
    has_seeds: bool,
    attempts: u32,
    joined: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeavePhase {
    Staying,
    /// Sends its own changes first, until then at the latest.
    Draining(Duration),
    Left,
}

impl GossipState {
    /// A member that knows only itself. Equal seeds and equal inputs give equal outputs.
    ///
    /// # Errors
    /// `InvalidInput` for settings, codecs or a node that are not valid.
    pub fn new(
        settings: GossipSettings,
        node: Node,
        codecs: Codecs,
        has_seeds: bool,
        seed: u64,
        now: Now,
    ) -> Result<Self> {
        settings.validate()?;
        codecs.validate()?;
        if node.name.is_empty() || node.name.len() > MAX_NODE_NAME_BYTES {
            return Err(Error::InvalidInput(format!(
                "node name {:?} must have 1 to {MAX_NODE_NAME_BYTES} bytes",
                node.name
            )));
        }
        if node.addr.ip().is_unspecified() || node.addr.port() == 0 {
            return Err(Error::InvalidInput(format!(
                "node address {} is not one that others could send to",
                node.addr
            )));
        }
        let mut rng = SmallRng::seed_from_u64(seed);
        let room =
            settings.max_datagram_bytes.as_usize() - packet::overhead(&settings.cluster_label);
        let protocol_rng = SmallRng::seed_from_u64(rng.random());
        let jitter = settings.gossip_interval.mul_f64(rng.random());
        let first_push_pull = settings.push_pull_interval.mul_f64(rng.random());
        Ok(Self {
            membership: Membership::new(node, &settings, room, protocol_rng),
            store: ValueStore::new(codecs, &settings),
            broadcasts: Broadcasts::new(settings.max_queue_bytes.as_usize()),
            stats: GossipStats::default(),
            rng,
            outputs: VecDeque::new(),
            next_gossip: now.monotonic + jitter,
            next_push_pull: now.monotonic + first_push_pull,
            next_join: now.monotonic,
            last_notify: None,
            join: JoinProgress {
                has_seeds,
                attempts: 0,
                joined: !has_seeds,
            },
            leave: LeavePhase::Staying,
            settings,
        })
    }

    /// What is to be done, one thing at a time; `None` when there is nothing more.
    pub fn poll(&mut self) -> Option<GossipOutput> {
        for (to, body) in self.membership.take_sends() {
            self.send(to, PacketKind::Membership, &body);
        }
        let output = self.outputs.pop_front();
        match &output {
            Some(GossipOutput::Send { packet, .. }) => self.stats.sent(packet.len()),
            Some(GossipOutput::Exchange { packet, .. }) => self.stats.pushed(packet.len()),
            _ => {}
        }
        output
    }

    /// When [`GossipState::tick`] has something to do again; earlier after anything else was called.
    pub fn next_tick(&self) -> Duration {
        let mut next = self.next_push_pull;
        let mut at = |when: Option<Duration>| next = next.min(when.unwrap_or(next));
        at(self.membership.next_due());
        at((!self.broadcasts.is_empty()).then_some(self.next_gossip));
        at(self.join.has_seeds.then_some(self.next_join));
        at(self.store.is_dirty().then(|| self.next_notify()));
        let kept = self.settings.obsolete_entries_timeout;
        at(self.store.first_deleted().map(|at| at + kept));
        if let LeavePhase::Draining(until) = self.leave {
            at(Some(if self.drained() {
                Duration::ZERO
            } else {
                until
            }));
        }
        next
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        let time = now.monotonic;
        self.membership.tick(time);
        if time >= self.next_gossip {
            self.next_gossip = time + self.settings.gossip_interval;
            self.gossip();
        }
        if time >= self.next_push_pull {
            self.schedule_push_pull(time);
            self.push_pull_with_somebody();
        }
        if self.join.has_seeds && time >= self.next_join && self.leave == LeavePhase::Staying {
            self.schedule_join(time);
            self.outputs.push_back(GossipOutput::ResolveSeeds);
        }
        if self.store.is_dirty() && time >= self.next_notify() {
            self.last_notify = Some(time);
            self.store.notify();
        }
        self.store
            .forget_deleted(time.saturating_sub(self.settings.obsolete_entries_timeout));
        if let LeavePhase::Draining(until) = self.leave
            && (self.drained() || time >= until)
        {
            self.leave = LeavePhase::Left;
            self.membership.leave(time);
        }
    }

    fn next_notify(&self) -> Duration {
        self.last_notify
            .map_or(Duration::ZERO, |last| last + self.settings.notify_interval)
    }

    fn drained(&self) -> bool {
        self.broadcasts.counts().0 == 0 || self.membership.live().is_empty()
    }

    /// Sends changes to a few members.
    fn gossip(&mut self) {
        let limit = self.retransmit_limit();
        let small = self.membership_room();
        let total = self.settings.max_bundle_bytes.as_usize();
        for to in self.random_live(self.settings.gossip_nodes) {
            let messages = self.broadcasts.take(small, total, limit);
            if messages.is_empty() {
                break;
            }
            for changes in messages {
                self.send(to, PacketKind::Broadcasts, &changes.concat());
            }
        }
    }

    fn membership_room(&self) -> usize {
        self.settings.max_datagram_bytes.as_usize() - packet::overhead(&self.settings.cluster_label)
    }

    fn retransmit_limit(&self) -> u32 {
        let digits = (self.membership.live().len() as f64 + 2.0).log10().ceil();
        self.settings.retransmit_multiplier * digits as u32
    }

    fn random_live(&mut self, count: usize) -> Vec<SocketAddr> {
        let live = self.membership.live();
        let mut chosen = Vec::with_capacity(count);
        // A few draws too many cost less than a shuffle of a thousand addresses.
        for _ in 0..count * 4 {
            if chosen.len() == count.min(live.len()) {
                break;
            }
            let to = live[self.rng.random_range(0..live.len())];
            if !chosen.contains(&to) {
                chosen.push(to);
            }
        }
        chosen
    }

    /// The interval doubles with each doubling of the cluster past 32 members, so that the load of all exchanges stays bounded.
    fn schedule_push_pull(&mut self, time: Duration) {
        let size = self.membership.live().len() as f64 + 1.0;
        let scale = ((size / 32.0).log2().ceil() + 1.0).max(1.0);
        let jitter = 0.75 + 0.5 * self.rng.random::<f64>();
        self.next_push_pull = time + self.settings.push_pull_interval.mul_f64(scale * jitter);
    }

    fn push_pull_with_somebody(&mut self) {
        if let Some(to) = self.random_live(1).first().copied() {
            self.exchange(to);
        }
        // Both sides of a healed partition take each other for dead; somebody has to begin.
        let rng = &mut self.rng;
        if let Some(dead) = self.membership.some_dead(|n| rng.random_range(0..n)) {
            self.exchange(dead);
        }
    }

    fn exchange(&mut self, to: SocketAddr) {
        let body = self.everything(Some(to));
        let limit = self.settings.max_state_bytes.as_usize();
        if body.len() > limit {
            tracing::error!(
                bytes = body.len(),
                limit,
                "the state is too large to exchange"
            );
            return;
        }
        let packet = packet::seal(&self.settings.cluster_label, PacketKind::PullRequest, &body);
        self.outputs
            .push_back(GossipOutput::Exchange { to, packet });
    }

    fn everything(&self, peer: Option<SocketAddr>) -> Vec<u8> {
        let mut out = Vec::new();
        self.membership.put_members(&mut out, peer);
        for pair in self.store.all() {
            pair.put_framed(&mut out);
        }
        out
    }

    fn send(&mut self, to: SocketAddr, kind: PacketKind, body: &[u8]) {
        let packet = packet::seal(&self.settings.cluster_label, kind, body);
        self.outputs.push_back(GossipOutput::Send { to, packet });
    }

    // ---- joining and leaving ----

    fn schedule_join(&mut self, time: Duration) {
        let wait = if self.join.joined && !self.membership.live().is_empty() {
            self.join.attempts = 0;
            self.settings.rejoin_interval
        } else {
            let doubled = self.settings.min_join_backoff * (1 << self.join.attempts.min(16));
            self.join.attempts += 1;
            doubled.min(self.settings.max_join_backoff)
        };
        let jitter = 0.75 + 0.5 * self.rng.random::<f64>();
        self.next_join = time + wait.mul_f64(jitter);
    }

    /// Takes the addresses of the seeds. Those that are not known yet are joined, a few at a time; one's own address is no news.
    pub fn seeds_resolved(&mut self, addrs: &[SocketAddr], now: Now) {
        let own = self.membership.node().addr;
        let live = self.membership.live();
        let unknown = addrs.iter().filter(|a| **a != own && !live.contains(a));
        let mut unknown: Vec<SocketAddr> = unknown.copied().collect();
        if unknown.is_empty() && addrs.contains(&own) {
            // The first of its cluster.
            self.join.joined = true;
        }
        for _ in 0..self.settings.join_parallel {
            if unknown.is_empty() {
                break;
            }
            let n = self.rng.random_range(0..unknown.len());
            let addr = unknown.swap_remove(n);
            self.membership.announce(addr, now.monotonic);
            self.exchange(addr);
        }
    }

    /// Whether the member heard from the cluster, or is the first of it.
    pub fn has_joined(&self) -> bool {
        self.join.joined
    }

    /// An exchange came to nothing.
    pub fn exchange_failed(&mut self, to: SocketAddr) {
        self.stats.exchange_failed();
        tracing::debug!(%to, "exchange failed");
    }

    /// Begins to leave: own changes are sent, then the others are told.
    pub fn leave(&mut self, now: Now) {
        if self.leave == LeavePhase::Staying {
            self.leave = LeavePhase::Draining(now.monotonic + self.settings.leave_drain_timeout);
        }
    }

    /// Whether the member is about to leave, or has left.
    pub fn is_leaving(&self) -> bool {
        self.leave != LeavePhase::Staying
    }

    /// Whether the others were told; what [`GossipState::poll`] still yields should be sent.
    pub fn has_left(&self) -> bool {
        self.leave == LeavePhase::Left
    }

    // ---- messages ----

    /// Takes a packet to which nobody waits for an answer. What is wrong with it is counted and returned.
    ///
    /// # Errors
    /// The first refusal; values beside a refused one are taken.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Now) -> Result<(), Refusal> {
        self.stats.received(bytes.len());
        let outcome = self.datagram(bytes, now);
        self.note(outcome)
    }

    fn datagram(&mut self, bytes: &[u8], now: Now) -> Result<(), Refusal> {
        match packet::open(&self.settings.cluster_label, bytes)? {
            (PacketKind::Membership, body) => self.membership.handle(body, now.monotonic),
            (PacketKind::Broadcasts, body) => {
                let mut r = Reader::new("broadcasts", body);
                match self.receive_pairs(&mut r, now)? {
                    None => Ok(()),
                    Some(refusal) => Err(refusal),
                }
            }
            (kind, _) => Err(Refusal::Membership(format!("{kind:?} outside of a stream"))),
        }
    }

    /// Takes a packet from a stream, a request or an answer. Yields what to answer.
    ///
    /// # Errors
    /// As [`GossipState::handle_datagram`].
    pub fn handle_stream(&mut self, bytes: &[u8], now: Now) -> Result<Option<Bytes>, Refusal> {
        let opened = packet::open(&self.settings.cluster_label, bytes);
        let (kind, body) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return self.note(Err(refusal)),
        };
        if matches!(kind, PacketKind::Membership | PacketKind::Broadcasts) {
            return self.handle_datagram(bytes, now).map(|()| None);
        }
        self.stats.pulled(bytes.len());
        let outcome = self.exchanged(kind, body, now);
        self.note(outcome)
    }

    fn exchanged(
        &mut self,
        kind: PacketKind,
        body: &[u8],
        now: Now,
    ) -> Result<Option<Bytes>, Refusal> {
        let mut r = Reader::new("exchange", body);
        let members = Membership::read_members(&mut r, self.settings.max_members)?;
        let peer = members[0].id().addr;
        if peer == self.membership.node().addr && kind == PacketKind::PullRequest {
            return Err(Refusal::Membership(format!("{peer} is this node itself")));
        }
        // The answer holds what was known before, so that the peer is not told what it just said.
        let answer = (kind == PacketKind::PullRequest).then(|| self.everything(Some(peer)));
        let learned = match self.leave {
            LeavePhase::Staying => self.membership.learn(members, now.monotonic),
            // Whoever leaves wants no new acquaintances.
            _ => Ok(()),
        };
        self.join.joined = true;
        let received = self.receive_pairs(&mut r, now);
        learned?;
        match (received?, &answer) {
            (None, _) => {}
            // One whose values are not taken is to hear ours all the same.
            (Some(refusal), Some(_)) => self.stats.refused(&refusal),
            (Some(refusal), None) => return Err(refusal),
        }
        let label = &self.settings.cluster_label;
        let answer = answer.map(|body| packet::seal(label, PacketKind::PullReply, &body));
        if let Some(answer) = &answer {
            self.stats.pushed(answer.len());
        }
        Ok(answer)
    }

    /// Takes what is fit to be taken; yields the first refusal of a value or of members in it.
    fn receive_pairs(&mut self, r: &mut Reader<'_>, now: Now) -> Result<Option<Refusal>, Refusal> {
        let mut first = None;
        while !r.is_empty() {
            let pair = Pair::read_framed(r)?;
            let refused = match self.store.receive(&pair, now) {
                Ok(ReceivedPair { news, refused }) => {
                    self.stats.broadcasts_received += 1;
                    if let Some(news) = news {
                        self.queue(Origin::Forwarded, news);
                    }
                    refused
                }
                Err(refusal) => Some(refusal),
            };
            if let Some(refusal) = refused {
                self.stats.broadcasts_invalid += 1;
                first.get_or_insert(refusal);
            }
        }
        Ok(first)
    }

    /// Queues a change, in parts that fit a datagram where it can be cut: what a member learns in an exchange may be a thousand instances, and sent
    /// whole to three members five times a second it would break every bound of bytes.
    fn queue(&mut self, origin: Origin, pair: Pair) {
        for part in self.store.split(pair, self.membership_room()) {
            let members = if part.deleted {
                Vec::new()
            } else {
                self.store.member_names(&part)
            };
            let mut bytes = Vec::new();
            part.put_framed(&mut bytes);
            self.broadcasts
                .push(origin, &part.key, members, bytes.into());
        }
    }

    fn note<T>(&mut self, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        if let Err(refusal) = &outcome {
            self.stats.refused(refusal);
        }
        outcome
    }

    // ---- values ----

    /// What readers see of a key, and the version to write against.
    ///
    /// # Errors
    /// `Corrupt` when the codec cannot read what it wrote.
    pub fn read(&mut self, key: &str) -> Result<(Option<Bytes>, u64)> {
        self.store.read(key)
    }

    /// The keys that begin with `prefix`, sorted.
    pub fn list(&self, prefix: &str) -> Vec<String> {
        self.store.list(prefix)
    }

    /// Writes a value that was made from version `seen`.
    ///
    /// # Errors
    /// `InvalidInput` for a key without codec, `LimitExceeded` past a bound of the settings, those of the codec.
    pub fn write(&mut self, key: &str, seen: u64, value: &[u8], now: Now) -> Result<WriteOutcome> {
        self.stats.cas_attempts += 1;
        Ok(match self.store.write(key, seen, value, now)? {
            StoreWrite::Changed(pair) => {
                if let Some(pair) = pair {
                    self.queue(Origin::Own, pair);
                }
                self.stats.cas_successes += 1;
                WriteOutcome::Done
            }
            StoreWrite::Outdated => WriteOutcome::Outdated,
            StoreWrite::Unchanged => WriteOutcome::Unchanged,
        })
    }

    /// Deletes a key. A member that is cut off for longer than `obsolete_entries_timeout` may bring it back.
    pub fn delete(&mut self, key: &str, now: Now) {
        if let Some(pair) = self.store.delete(key, now) {
            self.queue(Origin::Own, pair);
        }
    }

    pub(crate) fn watch(&mut self, scope: Scope) -> Result<KvWatch> {
        self.store.watch(scope)
    }

    // ---- views ----

    /// This member.
    pub fn node(&self) -> &Node {
        self.membership.node()
    }

    /// Members that live or are merely suspected, this one not among them.
    pub fn live(&self) -> &[SocketAddr] {
        self.membership.live()
    }

    /// All members that are remembered, each with whether it lives, this one not among them.
    pub fn members(&self) -> Vec<(Node, bool)> {
        let members = self.membership.members();
        let mut members: Vec<_> = members
            .map(|(node, state)| (node.clone(), state != State::Down))
            .collect();
        members.sort();
        members
    }

    /// What was counted.
    pub fn stats(&self) -> &GossipStats {
        &self.stats
    }
}
