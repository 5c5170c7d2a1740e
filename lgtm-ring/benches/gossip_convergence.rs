//! How soon does everyone know, and what does it cost? Prints the table of `docs/gossip_convergence.md`.
//!
//! Goal: 1000 members agree within 10 s of simulated time, at a bounded number of bytes per member and second.
//! `cargo bench -p lgtm-ring --features testing --bench gossip_convergence`; give sizes and losses to run fewer: `-- 10 100 20%`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that fails may say so loudly"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use lgtm_core::Result;
use lgtm_ring::kv::{
    MergeKind, MergeOutcome, MergeTime, Merged, OpenValue, TombstoneCount, Tombstones, ValueCodec,
};
use lgtm_ring::testing::sim::{Network, NodeId, SimCluster, SimSettings};

/// What a record of an instance with 128 tokens takes.
const RECORD_BYTES: usize = 640;
const STEP: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(300);
/// How often an instance renews its record.
const HEARTBEAT: Duration = Duration::from_secs(15);

fn main() {
    let mut sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10, 100, 1000];
    }
    let percent = |a: String| a.strip_suffix('%').and_then(|p| p.parse::<f64>().ok());
    let mut losses: Vec<f64> = std::env::args().filter_map(percent).collect();
    if losses.is_empty() {
        losses = vec![0.0, 5.0, 20.0];
    }
    println!(
        "| members | loss | cold start | most KB/s of a seed | of another | change: half | change: 99 % | change: all | latest | heartbeats, KB/s per member | most |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for n in sizes {
        for loss in &losses {
            row(n, loss / 100.0);
        }
    }
}

fn row(n: usize, loss: f64) {
    let mut settings = SimSettings::new("bench", Arc::new(MembersCodec));
    settings.network = Network::losing(loss);
    let mut cluster = SimCluster::new(settings, 1);
    let seeds: Vec<_> = (0..3).map(NodeId).collect();
    let nodes: Vec<_> = (0..n).map(|_| cluster.add(&seeds)).collect();
    for id in &nodes {
        cluster.start(*id);
        write(&mut cluster, *id);
    }
    // Seeds answer everybody who joins, so what they send is looked at apart.
    let (of_seeds, of_others) = nodes.split_at(seeds.len());
    let mut begun = [of_seeds, of_others].map(|nodes| Peak::new(&cluster, nodes));
    let cold = cluster
        .run_until(LIMIT, STEP, |c| {
            begun.iter_mut().for_each(|peak| peak.look(c));
            let knows = |id: &NodeId| c.state(*id).unwrap().live().len() == n - 1;
            nodes.iter().all(knows)
                && nodes
                    .iter()
                    .all(|id| members(c.read(*id, "ring")) == n as u64)
        })
        .unwrap_or(LIMIT);
    cluster.run_for(Duration::from_secs(30));
    let tries = 0..5;
    let mut spread: Vec<_> = tries
        .map(|t| change(&mut cluster, &nodes, nodes[(t * 7 + 3) % n]))
        .collect();
    spread.sort_by_key(|[.., all]| *all);
    let (median, latest) = (spread[2], spread[4][2]);
    let (mean, most) = heartbeats(&mut cluster, &nodes);
    println!(
        "| {n} | {:.0} % | {:.2} s | {:.0} | {:.0} | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {mean:.1} | {most:.1} |",
        loss * 100.0,
        cold.as_secs_f64(),
        begun[0].most_kb(),
        begun[1].most_kb(),
        median[0].as_secs_f64(),
        median[1].as_secs_f64(),
        median[2].as_secs_f64(),
        latest.as_secs_f64(),
    );
}

/// The most bytes that one of some members sent within one second, second by second.
struct Peak<'a> {
    nodes: &'a [NodeId],
    since: Duration,
    sent: Vec<u64>,
    most_bytes: u64,
}

impl<'a> Peak<'a> {
    fn new(cluster: &SimCluster, nodes: &'a [NodeId]) -> Self {
        Self {
            nodes,
            since: cluster.now(),
            sent: vec![0; nodes.len()],
            most_bytes: 0,
        }
    }

    fn look(&mut self, cluster: &SimCluster) {
        let is_over = cluster.now() - self.since >= Duration::from_secs(1);
        for (id, before) in self.nodes.iter().zip(&mut self.sent) {
            let sent = cluster.sent_bytes(*id);
            self.most_bytes = self.most_bytes.max(sent - *before);
            if is_over {
                *before = sent;
            }
        }
        if is_over {
            self.since = cluster.now();
        }
    }

    fn most_kb(&self) -> f64 {
        self.most_bytes as f64 / 1000.0
    }
}

/// One member changes: when half, 99 % and all know.
fn change(cluster: &mut SimCluster, nodes: &[NodeId], by: NodeId) -> [Duration; 3] {
    cluster.run_for(Duration::from_secs(2));
    let begin = cluster.now();
    write(cluster, by);
    let newest = cluster.read(by, "ring");
    [0.5, 0.99, 1.0].map(|share| {
        let wanted = (nodes.len() as f64 * share).ceil() as usize;
        let done = |c: &mut SimCluster| {
            let knows = nodes.iter().filter(|id| c.read(**id, "ring") == newest);
            knows.count() >= wanted
        };
        let took = cluster.run_until(LIMIT, Duration::from_millis(20), done);
        took.map_or(LIMIT, |_| cluster.now() - begin)
    })
}

/// All renew their records for one heartbeat: KB sent per second by a member, on average and at most.
fn heartbeats(cluster: &mut SimCluster, nodes: &[NodeId]) -> (f64, f64) {
    let before: Vec<_> = nodes.iter().map(|id| cluster.sent_bytes(*id)).collect();
    for id in nodes {
        write(cluster, *id);
        cluster.run_for(HEARTBEAT / nodes.len() as u32);
    }
    let sent = nodes.iter().zip(before);
    let rates = sent.map(|(id, before)| {
        (cluster.sent_bytes(*id) - before) as f64 / 1000.0 / HEARTBEAT.as_secs_f64()
    });
    let rates: Vec<f64> = rates.collect();
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    (mean, rates.iter().copied().fold(0.0, f64::max))
}

fn write(cluster: &mut SimCluster, id: NodeId) {
    let at_s = cluster.now_at(id).unix_s();
    let record = Members::record(id.0 as u32, at_s);
    cluster.write(id, "ring", |_| Some(record.into())).unwrap();
}

fn members(value: Option<Bytes>) -> u64 {
    value.map_or(0, |mut digest| digest.get_u64())
}

/// Records of a number, a time and so many bytes of nothing; the later time wins. Kept as the times alone, or a thousand members would each keep the
/// bytes of a thousand. Readers see how many there are and a sum over them, so that looking whether all agree costs nothing either.
#[derive(Debug, Clone, Default)]
struct Members(Vec<i64>);

impl Members {
    fn record(id: u32, at_s: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(RECORD_BYTES);
        out.put_u32(id);
        out.put_i64(at_s);
        out.resize(RECORD_BYTES, 0);
        out
    }

    fn read(value: &[u8]) -> impl Iterator<Item = (u32, i64)> + '_ {
        let records = value.chunks_exact(RECORD_BYTES);
        records.map(|mut record| (record.get_u32(), record.get_i64()))
    }

    fn records(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        let all = (0u32..).zip(self.0.iter().copied());
        all.filter(|(_, at_s)| *at_s > 0)
    }
}

impl OpenValue for Members {
    fn merge(&mut self, incoming: &[u8], _: MergeKind, _: MergeTime) -> Result<MergeOutcome> {
        let mut change = Vec::new();
        for (id, at_s) in Self::read(incoming) {
            let id_usize = id as usize;
            if self.0.len() <= id_usize {
                self.0.resize(id_usize + 1, 0);
            }
            if at_s > self.0[id_usize] {
                self.0[id_usize] = at_s;
                change.extend(Self::record(id, at_s));
            }
        }
        Ok(MergeOutcome {
            change: (!change.is_empty()).then(|| change.into()),
            refused_ahead_s: None,
        })
    }

    fn remove_tombstones(&mut self, _: i64) -> Result<TombstoneCount> {
        Ok(TombstoneCount::default())
    }

    fn encode(&self) -> Result<Bytes> {
        let mut out = Vec::with_capacity(RECORD_BYTES * self.0.len());
        for (id, at_s) in self.records() {
            out.extend(Self::record(id, at_s));
        }
        Ok(out.into())
    }

    fn encode_visible(&self) -> Result<Bytes> {
        let scrambled = |(id, at_s): (u32, i64)| {
            let mixed = (u64::from(id) << 40) ^ at_s as u64;
            mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ mixed
        };
        let sum = self.records().map(scrambled).fold(0, u64::wrapping_add);
        let mut out = Vec::with_capacity(16);
        out.put_u64(self.records().count() as u64);
        out.put_u64(sum);
        Ok(out.into())
    }

    fn size_bytes(&self) -> usize {
        RECORD_BYTES * self.0.len()
    }
}

#[derive(Debug)]
struct MembersCodec;

impl ValueCodec for MembersCodec {
    fn id(&self) -> &'static str {
        "members"
    }

    fn merge(
        &self,
        current: Option<&[u8]>,
        incoming: &[u8],
        kind: MergeKind,
        time: MergeTime,
    ) -> Result<Merged> {
        let mut members = Members::default();
        members.merge(current.unwrap_or_default(), kind, time)?;
        let outcome = members.merge(incoming, kind, time)?;
        let value = OpenValue::encode(&members)?;
        Ok(Merged { value, outcome })
    }

    fn remove_tombstones(&self, value: &[u8], _: Option<i64>) -> Result<Tombstones> {
        Ok(Tombstones {
            value: Bytes::copy_from_slice(value),
            left: 0,
            removed: 0,
        })
    }

    fn member_names(&self, value: &[u8]) -> Result<Vec<String>> {
        Ok(Members::read(value).map(|(id, _)| id.to_string()).collect())
    }

    fn split(&self, change: &Bytes, max_bytes: usize) -> Result<Vec<Bytes>> {
        let part = (max_bytes / RECORD_BYTES).max(1) * RECORD_BYTES;
        let starts = (0..change.len()).step_by(part);
        Ok(starts
            .map(|at| change.slice(at..change.len().min(at + part)))
            .collect())
    }

    fn open(&self, value: Option<&[u8]>) -> Result<Option<Box<dyn OpenValue>>> {
        let mut members = Members::default();
        let time = MergeTime {
            now_unix_s: 0,
            max_ahead_s: i64::MAX,
        };
        members.merge(value.unwrap_or_default(), MergeKind::Remote, time)?;
        Ok(Some(Box::new(members)))
    }
}
