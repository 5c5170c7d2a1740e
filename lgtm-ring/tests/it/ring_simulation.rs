//! Clusters in one thread under a seed: members that join, crash, come back with or without their tokens, leave and are forgotten, over a
//! network that loses, delays, repeats, reorders and parts, with clocks that jump by hours.
//!
//! A failure names its seed; `LGTM_SIM_SEED=n` replays it. `LGTM_SIM_SEEDS=n` runs n seeds from `LGTM_SIM_FIRST` on in `many_seeds_long`
//! (`scripts/sim-seeds`).

#![cfg(feature = "testing")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lgtm_ring::instance::{InstanceState, RingDesc};
use lgtm_ring::lifecycle::{Identity, LifecyclerSettings, Role, Step};
use lgtm_ring::prng::GoRand;
use lgtm_ring::ring::{Operation, ReplicationStrategy, Ring, RingSettings};
use lgtm_ring::testing::{
    Disk, RingNode, Violation, every_key_has_an_owner, no_token_has_two_owners, quorums_meet,
    replicas_agree, the_forgotten_stay_away,
};
use lgtm_ring::token::Token;

const START_S: i64 = 1_800_000_000;
const MEMBERS: usize = 6;
/// Seconds of trouble, then of calm.
const TROUBLE: u64 = 300;
const CALM: u64 = 120;
const QUICK_SEEDS: i64 = 60;
const SEEDS: i64 = 1000;

/// What is done wrongly, to see that the checks can fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Nothing,
    /// Tokens that two hold stay with both.
    NoResolution,
    /// Whatever comes is taken, however old.
    NoTimes,
    /// Who is forgotten is merely taken out of one copy.
    NoTombstones,
    /// One replica's word is enough for a write.
    NoQuorum,
    /// Members count as dead between two heartbeats.
    NoPatience,
}

impl Fault {
    const ALL: [Self; 5] = [
        Self::NoResolution,
        Self::NoTimes,
        Self::NoTombstones,
        Self::NoQuorum,
        Self::NoPatience,
    ];

    /// The violation that shows it.
    fn shows_as(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::NoResolution => "has two owners",
            Self::NoTimes => "differ in",
            Self::NoTombstones => "was forgotten and is back",
            Self::NoQuorum => "is missed by a read",
            Self::NoPatience => "has no owner",
        }
    }
}

struct Cluster {
    numbers: GoRand,
    fault: Fault,
    at_s: u64,
    nodes: Vec<RingNode>,
    /// When a member that is down begins again; `None` for one that is up, the end of time for one that stays away.
    down_until: Vec<Option<u64>>,
    /// The side of the network that each is on.
    side: Vec<usize>,
    /// How far each one's clock is ahead.
    ahead_s: Vec<i64>,
    mail: BTreeMap<(u64, u64), (usize, RingDesc)>,
    sent: u64,
    forgotten: BTreeSet<String>,
}

impl Cluster {
    fn new(seed: i64, fault: Fault) -> Self {
        let settings = LifecyclerSettings {
            num_tokens: 8,
            heartbeat_period: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(30),
            observe_period: Duration::from_secs(8),
            ..LifecyclerSettings::default()
        };
        let node = |n: usize| {
            let identity = Identity {
                id: format!("member-{n}"),
                addr: format!("10.0.0.{n}:9095"),
                zone: String::new(),
            };
            // Two members draw the same tokens while they do not know each other.
            let tokens = seed * 100 + n as i64 / 2;
            let begin = Duration::ZERO;
            RingNode::new(settings.clone(), Role::HoldsData, identity, tokens, begin).unwrap()
        };
        Self {
            numbers: GoRand::from_seed(seed),
            fault,
            at_s: 0,
            nodes: (0..MEMBERS).map(node).collect(),
            down_until: vec![None; MEMBERS],
            side: vec![0; MEMBERS],
            ahead_s: vec![0; MEMBERS],
            mail: BTreeMap::new(),
            sent: 0,
            forgotten: BTreeSet::new(),
        }
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.numbers.below(100) < percent
    }

    fn now_s(&self) -> i64 {
        START_S + self.at_s as i64
    }

    /// What the clock of a member shows.
    fn now_s_of(&self, n: usize) -> i64 {
        self.now_s() + self.ahead_s[n]
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.at_s)
    }

    fn up(&self) -> Vec<usize> {
        (0..MEMBERS)
            .filter(|&n| self.down_until[n].is_none())
            .collect()
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        self.side[a] == self.side[b] && self.down_until[b].is_none()
    }

    fn send(&mut self, from: usize, change: &RingDesc, trouble: bool) {
        for to in 0..MEMBERS {
            if to == from || !self.connected(from, to) || trouble && self.chance(20) {
                continue;
            }
            let copies = 1 + usize::from(trouble && self.chance(10));
            for _ in 0..copies {
                let delay = if trouble { self.numbers.below(4) } else { 0 };
                self.sent += 1;
                let place = (self.at_s + delay as u64, self.sent);
                self.mail.insert(place, (to, change.clone()));
            }
        }
    }

    fn receive(&mut self, to: usize, change: &RingDesc) -> Option<RingDesc> {
        let now_s = self.now_s_of(to);
        match self.fault {
            Fault::NoResolution => {
                let newer = |ring: &mut RingDesc| {
                    for i in change.iter() {
                        let ours = ring.get(&i.id).map_or(0, |o| o.timestamp_s);
                        if i.timestamp_s > ours {
                            ring.insert((**i).clone());
                        }
                    }
                };
                self.nodes[to].receive_with(newer);
                None
            }
            Fault::NoTimes => {
                let all =
                    |ring: &mut RingDesc| change.iter().for_each(|i| ring.insert((**i).clone()));
                self.nodes[to].receive_with(all);
                None
            }
            _ => self.nodes[to].receive(change, now_s),
        }
    }

    fn deliver(&mut self, trouble: bool) {
        while let Some(entry) = self.mail.first_entry().filter(|e| e.key().0 <= self.at_s) {
            let (to, change) = entry.remove();
            if self.down_until[to].is_none()
                && let Some(news) = self.receive(to, &change)
            {
                self.send(to, &news, trouble);
            }
        }
    }

    /// Two members exchange all they have.
    fn push_pull(&mut self, a: usize, b: usize) {
        if !self.connected(a, b) {
            return;
        }
        let (of_a, of_b) = (
            self.nodes[a].replica().clone(),
            self.nodes[b].replica().clone(),
        );
        self.receive(b, &of_a);
        self.receive(a, &of_b);
    }

    fn second(&mut self, trouble: bool) {
        let now = self.now();
        for n in 0..MEMBERS {
            if self.down_until[n].is_some_and(|until| until <= self.at_s) {
                let disk = if self.chance(50) {
                    Disk::Kept
                } else {
                    Disk::Lost
                };
                self.nodes[n].restart(disk, now).unwrap();
                self.down_until[n] = None;
                // A member joins by fetching all from one that it reaches.
                let up = self.up();
                let seed = up[self.numbers.below(up.len())];
                self.push_pull(n, seed);
            }
        }
        self.deliver(trouble);
        for n in self.up() {
            let now_s = self.now_s_of(n);
            for change in self.nodes[n].tick(now_s, now) {
                self.send(n, &change, trouble);
            }
            if self.at_s % 7 == n as u64 {
                let other = self.numbers.below(MEMBERS);
                self.push_pull(n, other);
            }
        }
        if trouble {
            self.mishap();
        }
        self.at_s += 1;
    }

    fn mishap(&mut self) {
        let n = self.numbers.below(MEMBERS);
        let down = self.down_until.iter().filter(|d| d.is_some()).count();
        let is_up = self.down_until[n].is_none();
        match self.numbers.below(100) {
            0..2 if is_up && down < 2 => {
                let pause = 5 + self.numbers.below(40) as u64;
                self.down_until[n] = Some(self.at_s + pause);
            }
            2 if is_up && down < 2 => {
                for step in [Step::Leave, Step::Unregister] {
                    let (now_s, now) = (self.now_s_of(n), self.now());
                    if let Ok(Some(change)) = self.nodes[n].take(step, now_s, now) {
                        self.send(n, &change, true);
                    }
                }
                self.down_until[n] = Some(self.at_s + 10);
            }
            // One is gone for good, and an operator says so.
            3 if down == 0 && self.forgotten.is_empty() => {
                self.down_until[n] = Some(u64::MAX);
                self.forgotten.insert(self.nodes[n].id().to_owned());
            }
            4 => self.side = (0..MEMBERS).map(|m| usize::from(m < n)).collect(),
            5..8 => self.side = vec![0; MEMBERS],
            8 => self.ahead_s[n] = self.numbers.below(14_400) as i64 - 7200,
            9..12 => self.ahead_s[n] = 0,
            _ => {}
        }
    }

    fn forget_the_gone(&mut self) {
        let n = self.up()[0];
        let now_s = self.now_s_of(n);
        for id in self.forgotten.clone() {
            if self.fault == Fault::NoTombstones {
                self.nodes[n].receive_with(|ring| drop(ring.remove(&id)));
                continue;
            }
            if let Some(change) = self.nodes[n].forget(&id, now_s) {
                self.send(n, &change, false);
            }
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        for _ in 0..TROUBLE {
            self.second(true);
        }
        self.side = vec![0; MEMBERS];
        self.ahead_s = vec![0; MEMBERS];
        for second in 0..CALM {
            self.second(false);
            if second == CALM / 2 {
                self.forget_the_gone();
            }
        }
        // What is under way arrives; then all have heard all.
        self.at_s += 10;
        self.deliver(false);
        let up = self.up();
        for &a in up.iter().chain(&up) {
            up.iter().for_each(|&b| self.push_pull(a, b));
        }
        self.check()
    }

    fn check(&self) -> Result<(), Violation> {
        let up = self.up();
        let replicas = up
            .iter()
            .map(|&n| (self.nodes[n].id(), self.nodes[n].replica()));
        replicas_agree(replicas)?;
        let replica = self.nodes[up[0]].replica();
        no_token_has_two_owners(replica)?;
        let alive: BTreeSet<String> = up.iter().map(|&n| self.nodes[n].id().to_owned()).collect();
        the_forgotten_stay_away(replica, &self.forgotten, &alive)?;
        for &n in &up {
            let own = replica.get(self.nodes[n].id());
            let settled =
                own.is_some_and(|i| i.state == InstanceState::Active && !i.tokens.is_empty());
            if !settled {
                let id = self.nodes[n].id();
                return Err(Violation(format!(
                    "{id} is up and not in the ring: {own:?}"
                )));
            }
        }
        let mut settings = RingSettings {
            heartbeat_timeout: Duration::from_secs(30),
            ..RingSettings::default()
        };
        match self.fault {
            Fault::NoQuorum => settings.strategy = ReplicationStrategy::IgnoreUnhealthy,
            Fault::NoPatience => settings.heartbeat_timeout = Duration::from_secs(1),
            _ => {}
        }
        let ring = Ring::new(settings, replica);
        every_key_has_an_owner(&ring, Operation::WRITE, self.now_s())?;
        every_key_has_an_owner(&ring, Operation::READ, self.now_s())?;
        self.check_quorums(&ring)
    }

    fn check_quorums(&self, ring: &Ring) -> Result<(), Violation> {
        let now_s = self.now_s();
        let whole = ring.replication_set(Operation::READ, now_s);
        let whole = whole.map_err(|e| Violation(e.to_string()))?;
        for instance in ring.instances() {
            for &Token(token) in instance.tokens.iter() {
                let get = |operation| ring.get(Token(token), operation, now_s);
                let write = get(Operation::WRITE).map_err(|e| Violation(e.to_string()))?;
                let read = get(Operation::READ).map_err(|e| Violation(e.to_string()))?;
                quorums_meet(&write, &read)?;
                quorums_meet(&write, &whole)?;
            }
        }
        Ok(())
    }
}

fn number(name: &str) -> Option<i64> {
    std::env::var(name).ok()?.parse().ok()
}

fn try_seeds(seeds: std::ops::Range<i64>) {
    for seed in seeds {
        if let Err(violation) = Cluster::new(seed, Fault::Nothing).run() {
            panic!(
                "{violation}\nreplay: LGTM_SIM_SEED={seed} cargo test -p lgtm-ring --features testing --test ring_simulation"
            );
        }
    }
}

#[test]
fn whatever_happens_the_members_come_to_one_right_ring() {
    match number("LGTM_SIM_SEED") {
        Some(seed) => try_seeds(seed..seed + 1),
        None => try_seeds(0..QUICK_SEEDS),
    }
}

#[test]
#[ignore = "most of a minute"]
fn the_same_for_a_thousand_seeds() {
    try_seeds(QUICK_SEEDS..SEEDS);
}

#[test]
#[ignore = "minutes at full length; scripts/sim-seeds runs it"]
fn many_seeds_long() {
    let first = number("LGTM_SIM_FIRST").unwrap_or(SEEDS);
    let count = number("LGTM_SIM_SEEDS").unwrap_or(100);
    try_seeds(first..first + count);
}

#[test]
fn every_check_fails_when_what_it_checks_is_done_wrongly() {
    for fault in Fault::ALL {
        let shows = |seed| {
            let wrong = Cluster::new(seed, fault).run().err();
            wrong.is_some_and(|w| w.0.contains(fault.shows_as()))
        };
        assert!((0..50).any(shows), "{fault:?} went unnoticed");
    }
}

#[test]
fn a_seed_replays() {
    let run = |seed| {
        let mut cluster = Cluster::new(seed, Fault::Nothing);
        let outcome = cluster.run();
        let replicas: Vec<_> = cluster.nodes.iter().map(|n| n.replica().clone()).collect();
        (outcome, cluster.sent, replicas)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).1, run(8).1);
}
