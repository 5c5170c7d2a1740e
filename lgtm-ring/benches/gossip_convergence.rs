//! How soon does everyone know, and what does it cost? Prints the table of `docs/gossip_convergence.md`.
//!
//! Goal: 1000 members agree within 10 s of simulated time, at a bounded number of bytes per member and second.
//! `cargo bench -p lgtm-ring --features testing --bench gossip_convergence`; give sizes to run fewer: `-- 10 100`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that fails may say so loudly"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_ring::testing::sim::{Network, NodeId, SimCluster, SimSettings};
use lgtm_ring::testing::{LwwCodec, LwwMap};

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
    println!(
        "| members | loss | cold start | change: half | change: 99 % | change: all | heartbeats, KB/s per member | most |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for n in sizes {
        for loss in [0.0, 0.05, 0.2] {
            row(n, loss);
        }
    }
}

fn row(n: usize, loss: f64) {
    let mut settings = SimSettings::new("bench", Arc::new(LwwCodec));
    settings.network = Network::losing(loss);
    let mut cluster = SimCluster::new(settings, 1);
    let seeds: Vec<_> = (0..3).map(NodeId).collect();
    let nodes: Vec<_> = (0..n).map(|_| cluster.add(&seeds)).collect();
    for id in &nodes {
        cluster.start(*id);
        write(&mut cluster, *id);
    }
    let cold = cluster
        .run_until(LIMIT, STEP, |c| {
            let knows = |id: &NodeId| c.state(*id).unwrap().live().len() == n - 1;
            nodes.iter().all(knows) && nodes.iter().all(|id| members(c.read(*id, "ring")) == n)
        })
        .unwrap_or(LIMIT);
    cluster.run_for(Duration::from_secs(30));
    let mut spread = [Duration::ZERO; 3];
    let tries = 5;
    for t in 0..tries {
        let one = change(&mut cluster, &nodes, nodes[(t * 7 + 3) % n]);
        for (sum, took) in spread.iter_mut().zip(one) {
            *sum += took / tries as u32;
        }
    }
    let (mean, most) = heartbeats(&mut cluster, &nodes);
    println!(
        "| {n} | {:.0} % | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {mean:.1} | {most:.1} |",
        loss * 100.0,
        cold.as_secs_f64(),
        spread[0].as_secs_f64(),
        spread[1].as_secs_f64(),
        spread[2].as_secs_f64(),
    );
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
    let at = cluster.now_at(id).unix_s();
    let text = "x".repeat(RECORD_BYTES);
    cluster
        .write(id, "ring", |current| {
            let mut map = current.map_or_else(LwwMap::default, |v| LwwMap::decode(&v).unwrap());
            map.set(&format!("instance-{}", id.0), at, &text);
            Some(map.encode())
        })
        .unwrap();
}

fn members(value: Option<Bytes>) -> usize {
    value.map_or(0, |v| LwwMap::decode(&v).unwrap().0.len())
}
