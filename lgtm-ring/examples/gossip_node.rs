//! One member of a gossip cluster as a process, for `scripts/ring-cluster`.
//!
//! `gossip_node NAME BIND SEEDS` heartbeats its own member once a second and prints what it sees, one line every 200 ms:
//! `live=N fresh=N members=a,b,c`. SIGTERM lets it leave in good order.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for a script"
)]

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::service::Service;
use lgtm_ring::kv::Kv;
use lgtm_ring::kv::gossip::{Codecs, GossipKv, GossipSettings, TransportSettings};
use lgtm_ring::testing::{LwwCodec, LwwMap};
use tokio::signal::unix::{SignalKind, signal};

/// A member whose heartbeat is older is not fresh.
const FRESH_S: i64 = 10;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, bind, seeds] = &args[..] else {
        panic!("usage: gossip_node NAME BIND SEED,SEED");
    };
    let transport = TransportSettings {
        bind: bind.parse().unwrap(),
        node_name: name.clone(),
        seeds: seeds.split(',').map(str::to_owned).collect(),
        join_timeout: Duration::from_secs(3),
        ..TransportSettings::default()
    };
    let settings = GossipSettings {
        rejoin_interval: Duration::from_secs(10),
        ..GossipSettings::for_cluster("ring-cluster")
    };
    let codecs = Codecs::single(Arc::new(LwwCodec));
    let kv = GossipKv::builder(settings, transport, codecs)
        .build()
        .unwrap();
    kv.start().await.unwrap();

    let clock = SystemClock::new();
    let mut stop = signal(SignalKind::terminate()).unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut beats = 0u64;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.recv() => break,
        }
        let now = clock.now_ms() / 1000;
        if beats.is_multiple_of(5) {
            kv.cas("ring", &mut |current| {
                let mut map =
                    current.map_or_else(|| Ok(LwwMap::default()), |v| LwwMap::decode(&v))?;
                // Asked anew at each try: a removal within this second wins over it, the next second is newer.
                map.set(name, clock.now_ms() / 1000, "ACTIVE");
                Ok(Some(map.encode()))
            })
            .await
            .unwrap();
        }
        beats += 1;
        let value = kv.get("ring").await.unwrap().unwrap_or_default();
        let map = LwwMap::decode(&value).unwrap_or_default();
        let live = kv.members().iter().filter(|(_, lives)| *lives).count();
        let fresh = map
            .0
            .values()
            .filter(|e| now - e.at_unix_s <= FRESH_S)
            .count();
        let members: Vec<_> = map.0.keys().map(String::as_str).collect();
        println!("live={live} fresh={fresh} members={}", members.join(","));
    }
    // As a lifecycler that unregisters: the member goes, then the node.
    kv.cas("ring", &mut |current| {
        let mut map = current.map_or_else(|| Ok(LwwMap::default()), |v| LwwMap::decode(&v))?;
        map.0.remove(name);
        Ok(Some(map.encode()))
    })
    .await
    .unwrap();
    kv.stop().await.unwrap();
}
