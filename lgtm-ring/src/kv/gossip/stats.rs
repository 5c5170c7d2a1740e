//! What a member counts.

use lgtm_core::telemetry::Collection;

use crate::kv::gossip::refusal::Refusal;
use crate::kv::gossip::state::GossipState;

/// Counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GossipStats {
    /// Packets that came in, exchanges not among them, and their bytes.
    pub packets_received: u64,
    /// Bytes of them.
    pub packets_received_bytes: u64,
    /// Packets given out to be sent.
    pub packets_sent: u64,
    /// Bytes of them.
    pub packets_sent_bytes: u64,
    /// Exchanges sent, requests and answers.
    pub state_pushes: u64,
    /// Bytes of them.
    pub state_pushes_bytes: u64,
    /// Exchanges that came in, requests and answers.
    pub state_pulls: u64,
    /// Bytes of them.
    pub state_pulls_bytes: u64,
    /// Exchanges that came to nothing.
    pub exchanges_failed: u64,
    /// Values and changes that came in and were taken, known or not.
    pub broadcasts_received: u64,
    /// Values and changes that were refused.
    pub broadcasts_invalid: u64,
    /// Writes tried here.
    pub cas_attempts: u64,
    /// Writes taken.
    pub cas_successes: u64,
    /// Compare-and-sets that gave up.
    pub cas_failures: u64,
    /// Packets that the sockets could not send, or had no time for.
    pub packets_dropped: u64,
    /// Connections that were closed before they made sense.
    pub streams_failed: u64,
    refusals: [u64; Refusal::REASONS.len()],
}

impl GossipStats {
    /// How often something was refused for this reason, one of [`Refusal::REASONS`].
    pub fn refusals(&self, reason: &str) -> u64 {
        let reasons = Refusal::REASONS.iter().zip(self.refusals);
        reasons.filter(|(r, _)| **r == reason).map(|(_, n)| n).sum()
    }

    pub(super) fn refused(&mut self, refusal: &Refusal) {
        self.refusals[refusal.index()] += 1;
        tracing::debug!(%refusal, "refused");
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.packets_received += 1;
        self.packets_received_bytes += bytes as u64;
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.packets_sent += 1;
        self.packets_sent_bytes += bytes as u64;
    }

    pub(super) fn pushed(&mut self, bytes: usize) {
        self.state_pushes += 1;
        self.state_pushes_bytes += bytes as u64;
    }

    pub(super) fn pulled(&mut self, bytes: usize) {
        self.state_pulls += 1;
        self.state_pulls_bytes += bytes as u64;
    }

    pub(super) fn exchange_failed(&mut self) {
        self.exchanges_failed += 1;
    }
}

/// Gives all counts to a scrape, under the names that dashboards of the reference systems ask for; `prefix` is what stands before
/// `memberlist_`, e.g. `cortex_`.
pub(super) fn collect(state: &GossipState, prefix: &str, c: &mut Collection) {
    counters(state, prefix, c);
    levels(state, prefix, c);
}

fn counters(state: &GossipState, prefix: &str, c: &mut Collection) {
    let s = &state.stats;
    let client = |name: &str| format!("{prefix}memberlist_client_{name}");
    let transport = |name: &str| format!("{prefix}memberlist_tcp_transport_{name}");
    let counters = [
        (
            client("received_broadcasts_total"),
            "Changes that came in.",
            s.broadcasts_received,
        ),
        (
            client("received_broadcasts_invalid_total"),
            "Changes that were refused.",
            s.broadcasts_invalid,
        ),
        (
            client("state_pushes_total"),
            "Whole states sent.",
            s.state_pushes,
        ),
        (
            client("state_pushes_bytes_total"),
            "Bytes of them.",
            s.state_pushes_bytes,
        ),
        (
            client("state_pulls_total"),
            "Whole states that came in.",
            s.state_pulls,
        ),
        (
            client("state_pulls_bytes_total"),
            "Bytes of them.",
            s.state_pulls_bytes,
        ),
        (client("cas_attempt_total"), "Writes tried.", s.cas_attempts),
        (
            client("cas_success_total"),
            "Writes taken.",
            s.cas_successes,
        ),
        (
            client("cas_failure_total"),
            "Compare-and-sets that gave up.",
            s.cas_failures,
        ),
        (
            client("messages_to_broadcast_dropped_total"),
            "Changes dropped from a full queue.",
            state.broadcasts.dropped(),
        ),
        (
            transport("packets_received_total"),
            "Packets that came in.",
            s.packets_received,
        ),
        (
            transport("packets_received_bytes_total"),
            "Bytes of them.",
            s.packets_received_bytes,
        ),
        (
            transport("packets_sent_total"),
            "Packets sent.",
            s.packets_sent,
        ),
        (
            transport("packets_sent_bytes_total"),
            "Bytes of them.",
            s.packets_sent_bytes,
        ),
        (
            transport("packets_dropped_total"),
            "Packets that could not be sent.",
            s.packets_dropped,
        ),
        (
            transport("unknown_connections_total"),
            "Connections that made no sense.",
            s.streams_failed,
        ),
        (
            format!("{prefix}memberlist_client_push_pull_failed_total"),
            "Exchanges that came to nothing.",
            s.exchanges_failed,
        ),
    ];
    for (name, help, value) in &counters {
        c.counter(name, help, &[], *value as f64);
    }
}

fn levels(state: &GossipState, prefix: &str, c: &mut Collection) {
    let client = |name: &str| format!("{prefix}memberlist_client_{name}");
    for (reason, count) in Refusal::REASONS.iter().zip(state.stats.refusals) {
        c.counter(
            "lgtm_gossip_refused_total",
            "What was not taken, by reason.",
            &[("reason", reason)],
            count as f64,
        );
    }
    let (own, forwarded) = state.broadcasts.counts();
    let name = client("messages_in_broadcast_queue");
    for (queue, count) in [("local", own), ("gossip", forwarded)] {
        c.gauge(
            &name,
            "Changes that wait.",
            &[("queue", queue)],
            count as f64,
        );
    }
    let gauges = [
        (
            client("messages_in_broadcast_queue_bytes"),
            "Bytes of changes that wait.",
            state.broadcasts.bytes(),
        ),
        (client("kv_store_count"), "Keys.", state.store.len()),
        (
            client("cluster_members_count"),
            "Members that live, this one too.",
            state.live().len() + 1,
        ),
        (
            "lgtm_gossip_members_known".into(),
            "Members remembered, the dead too.",
            state.membership.known(),
        ),
    ];
    for (name, help, value) in &gauges {
        c.gauge(name, help, &[], *value as f64);
    }
    let (left, removed) = (
        client("kv_store_value_tombstones"),
        client("kv_store_value_tombstones_removed_total"),
    );
    for (key, tombstones) in state.store.tombstones() {
        c.gauge(
            &left,
            "Tombstones in a value.",
            &[("key", key)],
            tombstones.left as f64,
        );
        c.counter(
            &removed,
            "Tombstones dropped from a value.",
            &[("key", key)],
            tombstones.removed as f64,
        );
    }
}
