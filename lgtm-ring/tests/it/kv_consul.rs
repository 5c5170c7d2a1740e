//! The Consul store against a server that follows Consul's documented rules (`consul_server/`), over connections in memory, so that time
//! can be turned by hand.

#![cfg(all(feature = "testing", feature = "consul"))]

use crate::shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::consul_server::ConsulServer;
use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::exec::TaskGroup;
use lgtm_core::{Error, ErrorKind, Result};
use lgtm_ring::kv::{Connect, Connection, ConsulKv, ConsulSettings, Kv, KvWatch};
use lgtm_ring::testing::{concurrent_counters, kv_suite};
use tokio::runtime::Handle;

/// Connections to the server that can be cut.
#[derive(Debug)]
struct Wire {
    server: ConsulServer,
    tasks: TaskGroup,
    down: AtomicBool,
    tries: AtomicU64,
}

#[async_trait]
impl Connect for Wire {
    async fn connect(&self, authority: &str) -> Result<Box<dyn Connection>> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) {
            return Err(Error::Unavailable(format!("{authority}: down")));
        }
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        self.tasks
            .spawn("consul", self.server.clone().serve(Box::new(theirs)));
        Ok(Box::new(ours))
    }
}

fn store() -> (ConsulServer, Arc<Wire>, ConsulKv) {
    let server = ConsulServer::default();
    let wire = Arc::new(Wire {
        server: server.clone(),
        tasks: TaskGroup::new(Handle::current()),
        down: AtomicBool::new(false),
        tries: AtomicU64::new(0),
    });
    let kv = client(&wire, ConsulSettings::default());
    (server, wire, kv)
}

fn client(wire: &Arc<Wire>, settings: ConsulSettings) -> ConsulKv {
    let builder = ConsulKv::builder(settings).connect(wire.clone()).seed(1);
    builder.build(Handle::current()).unwrap()
}

async fn put(kv: &ConsulKv, key: &str, text: &'static str) {
    kv.cas(key, &mut |_| Ok(Some(Bytes::from_static(text.as_bytes()))))
        .await
        .unwrap();
}

async fn next(watch: &mut KvWatch) -> (String, Option<Bytes>) {
    let update = tokio::time::timeout(Duration::from_secs(600), watch.next()).await;
    let update = update.expect("an update").expect("an open watch");
    (update.key, update.value)
}

fn value(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn consul_passes_the_suite() {
    let (_, _, kv) = store();
    kv_suite(&kv).await;
}

#[tokio::test(start_paused = true)]
async fn no_addition_is_lost_between_three_clients() {
    let (_, wire, a) = store();
    let (b, c) = (
        client(&wire, ConsulSettings::default()),
        client(&wire, ConsulSettings::default()),
    );
    concurrent_counters(&[&a, &b, &c], 10).await;
}

#[tokio::test(start_paused = true)]
async fn an_index_that_goes_backwards_starts_over() {
    let (server, _, kv) = store();
    for text in ["1", "2", "3"] {
        put(&kv, "ring", text).await;
    }
    let mut watch = kv.watch_prefix("").await.unwrap();
    assert_eq!(next(&mut watch).await, ("ring".into(), value("3")));
    server.restore(&[("ring", "restored"), ("other", "x")]);
    let mut seen = [next(&mut watch).await, next(&mut watch).await];
    seen.sort();
    assert_eq!(seen[0], ("other".into(), value("x")));
    assert_eq!(seen[1], ("ring".into(), value("restored")));
    put(&kv, "ring", "later").await;
    while next(&mut watch).await != ("ring".into(), value("later")) {}
}

#[tokio::test(start_paused = true)]
async fn a_busy_key_is_not_asked_for_more_than_once_a_second() {
    let (server, _, kv) = store();
    put(&kv, "ring", "0").await;
    let mut watch = kv.watch_key("ring").await.unwrap();
    next(&mut watch).await;
    let before = server.queries();
    for _ in 0..100 {
        put(&kv, "ring", "x").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = server.queries() - before;
    assert!((5..=11).contains(&asked), "{asked} queries in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_key_is_waited_for_and_not_polled() {
    let (server, _, kv) = store();
    put(&kv, "ring", "0").await;
    let mut watch = kv.watch_key("ring").await.unwrap();
    next(&mut watch).await;
    let before = server.queries();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let asked = server.queries() - before;
    assert!(
        (8..=11).contains(&asked),
        "{asked} queries in 100 s of 10 s each"
    );
    kv.delete("ring").await.unwrap();
    assert_eq!(next(&mut watch).await, ("ring".into(), None));
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_the_agent_is_waited_out_with_few_tries() {
    let (_, wire, kv) = store();
    put(&kv, "ring", "before").await;
    let mut watch = kv.watch_key("ring").await.unwrap();
    assert_eq!(next(&mut watch).await.1, value("before"));
    wire.down.store(true, Ordering::Relaxed);
    // The query under way ends with its wait.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = wire.tries.load(Ordering::Relaxed);
    assert_eq!(
        kv.get("ring").await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tries = wire.tries.load(Ordering::Relaxed) - before;
    assert!((60..=140).contains(&tries), "{tries} tries in an hour");
    assert_eq!(watch.try_next(), None, "nothing is made up meanwhile");
    wire.down.store(false, Ordering::Relaxed);
    put(&kv, "ring", "after").await;
    let back = tokio::time::timeout(Duration::from_secs(61), next(&mut watch)).await;
    assert_eq!(back.unwrap().1, value("after"));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_sent_and_refusals_have_their_kinds() {
    let (server, wire, kv) = store();
    let large = Bytes::from(vec![0; 600 << 10]);
    let refused = kv.cas("big", &mut |_| Ok(Some(large.clone()))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded);
    server.require_token("secret");
    let error = kv.get("ring").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let settings = ConsulSettings {
        acl_token: "secret".into(),
        ..ConsulSettings::default()
    };
    assert_eq!(client(&wire, settings).get("ring").await.unwrap(), None);
}

#[tokio::test]
async fn dropping_the_store_ends_its_watches() {
    let (_, _, kv) = store();
    put(&kv, "ring", "0").await;
    let mut watch = kv.watch_key("ring").await.unwrap();
    next(&mut watch).await;
    drop(kv);
    let ended = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    assert_eq!(ended.unwrap(), None);
}

#[tokio::test]
async fn a_heartbeat_far_ahead_heals_in_consul() {
    let (_, _, kv) = store();
    shared::heal::a_heartbeat_far_ahead_heals_with_the_clock(Arc::new(kv)).await;
}
