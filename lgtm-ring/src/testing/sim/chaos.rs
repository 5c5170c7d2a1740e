//! A cluster to which everything happens, and what must hold when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::kv::ValueCodec;
use crate::kv::gossip::{GossipSettings, WriteOutcome};
use crate::testing::mergeable::{LwwEntry, LwwMap};
use crate::testing::sim::cluster::{NodeId, SimCluster, SimSettings};
use crate::testing::sim::network::Network;

/// The key that all nodes keep their member in.
const RING: &str = "ring";
/// A key that comes and goes.
const OTHER: &str = "other";

/// How much happens.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// The most nodes; a seed draws 3 to this many.
    pub max_nodes: usize,
    /// Things that happen, one after the other.
    pub steps: usize,
    /// How long the network may stay good until all must agree.
    pub patience: Duration,
    /// Whether the network heals at the end. `false` shows that the checks can fail.
    pub heals: bool,
    /// Whether the strangers have a label of their own. `false` shows that the checks can fail.
    pub strangers_have_their_own_label: bool,
}

impl Default for Chaos {
    fn default() -> Self {
        Self {
            max_nodes: 6,
            steps: 40,
            patience: Duration::from_secs(120),
            heals: true,
            strangers_have_their_own_label: true,
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaosReport {
    /// Events that the simulation handled; the same for the same seed.
    pub events: u64,
    /// Bytes that all nodes sent.
    pub bytes: u64,
    /// How long after the healing all agreed.
    pub converged_after: Duration,
}

/// One write of a member or of its removal.
#[derive(Debug, Clone)]
struct Said {
    entry: LwwEntry,
    /// The node that said it, and its life then.
    by: (NodeId, u32),
}

struct World {
    cluster: SimCluster,
    rng: SmallRng,
    nodes: Vec<NodeId>,
    strangers: Vec<NodeId>,
    lives: Vec<u32>,
    /// By member, all that was ever said about it.
    said: BTreeMap<String, Vec<Said>>,
}

/// Runs a scenario under `seed` with values of `codec`, which must read [`LwwMap`]s.
///
/// Nodes write, crash, restart with and without a good-bye, remove each other's members; the network gets worse and better and falls
/// apart; a second cluster has the first one's addresses among its seeds. When it is over and the network is good, the nodes that run
/// must agree on
///
/// 1. both values, all of them on the same;
/// 2. every member: what was said last by a node that did not crash since is there, and nothing older; so no write is lost, and who was
///    removed does not come back unless it wrote again;
/// 3. who is there: all that run, and nobody else;
/// 4. and none of it may come from the strangers.
///
/// # Errors
/// What did not hold. It names the seed; the same seed replays the run.
pub fn chaos(
    seed: u64,
    settings: &Chaos,
    codec: Arc<dyn ValueCodec>,
) -> Result<ChaosReport, String> {
    let mut world = World::new(seed, settings, codec);
    for _ in 0..settings.steps {
        world.step();
    }
    world
        .settle(settings)
        .map_err(|what| format!("seed {seed}: {what}"))
}

impl World {
    fn new(seed: u64, chaos: &Chaos, codec: Arc<dyn ValueCodec>) -> Self {
        let mut settings = SimSettings::new("ours", codec);
        settings.gossip = GossipSettings {
            push_pull_interval: Duration::from_secs(5),
            rejoin_interval: Duration::from_secs(10),
            ..settings.gossip
        };
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut cluster = SimCluster::new(settings, rng.random());
        let count = rng.random_range(3..=chaos.max_nodes.max(3));
        let seeds = [NodeId(0), NodeId(1)];
        let nodes: Vec<_> = (0..count).map(|_| cluster.add(&seeds)).collect();
        let label = if chaos.strangers_have_their_own_label {
            "theirs"
        } else {
            "ours"
        };
        let strange_seeds = [NodeId(0), NodeId(count)];
        let strangers: Vec<_> = (0..2)
            .map(|_| cluster.add_labelled(label, &strange_seeds))
            .collect();
        let mut world = Self {
            cluster,
            rng,
            lives: vec![0; count],
            nodes,
            strangers,
            said: BTreeMap::new(),
        };
        for id in world.nodes.clone() {
            let ahead = world.rng.random_range(-120_000..=120_000);
            world.cluster.set_clock_ahead_ms(id, ahead);
            world.cluster.start(id);
        }
        for id in world.strangers.clone() {
            world.cluster.start(id);
            let mut map = LwwMap::default();
            map.set("stranger", world.cluster.now_at(id).unix_s(), "x");
            let written = world.cluster.write(id, RING, |_| Some(map.encode()));
            debug_assert!(written.is_ok(), "{written:?}");
        }
        world
    }

    fn some_node(&mut self) -> NodeId {
        self.nodes[self.rng.random_range(0..self.nodes.len())]
    }

    fn runs(&self, id: NodeId) -> bool {
        self.cluster.state(id).is_some()
    }

    fn step(&mut self) {
        let pause = Duration::from_millis(self.rng.random_range(10..3000));
        self.cluster.run_for(pause);
        let id = self.some_node();
        match self.rng.random_range(0..100) {
            0..45 => self.write(id),
            45..55 => self.remove_somebody(id),
            55..62 => self.write_other(id),
            62..65 => self.cluster.delete(id, OTHER),
            65..75 => {
                self.cluster.crash(id);
                self.lives[id.0] += 1;
            }
            75..80 => self.cluster.leave(id),
            80..88 if !self.runs(id) => self.start_anew(id),
            80..92 => {
                let loss = self.rng.random_range(0..40);
                self.cluster.set_network(Network {
                    delay: (
                        Duration::from_micros(100),
                        Duration::from_millis(self.rng.random_range(1..400)),
                    ),
                    loss: f64::from(loss) / 100.0,
                    duplicates: 0.05,
                });
            }
            92..97 => {
                let side: Vec<_> = self.nodes.clone();
                let side: Vec<_> = side.into_iter().filter(|_| self.rng.random()).collect();
                self.cluster.partition(&side);
            }
            _ => self.cluster.heal(),
        }
        // A node that left told what it had to tell, as far as anybody heard it; what nobody heard is lost with it.
        for n in 0..self.nodes.len() {
            if !self.runs(NodeId(n)) {
                self.lives[n] += 1;
            }
        }
    }

    /// Starts a node that has been there before: whatever it said in its former life is lost with it, unless others heard it. It may have left a
    /// moment ago, while nobody looked.
    fn start_anew(&mut self, id: NodeId) {
        self.lives[id.0] += 1;
        self.cluster.start(id);
    }

    /// A node writes its own member, as a heartbeat does.
    fn write(&mut self, id: NodeId) {
        if !self.runs(id) {
            return;
        }
        let at = self.cluster.now_at(id).unix_s();
        let (name, text) = (format!("m{}", id.0), format!("{}", self.lives[id.0]));
        let change = |current: Option<Bytes>| {
            let mut map = decode(current.as_ref());
            map.set(&name, at, &text);
            Some(map.encode())
        };
        if matches!(self.cluster.write(id, RING, change), Ok(WriteOutcome::Done)) {
            let entry = LwwEntry {
                at_unix_s: at,
                text: Some(text),
            };
            self.saw(id, name, entry);
        }
    }

    /// A node removes the member of another, as the forget action of a ring page does.
    fn remove_somebody(&mut self, id: NodeId) {
        let other = self.some_node();
        if !self.runs(id) || id == other {
            return;
        }
        let name = format!("m{}", other.0);
        if !decode(self.cluster.read(id, RING).as_ref())
            .0
            .contains_key(&name)
        {
            return;
        }
        let at_unix_s = self.cluster.now_at(id).unix_s();
        let change = |current: Option<Bytes>| {
            let mut map = decode(current.as_ref());
            map.0.remove(&name);
            Some(map.encode())
        };
        if matches!(self.cluster.write(id, RING, change), Ok(WriteOutcome::Done)) {
            let text = None;
            self.saw(id, name, LwwEntry { at_unix_s, text });
        }
    }

    fn saw(&mut self, id: NodeId, name: String, entry: LwwEntry) {
        let by = (id, self.lives[id.0]);
        self.said.entry(name).or_default().push(Said { entry, by });
    }

    fn write_other(&mut self, id: NodeId) {
        if !self.runs(id) {
            return;
        }
        let at = self.cluster.now_at(id).unix_s();
        let written = self.cluster.write(id, OTHER, |current| {
            let mut map = decode(current.as_ref());
            map.set(&format!("o{}", id.0), at, "x");
            Some(map.encode())
        });
        debug_assert!(written.is_ok(), "{written:?}");
    }

    fn settle(mut self, settings: &Chaos) -> Result<ChaosReport, String> {
        self.cluster.set_network(Network::default());
        if settings.heals {
            self.cluster.heal();
        }
        // With no seed left, nodes that were started meanwhile would have nobody to ask. One that is about to leave will not be left.
        let seed = self.nodes[0];
        if !self.stays(seed) && !self.stays(self.nodes[1]) {
            while self.runs(seed) {
                self.cluster.run_for(Duration::from_millis(500));
            }
            self.start_anew(seed);
        }
        let begin = self.cluster.now();
        while let Err(wrong) = self.check() {
            if self.cluster.now() - begin >= settings.patience {
                return Err(format!("after {:?}: {wrong}", settings.patience));
            }
            self.cluster.run_for(Duration::from_millis(500));
        }
        let converged_after = self.cluster.now() - begin;
        // It stays so, and does not merely pass through.
        self.cluster.run_for(Duration::from_secs(15));
        self.check().map_err(|what| format!("no longer: {what}"))?;
        Ok(ChaosReport {
            events: self.cluster.handled(),
            bytes: self.cluster.total_bytes(),
            converged_after,
        })
    }

    fn stays(&self, id: NodeId) -> bool {
        let state = self.cluster.state(id);
        state.is_some_and(|state| !state.is_leaving())
    }

    fn check(&mut self) -> Result<(), String> {
        let running: Vec<_> = self
            .nodes
            .iter()
            .copied()
            .filter(|id| self.runs(*id))
            .collect();
        let first = running[0];
        let ring = self.cluster.read(first, RING);
        let other = self.cluster.read(first, OTHER);
        for id in &running {
            if self.cluster.read(*id, RING) != ring || self.cluster.read(*id, OTHER) != other {
                return Err(format!("{first:?} and {id:?} hold different values"));
            }
            self.check_members(*id, &running)?;
        }
        let map = decode(ring.as_ref());
        if map.0.contains_key("stranger") {
            return Err("a member of the strangers came over".into());
        }
        let strangers = self.strangers.clone();
        for id in strangers {
            let theirs = decode(self.cluster.read(id, RING).as_ref());
            if !theirs.0.keys().eq(["stranger"]) {
                return Err(format!("the strangers hold {:?}", theirs.0.keys()));
            }
        }
        self.check_said(&map)
    }

    fn check_members(&self, id: NodeId, running: &[NodeId]) -> Result<(), String> {
        let state = self
            .cluster
            .state(id)
            .ok_or("a node that runs has a state")?;
        let seen: BTreeSet<_> = state.live().iter().copied().collect();
        let others = running.iter().filter(|other| **other != id);
        let expected: BTreeSet<_> = others.map(|other| self.cluster.addr(*other)).collect();
        if seen != expected {
            return Err(format!("{id:?} takes {seen:?} for live, not {expected:?}"));
        }
        Ok(())
    }

    /// Every member is at least as new as what a node that still has it said, and is something that was said.
    fn check_said(&self, map: &LwwMap) -> Result<(), String> {
        for (name, said) in &self.said {
            let found = map.0.get(name);
            let kept = said.iter().filter(|s| self.is_kept(s));
            let newest = kept
                .map(|s| &s.entry)
                .max_by(|a, b| order(a).cmp(&order(b)));
            // A member may be missing when it was removed, or when all who knew it died.
            let known = match found {
                Some(found) => said.iter().any(|s| s.entry == *found),
                None => newest.is_none() || said.iter().any(|s| s.entry.text.is_none()),
            };
            if !known {
                return Err(format!("{name} is {found:?}, which nobody said"));
            }
            let Some(newest) = newest else { continue };
            let fits = match found {
                Some(found) => order(found) >= order(newest),
                // A removal that is at least as new.
                None => said
                    .iter()
                    .any(|s| s.entry.text.is_none() && order(&s.entry) >= order(newest)),
            };
            if !fits {
                return Err(format!("{name} is {found:?}, though {newest:?} was said"));
            }
        }
        Ok(())
    }

    /// Whether the node that said it did not die since.
    fn is_kept(&self, said: &Said) -> bool {
        self.lives[said.by.0.0] == said.by.1 && self.runs(said.by.0)
    }
}

/// As members are merged: by time, a removal before a text, then by text.
fn order(entry: &LwwEntry) -> (i64, bool, &Option<String>) {
    (entry.at_unix_s, entry.text.is_none(), &entry.text)
}

fn decode(value: Option<&Bytes>) -> LwwMap {
    value.map_or_else(LwwMap::default, |bytes| {
        LwwMap::decode(bytes).expect("values of the simulation are maps")
    })
}
