//! Gossip over real sockets on loopback.

#![cfg(feature = "testing")]

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_core::{ErrorKind, Result};
use lgtm_ring::kv::gossip::{Codecs, GossipKv, GossipSettings, Resolver, TransportSettings};
use lgtm_ring::kv::{Kv, KvWatch};
use lgtm_ring::testing::{LwwCodec, LwwMap, kv_suite};

/// Faster than the defaults, so that tests end soon.
fn settings(label: &str) -> GossipSettings {
    GossipSettings {
        gossip_interval: Duration::from_millis(20),
        probe_interval: Duration::from_millis(200),
        probe_timeout: Duration::from_millis(80),
        suspicion_multiplier: 2,
        min_join_backoff: Duration::from_millis(100),
        rejoin_interval: Duration::from_millis(500),
        leave_drain_timeout: Duration::from_secs(2),
        ..GossipSettings::for_cluster(label)
    }
}

fn transport(n: u64, seeds: &[&GossipKv]) -> TransportSettings {
    let seeds = seeds.iter().map(|kv| kv.addr().unwrap().to_string());
    TransportSettings {
        bind: "127.0.0.1:0".parse().unwrap(),
        node_name: format!("node-{n}"),
        seeds: seeds.collect(),
        join_timeout: Duration::from_secs(5),
        ..TransportSettings::default()
    }
}

fn node(label: &str, n: u64, seeds: &[&GossipKv]) -> GossipKv {
    let codecs = Codecs::single(Arc::new(LwwCodec));
    let builder = GossipKv::builder(settings(label), transport(n, seeds), codecs);
    builder.seed(n).build().unwrap()
}

async fn started(label: &str, n: u64, seeds: &[&GossipKv]) -> GossipKv {
    let kv = node(label, n, seeds);
    kv.start().await.unwrap();
    kv
}

async fn set(kv: &GossipKv, member: &str, at: i64, text: &str) {
    kv.cas("ring", &mut |current| {
        let mut map = current.map_or_else(|| Ok(LwwMap::default()), |v| LwwMap::decode(&v))?;
        map.set(member, at, text);
        Ok(Some(map.encode()))
    })
    .await
    .unwrap();
}

/// Waits until the value has exactly these members.
async fn until_members(watch: &mut KvWatch, members: &[&str]) {
    let wait = async {
        loop {
            let Some(value) = watch.next().await.unwrap().value else {
                continue;
            };
            let map = LwwMap::decode(&value).unwrap();
            if map.0.keys().eq(members) {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.unwrap_or_else(|_| panic!("never saw {members:?}"));
}

fn live(kv: &GossipKv) -> usize {
    kv.members().iter().filter(|(_, lives)| *lives).count()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_passes_the_suite_alone_and_among_others() -> Result<()> {
    let a = started("suite", 1, &[]).await;
    kv_suite(&a).await;
    let b = started("suite", 2, &[&a]).await;
    until("two members", || live(&a) == 2 && live(&b) == 2).await;
    kv_suite(&b).await;
    b.stop().await?;
    a.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_find_each_other_share_changes_and_notice_a_death() {
    let mut nodes = vec![started("five", 1, &[]).await];
    for n in 2..=5 {
        nodes.push(started("five", n, &[&nodes[0]]).await);
    }
    until("five members everywhere", || {
        nodes.iter().all(|n| live(n) == 5)
    })
    .await;
    let mut watches = Vec::new();
    for node in &nodes {
        watches.push(node.watch_key("ring").await.unwrap());
    }
    for (n, node) in nodes.iter().enumerate() {
        set(node, &format!("m{n}"), 1, "x").await;
    }
    for watch in &mut watches {
        until_members(watch, &["m0", "m1", "m2", "m3", "m4"]).await;
    }
    // Larger than a datagram, and than a bundle.
    set(&nodes[3], "m3", 2, &"y".repeat(300_000)).await;
    until("the large value everywhere", || {
        nodes.iter().all(|n| {
            let value = futures_now(n.get("ring")).unwrap().unwrap();
            LwwMap::decode(&value).unwrap().0["m3"].at_unix_s == 2
        })
    })
    .await;
    // Dies without a word: sockets closed, nobody told.
    drop(nodes.remove(4));
    until("four members", || nodes.iter().all(|n| live(n) == 4)).await;
    // One that leaves in good order is known as gone at once, and its last change is told.
    let leaver = nodes.remove(3);
    set(&leaver, "m9", 1, "bye").await;
    leaver.stop().await.unwrap();
    until("three members", || nodes.iter().all(|n| live(n) == 3)).await;
    let value = nodes[0].get("ring").await.unwrap().unwrap();
    assert!(LwwMap::decode(&value).unwrap().0.contains_key("m9"));
    for node in nodes {
        node.stop().await.unwrap();
    }
}

/// The value of a future that never waits.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the gossip store answers from memory"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_of_different_labels_never_mix_and_the_refusal_is_counted() {
    let registry = Registry::new();
    let codecs = Codecs::single(Arc::new(LwwCodec));
    let a = GossipKv::builder(settings("metrics"), transport(1, &[]), codecs)
        .metrics(registry.clone(), "cortex_")
        .build()
        .unwrap();
    a.start().await.unwrap();
    set(&a, "ours", 1, "x").await;
    let mut transport = transport(2, &[&a]);
    transport.join_timeout = Duration::from_millis(300);
    let codecs = Codecs::single(Arc::new(LwwCodec));
    let b = GossipKv::builder(settings("logs"), transport, codecs);
    let b = b.build().unwrap();
    b.start().await.unwrap();
    set(&b, "theirs", 1, "x").await;
    until("a refusal", || a.stats().refusals("label") > 2).await;
    assert_eq!((live(&a), live(&b)), (1, 1));
    assert_eq!(b.members().len(), 1);
    let value = a.get("ring").await.unwrap().unwrap();
    assert!(LwwMap::decode(&value).unwrap().0.keys().eq(["ours"]));
    let text = registry.encode();
    assert!(
        text.contains("lgtm_gossip_refused_total{reason=\"label\"}"),
        "{text}"
    );
    assert!(
        text.contains("cortex_memberlist_client_cluster_members_count 1\n"),
        "{text}"
    );
    b.stop().await.unwrap();
    a.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bytes_are_refused_and_the_store_keeps_serving() {
    use tokio::io::AsyncWriteExt;
    let a = started("hostile", 1, &[]).await;
    set(&a, "ours", 1, "x").await;
    let addr = a.addr().unwrap();
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for junk in [&b""[..], b"x", b"LGTG", &[0xff; 1400], &[0; 60_000]] {
        udp.send_to(junk, addr).await.unwrap();
    }
    until("refusals", || a.stats().refusals("corrupt") >= 4).await;
    // A length that promises 4 GB, one that promises much and sends nothing, and a connection that says nothing.
    for hello in [&[0xff; 4][..], &[0x07, 0xff, 0xff, 0xff], &[]] {
        let mut tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
        tcp.write_all(hello).await.unwrap();
        drop(tcp);
    }
    until("failed streams", || a.stats().streams_failed >= 3).await;
    assert!(a.get("ring").await.unwrap().is_some());
    a.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_not_started_says_so_and_faults_are_named() {
    let kv = node("x", 1, &[]);
    assert_eq!(
        kv.get("ring").await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let fault = |change: fn(&mut TransportSettings)| {
        let mut transport = transport(1, &[]);
        change(&mut transport);
        let codecs = Codecs::single(Arc::new(LwwCodec));
        let built = GossipKv::builder(settings("x"), transport, codecs).build();
        built.unwrap_err().to_string()
    };
    assert!(fault(|t| t.seeds = vec!["nowhere".into()]).contains("nowhere"));
    assert!(fault(|t| t.node_name.clear()).contains("node_name"));
    assert!(fault(|t| t.bind = "0.0.0.0:7946".parse().unwrap()).contains("advertise"));
    let mut alone = transport(1, &[]);
    alone.seeds = vec!["127.0.0.1:1".into()];
    alone.join_timeout = Duration::from_millis(100);
    alone.abort_if_join_fails = true;
    let codecs = Codecs::single(Arc::new(LwwCodec));
    let kv = GossipKv::builder(settings("x"), alone, codecs)
        .build()
        .unwrap();
    assert_eq!(kv.start().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Knows one seed and never comes to an end with the others.
#[derive(Debug)]
struct OneAnswers(&'static str, std::net::SocketAddr);

#[async_trait::async_trait]
impl Resolver for OneAnswers {
    fn check(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn resolve(&self, seed: &str) -> Result<Vec<std::net::SocketAddr>> {
        if seed == self.0 {
            Ok(vec![self.1])
        } else {
            std::future::pending().await
        }
    }
}

#[tokio::test]
async fn a_seed_whose_name_server_is_silent_does_not_hold_up_the_others() {
    let first = started("seeds", 1, &[]).await;
    let transport = TransportSettings {
        seeds: vec!["silent:1".into(), "good:1".into()],
        resolve_timeout: Duration::from_millis(200),
        ..transport(2, &[])
    };
    let resolver = OneAnswers("good:1", first.addr().unwrap());
    let codecs = Codecs::single(Arc::new(LwwCodec));
    let second = GossipKv::builder(settings("seeds"), transport, codecs)
        .resolver(Arc::new(resolver))
        .build()
        .unwrap();
    second.start().await.unwrap();
    assert_eq!(live(&second), 2);
    second.stop().await.unwrap();
    first.stop().await.unwrap();
}
