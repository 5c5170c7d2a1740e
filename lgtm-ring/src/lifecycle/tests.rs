use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use crate::instance::{Instance, InstanceState, RingDesc};
use crate::kv::{Kv, KvWatch, MemoryKv};
use crate::lifecycle::{
    Identity, Lifecycler, LifecyclerBuilder, LifecyclerSettings, Machine, OnStopping, Readiness,
    Role, Step,
};
use crate::store::RingStore;
use crate::testing::TokioClock;
use crate::token::{RandomTokens, Token, TokensFile};

const NOW_S: i64 = 1_800_000_000;
const WORKER: Role = Role::DoesWork {
    joins_as: InstanceState::Joining,
};

fn identity(id: &str) -> Identity {
    Identity {
        id: id.to_owned(),
        addr: format!("{id}:9095"),
        zone: "zone-a".to_owned(),
    }
}

fn settings() -> LifecyclerSettings {
    LifecyclerSettings {
        num_tokens: 8,
        ..LifecyclerSettings::default()
    }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A machine with the ring it writes to.
struct Lone {
    machine: Machine,
    ring: RingDesc,
    generator: RandomTokens,
}

impl Lone {
    fn new(settings: LifecyclerSettings, role: Role, remembered: &[u32], ring: RingDesc) -> Self {
        let remembered = remembered.iter().map(|&t| Token(t)).collect();
        let machine = Machine::new(settings, role, identity("a"), remembered, secs(0)).unwrap();
        Self {
            machine,
            ring,
            generator: RandomTokens::seeded(1),
        }
    }

    fn take(&mut self, step: Step, at_s: u64) -> Result<()> {
        let now_s = NOW_S + at_s as i64;
        let plan = &mut self.ring.clone();
        let planned = self
            .machine
            .plan(step, plan, &mut self.generator, now_s, secs(at_s))?;
        self.ring = plan.clone();
        self.machine.written(planned, secs(at_s));
        Ok(())
    }

    /// Does all that is due at a moment, and names it.
    fn tick(&mut self, at_s: u64) -> Vec<Step> {
        let mut done = Vec::new();
        while let Some(step) = self.machine.due(secs(at_s)) {
            match self.take(step, at_s) {
                Ok(()) => done.push(step),
                Err(_) => self.machine.failed(step, secs(at_s)),
            }
        }
        done
    }

    fn own(&self) -> &Instance {
        self.ring.get("a").unwrap()
    }
}

fn former(state: InstanceState, tokens: &[u32]) -> RingDesc {
    let instance = Instance {
        id: "a".into(),
        addr: "old:1".into(),
        zone: "zone-a".into(),
        state,
        timestamp_s: NOW_S - 1000,
        registered_timestamp_s: NOW_S - 5000,
        read_only: true,
        read_only_updated_timestamp_s: NOW_S - 2000,
        tokens: tokens.iter().map(|&t| Token(t)).collect(),
        ..Instance::default()
    };
    [instance].into_iter().collect()
}

#[test]
fn a_newcomer_goes_from_pending_to_active() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register, Step::Join]);
    let own = node.own();
    assert_eq!((own.state, own.tokens.len()), (InstanceState::Active, 8));
    assert_eq!(own.registered_timestamp_s, NOW_S);
    assert!(node.tick(14).is_empty());
    assert_eq!(node.tick(15), [Step::Heartbeat]);
    assert_eq!(node.own().timestamp_s, NOW_S + 15);
}

#[test]
fn with_an_observe_period_it_joins_and_looks_before_it_is_active() {
    let settings = LifecyclerSettings {
        join_after: secs(10),
        observe_period: secs(5),
        ..settings()
    };
    let mut node = Lone::new(settings, Role::HoldsData, &[], RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register]);
    assert_eq!(node.own().state, InstanceState::Pending);
    assert_eq!(node.tick(10), [Step::Join]);
    assert_eq!(node.own().state, InstanceState::Joining);
    // Another instance took two of the tokens meanwhile.
    let own = node.ring.get_mut("a").unwrap();
    own.tokens = own.tokens[2..].into();
    assert_eq!(node.tick(15), [Step::Verify]);
    assert_eq!(
        (node.own().state, node.own().tokens.len()),
        (InstanceState::Joining, 8)
    );
    assert!(!node.machine.is_settled());
    assert_eq!(node.tick(20), [Step::Verify]);
    assert_eq!(node.own().state, InstanceState::Active);
    assert!(node.machine.is_settled());
}

#[test]
fn the_tokens_file_makes_a_newcomer_active_at_once() {
    let remembered = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut node = Lone::new(settings(), Role::HoldsData, &remembered, RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register]);
    assert_eq!(node.own().state, InstanceState::Active);
    assert_eq!(node.own().tokens.first(), Some(&Token(1)));
    // Too few are topped up.
    let mut node = Lone::new(settings(), Role::HoldsData, &[7], RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register, Step::Join]);
    assert!(node.own().tokens.contains(&Token(7)) && node.own().tokens.len() == 8);
}

#[test]
fn a_record_of_a_former_life_is_taken_over() {
    let eight = [10, 20, 30, 40, 50, 60, 70, 80];
    for (state, tokens, expected) in [
        (InstanceState::Leaving, &eight[..], &eight[..]),
        (InstanceState::Active, &eight[..], &eight[..]),
        (InstanceState::Joining, &eight[..], &eight[..]),
        (InstanceState::Pending, &[][..], &[][..]),
        (InstanceState::Leaving, &eight[..3], &eight[..3]),
    ] {
        let mut node = Lone::new(settings(), Role::HoldsData, &[1], former(state, tokens));
        node.tick(0);
        let own = node.own();
        assert_eq!(
            (own.state, own.tokens.len()),
            (InstanceState::Active, 8),
            "{state}"
        );
        assert!(
            expected.iter().all(|&t| own.tokens.contains(&Token(t))),
            "{state}"
        );
        assert_eq!(own.registered_timestamp_s, NOW_S - 5000);
        assert!(own.read_only && own.read_only_updated_timestamp_s == NOW_S - 2000);
        assert_eq!(
            (own.addr.as_str(), own.timestamp_s >= NOW_S),
            ("a:9095", true)
        );
    }
    // Too many are thinned out.
    let many: Vec<u32> = (0..20).collect();
    let mut node = Lone::new(
        settings(),
        Role::HoldsData,
        &[],
        former(InstanceState::Leaving, &many),
    );
    node.tick(0);
    assert_eq!(node.own().tokens.len(), 8);
}

#[test]
fn a_crashed_joiner_begins_again() {
    let settings = LifecyclerSettings {
        join_after: secs(30),
        ..settings()
    };
    let ring = former(InstanceState::Joining, &[1, 2]);
    let mut node = Lone::new(settings, Role::HoldsData, &[], ring);
    assert_eq!(node.tick(0), [Step::Register]);
    assert_eq!(node.own().state, InstanceState::Pending);
}

#[test]
fn who_was_forgotten_and_lives_registers_anew() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    node.tick(0);
    let tokens = node.own().tokens.clone();
    node.ring.remove("a");
    assert_eq!(node.tick(15), [Step::Heartbeat]);
    assert_eq!(node.own().tokens, tokens);
    assert_eq!(node.own().registered_timestamp_s, NOW_S + 15);
    assert_eq!(node.own().state, InstanceState::Active);
}

#[test]
fn who_lost_tokens_to_another_gets_new_ones() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    node.tick(0);
    let kept = node.own().tokens[6..].to_vec();
    node.ring.get_mut("a").unwrap().tokens = kept.clone().into();
    node.tick(15);
    assert_eq!(node.own().tokens.len(), 8);
    assert!(kept.iter().all(|t| node.own().tokens.contains(t)));
    // Who is leaving needs none.
    node.take(Step::Leave, 16).unwrap();
    node.ring.get_mut("a").unwrap().tokens = kept.clone().into();
    node.tick(40);
    assert_eq!(*node.own().tokens, *kept);
}

#[test]
fn each_write_moves_the_heartbeat_even_when_the_clock_went_back() {
    let mut ring = former(InstanceState::Active, &[1, 2]);
    ring.get_mut("a").unwrap().timestamp_s = NOW_S + 100;
    let mut node = Lone::new(settings(), Role::HoldsData, &[], ring);
    node.tick(0);
    assert_eq!(node.own().timestamp_s, NOW_S + 101);
    node.take(Step::ChangeState(InstanceState::Leaving), 0)
        .unwrap();
    assert_eq!(node.own().timestamp_s, NOW_S + 102);
    node.tick(300);
    assert_eq!(node.own().timestamp_s, NOW_S + 300);
}

#[test]
fn only_the_allowed_changes_of_state_are_made() {
    let mut node = Lone::new(settings(), Role::HoldsData, &[], RingDesc::new());
    node.tick(0);
    for to in [
        InstanceState::Pending,
        InstanceState::Joining,
        InstanceState::Left,
    ] {
        let error = node.take(Step::ChangeState(to), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("from ACTIVE to"), "{error}");
    }
    node.take(Step::SetReadOnly(true), 2).unwrap();
    assert!(node.own().read_only && node.own().read_only_updated_timestamp_s == NOW_S + 2);
    node.take(Step::SetReadOnly(true), 3).unwrap();
    assert_eq!(node.own().read_only_updated_timestamp_s, NOW_S + 2);
    node.take(Step::Leave, 4).unwrap();
    assert_eq!(node.own().state, InstanceState::Leaving);
    assert_eq!(node.tick(30), [Step::Heartbeat]);
    node.take(Step::Unregister, 31).unwrap();
    assert!(node.ring.is_empty() && node.tick(1000).is_empty());
}

#[test]
fn a_worker_registers_and_its_component_says_when_it_is_active() {
    let mut node = Lone::new(settings(), WORKER, &[], RingDesc::new());
    assert_eq!(node.tick(0), [Step::Register]);
    assert_eq!(
        (node.own().state, node.own().tokens.len()),
        (InstanceState::Joining, 8)
    );
    node.take(Step::ChangeState(InstanceState::Active), 1)
        .unwrap();
    assert_eq!(node.own().state, InstanceState::Active);
    // After a crash it joins again, with the tokens it had.
    let tokens = node.own().tokens.clone();
    let mut again = Lone::new(settings(), WORKER, &[], node.ring);
    again.tick(0);
    assert_eq!(
        (again.own().state, &again.own().tokens),
        (InstanceState::Joining, &tokens)
    );
}

#[test]
fn the_long_dead_are_forgotten_but_not_after_an_outage_of_the_store() {
    let settings = LifecyclerSettings {
        forget_after: secs(600),
        ..settings()
    };
    let mut ring = RingDesc::new();
    for (id, seen) in [("dead", -700), ("slow", -100)] {
        ring.insert(Instance {
            id: id.into(),
            timestamp_s: NOW_S + seen,
            ..Instance::default()
        });
    }
    let mut node = Lone::new(settings, WORKER, &[], ring);
    for at in (0..600).step_by(15) {
        node.tick(at);
        assert!(node.ring.get("dead").is_some(), "too early at {at}");
        let slow = node.ring.get_mut("slow").unwrap();
        slow.timestamp_s = NOW_S + at as i64 - 100;
    }
    node.tick(600);
    assert!(node.ring.get("dead").is_none());
    assert!(node.ring.get("slow").is_some());
    // The store is gone for an hour. Nobody could write, and nobody is forgotten because of it.
    for at in (615..4200).step_by(15) {
        if let Some(step) = node.machine.due(secs(at)) {
            node.machine.failed(step, secs(at));
        }
    }
    for at in (4200..4800).step_by(15) {
        node.tick(at);
        assert!(node.ring.get("slow").is_some(), "forgotten at {at}");
    }
    node.tick(4800);
    assert!(node.ring.get("slow").is_none());
}

#[test]
fn who_holds_data_is_never_forgotten_by_default() {
    assert!(LifecyclerSettings::default().forget_after.is_zero());
    let mut ring = RingDesc::new();
    ring.insert(Instance {
        id: "dead".into(),
        timestamp_s: 1,
        ..Instance::default()
    });
    let mut node = Lone::new(settings(), Role::HoldsData, &[], ring);
    for at in (0..20_000).step_by(15) {
        node.tick(at);
    }
    assert!(node.ring.get("dead").is_some());
}

#[test]
fn ready_comes_after_a_while_without_faults_and_stays() {
    let mut ring = former(InstanceState::Joining, &[1]);
    ring.insert(Instance {
        id: "stranger".into(),
        state: InstanceState::Leaving,
        ..Instance::default()
    });
    let own = |ring: &mut RingDesc, state, at_s: u64| {
        let own = ring.get_mut("a").unwrap();
        (own.state, own.timestamp_s) = (state, NOW_S + at_s as i64);
    };
    let mut readiness = Readiness::default();
    let settings = settings();
    let mut at = |ring: &RingDesc, s: u64| {
        let checked = readiness.check(&settings, ring, "a", NOW_S + s as i64, secs(s));
        checked.map_err(|e| e.to_string())
    };
    assert!(at(&ring, 0).unwrap_err().contains("is in state JOINING"));
    own(&mut ring, InstanceState::Active, 1);
    assert!(at(&ring, 1).unwrap_err().contains("waiting for 15s"));
    assert!(at(&ring, 10).unwrap_err().contains("waiting for 6s"));
    own(&mut ring, InstanceState::Leaving, 11);
    assert!(at(&ring, 11).is_err());
    own(&mut ring, InstanceState::Active, 12);
    assert!(
        at(&ring, 12).unwrap_err().contains("waiting for 15s"),
        "counted anew"
    );
    assert!(at(&ring, 27).is_ok());
    own(&mut ring, InstanceState::Leaving, 28);
    assert!(at(&ring, 28).is_ok(), "once ready, always ready");

    let strict = LifecyclerSettings {
        readiness_check_ring_health: true,
        ..settings.clone()
    };
    own(&mut ring, InstanceState::Active, 28);
    let error = Readiness::default().check(&strict, &ring, "a", NOW_S + 28, secs(28));
    assert!(error.unwrap_err().to_string().contains("stranger"));
}

#[test]
fn bad_settings_are_all_named() {
    let settings = LifecyclerSettings {
        num_tokens: 0,
        heartbeat_period: secs(90),
        forget_after: secs(10),
        store_timeout: Duration::ZERO,
        ..LifecyclerSettings::default()
    };
    let error = settings.validate().unwrap_err().to_string();
    for name in [
        "num_tokens",
        "heartbeat_timeout",
        "forget_after",
        "store_timeout",
    ] {
        assert!(error.contains(name), "{error}");
    }
}

/// A store that can be switched off.
#[derive(Debug, Default)]
struct Outage {
    kv: MemoryKv,
    down: AtomicBool,
}

impl Outage {
    fn check(&self) -> Result<()> {
        match self.down.load(Ordering::SeqCst) {
            true => Err(Error::Unavailable("the store is down".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Kv for Outage {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.check()?;
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
        self.check()?;
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
    let lifecycler = builder.build().unwrap();
    kv.down.store(true, Ordering::SeqCst);
    let registered = tokio::time::timeout(secs(60), lifecycler.start()).await;
    assert!(registered.is_err(), "it waits for the store");
    kv.down.store(false, Ordering::SeqCst);
    live(&lifecycler, async {
        tokio::time::sleep(secs(60)).await;
        let before = store.load().await.unwrap();
        kv.down.store(true, Ordering::SeqCst);
        tokio::time::sleep(secs(3600)).await;
        kv.down.store(false, Ordering::SeqCst);
        tokio::time::sleep(secs(16)).await;
        let after = store.load().await.unwrap();
        let (before, after) = (before.get("a").unwrap(), after.get("a").unwrap());
        assert!(after.timestamp_s >= before.timestamp_s + 3600);
        assert_eq!(after.tokens, before.tokens);
        assert_eq!(after.registered_timestamp_s, before.registered_timestamp_s);
    })
    .await;
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
