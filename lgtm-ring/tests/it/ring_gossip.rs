//! A ring of members that know nothing of each other but one address: lifecyclers and watchers on a gossip store, over loopback.

#![cfg(feature = "testing")]

use crate::shared;

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{CancelToken, TaskGroup};
use lgtm_core::service::Service;
use lgtm_ring::instance::{InstanceState, RingCodec};
use lgtm_ring::kv::Kv;
use lgtm_ring::kv::gossip::{Codecs, GossipKv, GossipSettings, TransportSettings};
use lgtm_ring::lifecycle::{Identity, Lifecycler, LifecyclerSettings, Role};
use lgtm_ring::ring::{Operation, Ring, RingSettings};
use lgtm_ring::store::RingStore;
use lgtm_ring::testing::{every_key_has_an_owner, no_token_has_two_owners};
use lgtm_ring::watch::{RingHandle, RingWatcher};
use tokio::runtime::Handle;

struct Member {
    kv: GossipKv,
    lifecycler: Arc<Lifecycler>,
    ring: RingHandle,
    store: RingStore,
    tasks: TaskGroup,
    stop: CancelToken,
}

fn gossip(n: u64, seed: Option<&Member>) -> GossipKv {
    let settings = GossipSettings {
        gossip_interval: Duration::from_millis(20),
        probe_interval: Duration::from_millis(200),
        probe_timeout: Duration::from_millis(80),
        leave_drain_timeout: Duration::from_secs(2),
        ..GossipSettings::for_cluster("ring-gossip")
    };
    let transport = TransportSettings {
        bind: "127.0.0.1:0".parse().unwrap(),
        node_name: format!("node-{n}"),
        seeds: seed
            .iter()
            .map(|m| m.kv.addr().unwrap().to_string())
            .collect(),
        ..TransportSettings::default()
    };
    let codecs = Codecs::single(Arc::new(RingCodec));
    let builder = GossipKv::builder(settings, transport, codecs);
    builder.seed(n).build().unwrap()
}

impl Member {
    async fn start(n: u64, seed: Option<&Member>) -> Self {
        let kv = gossip(n, seed);
        let store = RingStore::new(Arc::new(kv.clone()) as Arc<dyn Kv>, "collectors/ring").unwrap();
        let identity = Identity {
            id: format!("ingester-{n}"),
            addr: format!("127.0.0.1:{n}"),
            zone: format!("zone-{}", n % 3),
        };
        let settings = LifecyclerSettings {
            heartbeat_period: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_secs(30),
            observe_period: Duration::from_millis(500),
            ..LifecyclerSettings::default()
        };
        let lifecycler = Lifecycler::builder("ingester", store.clone(), identity, Role::HoldsData)
            .settings(settings)
            .build()
            .unwrap();
        let settings = RingSettings {
            zone_awareness_enabled: true,
            ..RingSettings::default()
        };
        let watcher = RingWatcher::builder("ingester", store.clone());
        let watcher = watcher.settings(settings).build().unwrap();
        let (tasks, stop) = (TaskGroup::new(Handle::current()), CancelToken::new());
        kv.start().await.unwrap();
        watcher.start().await.unwrap();
        lifecycler.start().await.unwrap();
        for service in [
            Arc::new(kv.clone()) as Arc<dyn Service>,
            watcher.clone(),
            lifecycler.clone(),
        ] {
            let stop = stop.clone();
            tasks.spawn("service", async move { service.run(stop).await.unwrap() });
        }
        Self {
            ring: watcher.handle(),
            kv,
            lifecycler,
            store,
            tasks,
            stop,
        }
    }

    async fn until(&self, what: &str, done: impl Fn(&Ring) -> bool) {
        let mut ring = self.ring.clone();
        let wait = async {
            while !done(&ring.current()) {
                ring.changed().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.ring.current());
    }
}

fn active(ring: &Ring) -> usize {
    let states = ring.instances().map(|i| i.state);
    states.filter(|s| *s == InstanceState::Active).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_find_each_other_share_the_keys_and_leave() {
    let first = Member::start(0, None).await;
    let mut members = vec![];
    for n in 1..4 {
        members.push(Member::start(n, Some(&first)).await);
    }
    members.insert(0, first);
    for member in &members {
        member
            .until("all are active", |ring| active(ring) == 4)
            .await;
    }
    let now_s = SystemClock::new().now_ms().to_seconds();
    for member in &members {
        every_key_has_an_owner(&member.ring.current(), Operation::WRITE, now_s).unwrap();
        let value = member.store.load().await.unwrap();
        no_token_has_two_owners(&value).unwrap();
    }
    // One leaves in order and is gone for all.
    let gone = members.pop().unwrap();
    gone.lifecycler.stop().await.unwrap();
    for member in &members {
        member.until("three are left", |ring| ring.len() == 3).await;
    }
    // One is forgotten by hand, lives, and is back with its next heartbeat.
    assert!(members[0].store.forget("ingester-1").await.unwrap());
    members[2]
        .until("it is gone", |ring| ring.instance("ingester-1").is_none())
        .await;
    members[2]
        .until("it is back", |ring| ring.instance("ingester-1").is_some())
        .await;
    for member in members.iter().chain([&gone]) {
        member.stop.cancel();
        member.tasks.abort();
    }
}

/// A tombstone of this second beats every record of this second: the write is tried again in the next, and must then be of the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_forgotten_in_this_very_second_is_back_with_its_next_write() {
    let member = Member::start(0, None).await;
    member.lifecycler.tokens_settled().await;
    for read_only in [true, false] {
        assert!(member.store.forget("ingester-0").await.unwrap());
        member.lifecycler.set_read_only(read_only).await.unwrap();
        let ring = member.store.load().await.unwrap();
        assert_eq!(ring.get("ingester-0").unwrap().read_only, read_only);
    }
    member.stop.cancel();
    member.tasks.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_far_ahead_heals_where_it_is_gossiped() {
    let kv = gossip(9, None);
    kv.start().await.unwrap();
    shared::heal::a_heartbeat_far_ahead_heals_with_the_clock(Arc::new(kv.clone())).await;
    kv.stop().await.unwrap();
}
