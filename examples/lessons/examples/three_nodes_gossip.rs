//! Three members of a cluster, no service beside them: they find each other, share a value, and notice when one dies.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::service::Service;
use lgtm_ring::kv::Kv;
use lgtm_ring::kv::gossip::{Codecs, GossipKv, GossipSettings, TransportSettings};
use lgtm_ring::testing::{LwwCodec, LwwMap};

#[tokio::main]
async fn main() -> Result<()> {
    // The first has nobody to ask; the others need one address to begin with.
    let a = member("a", &[]).await?;
    let seed = a.addr().expect("started").to_string();
    let b = member("b", std::slice::from_ref(&seed)).await?;
    let c = member("c", &[seed]).await?;
    until("all see three", || async {
        [&a, &b, &c].iter().all(|m| live(m) == 3)
    })
    .await;

    // Each writes its own record under one key, at its own copy, without asking the others. The codec merges.
    for (kv, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        register(kv, name).await?;
    }
    until("all know all", || async {
        let mut known = Vec::new();
        for kv in [&a, &b, &c] {
            known.push(names(kv).await);
        }
        known.iter().all(|names| names == &["a", "b", "c"])
    })
    .await;

    // One dies without a word. Its probes stay unanswered, it is suspected, and a little later taken for dead.
    drop(c);
    until("two are left", || async { live(&a) == 2 && live(&b) == 2 }).await;
    // Its record is still there: who may be forgotten is for the ring to decide, by the age of the heartbeat.
    assert_eq!(names(&a).await, ["a", "b", "c"]);

    // One leaves in good order: the others know at once.
    b.stop().await?;
    until("one is left", || async { live(&a) == 1 }).await;
    a.stop().await
}

async fn member(name: &str, seeds: &[String]) -> Result<GossipKv> {
    // The label is mandatory: a cluster of another name that comes to hear of this one is refused.
    let settings = GossipSettings {
        probe_interval: Duration::from_millis(300),
        probe_timeout: Duration::from_millis(100),
        ..GossipSettings::for_cluster("lesson")
    };
    let transport = TransportSettings {
        bind: "127.0.0.1:0".parse().expect("an address"),
        node_name: name.to_owned(),
        seeds: seeds.to_vec(),
        ..TransportSettings::default()
    };
    let codecs = Codecs::single(Arc::new(LwwCodec));
    let kv = GossipKv::builder(settings, transport, codecs).build()?;
    // In a host, `Services` calls this.
    kv.start().await?;
    Ok(kv)
}

async fn register(kv: &GossipKv, name: &str) -> Result<()> {
    kv.cas("ring", &mut |current| {
        let mut map = current.map_or_else(|| Ok(LwwMap::default()), |v| LwwMap::decode(&v))?;
        // Records from beyond the clocks of the others would be refused.
        map.set(name, SystemClock::new().now_ms().to_seconds(), "ACTIVE");
        Ok(Some(map.encode()))
    })
    .await
}

async fn names(kv: &GossipKv) -> Vec<String> {
    let value = kv.get("ring").await.ok().flatten().unwrap_or_default();
    let map = LwwMap::decode(&value).unwrap_or_default();
    map.0.into_keys().collect()
}

fn live(kv: &GossipKv) -> usize {
    kv.members().iter().filter(|(_, lives)| *lives).count()
}

async fn until<F: Future<Output = bool>>(what: &str, done: impl Fn() -> F) {
    for _ in 0..1000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}
