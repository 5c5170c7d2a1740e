//! Wrapped stores keep the promises of the trait; a migration loses nothing.

#![cfg(feature = "testing")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::clock::SystemClock;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use lgtm_ring::kv::{
    InstrumentedKv, Kv, KvLabels, KvWatch, MemoryKv, MultiKv, MultiKvSettings, PrefixedKv,
};
use lgtm_ring::testing::kv_suite;
use tokio::runtime::Handle;

#[tokio::test]
async fn a_prefixed_store_passes_the_suite_and_stays_below_its_prefix() {
    let memory = MemoryKv::new();
    let set = |_| Ok(Some(Bytes::from_static(b"a stranger")));
    memory.cas("suite/stranger", &mut { set }).await.unwrap();
    let prefixed = PrefixedKv::new(Arc::new(memory.clone()), "collectors/");
    kv_suite(&prefixed).await;
    assert_eq!(memory.list("").await.unwrap(), ["suite/stranger"]);
    prefixed.cas("ring", &mut { set }).await.unwrap();
    assert!(memory.get("collectors/ring").await.unwrap().is_some());
    let mut watch = prefixed.watch_prefix("r").await.unwrap();
    assert_eq!(watch.next().await.unwrap().key, "ring");
}

#[tokio::test]
async fn an_instrumented_store_passes_the_suite_and_times_each_operation_by_its_outcome() {
    let labels = KvLabels {
        name: "ingester-ring".into(),
        kind: "inmemory".into(),
        role: "primary".into(),
    };
    let (registry, clock) = (Registry::new(), Arc::new(SystemClock::new()));
    let memory = Arc::new(MemoryKv::new());
    let kv = InstrumentedKv::new(memory, labels, clock, &registry, "cortex_").unwrap();
    kv_suite(&kv).await;
    kv.get("").await.unwrap_err();
    let text = registry.encode();
    for (operation, status) in [
        ("CAS", "200"),
        ("GET", "200"),
        ("GET", "500"),
        ("Delete", "200"),
        ("List", "200"),
        ("WatchKey", "200"),
        ("WatchPrefix", "200"),
    ] {
        let series = format!(
            "cortex_kv_request_duration_seconds_count{{operation=\"{operation}\",role=\"primary\",type=\"inmemory\",status_code=\"{status}\",kv_name=\"ingester-ring\"}}"
        );
        assert!(text.contains(&series), "{series} is not in {text}");
    }
}

fn multi(secondary: Arc<dyn Kv>, mirroring: bool, registry: &Registry) -> (MemoryKv, MultiKv) {
    let old = MemoryKv::new();
    let settings = MultiKvSettings {
        mirroring,
        ..MultiKvSettings::default()
    };
    let multi = MultiKv::new(
        ("old", Arc::new(old.clone())),
        ("new", secondary),
        settings,
        Handle::current(),
        registry,
    );
    (old, multi.unwrap())
}

#[tokio::test]
async fn a_mirroring_store_passes_the_suite() {
    let (_, kv) = multi(Arc::new(MemoryKv::new()), true, &Registry::new());
    kv_suite(&kv).await;
}

#[tokio::test]
async fn a_migration_moves_readers_and_watches_without_a_gap() {
    let new = MemoryKv::new();
    let (old, kv) = multi(Arc::new(new.clone()), false, &Registry::new());
    let set = |text: &'static str| move |_| Ok(Some(Bytes::from_static(text.as_bytes())));
    kv.cas("ring", &mut set("1")).await.unwrap();
    assert_eq!(new.get("ring").await.unwrap(), None, "mirroring is off");
    let mut watch = kv.watch_key("ring").await.unwrap();
    assert_eq!(watch.next().await.unwrap().value.unwrap(), "1");

    kv.set_mirroring(true);
    kv.cas("ring", &mut set("2")).await.unwrap();
    assert_eq!(new.get("ring").await.unwrap().unwrap(), "2");
    kv.set_primary("new").unwrap();
    assert_eq!(kv.primary(), "new");
    kv.cas("ring", &mut set("3")).await.unwrap();
    assert_eq!(
        old.get("ring").await.unwrap().unwrap(),
        "3",
        "mirrored back"
    );
    kv.set_mirroring(false);
    kv.cas("ring", &mut set("4")).await.unwrap();
    assert_eq!(old.get("ring").await.unwrap().unwrap(), "3");
    while watch.next().await.unwrap().value.unwrap() != "4" {}
    assert!(kv.set_primary("newer").is_err());
}

/// A store that is down.
#[derive(Debug)]
struct Down;

#[async_trait]
impl Kv for Down {
    async fn get(&self, _: &str) -> Result<Option<Bytes>> {
        Err(Error::Unavailable("down".into()))
    }
    async fn list(&self, _: &str) -> Result<Vec<String>> {
        Err(Error::Unavailable("down".into()))
    }
    async fn delete(&self, _: &str) -> Result<()> {
        std::future::pending().await
    }
    async fn cas(
        &self,
        _: &str,
        _: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        Err(Error::Unavailable("down".into()))
    }
    async fn watch_key(&self, _: &str) -> Result<KvWatch> {
        Err(Error::Unavailable("down".into()))
    }
    async fn watch_prefix(&self, _: &str) -> Result<KvWatch> {
        Err(Error::Unavailable("down".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_secondary_that_is_down_is_counted_and_fails_nobody() {
    let registry = Registry::new();
    let (old, kv) = multi(Arc::new(Down), true, &registry);
    let set = |_| Ok(Some(Bytes::from_static(b"1")));
    kv.cas("ring", &mut { set }).await.unwrap();
    kv.delete("ring").await.unwrap();
    assert_eq!(old.get("ring").await.unwrap(), None);
    let text = registry.encode();
    assert!(
        text.contains("lgtm_multikv_mirror_write_errors_total 2\n"),
        "{text}"
    );
    assert!(
        text.contains("lgtm_multikv_primary_store{store=\"old\"} 1\n"),
        "{text}"
    );
}
