//! Gossip clusters under seeds: what must hold, and that each check can fail.
//!
//! `LGTM_SIM_SEEDS=N` runs N seeds from `LGTM_SIM_FIRST` on in `many_seeds_long` (`scripts/sim-seeds`); `LGTM_SIM_SEED=S` replays one.

#![cfg(feature = "testing")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_core::Result;
use lgtm_ring::kv::{MergeKind, MergeOutcome, MergeTime, Merged, Tombstones, ValueCodec};
use lgtm_ring::testing::sim::{Chaos, Network, NodeId, SimCluster, SimSettings, chaos};
use lgtm_ring::testing::{LwwCodec, LwwMap};

fn seeds(range: std::ops::Range<u64>) {
    for seed in range {
        if let Err(wrong) = chaos(seed, &Chaos::default(), Arc::new(LwwCodec)) {
            panic!(
                "{wrong}\nreplay: LGTM_SIM_SEED={seed} cargo test -p lgtm-ring --features testing --test sim_gossip replay_one"
            );
        }
    }
}

// A thousand seeds, in parts that run side by side.

#[test]
fn the_invariants_hold_under_seeds_0_to_249() {
    seeds(0..250);
}

#[test]
fn the_invariants_hold_under_seeds_250_to_499() {
    seeds(250..500);
}

#[test]
fn the_invariants_hold_under_seeds_500_to_749() {
    seeds(500..750);
}

#[test]
fn the_invariants_hold_under_seeds_750_to_999() {
    seeds(750..1000);
}

#[test]
fn what_the_last_node_knew_is_lost_when_it_leaves_and_comes_back() {
    // Node 3 is the only one that runs, leaves, and is started anew before anybody looks.
    seeds(30386..30387);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|n| n.parse().unwrap())
}

#[test]
fn replay_one() {
    if let Some(seed) = number("LGTM_SIM_SEED") {
        seeds(seed..seed + 1);
    }
}

#[test]
#[ignore = "hours at full length; scripts/sim-seeds runs it"]
fn many_seeds_long() {
    let first = number("LGTM_SIM_FIRST").unwrap_or(1000);
    let count = number("LGTM_SIM_SEEDS").unwrap_or(100);
    seeds(first..first + count);
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let run = |seed| chaos(seed, &Chaos::default(), Arc::new(LwwCodec)).unwrap();
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

/// How many of the first seeds find a fault.
fn caught(settings: &Chaos, codec: impl ValueCodec, seeds: u64) -> (u64, String) {
    let codec = Arc::new(codec);
    let short = Chaos {
        patience: Duration::from_secs(60),
        ..settings.clone()
    };
    let wrong = (0..seeds).filter_map(|seed| chaos(seed, &short, codec.clone()).err());
    let wrong: Vec<_> = wrong.collect();
    (wrong.len() as u64, wrong.join("\n"))
}

/// A codec with one fault.
#[derive(Debug)]
struct Faulty(Fault);

#[derive(Debug, PartialEq)]
enum Fault {
    /// Whatever comes last stays.
    LastArrivalWins,
    /// A member that was removed is simply gone.
    NoTombstones,
    /// One member in three is not taken from others.
    DropsSome,
}

impl ValueCodec for Faulty {
    fn id(&self) -> &'static str {
        "lwwMap"
    }

    fn merge(
        &self,
        current: Option<&[u8]>,
        incoming: &[u8],
        kind: MergeKind,
        time: MergeTime,
    ) -> Result<Merged> {
        let good = LwwCodec.merge(current, incoming, kind, time)?;
        let with = |value: LwwMap, change| Merged {
            value: value.encode(),
            outcome: MergeOutcome {
                change,
                refused_ahead_s: None,
            },
        };
        let good_change = good.outcome.change.clone();
        let mut value = LwwMap::decode(&good.value)?;
        let said = LwwMap::decode(incoming)?;
        match self.0 {
            Fault::LastArrivalWins => {
                let before = current.map(LwwMap::decode).transpose()?.unwrap_or_default();
                value.0.extend(said.0.clone());
                if value == before {
                    return Ok(good);
                }
                let change = good_change.filter(|_| kind == MergeKind::Local);
                return Ok(with(value, change.or(Some(said.encode()))));
            }
            Fault::NoTombstones => {
                value.0.retain(|_, e| e.text.is_some());
                let mut change = good_change
                    .as_deref()
                    .map(LwwMap::decode)
                    .transpose()?
                    .unwrap_or_default();
                change.0.retain(|_, e| e.text.is_some());
                let change =
                    (!change.0.is_empty() || kind == MergeKind::Local).then(|| change.encode());
                return Ok(with(value, change));
            }
            Fault::DropsSome if kind == MergeKind::Remote => {
                let before = current.map(LwwMap::decode).transpose()?.unwrap_or_default();
                value
                    .0
                    .retain(|name, _| !name.ends_with(['1', '4']) || before.0.contains_key(name));
            }
            Fault::DropsSome => {}
        }
        Ok(with(value, good_change))
    }

    fn remove_tombstones(&self, value: &[u8], limit_s: Option<i64>) -> Result<Tombstones> {
        LwwCodec.remove_tombstones(value, limit_s)
    }

    fn member_names(&self, value: &[u8]) -> Result<Vec<String>> {
        LwwCodec.member_names(value)
    }
}

#[test]
fn a_merge_that_takes_whatever_comes_last_is_caught() {
    let (caught, how) = caught(&Chaos::default(), Faulty(Fault::LastArrivalWins), 10);
    assert!(caught >= 5, "{caught} of 10: {how}");
}

#[test]
fn a_merge_that_forgets_who_was_removed_is_caught() {
    let (caught, how) = caught(&Chaos::default(), Faulty(Fault::NoTombstones), 20);
    assert!(
        caught >= 3 && how.contains("was said"),
        "{caught} of 20: {how}"
    );
}

#[test]
fn a_merge_that_drops_members_is_caught() {
    let (caught, how) = caught(&Chaos::default(), Faulty(Fault::DropsSome), 10);
    assert!(
        caught >= 5 && how.contains("different values"),
        "{caught} of 10: {how}"
    );
}

#[test]
fn a_network_that_does_not_heal_is_caught() {
    let settings = Chaos {
        heals: false,
        ..Chaos::default()
    };
    let (caught, how) = caught(&settings, LwwCodec, 40);
    assert!(
        caught >= 3 && how.contains("for live"),
        "{caught} of 40: {how}"
    );
}

#[test]
fn strangers_with_our_label_are_caught() {
    let settings = Chaos {
        strangers_have_their_own_label: false,
        ..Chaos::default()
    };
    let (caught, how) = caught(&settings, LwwCodec, 3);
    assert!(caught == 3, "{caught} of 3: {how}");
}

/// A cluster of `n` that all start at once and each write a member.
fn cold_start(n: usize, loss: f64, seed: u64) -> (SimCluster, Vec<NodeId>) {
    let mut settings = SimSettings::new("big", Arc::new(LwwCodec));
    settings.network = Network::losing(loss);
    let mut cluster = SimCluster::new(settings, seed);
    let seeds: Vec<_> = (0..3.min(n)).map(NodeId).collect();
    let nodes: Vec<_> = (0..n).map(|_| cluster.add(&seeds)).collect();
    for id in &nodes {
        cluster.start(*id);
        let at = cluster.now_at(*id).unix_s();
        cluster
            .write(*id, "ring", |current| {
                let mut map = current.map_or_else(LwwMap::default, |v| LwwMap::decode(&v).unwrap());
                map.set(&format!("m{}", id.0), at, "x");
                Some(map.encode())
            })
            .unwrap();
    }
    (cluster, nodes)
}

fn members(value: Option<Bytes>) -> usize {
    value.map_or(0, |v| LwwMap::decode(&v).unwrap().0.len())
}

#[test]
fn a_hundred_nodes_that_start_at_once_agree_within_ten_seconds() {
    let (mut cluster, nodes) = cold_start(100, 0.05, 1);
    let took = cluster.run_until(Duration::from_secs(30), Duration::from_millis(100), |c| {
        nodes.iter().all(|id| {
            members(c.read(*id, "ring")) == 100 && c.state(*id).unwrap().live().len() == 99
        })
    });
    let took = took.expect("never agreed");
    assert!(took <= Duration::from_secs(10), "{took:?}");
}

fn small(n: usize, change: impl FnOnce(&mut SimSettings)) -> (SimCluster, Vec<NodeId>) {
    let mut settings = SimSettings::new("small", Arc::new(LwwCodec));
    change(&mut settings);
    let mut cluster = SimCluster::new(settings, 3);
    let nodes: Vec<_> = (0..n).map(|_| cluster.add(&[NodeId(0)])).collect();
    (cluster, nodes)
}

fn live(cluster: &SimCluster, id: NodeId) -> usize {
    cluster.state(id).unwrap().live().len()
}

#[test]
fn a_node_that_restarts_with_a_clock_an_hour_back_is_taken_up_again() {
    let (mut cluster, nodes) = small(4, |_| ());
    nodes.iter().for_each(|id| cluster.start(*id));
    cluster.run_for(Duration::from_secs(5));
    assert!(nodes.iter().all(|id| live(&cluster, *id) == 3));
    cluster.crash(NodeId(2));
    cluster.set_clock_ahead_ms(NodeId(2), -3_600_000);
    cluster.start(NodeId(2));
    let all = |c: &mut SimCluster| nodes.iter().all(|id| live(c, *id) == 3);
    let took = cluster.run_until(Duration::from_secs(30), Duration::from_millis(100), all);
    assert!(
        took.is_some(),
        "{:?}",
        cluster.state(NodeId(0)).unwrap().members()
    );
    cluster.run_for(Duration::from_secs(30));
    assert!(nodes.iter().all(|id| live(&cluster, *id) == 3), "and stays");
}

#[test]
fn a_full_table_of_members_refuses_strangers_and_keeps_its_own() {
    let (mut cluster, nodes) = small(8, |s| s.gossip.max_members = 4);
    nodes.iter().for_each(|id| cluster.start(*id));
    cluster.run_for(Duration::from_secs(30));
    for id in &nodes {
        let state = cluster.state(*id).unwrap();
        // One message may bring some when there is still room for one.
        assert!(state.members().len() <= 4 + 4, "{:?}", state.members());
    }
    assert!(live(&cluster, NodeId(0)) >= 3, "the first were taken");
    let refused = nodes
        .iter()
        .map(|id| cluster.state(*id).unwrap().stats().refusals("full"));
    assert!(refused.sum::<u64>() > 0);
}

#[test]
fn a_queue_of_changes_has_a_bound_and_what_it_drops_is_found_by_exchanges() {
    let (mut cluster, nodes) = small(3, |s| {
        s.gossip.max_queue_bytes = lgtm_core::units::ByteSize::kib(2);
        s.gossip.push_pull_interval = Duration::from_secs(5);
    });
    nodes.iter().for_each(|id| cluster.start(*id));
    cluster.run_for(Duration::from_secs(2));
    let at = cluster.now_at(NodeId(1)).unix_s();
    for n in 0..200 {
        let change = |current: Option<Bytes>| {
            let mut map = current.map_or_else(LwwMap::default, |v| LwwMap::decode(&v).unwrap());
            map.set(&format!("m{n}"), at, &"x".repeat(100));
            Some(map.encode())
        };
        cluster.write(NodeId(1), "ring", change).unwrap();
    }
    let all = |c: &mut SimCluster| nodes.iter().all(|id| members(c.read(*id, "ring")) == 200);
    assert!(!all(&mut cluster));
    cluster.run_for(Duration::from_secs(30));
    assert!(all(&mut cluster));
}

#[test]
fn what_a_member_learns_in_an_exchange_it_tells_at_a_bounded_rate() {
    let (mut cluster, nodes) = small(3, |_| ());
    cluster.start(NodeId(0));
    let at = cluster.now_at(NodeId(0)).unix_s();
    let mut map = LwwMap::default();
    (0..1000).for_each(|n| map.set(&format!("m{n}"), at, &"x".repeat(640)));
    let value = map.encode();
    let all = value.len() as u64;
    cluster
        .write(NodeId(0), "ring", |_| Some(value.clone()))
        .unwrap();
    cluster.run_for(Duration::from_secs(60));
    // The two learn all of it from the first as they join, and have each other to tell it to.
    cluster.start(NodeId(1));
    cluster.start(NodeId(2));
    cluster.run_for(Duration::from_secs(1));
    assert_eq!(members(cluster.read(NodeId(1), "ring")), 1000);
    let gossip = &SimSettings::new("small", Arc::new(LwwCodec)).gossip;
    let bundles = 3 * 5 * gossip.max_bundle_bytes.as_usize() as u64;
    for _ in 0..5 {
        let before = cluster.sent_bytes(NodeId(1));
        cluster.run_for(Duration::from_secs(1));
        let sent = cluster.sent_bytes(NodeId(1)) - before;
        // Frames, probes, and an exchange at most.
        assert!(sent <= bundles * 11 / 10 + all, "{sent} bytes in a second");
    }
    assert!(nodes.iter().all(|id| live(&cluster, *id) == 2));
}

#[test]
fn a_member_that_was_cut_off_does_not_bring_back_who_was_removed_meanwhile() {
    let (mut cluster, nodes) = small(4, |_| ());
    nodes.iter().for_each(|id| cluster.start(*id));
    let at = cluster.now_at(NodeId(0)).unix_s();
    let mut map = LwwMap::default();
    map.set("ghost", at, "x");
    cluster
        .write(NodeId(0), "ring", |_| Some(map.encode()))
        .unwrap();
    cluster.run_for(Duration::from_secs(5));
    cluster.partition(&[NodeId(3)]);
    cluster.run_for(Duration::from_secs(5));
    let empty = LwwMap::default().encode();
    cluster
        .write(NodeId(0), "ring", |_| Some(empty.clone()))
        .unwrap();
    cluster.run_for(Duration::from_secs(200));
    assert_eq!(members(cluster.read(NodeId(3), "ring")), 1);
    cluster.heal();
    cluster.run_for(Duration::from_secs(90));
    for id in &nodes {
        assert_eq!(members(cluster.read(*id, "ring")), 0, "{id:?}");
        assert_eq!(live(&cluster, *id), 3, "{id:?}");
    }
}
