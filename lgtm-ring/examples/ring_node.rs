//! One member of a ring as a process, for `scripts/ring-cluster`: a lifecycler and a watcher on a store.
//!
//! `ring_node gossip NAME BIND SEED,SEED TOKENS_FILE` or `ring_node etcd NAME ADDR ENDPOINT,ENDPOINT TOKENS_FILE`. Prints what it sees, one line every
//! 200 ms: `active=5 sick=0 keys=all fresh=5 live=5 tokens=640 | node-1:ACTIVE:128 …`. `active` counts who can be written to, `sick` who is ACTIVE and
//! cannot; `keys` says whether every key can be written and read; `fresh` counts young heartbeats, `live` members of the gossip cluster. SIGTERM
//! lets it leave in order.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for a script"
)]

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::service::{Service, Services};
use lgtm_ring::instance::{InstanceState, RingCodec};
use lgtm_ring::kv::gossip::{Codecs, GossipKv, GossipSettings, TransportSettings};
use lgtm_ring::kv::{EtcdKv, EtcdSettings, Kv};
use lgtm_ring::lifecycle::{Identity, Lifecycler, LifecyclerSettings, Role};
use lgtm_ring::ring::{Operation, Ring, RingSettings};
use lgtm_ring::store::RingStore;
use lgtm_ring::testing::every_key_has_an_owner;
use lgtm_ring::token::TokensFile;
use lgtm_ring::watch::{RingHandle, RingWatcher};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// Shorter than an operator would have them, so that a script ends soon.
const HEARTBEAT: Duration = Duration::from_secs(1);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);

fn gossip(name: &str, bind: &str, seeds: &str) -> GossipKv {
    let transport = TransportSettings {
        bind: bind.parse().unwrap(),
        node_name: name.to_owned(),
        seeds: seeds.split(',').map(str::to_owned).collect(),
        join_timeout: Duration::from_secs(3),
        ..TransportSettings::default()
    };
    let settings = GossipSettings {
        rejoin_interval: Duration::from_secs(10),
        ..GossipSettings::for_cluster("ring-cluster")
    };
    let codecs = Codecs::single(Arc::new(RingCodec));
    let builder = GossipKv::builder(settings, transport, codecs);
    builder.build().unwrap()
}

fn etcd(endpoints: &str) -> EtcdKv {
    let settings = EtcdSettings {
        endpoints: endpoints.split(',').map(str::to_owned).collect(),
        timeout: Duration::from_secs(2),
        max_backoff: Duration::from_secs(5),
        watch_refresh: Duration::from_secs(10),
        ..EtcdSettings::default()
    };
    EtcdKv::builder(settings).build(Handle::current()).unwrap()
}

fn view(ring: &Ring, live: usize, now_s: i64) -> String {
    let young_s = HEARTBEAT_TIMEOUT.as_secs() as i64;
    let healthy = ring.count_healthy(Operation::WRITE, now_s);
    let active = ring
        .instances()
        .filter(|i| i.state == InstanceState::Active);
    let sick = active.count() - healthy;
    let fresh = ring.instances().filter(|i| i.is_alive(now_s, young_s));
    let owned = [Operation::WRITE, Operation::READ]
        .iter()
        .all(|&operation| every_key_has_an_owner(ring, operation, now_s).is_ok());
    let members: Vec<_> = ring
        .instances()
        .map(|i| format!("{}:{}:{}", i.id, i.state, i.tokens.len()))
        .collect();
    format!(
        "active={healthy} sick={sick} keys={} fresh={} live={live} tokens={} | {}",
        if owned { "all" } else { "some" },
        fresh.count(),
        ring.token_count(),
        members.join(" ")
    )
}

async fn print_views(ring: RingHandle, gossip: Option<GossipKv>) {
    let clock = SystemClock::new();
    let mut stop = signal(SignalKind::terminate()).unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.recv() => return,
        }
        let members = gossip.as_ref().map_or_else(Vec::new, GossipKv::members);
        let live = members.iter().filter(|(_, lives)| *lives).count();
        println!(
            "{}",
            view(&ring.current(), live, clock.now_ms().to_seconds())
        );
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, name, addr, targets, tokens_file] = &args[..] else {
        panic!("usage: ring_node gossip|etcd NAME ADDR TARGET,TARGET TOKENS_FILE");
    };
    let gossip = (kind == "gossip").then(|| gossip(name, addr, targets));
    let kv: Arc<dyn Kv> = match &gossip {
        Some(gossip) => Arc::new(gossip.clone()),
        None => Arc::new(etcd(targets)),
    };
    let store = RingStore::new(kv, "collectors/ring").unwrap();
    let identity = Identity {
        id: name.clone(),
        addr: addr.clone(),
        zone: String::new(),
    };
    let settings = LifecyclerSettings {
        heartbeat_period: HEARTBEAT,
        heartbeat_timeout: HEARTBEAT_TIMEOUT,
        observe_period: Duration::from_secs(1),
        store_timeout: Duration::from_secs(3),
        ..LifecyclerSettings::default()
    };
    let (folder, file) = tokens_file.rsplit_once('/').unwrap_or((".", tokens_file));
    let file = TokensFile::new(Arc::new(LocalDisk::new(folder)), file);
    let mut lifecycler = Lifecycler::builder("ingester", store.clone(), identity, Role::HoldsData)
        .settings(settings)
        .tokens_file(file, Executor::inline(Handle::current()));
    let mut watcher = RingWatcher::builder("ingester", store).settings(RingSettings {
        heartbeat_timeout: HEARTBEAT_TIMEOUT,
        ..RingSettings::default()
    });
    let mut services = Services::new();
    if let Some(gossip) = &gossip {
        lifecycler = lifecycler.depends_on(gossip.name());
        watcher = watcher.depends_on(gossip.name());
        services = services.add(gossip.clone());
    }
    let watcher = watcher.build().unwrap();
    let views = print_views(watcher.handle(), gossip);
    let services = services.add(watcher).add(lifecycler.build().unwrap());
    services.run_until(views).await.unwrap();
}
