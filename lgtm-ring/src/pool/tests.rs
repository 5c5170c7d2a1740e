use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::exec::CancelToken;
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, ErrorKind, Result};

use crate::instance::Instance;
use crate::pool::{ClientFactory, ClientPool, ClientPoolSettings, PoolClient};
use crate::ring::{Ring, RingSettings};
use crate::watch::RingHandle;

#[derive(Debug, Default)]
struct Client {
    addr: String,
    hangs: Arc<AtomicBool>,
}

#[async_trait]
impl PoolClient for Client {
    async fn check_health(&self) -> Result<()> {
        match self.addr.as_str() {
            "sick" => Err(Error::Unavailable("not serving".into())),
            _ if self.hangs.load(Ordering::SeqCst) => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Default)]
struct Factory {
    made: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
}

impl ClientFactory for Factory {
    type Client = Client;

    fn client(&self, instance: &Instance) -> Result<Arc<Client>> {
        self.made.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(Client {
            addr: instance.addr.clone(),
            hangs: Arc::clone(&self.hangs),
        }))
    }
}

fn instance(addr: &str) -> Instance {
    Instance {
        id: addr.to_owned(),
        addr: addr.to_owned(),
        ..Instance::default()
    }
}

#[tokio::test(start_paused = true)]
async fn clients_are_kept_while_their_instance_is_there_and_well() {
    let desc = ["well", "sick"].map(instance).into_iter().collect();
    let ring = RingHandle::from(Ring::new(RingSettings::default(), &desc));
    let factory = Factory::default();
    let (made, hangs) = (Arc::clone(&factory.made), Arc::clone(&factory.hangs));
    let settings = ClientPoolSettings {
        max_clients: 3,
        ..ClientPoolSettings::default()
    };
    let registry = Registry::new();
    let pool = ClientPool::new("x", factory, ring, settings, &registry, "").unwrap();
    for addr in ["well", "sick", "gone", "well"] {
        pool.client(&instance(addr)).unwrap();
    }
    assert_eq!((pool.len(), made.load(Ordering::SeqCst)), (3, 3));
    let full = pool.client(&instance("fourth")).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::LimitExceeded);
    let stop = CancelToken::new();
    let life = pool.run(stop.clone());
    let test = async {
        tokio::time::sleep(Duration::from_secs(16)).await;
        assert_eq!(pool.len(), 1, "the gone and the sick are removed");
        assert!(
            registry
                .encode()
                .contains("ring_client_pool_removed_total{name=\"x\"} 2")
        );
        pool.client(&instance("well")).unwrap();
        assert_eq!(made.load(Ordering::SeqCst), 3, "the healthy one was kept");
        hangs.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(17)).await;
        assert!(pool.is_empty(), "no answer in time is no health");
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(life, test);
    ran.unwrap();
}

#[test]
fn bad_settings_are_all_named() {
    let settings = ClientPoolSettings {
        max_clients: 0,
        check_interval: Duration::ZERO,
        ..ClientPoolSettings::default()
    };
    let error = settings.validate().unwrap_err().to_string();
    assert!(error.contains("max_clients") && error.contains("check_interval"));
}
