//! Who is there and who is dead: the SWIM protocol of the `foca` crate, driven by time and messages.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{Config, Foca, Member, NoCustomBroadcast, Notification, PeriodicParams, State, Timer};
use lgtm_core::codec::Reader;
use rand::rngs::SmallRng;

use crate::kv::gossip::node::{Node, NodeCodec};
use crate::kv::gossip::refusal::Refusal;
use crate::kv::gossip::settings::GossipSettings;

/// How often some members that are taken for dead are asked whether they are back.
const ASK_THE_DEAD_EVERY: Duration = Duration::from_secs(15);

/// The members as this one sees them.
pub(super) struct Membership {
    foca: Foca<Node, NodeCodec, SmallRng, NoCustomBroadcast>,
    settings: GossipSettings,
    /// By due time; the number keeps those of one moment apart.
    timers: BTreeMap<(Duration, u64), Timer<Node>>,
    next_timer: u64,
    collected: Collected,
    live: Vec<SocketAddr>,
    /// The cluster size for which the protocol is tuned.
    tuned_for: usize,
}

/// What the protocol wants done.
#[derive(Default)]
struct Collected {
    sends: Vec<(SocketAddr, Bytes)>,
    timers: Vec<(Duration, Timer<Node>)>,
    members_changed: bool,
}

impl foca::Runtime<Node> for &mut Collected {
    fn notify(&mut self, _: Notification<'_, Node>) {
        self.members_changed = true;
    }

    fn send_to(&mut self, to: Node, data: &[u8]) {
        self.sends.push((to.addr, Bytes::copy_from_slice(data)));
    }

    fn submit_after(&mut self, timer: Timer<Node>, after: Duration) {
        self.timers.push((after, timer));
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("node", self.foca.identity())
            .field("live", &self.live.len())
            .field("known", &self.known())
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// A member that knows only itself. `max_bytes` bounds its messages.
    pub(super) fn new(
        node: Node,
        settings: &GossipSettings,
        max_bytes: usize,
        rng: SmallRng,
    ) -> Self {
        let config = config(settings, 1, max_bytes);
        Self {
            foca: Foca::new(node, config, rng, NodeCodec),
            settings: settings.clone(),
            timers: BTreeMap::new(),
            next_timer: 0,
            collected: Collected::default(),
            live: Vec::new(),
            tuned_for: 1,
        }
    }

    pub(super) fn node(&self) -> &Node {
        self.foca.identity()
    }

    /// Addresses of the members that live or are merely suspected, this one not among them.
    pub(super) fn live(&self) -> &[SocketAddr] {
        &self.live
    }

    /// Members remembered, the dead too.
    pub(super) fn known(&self) -> usize {
        self.foca.iter_membership_state().len()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&Node, State)> {
        self.foca
            .iter_membership_state()
            .map(|m| (m.id(), m.state()))
    }

    /// A random one of those taken for dead: `pick` chooses an index below a count.
    pub(super) fn some_dead(&self, pick: impl FnOnce(usize) -> usize) -> Option<SocketAddr> {
        let dead: Vec<_> = self
            .members()
            .filter(|(_, state)| *state == State::Down)
            .map(|(node, _)| node.addr)
            .collect();
        (!dead.is_empty()).then(|| dead[pick(dead.len())])
    }

    /// Takes a message of the protocol.
    pub(super) fn handle(&mut self, body: &[u8], now: Duration) -> Result<(), Refusal> {
        if self.known() >= self.settings.max_members {
            self.refuse_strangers(body)?;
        }
        let outcome = self.foca.handle_data(body, &mut self.collected);
        // A node that was taken for dead renews itself and then waits for somebody to talk to it before it probes again. If all the
        // others died meanwhile it would wait for ever and take them for live; this looks at once.
        let looked = self
            .foca
            .apply_many(std::iter::empty(), false, &mut self.collected);
        debug_assert!(looked.is_ok(), "{looked:?}");
        self.settle(now);
        match outcome {
            Ok(()) => Ok(()),
            Err(foca::Error::DataTooBig) => Err(Refusal::Oversize {
                what: "membership message",
                bytes: body.len(),
                limit: self.settings.max_datagram_bytes.as_usize(),
            }),
            Err(error) => Err(Refusal::Membership(error.to_string())),
        }
    }

    /// With a full table only messages among members that are known already are taken.
    fn refuse_strangers(&self, body: &[u8]) -> Result<(), Refusal> {
        let mut r = Reader::new("membership message", body);
        let header = NodeCodec::read_header(&mut r)?;
        let mut addrs = vec![header.src.addr];
        if !r.is_empty() {
            for _ in 0..r.u16()? {
                addrs.push(NodeCodec::read_member(&mut r)?.id().addr);
            }
        }
        let known = |addr: &SocketAddr| {
            *addr == self.node().addr || self.members().any(|(node, _)| node.addr == *addr)
        };
        if addrs.iter().all(known) {
            Ok(())
        } else {
            Err(self.full())
        }
    }

    fn full(&self) -> Refusal {
        Refusal::Full {
            what: "the table of members",
            limit: self.settings.max_members,
        }
    }

    /// What an exchange tells `peer` about members: all that live and, if the peer itself is taken for dead, that, so that it can
    /// come back under a new generation at once.
    pub(super) fn put_members(&self, out: &mut Vec<u8>, peer: Option<SocketAddr>) {
        let tell = |m: &&Member<Node>| m.state() != State::Down || Some(m.id().addr) == peer;
        let told: Vec<_> = self.foca.iter_membership_state().filter(tell).collect();
        out.extend_from_slice(&(told.len() as u32 + 1).to_be_bytes());
        // The first is the sender.
        NodeCodec::put_member(out, &Member::alive(self.node().clone()));
        for member in told {
            NodeCodec::put_member(out, member);
        }
    }

    /// Reads what [`Membership::put_members`] wrote; the first is the sender.
    pub(super) fn read_members(
        r: &mut Reader<'_>,
        max_members: usize,
    ) -> Result<Vec<Member<Node>>, Refusal> {
        let count = r.u32()?;
        if count == 0 {
            return Err(r.error("an exchange without its sender").into());
        }
        // A table may exceed its bound by what one message brought, not by as much again.
        let limit = max_members.saturating_mul(2).saturating_add(1);
        if count as usize > limit {
            return Err(Refusal::Full {
                what: "the list of members of an exchange",
                limit,
            });
        }
        // No allocation by a count that was not backed by bytes yet.
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(NodeCodec::read_member(r)?);
        }
        Ok(members)
    }

    /// Takes members heard of in an exchange.
    pub(super) fn learn(
        &mut self,
        mut members: Vec<Member<Node>>,
        now: Duration,
    ) -> Result<(), Refusal> {
        let own = self.node().clone();
        // Somebody remembers an earlier life at this address with a later date: the clock went back. Outbid it.
        let ahead = members
            .iter()
            .map(Member::id)
            .filter(|n| n.addr == own.addr && n.generation > own.generation)
            .map(|n| n.generation)
            .max();
        if let Some(generation) = ahead {
            let renewed = Node {
                generation: generation.saturating_add(1),
                ..own
            };
            // The only error is that of the same identity.
            let _ = self.foca.change_identity(renewed, &mut self.collected);
        }
        let known: HashSet<_> = self.members().map(|(n, _)| n.addr).collect();
        let mut room = self.settings.max_members.saturating_sub(known.len());
        let told = members.len();
        members.retain(|member| {
            let fits = known.contains(&member.id().addr) || room > 0;
            room -= usize::from(fits && !known.contains(&member.id().addr));
            fits
        });
        let full = members.len() < told;
        let outcome = self
            .foca
            .apply_many(members.into_iter(), true, &mut self.collected);
        self.settle(now);
        outcome.map_err(|error| Refusal::Membership(error.to_string()))?;
        if full { Err(self.full()) } else { Ok(()) }
    }

    /// Asks whoever listens at `addr` to be taken up.
    pub(super) fn announce(&mut self, addr: SocketAddr, now: Duration) {
        let somebody = Node {
            name: "".into(),
            addr,
            generation: 0,
        };
        if let Err(error) = self.foca.announce(somebody, &mut self.collected) {
            tracing::debug!(%addr, %error, "announce");
        }
        self.settle(now);
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Duration) {
        // Of the same moment, the protocol wants the answer to a probe looked at before the next probe.
        let mut due = Vec::new();
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            due.push(entry.remove());
        }
        due.sort();
        for timer in due {
            if let Err(error) = self.foca.handle_timer(timer, &mut self.collected) {
                tracing::debug!(%error, "membership timer");
            }
        }
        self.settle(now);
    }

    /// Tells some members that this one goes.
    pub(super) fn leave(&mut self, now: Duration) {
        if let Err(error) = self.foca.leave_cluster(&mut self.collected) {
            tracing::debug!(%error, "leave");
        }
        self.settle(now);
    }

    /// When the next timer is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Messages to send.
    pub(super) fn take_sends(&mut self) -> Vec<(SocketAddr, Bytes)> {
        std::mem::take(&mut self.collected.sends)
    }

    fn settle(&mut self, now: Duration) {
        for (after, timer) in self.collected.timers.drain(..) {
            self.timers.insert((now + after, self.next_timer), timer);
            self.next_timer += 1;
        }
        if !std::mem::take(&mut self.collected.members_changed) {
            return;
        }
        self.live.clear();
        let live = self.foca.iter_members().map(|m| m.id().addr);
        self.live.extend(live);
        let size = (self.live.len() + 1).next_power_of_two();
        if size != self.tuned_for {
            let max_bytes = self.max_bytes();
            self.tuned_for = size;
            // Only transmissions and the time of suspicion depend on the size, and these may change.
            let tuned = self
                .foca
                .set_config(config(&self.settings, size, max_bytes));
            debug_assert!(tuned.is_ok(), "{tuned:?}");
        }
    }

    fn max_bytes(&self) -> usize {
        let label = &self.settings.cluster_label;
        self.settings.max_datagram_bytes.as_usize() - crate::kv::gossip::packet::overhead(label)
    }
}

/// The protocol's settings for a cluster of `size` members.
fn config(settings: &GossipSettings, size: usize, max_bytes: usize) -> Config {
    let digits = (size as f64 + 1.0).log10();
    let transmissions =
        (f64::from(settings.retransmit_multiplier) * digits.ceil()).clamp(1.0, 255.0);
    let suspicion = f64::from(settings.suspicion_multiplier) * digits.max(1.0);
    let some = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    Config {
        probe_period: settings.probe_interval,
        probe_rtt: settings.probe_timeout,
        num_indirect_probes: some(3),
        max_transmissions: NonZeroU8::new(transmissions as u8).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: settings.probe_interval.mul_f64(suspicion),
        remove_down_after: Some(settings.forget_dead_after),
        max_packet_size: some(max_bytes),
        notify_down_members: true,
        periodic_announce: None,
        periodic_announce_to_down_members: Some(PeriodicParams {
            frequency: ASK_THE_DEAD_EVERY,
            num_members: some(1),
        }),
        periodic_gossip: Some(PeriodicParams {
            frequency: settings.gossip_interval,
            num_members: some(settings.gossip_nodes),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_with_more_members_than_any_table_holds_is_refused_unread() {
        let node = Node {
            name: "a".into(),
            addr: SocketAddr::from(([10, 0, 0, 1], 7946)),
            generation: 1,
        };
        let list = |count: u32| {
            let mut out = count.to_be_bytes().to_vec();
            (0..count).for_each(|_| NodeCodec::put_member(&mut out, &Member::alive(node.clone())));
            out
        };
        let read = |bytes: &[u8]| Membership::read_members(&mut Reader::new("test", bytes), 10);
        assert_eq!(read(&list(21)).unwrap().len(), 21);
        let refusal = read(&list(22)).unwrap_err();
        assert!(
            matches!(refusal, Refusal::Full { limit: 21, .. }),
            "{refusal}"
        );
        assert!(matches!(read(&list(0)), Err(Refusal::Corrupt(_))));
    }
}
