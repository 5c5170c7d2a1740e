//! How a gossip cluster behaves.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Plain data; every member of a cluster should have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipSettings {
    /// The name of the cluster, 1 to 64 bytes. Mandatory, no default: packets of another name are refused, so that two clusters that
    /// come to share addresses never merge.
    pub cluster_label: String,
    /// How often changes are sent on. 200 ms.
    #[serde(with = "lgtm_core::units::duration")]
    pub gossip_interval: Duration,
    /// To how many members each time. 3.
    pub gossip_nodes: usize,
    /// A change is sent `ceil(log10(members + 1))` times this often by each member. 4.
    pub retransmit_multiplier: u32,
    /// How often a member exchanges everything with one other, up to 32 members; it doubles in steps with each doubling of the
    /// cluster. 30 s: heals what broadcasts missed.
    #[serde(with = "lgtm_core::units::duration")]
    pub push_pull_interval: Duration,
    /// How often each member asks another whether it lives. 1 s: a dead member is noticed within about 5 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub probe_interval: Duration,
    /// How long the direct answer may take before others are asked to try. 450 ms; must be less than half the interval.
    #[serde(with = "lgtm_core::units::duration")]
    pub probe_timeout: Duration,
    /// A suspect is dead after this many probe intervals times `log10(members)` (at least 1) without refuting it. 4.
    pub suspicion_multiplier: u32,
    /// How long a dead member is remembered, and now and then asked whether it is back. 1 h.
    #[serde(with = "lgtm_core::units::duration")]
    pub forget_dead_after: Duration,
    /// How often the seeds are resolved and unknown ones joined, when all is well. 1 min: heals a split whose halves took each other
    /// for dead.
    #[serde(with = "lgtm_core::units::duration")]
    pub rejoin_interval: Duration,
    /// The first wait between attempts to join, while alone; it doubles, with jitter. 1 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub min_join_backoff: Duration,
    /// The longest wait between attempts to join. 1 min.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_join_backoff: Duration,
    /// Seeds tried at once. 3: a few suffice to learn of all.
    pub join_parallel: usize,
    /// How long tombstones of removed members are kept. 5 min: as long as a member may be cut off and not bring them back.
    #[serde(with = "lgtm_core::units::duration")]
    pub left_ingesters_timeout: Duration,
    /// How long a deleted key is remembered. 30 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub obsolete_entries_timeout: Duration,
    /// The shortest time between two updates of watchers; the first after a quiet time comes at once. 100 ms.
    #[serde(with = "lgtm_core::units::duration")]
    pub notify_interval: Duration,
    /// How long a leaving member waits until its own changes are sent. 10 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub leave_drain_timeout: Duration,
    /// Records of a value, and deletions, that are stamped further ahead of the clock here are refused; records beside them are taken. 1 h: clocks are
    /// off by minutes, not by hours. Once the clock that ran ahead is set right, its instance's records are the newest whatever it wrote before.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_clock_ahead: Duration,
    /// The largest UDP packet. 1400 bytes, below the usual MTU; what does not fit goes over TCP.
    pub max_datagram_bytes: ByteSize,
    /// The most bytes of changes to one member at a time. 64 KiB: with three members five times a second at most 1 MB/s, which is what
    /// a thousand instances need that renew 128 tokens every 15 s.
    pub max_bundle_bytes: ByteSize,
    /// The largest value, and the largest change. 64 MiB, some 25 000 instances of 512 tokens.
    pub max_value_bytes: ByteSize,
    /// The largest exchange of everything. 128 MiB.
    pub max_state_bytes: ByteSize,
    /// The most changes waiting to be sent, in bytes. 32 MiB; the ones sent most are dropped first.
    pub max_queue_bytes: ByteSize,
    /// The most keys. 1000.
    pub max_keys: usize,
    /// The most members, the dead that are remembered too. 10 000.
    pub max_members: usize,
}

impl Default for GossipSettings {
    fn default() -> Self {
        Self {
            cluster_label: String::new(),
            gossip_interval: Duration::from_millis(200),
            gossip_nodes: 3,
            retransmit_multiplier: 4,
            push_pull_interval: Duration::from_secs(30),
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(450),
            suspicion_multiplier: 4,
            forget_dead_after: Duration::from_secs(3600),
            rejoin_interval: Duration::from_secs(60),
            min_join_backoff: Duration::from_secs(1),
            max_join_backoff: Duration::from_secs(60),
            join_parallel: 3,
            left_ingesters_timeout: Duration::from_secs(300),
            obsolete_entries_timeout: Duration::from_secs(30),
            notify_interval: Duration::from_millis(100),
            leave_drain_timeout: Duration::from_secs(10),
            max_clock_ahead: Duration::from_secs(3600),
            max_datagram_bytes: ByteSize::bytes(1400),
            max_bundle_bytes: ByteSize::kib(64),
            max_value_bytes: ByteSize::mib(64),
            max_state_bytes: ByteSize::mib(128),
            max_queue_bytes: ByteSize::mib(32),
            max_keys: 1000,
            max_members: 10_000,
        }
    }
}

impl GossipSettings {
    /// Defaults for the cluster of this name.
    pub fn for_cluster(label: impl Into<String>) -> Self {
        Self {
            cluster_label: label.into(),
            ..Self::default()
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting and its bound.
    pub fn validate(&self) -> Result<()> {
        let label = self.cluster_label.len();
        if !(1..=64).contains(&label) {
            return Err(Error::InvalidInput(format!(
                "cluster_label has {label} bytes, must have 1 to 64: name the cluster, so that no other merges into it"
            )));
        }
        let durations = [
            ("gossip_interval", self.gossip_interval),
            ("push_pull_interval", self.push_pull_interval),
            ("probe_interval", self.probe_interval),
            ("probe_timeout", self.probe_timeout),
            ("forget_dead_after", self.forget_dead_after),
            ("rejoin_interval", self.rejoin_interval),
            ("min_join_backoff", self.min_join_backoff),
            ("left_ingesters_timeout", self.left_ingesters_timeout),
            ("obsolete_entries_timeout", self.obsolete_entries_timeout),
        ];
        if let Some((name, _)) = durations.iter().find(|(_, d)| d.is_zero()) {
            return Err(Error::InvalidInput(format!("{name} is 0, must be more")));
        }
        if self.probe_timeout * 2 >= self.probe_interval {
            return Err(Error::InvalidInput(format!(
                "probe_timeout is {:?}, must be less than half of probe_interval, {:?}",
                self.probe_timeout, self.probe_interval
            )));
        }
        if self.max_join_backoff < self.min_join_backoff {
            return Err(Error::InvalidInput(format!(
                "max_join_backoff is {:?}, must be at least min_join_backoff, {:?}",
                self.max_join_backoff, self.min_join_backoff
            )));
        }
        let value = self.max_value_bytes.as_usize();
        let counts = [
            ("gossip_nodes", self.gossip_nodes, 1, 100),
            (
                "retransmit_multiplier",
                self.retransmit_multiplier as usize,
                1,
                50,
            ),
            (
                "suspicion_multiplier",
                self.suspicion_multiplier as usize,
                1,
                100,
            ),
            ("join_parallel", self.join_parallel, 1, 100),
            // A membership message has two or three names of up to 128 bytes.
            (
                "max_datagram_bytes",
                self.max_datagram_bytes.as_usize(),
                700,
                65_000,
            ),
            (
                "max_bundle_bytes",
                self.max_bundle_bytes.as_usize(),
                1 << 10,
                1 << 30,
            ),
            ("max_value_bytes", value, 1 << 10, 1 << 30),
            (
                "max_state_bytes",
                self.max_state_bytes.as_usize(),
                value,
                4 << 30,
            ),
            (
                "max_queue_bytes",
                self.max_queue_bytes.as_usize(),
                1 << 10,
                4 << 30,
            ),
            ("max_keys", self.max_keys, 1, 1_000_000),
            ("max_members", self.max_members, 1, 1_000_000),
        ];
        for (name, value, least, most) in counts {
            if !(least..=most).contains(&value) {
                return Err(Error::InvalidInput(format!(
                    "{name} is {value}, must be {least} to {most}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_a_label_is_refused() {
        let error = GossipSettings::default().validate().unwrap_err();
        assert!(error.to_string().contains("cluster_label"), "{error}");
        GossipSettings::for_cluster("prod").validate().unwrap();
    }

    #[test]
    fn faults_name_the_setting() {
        let fault = |change: fn(&mut GossipSettings)| {
            let mut settings = GossipSettings::for_cluster("prod");
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert!(fault(|s| s.probe_timeout = s.probe_interval).contains("probe_timeout"));
        assert!(fault(|s| s.gossip_interval = Duration::ZERO).contains("gossip_interval"));
        assert!(
            fault(|s| s.max_datagram_bytes = ByteSize::bytes(100))
                .contains("max_datagram_bytes is 100")
        );
        assert!(fault(|s| s.max_state_bytes = ByteSize::bytes(5)).contains("max_state_bytes"));
    }
}
