use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::clock::Clock;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use crate::instance::{InstanceState, RingDesc};
use crate::kv::{Kv, KvWatch, MemoryKv};
use crate::lifecycle::tests::{NOW_S, identity, secs, settings};
use crate::lifecycle::{Lifecycler, LifecyclerBuilder, OnStopping, Role};
use crate::ring::{Operation, RingSettings};
use crate::store::RingStore;
use crate::testing::TokioClock;
use crate::token::{RandomTokens, Token, TokensFile};
use crate::watch::RingWatcher;

/// A store that can be switched off, that can hang, and that can refuse.
#[derive(Debug, Default)]
struct Outage {
    kv: MemoryKv,
    down: AtomicBool,
    hangs: AtomicBool,
    refuses: AtomicBool,
    writes: AtomicUsize,
}

impl Outage {
    async fn check(&self) -> Result<()> {
        let writes = self.writes.fetch_add(1, Ordering::SeqCst);
        // A caller that never rests would keep a paused clock from moving.
        if self.hangs.load(Ordering::SeqCst) || writes > 10_000 {
            std::future::pending::<()>().await;
        }
        if self.refuses.load(Ordering::SeqCst) {
            return Err(Error::InvalidInput("no codec for this key".into()));
        }
        if self.down.load(Ordering::SeqCst) {
            Err(Error::Unavailable("the store is down".into()))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Kv for Outage {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.check().await?;
        self.kv.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.kv.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.kv.delete(key).await
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        self.check().await?;
        self.kv.cas(key, change).await
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        self.kv.watch_key(key).await
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        self.kv.watch_prefix(prefix).await
    }
}

fn service(kv: &Arc<Outage>, id: &str) -> (RingStore, LifecyclerBuilder) {
    let store = RingStore::new(Arc::clone(kv) as Arc<dyn Kv>, "collectors/ring").unwrap();
    let builder = Lifecycler::builder("ingester", store.clone(), identity(id), Role::HoldsData)
        .settings(settings())
        .clock(Arc::new(TokioClock::starting_at_ms(NOW_S * 1000)));
    (store, builder)
}

/// Runs a lifecycler's whole life around `during`.
async fn live<T>(lifecycler: &Arc<Lifecycler>, during: impl Future<Output = T>) -> T {
    lifecycler.start().await.unwrap();
    let stop = CancelToken::new();
    let run = lifecycler.run(stop.clone());
    let during = async {
        let value = during.await;
        stop.cancel();
        value
    };
    let (ran, value) = tokio::join!(run, during);
    ran.unwrap();
    lifecycler.stop().await.unwrap();
    value
}

#[derive(Debug)]
struct Flush(RingStore);

#[async_trait]
impl OnStopping for Flush {
    async fn on_stopping(&self) -> Result<()> {
        let before = self.0.load().await?.get("a").unwrap().clone();
        assert_eq!(before.state, InstanceState::Leaving);
        tokio::time::sleep(secs(100)).await;
        let after = self.0.load().await?.get("a").unwrap().clone();
        assert!(
            after.timestamp_s >= before.timestamp_s + 80,
            "heartbeats went on"
        );
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_joins_heartbeats_and_leaves_after_its_work() {
    let kv = Arc::new(Outage::default());
    let (store, builder) = service(&kv, "a");
    let registry = Registry::new();
    let lifecycler = builder
        .on_stopping(Arc::new(Flush(store.clone())))
        .metrics(registry.clone(), "cortex_")
        .build()
        .unwrap();
    live(&lifecycler, async {
        lifecycler.tokens_settled().await;
        assert_eq!(lifecycler.state(), InstanceState::Active);
        assert!(lifecycler.check_ready().await.is_err());
        tokio::time::sleep(secs(20)).await;
        lifecycler.check_ready().await.unwrap();
        lifecycler.set_read_only(true).await.unwrap();
        assert!(store.load().await.unwrap().get("a").unwrap().read_only);
        let wrong = lifecycler.change_state(InstanceState::Joining).await;
        assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);
    })
    .await;
    assert!(store.load().await.unwrap().is_empty());
    let late = lifecycler.set_read_only(false).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unavailable);
    let text = registry.encode();
    assert!(
        text.contains("cortex_member_ring_tokens_owned{name=\"ingester\"} 8"),
        "{text}"
    );
    assert!(text.contains("cortex_shutdown_duration_seconds_count{name=\"ingester\",op=\"flush\",status=\"success\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_the_store_is_survived() {
    let kv = Arc::new(Outage::default());
    let (store, builder) = service(&kv, "a");
    let clock = Arc::new(TokioClock::starting_at_ms(NOW_S * 1000));
    let lifecycler = builder.clock(clock.clone()).build().unwrap();
    let watcher = RingWatcher::builder("ingester", store.clone())
        .clock(clock.clone())
        .settings(RingSettings {
            replication_factor: 1,
            ..RingSettings::default()
        })
        .build()
        .unwrap();
    let serves = || {
        let now_s = clock.now_ms().to_seconds();
        let ring = watcher.handle().current();
        ring.get(Token(1), Operation::WRITE, now_s).is_ok()
            && ring.replication_set(Operation::READ, now_s).is_ok()
    };
    kv.down.store(true, Ordering::SeqCst);
    let registered = tokio::time::timeout(secs(60), lifecycler.start()).await;
    assert!(registered.is_err(), "it waits for the store");
    kv.down.store(false, Ordering::SeqCst);
    watcher.start().await.unwrap();
    let stop = CancelToken::new();
    let life = live(&lifecycler, async {
        tokio::time::sleep(secs(60)).await;
        assert!(serves());
        let before = store.load().await.unwrap();
        kv.down.store(true, Ordering::SeqCst);
        for _ in 0..60 {
            tokio::time::sleep(secs(60)).await;
            assert!(serves(), "the last ring keeps serving");
        }
        kv.down.store(false, Ordering::SeqCst);
        tokio::time::sleep(secs(16)).await;
        assert!(serves());
        let after = store.load().await.unwrap();
        let (before, after) = (before.get("a").unwrap(), after.get("a").unwrap());
        assert!(after.timestamp_s >= before.timestamp_s + 3600);
        assert_eq!(after.tokens, before.tokens);
        assert_eq!(after.registered_timestamp_s, before.registered_timestamp_s);
        stop.cancel();
    });
    let (followed, ()) = tokio::join!(watcher.run(stop.clone()), life);
    followed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_process_of_the_same_id_is_counted() {
    let kv = Arc::new(Outage::default());
    let (store, builder) = service(&kv, "a");
    let registry = Registry::new();
    let lifecycler = builder
        .metrics(registry.clone(), "cortex_")
        .build()
        .unwrap();
    live(&lifecycler, async {
        lifecycler.tokens_settled().await;
        tokio::time::sleep(secs(1)).await;
        let overwrite = |ring: &mut RingDesc| {
            let own = ring.get_mut("a").unwrap();
            own.addr = "other:9095".into();
            own.timestamp_s += 1;
            Ok(true)
        };
        store.update(overwrite).await.unwrap();
        tokio::time::sleep(secs(15)).await;
        assert_eq!(lifecycler.membership().rival.as_deref(), Some("other:9095"));
        let error = lifecycler.check_ready().await.unwrap_err();
        assert!(error.to_string().contains("other:9095"), "{error}");
        let line = "cortex_ring_member_id_conflicts_total{name=\"ingester\"} 1";
        assert!(registry.encode().contains(line));
    })
    .await;
}

#[tokio::test]
async fn a_damaged_tokens_file_is_counted_and_ignored() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokens"), r#"{"tokens":[-1]}"#).unwrap();
    let file = TokensFile::new(Arc::new(LocalDisk::new(dir.path())), "tokens");
    let (_, builder) = service(&Arc::new(Outage::default()), "a");
    let registry = Registry::new();
    let lifecycler = builder
        .tokens_file(file, Executor::inline(Handle::current()))
        .metrics(registry.clone(), "cortex_")
        .build()
        .unwrap();
    live(&lifecycler, lifecycler.tokens_settled()).await;
    assert_eq!(lifecycler.membership().tokens.len(), 8);
    let line = "cortex_ring_member_bad_tokens_files_total{name=\"ingester\"} 1";
    assert!(registry.encode().contains(line));
}

#[tokio::test]
async fn a_restart_finds_its_tokens_in_the_file_or_in_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let executor = Executor::inline(Handle::current());
    let file = TokensFile::new(Arc::new(LocalDisk::new(dir.path())), "tokens");
    let kv = Arc::new(Outage::default());
    let mut seed = 0;
    let mut life = async |unregister: bool, clear: bool| {
        seed += 1;
        let (store, builder) = service(&kv, "a");
        let lifecycler = builder
            .tokens(RandomTokens::seeded(seed))
            .tokens_file(file.clone(), executor.clone())
            .build()
            .unwrap();
        lifecycler.set_unregister_on_shutdown(unregister);
        lifecycler.set_clear_tokens_on_shutdown(clear);
        let tokens = live(&lifecycler, async {
            lifecycler.tokens_settled().await;
            lifecycler.membership().tokens
        })
        .await;
        (tokens, store.load().await.unwrap())
    };
    let (first, ring) = life(true, false).await;
    assert!(ring.is_empty());
    let (second, ring) = life(false, true).await;
    assert_eq!(first, second, "from the file");
    assert_eq!(ring.get("a").unwrap().state, InstanceState::Leaving);
    assert_eq!(file.load().unwrap(), None, "cleared");
    let (third, _) = life(true, true).await;
    assert_eq!(first, third, "from the ring");
    std::fs::write(dir.path().join("tokens"), "rubbish").unwrap();
    let (fourth, _) = life(true, false).await;
    assert_ne!(first, fourth, "a file that cannot be read is ignored");
    assert_eq!(fourth.len(), 8);
}

/// Work of a shutdown that takes 100 s of its own, in steps.
#[derive(Debug)]
struct Steps {
    kv: Arc<Outage>,
    store: RingStore,
    outage: fn(&Outage, bool),
}

#[async_trait]
impl OnStopping for Steps {
    async fn on_stopping(&self) -> Result<()> {
        for step in 0..100 {
            tokio::time::sleep(secs(1)).await;
            (self.outage)(&self.kv, step < 99);
        }
        tokio::time::sleep(secs(20)).await;
        let own = self.store.load().await?.get("a").unwrap().clone();
        assert_eq!(own.state, InstanceState::Leaving);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_work_of_a_shutdown_goes_on_while_the_store_hangs() {
    let kv = Arc::new(Outage::default());
    let (store, builder) = service(&kv, "a");
    let work = Steps {
        kv: Arc::clone(&kv),
        store,
        outage: |kv, on| kv.hangs.store(on, Ordering::SeqCst),
    };
    let lifecycler = builder.on_stopping(Arc::new(work)).build().unwrap();
    lifecycler.start().await.unwrap();
    lifecycler.run(stopped()).await.unwrap();
    let began = tokio::time::Instant::now();
    lifecycler.stop().await.unwrap();
    // One write at the end may have to run into its timeout.
    assert!(began.elapsed() <= secs(131), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_could_not_say_that_it_leaves_says_it_with_its_next_heartbeat() {
    let kv = Arc::new(Outage::default());
    let (store, builder) = service(&kv, "a");
    let work = Steps {
        kv: Arc::clone(&kv),
        store,
        outage: |kv, on| kv.down.store(on, Ordering::SeqCst),
    };
    let lifecycler = builder.on_stopping(Arc::new(work)).build().unwrap();
    lifecycler.start().await.unwrap();
    lifecycler.run(stopped()).await.unwrap();
    kv.down.store(true, Ordering::SeqCst);
    // `Steps` asserts that it is LEAVING once the store is back.
    lifecycler.stop().await.unwrap();
}

/// Work of a shutdown that does not come about.
#[derive(Debug)]
struct Fails;

#[async_trait]
impl OnStopping for Fails {
    async fn on_stopping(&self) -> Result<()> {
        Err(Error::Unavailable("the bucket is away".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn who_could_not_hand_over_what_it_holds_keeps_its_place() {
    let kv = Arc::new(Outage::default());
    let (store, builder) = service(&kv, "a");
    let lifecycler = builder.on_stopping(Arc::new(Fails)).build().unwrap();
    lifecycler.start().await.unwrap();
    lifecycler.run(stopped()).await.unwrap();
    assert!(lifecycler.unregisters_on_shutdown());
    let error = lifecycler.stop().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let ring = store.load().await.unwrap();
    assert_eq!(ring.get("a").unwrap().state, InstanceState::Leaving);
}

fn stopped() -> CancelToken {
    let stop = CancelToken::new();
    stop.cancel();
    stop
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_is_not_asked_without_pause() {
    let kv = Arc::new(Outage::default());
    let (_, builder) = service(&kv, "a");
    let registry = Registry::new();
    let lifecycler = builder
        .metrics(registry.clone(), "cortex_")
        .build()
        .unwrap();
    kv.refuses.store(true, Ordering::SeqCst);
    let started = tokio::time::timeout(secs(60), lifecycler.start()).await;
    assert!(started.is_err(), "it waits");
    let writes = kv.writes.load(Ordering::SeqCst);
    assert!((50..70).contains(&writes), "{writes} writes in a minute");
    let line = format!("cortex_ring_member_step_failures_total{{name=\"ingester\"}} {writes}");
    assert!(registry.encode().contains(&line));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_could_not_be_stored_are_stored_later() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the folder should be.
    std::fs::write(dir.path().join("ring"), "").unwrap();
    let file = TokensFile::new(Arc::new(LocalDisk::new(dir.path())), "ring/tokens");
    let (_, builder) = service(&Arc::new(Outage::default()), "a");
    let lifecycler = builder
        .tokens_file(file.clone(), Executor::inline(Handle::current()))
        .build()
        .unwrap();
    live(&lifecycler, async {
        lifecycler.tokens_settled().await;
        std::fs::remove_file(dir.path().join("ring")).unwrap();
        tokio::time::sleep(secs(20)).await;
        let stored = file.load().unwrap().unwrap();
        assert_eq!(*stored, *lifecycler.membership().tokens);
    })
    .await;
}
