//! A clock that is put wrong and set right again, on any store.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::CancelToken;
use lgtm_core::model::TimestampMs;
use lgtm_core::service::Service;
use lgtm_ring::instance::{Instance, InstanceState};
use lgtm_ring::kv::Kv;
use lgtm_ring::lifecycle::{Identity, Lifecycler, LifecyclerSettings, Role};
use lgtm_ring::store::RingStore;

const TEN_YEARS_S: i64 = 10 * 365 * 86_400;

/// A clock whose wall time can be put wrong.
#[derive(Debug)]
pub(crate) struct WrongClock {
    right: Arc<dyn Clock>,
    ahead_s: AtomicI64,
}

impl Clock for WrongClock {
    fn now_ms(&self) -> TimestampMs {
        self.right.now_ms() + self.ahead_s.load(Ordering::Relaxed) * 1000
    }

    fn monotonic(&self) -> Duration {
        self.right.monotonic()
    }
}

/// An instance joins with a clock ten years ahead. A moment after the clock is set right, so are its heartbeat and its other times, its record is the same
/// otherwise, and it can leave.
pub(crate) async fn a_heartbeat_far_ahead_heals_with_the_clock(kv: Arc<dyn Kv>) {
    let clock = Arc::new(WrongClock {
        right: Arc::new(SystemClock::new()),
        ahead_s: AtomicI64::new(TEN_YEARS_S),
    });
    let store = RingStore::new(kv, "collectors/ring").unwrap();
    let identity = Identity {
        id: "a".into(),
        addr: "10.0.0.1:9095".into(),
        zone: String::new(),
    };
    let settings = LifecyclerSettings {
        num_tokens: 8,
        heartbeat_period: Duration::from_secs(1),
        ..LifecyclerSettings::default()
    };
    let builder = Lifecycler::builder("ingester", store.clone(), identity, Role::HoldsData);
    let lifecycler = builder.settings(settings).clock(clock.clone());
    let lifecycler = lifecycler.build().unwrap();
    lifecycler.start().await.unwrap();
    let work = async {
        lifecycler.tokens_settled().await;
        lifecycler.set_read_only(true).await.unwrap();
        let own = async || Instance::clone(store.load().await.unwrap().get("a").unwrap());
        let before = own().await;
        let now_s = || SystemClock::new().now_ms().get() / 1000;
        assert!(before.timestamp_s >= now_s() + TEN_YEARS_S - 60);
        clock.ahead_s.store(0, Ordering::Relaxed);
        let healed = loop {
            let record = own().await;
            if record.stamp() > before.stamp() {
                break record;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert!(healed.timestamp_s <= now_s());
        assert!(healed.registered_timestamp_s <= now_s());
        assert!(healed.read_only_updated_timestamp_s <= now_s());
        assert_eq!(
            (healed.state, &healed.tokens, healed.read_only),
            (InstanceState::Active, &before.tokens, true)
        );
    };
    tokio::select! {
        _ = lifecycler.run(CancelToken::new()) => panic!("nobody stopped it"),
        worked = tokio::time::timeout(Duration::from_secs(60), work) => worked.expect("the heartbeat heals"),
    }
    lifecycler.stop().await.unwrap();
    assert!(store.load().await.unwrap().is_empty());
}
