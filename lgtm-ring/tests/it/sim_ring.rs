//! Whole rings in one thread: lifecycles on simulated gossip stores that keep a ring, over a network that loses, delays, repeats and parts, while members
//! crash and come back with or without their tokens, and their clocks jump by hours. Beside them a cluster of another label that knows their addresses.
//!
//! A failure names its seed; `LGTM_SIM_SEED=n` replays it. `LGTM_SIM_SEEDS=n` runs n seeds from `LGTM_SIM_FIRST` on in `many_seeds_long`
//! (`scripts/sim-seeds`).

#![cfg(feature = "testing")]

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_ring::instance::{InstanceState, RingCodec, RingDesc};
use lgtm_ring::kv::gossip::WriteOutcome;
use lgtm_ring::kv::{MergeKind, MergeTime, Merged, Tombstones, ValueCodec};
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
/// How far off a clock may be put, in seconds: further than `max_clock_ahead`.
const WRONG_S: usize = 7200;

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
            let id = if n < MEMBERS {
                cluster.add(&[NodeId(0), NodeId(1)])
            } else {
                cluster.add_labelled("others", &[NodeId(0), NodeId(MEMBERS)])
            };
            cluster.start(id);
            let name = if n < MEMBERS {
                format!("member-{n}")
            } else {
                format!("stranger-{n}")
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
        match planned.filter(|p| written.unwrap() == WriteOutcome::Done || !p.writes()) {
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
        let tokens = if has_file {
            member.machine.membership().tokens.to_vec()
        } else {
            Vec::new()
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
            8..10 => {
                let ahead_s = self.numbers.below(2 * WRONG_S) as i64 - WRONG_S as i64;
                self.set_clock(n, ahead_s);
            }
            10..14 => self.set_clock(n, 0),
            _ => {}
        }
    }

    fn set_clock(&mut self, n: usize, ahead_s: i64) {
        let id = self.members[n].id;
        self.cluster.set_clock_ahead_ms(id, ahead_s * 1000);
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
        (0..MEMBERS).for_each(|n| self.set_clock(n, 0));
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
        if let Some(ahead) = replica.iter().find(|i| i.timestamp_s > now_s) {
            return Err(Violation(format!(
                "all clocks are right, and a heartbeat is from the future: {ahead:?}"
            )));
        }
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

impl World {
    /// Members whose clocks are this far ahead, half a minute after they started.
    fn with_clocks(ahead_s: &[i64]) -> Self {
        let mut world = Self::new(3, Arc::new(RingCodec));
        for (n, &ahead_s) in ahead_s.iter().enumerate() {
            world.set_clock(n, ahead_s);
        }
        world.seconds(30);
        world
    }

    fn seconds(&mut self, count: usize) {
        (0..count).for_each(|_| self.second());
    }

    /// The ring as member `n` sees it.
    fn sees(&mut self, n: usize) -> RingDesc {
        let value = self.cluster.read(self.members[n].id, RING);
        RingCodec::decode(&value.unwrap_or_default()).unwrap()
    }

    /// How far ahead of the right time member `of`'s heartbeat is, as `n` sees it.
    fn heartbeat(&mut self, n: usize, of: usize) -> Option<i64> {
        let now_s = self.cluster.now_at(NodeId(0)).unix_s();
        let ring = self.sees(n);
        let own = ring.get(&self.members[of].name)?;
        Some(own.timestamp_s - now_s)
    }

    /// Replaces member `n` by a new process.
    fn renew(&mut self, n: usize) {
        self.cluster.crash(self.members[n].id);
        self.restart(n);
    }
}

#[test]
fn a_heartbeat_far_ahead_heals_everywhere_once_the_clock_is_right() {
    for ahead_s in [1800, 7200, 8 * 3600] {
        let mut world = World::with_clocks(&[0, 0, ahead_s]);
        // The others believe an hour at most.
        let seen = world.heartbeat(0, 2);
        assert_eq!(seen.is_some(), ahead_s <= 3600, "{seen:?}");
        let before = world.sees(2);
        world.set_clock(2, 0);
        // Its next heartbeat, and a moment for it to be told.
        world.seconds(8);
        for n in 0..MEMBERS {
            let seen = world.heartbeat(n, 2);
            assert!(
                seen.is_some_and(|s| (-10..=0).contains(&s)),
                "member {n} sees {seen:?} with {ahead_s} s ahead"
            );
        }
        let (was, is) = (before.get("member-2"), world.sees(0));
        assert_eq!(was.unwrap().tokens, is.get("member-2").unwrap().tokens);
    }
}

#[test]
fn one_whose_clock_runs_ahead_blinds_nobody() {
    let others = |world: &mut World, n: usize| -> Vec<String> {
        let ring = world.sees(n);
        let others = ring.iter().filter(|i| i.id != "member-2");
        others.map(|i| i.id.clone()).collect()
    };
    // Almost as far ahead as is believed, exactly as far, and further.
    for ahead_s in [3590, 3600, 20_000] {
        let mut world = World::with_clocks(&[0, 2, ahead_s, -2, 1]);
        let all = others(&mut world, 0);
        assert_eq!(all.len(), MEMBERS - 1);
        // New ones whose clocks are behind by seconds to minutes learn of all but the one whose records they do not believe.
        for behind_s in [-5, -60, -300] {
            world.set_clock(5, behind_s);
            world.renew(5);
            world.seconds(30);
            assert_eq!(others(&mut world, 5), all, "{behind_s}");
            assert!(world.sees(0).get("member-5").is_some());
        }
        // One of long standing slips.
        world.set_clock(3, -30);
        world.seconds(60);
        assert_eq!(others(&mut world, 3), all);
        let stale = world.heartbeat(3, 1).unwrap();
        assert!((-15..=15).contains(&stale), "{stale}");
        // And the one that runs ahead sees the others, too.
        assert_eq!(others(&mut world, 2), all);
    }
}

#[test]
fn one_forgotten_by_a_clock_that_runs_ahead_is_back_and_stamped_by_its_own() {
    let mut world = World::with_clocks(&[0, 0, 1800]);
    let forget = |current: Option<bytes::Bytes>| {
        let mut ring = RingCodec::decode(&current.unwrap()).unwrap();
        ring.remove("member-1").unwrap();
        Some(RingCodec::encode(&ring).unwrap())
    };
    let id = world.members[2].id;
    world.cluster.write(id, RING, forget).unwrap();
    world.cluster.run_for(Duration::from_secs(3));
    assert!(world.sees(0).get("member-1").is_none());
    world.seconds(10);
    let seen = world.heartbeat(0, 1);
    assert!(seen.is_some_and(|s| (-10..=0).contains(&s)), "{seen:?}");
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
        time: MergeTime,
    ) -> Result<Merged> {
        let merged = RingCodec.merge(current, incoming, kind, time)?;
        let change = merged.outcome.change.clone();
        let whole = change.filter(|_| kind == MergeKind::Remote);
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
