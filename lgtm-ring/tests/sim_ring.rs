//! Whole rings in one thread: lifecycles on simulated gossip stores that keep a ring, over a network that loses, delays, repeats and parts, while members
//! crash and come back with or without their tokens. Beside them a cluster of another label that knows their addresses.
//!
//! A failure names its seed; `LGTM_SIM_SEED=n` replays it. `LGTM_SIM_SEEDS=n` runs n seeds from `LGTM_SIM_FIRST` on in `many_seeds_long`
//! (`scripts/sim-seeds`).

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_ring::instance::{InstanceState, RingCodec, RingDesc};
use lgtm_ring::kv::gossip::Write;
use lgtm_ring::kv::{MergeKind, Merged, Tombstones, ValueCodec};
use lgtm_ring::lifecycle::{Identity, LifecyclerSettings, Machine, Role, Step};
use lgtm_ring::prng::GoRand;
use lgtm_ring::ring::{Operation, Ring, RingSettings};
use lgtm_ring::testing::sim::{Network, NodeId, SimCluster, SimSettings};
use lgtm_ring::testing::{
    Violation, every_key_has_an_owner, no_token_has_two_owners, replicas_agree,
};
use lgtm_ring::token::RandomTokens;

const RING: &str = "collectors/ring";
const MEMBERS: usize = 6;
const STRANGERS: usize = 2;
/// Seconds of trouble, then of calm.
const TROUBLE: usize = 200;
const CALM: usize = 150;
const QUIET: Duration = Duration::from_secs(60);
const QUICK_SEEDS: i64 = 20;

struct Member {
    id: NodeId,
    name: String,
    machine: Machine,
    generator: RandomTokens,
    /// Seconds until it begins again, for one that is down.
    down_for: Option<usize>,
}

fn machine(name: &str, tokens: Vec<lgtm_ring::token::Token>, now: Duration) -> Machine {
    let settings = LifecyclerSettings {
        num_tokens: 16,
        heartbeat_period: Duration::from_secs(5),
        heartbeat_timeout: Duration::from_secs(60),
        observe_period: Duration::from_secs(8),
        ..LifecyclerSettings::default()
    };
    let identity = Identity {
        id: name.to_owned(),
        addr: format!("{name}:9095"),
        zone: String::new(),
    };
    Machine::new(settings, Role::HoldsData, identity, tokens, now).unwrap()
}

struct World {
    cluster: SimCluster,
    numbers: GoRand,
    members: Vec<Member>,
}

impl World {
    fn new(seed: i64, codec: Arc<dyn ValueCodec>) -> Self {
        let mut settings = SimSettings::new("ours", codec);
        settings.gossip.push_pull_interval = Duration::from_secs(10);
        let mut cluster = SimCluster::new(settings, seed as u64);
        let members = (0..MEMBERS + STRANGERS).map(|n| {
            let id = match n < MEMBERS {
                true => cluster.add(&[NodeId(0), NodeId(1)]),
                // Somebody gave them the wrong seeds.
                false => cluster.add_labelled("others", &[NodeId(0), NodeId(MEMBERS)]),
            };
            cluster.start(id);
            let name = match n < MEMBERS {
                true => format!("member-{n}"),
                false => format!("stranger-{n}"),
            };
            Member {
                id,
                machine: machine(&name, Vec::new(), cluster.now_at(id).monotonic),
                name,
                // Two draw the same tokens while they do not know each other.
                generator: RandomTokens::seeded(seed * 100 + n as i64 / 2),
                down_for: None,
            }
        });
        Self {
            members: members.collect(),
            cluster,
            numbers: GoRand::from_seed(seed),
        }
    }

    /// Reads, plans and writes one step, as a lifecycler does.
    fn take(&mut self, n: usize, step: Step) {
        let member = &mut self.members[n];
        let now = self.cluster.now_at(member.id);
        let mut planned = None;
        let written = self.cluster.write(member.id, RING, |current| {
            let mut ring = current.map_or_else(RingDesc::new, |v| RingCodec::decode(&v).unwrap());
            let plan = member.machine.plan(
                step,
                &mut ring,
                &mut member.generator,
                now.unix_s(),
                now.monotonic,
            );
            planned = plan.ok();
            let writes = planned.as_ref().is_some_and(|p| p.writes());
            writes.then(|| RingCodec::encode(&ring).unwrap())
        });
        match planned.filter(|p| written.unwrap() == Write::Done || !p.writes()) {
            Some(planned) => member.machine.written(planned, now.monotonic),
            None => member.machine.failed(step, now.monotonic),
        }
    }

    fn second(&mut self) {
        self.cluster.run_for(Duration::from_secs(1));
        for n in 0..self.members.len() {
            let member = &mut self.members[n];
            if let Some(left) = &mut member.down_for {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    self.restart(n);
                }
                continue;
            }
            let now = self.cluster.now_at(member.id).monotonic;
            while let Some(step) = self.members[n].machine.due(now) {
                self.take(n, step);
            }
        }
    }

    fn restart(&mut self, n: usize) {
        let has_file = self.numbers.below(2) == 0;
        let member = &mut self.members[n];
        let tokens = match has_file {
            true => member.machine.membership().tokens.to_vec(),
            false => Vec::new(),
        };
        self.cluster.start(member.id);
        let now = self.cluster.now_at(member.id).monotonic;
        member.machine = machine(&member.name, tokens, now);
        member.down_for = None;
    }

    fn mishap(&mut self) {
        let n = self.numbers.below(MEMBERS);
        let down = self.members.iter().filter(|m| m.down_for.is_some()).count();
        match self.numbers.below(100) {
            0..3 if down < 2 && self.members[n].down_for.is_none() => {
                self.cluster.crash(self.members[n].id);
                self.members[n].down_for = Some(3 + self.numbers.below(40));
            }
            3 => {
                let side: Vec<_> = (0..n).map(NodeId).collect();
                self.cluster.partition(&side);
            }
            4..8 => self.cluster.heal(),
            _ => {}
        }
    }

    fn run(&mut self, trouble: usize, calm: usize) -> Result<(), Violation> {
        self.cluster.set_network(Network {
            delay: (Duration::from_millis(1), Duration::from_millis(400)),
            loss: 0.1,
            duplicates: 0.05,
        });
        for _ in 0..trouble {
            self.second();
            self.mishap();
        }
        self.cluster.heal();
        self.cluster.set_network(Network::default());
        (0..calm).for_each(|_| self.second());
        // Nobody writes any more. A change that by chance was sent to all but one is found by an exchange.
        self.cluster.run_for(QUIET);
        self.check(0..MEMBERS)?;
        self.check(MEMBERS..MEMBERS + STRANGERS)
    }

    fn check(&mut self, members: std::ops::Range<usize>) -> Result<(), Violation> {
        let size = members.len();
        let mut replicas = Vec::new();
        for member in &self.members[members] {
            let value = self.cluster.read(member.id, RING).unwrap_or_default();
            replicas.push((member.name.as_str(), RingCodec::decode(&value).unwrap()));
        }
        replicas_agree(replicas.iter().map(|(name, ring)| (*name, ring)))?;
        let (_, replica) = &replicas[0];
        no_token_has_two_owners(replica)?;
        let settled = |name: &str| {
            let own = replica.get(name);
            own.is_some_and(|i| i.state == InstanceState::Active && !i.tokens.is_empty())
        };
        let unsettled = replicas.iter().find(|(name, _)| !settled(name));
        if replica.len() != size || unsettled.is_some() {
            return Err(Violation(format!(
                "not a ring of these {size}: {replica:?}"
            )));
        }
        let settings = RingSettings {
            replication_factor: size.min(3),
            heartbeat_timeout: 2 * QUIET,
            ..RingSettings::default()
        };
        let now_s = self.cluster.now_at(NodeId(0)).unix_s();
        every_key_has_an_owner(&Ring::new(settings, replica), Operation::WRITE, now_s)
    }
}

fn try_seeds(seeds: std::ops::Range<i64>) {
    for seed in seeds {
        if let Err(violation) = World::new(seed, Arc::new(RingCodec)).run(TROUBLE, CALM) {
            panic!(
                "{violation}\nreplay: LGTM_SIM_SEED={seed} cargo test -p lgtm-ring --features testing --test sim_ring"
            );
        }
    }
}

fn number(name: &str) -> Option<i64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn over_a_bad_network_gossiped_rings_come_to_one_right_ring_each() {
    match number("LGTM_SIM_SEED") {
        Some(seed) => try_seeds(seed..seed + 1),
        None => try_seeds(0..QUICK_SEEDS),
    }
}

#[test]
#[ignore = "minutes; scripts/sim-seeds runs it"]
fn many_seeds_long() {
    let first = number("LGTM_SIM_FIRST").unwrap_or(QUICK_SEEDS);
    let count = number("LGTM_SIM_SEEDS").unwrap_or(100);
    try_seeds(first..first + count);
}

/// Takes the later of two rings whole: what only the other had is lost.
#[derive(Debug)]
struct WholeValues;

impl ValueCodec for WholeValues {
    fn id(&self) -> &'static str {
        RingCodec.id()
    }

    fn merge(
        &self,
        current: Option<&[u8]>,
        incoming: &[u8],
        kind: MergeKind,
        now_unix_s: i64,
    ) -> Result<Merged> {
        let merged = RingCodec.merge(current, incoming, kind, now_unix_s)?;
        let whole = merged.change.clone().filter(|_| kind == MergeKind::Remote);
        let value = whole.unwrap_or(merged.value);
        Ok(Merged { value, ..merged })
    }

    fn remove_tombstones(&self, value: &[u8], limit_unix_s: Option<i64>) -> Result<Tombstones> {
        RingCodec.remove_tombstones(value, limit_unix_s)
    }

    fn member_names(&self, value: &[u8]) -> Result<Vec<String>> {
        RingCodec.member_names(value)
    }
}

#[test]
fn a_codec_that_does_not_merge_is_caught() {
    // Short: members that cannot agree never stop talking.
    let wrong = World::new(1, Arc::new(WholeValues)).run(10, 20);
    assert!(wrong.is_err());
}
