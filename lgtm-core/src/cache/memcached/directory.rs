//! Which servers there are now.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Mutex, RwLock};
use tokio::time::timeout;

use crate::cache::memcached::address::{Address, natural_order};
use crate::cache::memcached::server::Server;
use crate::cache::memcached::settings::MemcachedSettings;
use crate::cache::remote::RemoteCounts;
use crate::error::Result;

/// Addresses as given, and the servers behind them.
#[derive(Debug)]
pub(super) struct Directory {
    addresses: Vec<Address>,
    /// By address, what was found last.
    found: Mutex<Vec<Vec<String>>>,
    servers: RwLock<Arc<[Arc<Server>]>>,
}

impl Directory {
    /// The servers that are named outright; the others are known after [`Directory::resolve`].
    pub(super) fn new(settings: &MemcachedSettings) -> Result<Self> {
        let addresses = settings.servers()?;
        let found = addresses.iter().map(|address| match address {
            Address::Server(place) => vec![place.clone()],
            Address::Names(_) => Vec::new(),
        });
        let found: Vec<_> = found.collect();
        let directory = Self {
            addresses,
            found: Mutex::default(),
            servers: RwLock::new(Arc::new([])),
        };
        directory.install(found, settings);
        Ok(directory)
    }

    /// The servers, in the order in which keys are spread over them.
    pub(super) fn servers(&self) -> Arc<[Arc<Server>]> {
        Arc::clone(&self.servers.read())
    }

    /// Whether there are names to look up.
    pub(super) fn has_names(&self) -> bool {
        let is_name = |a: &Address| matches!(a, Address::Names(_));
        self.addresses.iter().any(is_name)
    }

    /// Looks all names up. One that cannot be resolved keeps what was found for it last.
    pub(super) async fn resolve(&self, settings: &MemcachedSettings, counts: &RemoteCounts) {
        let mut found = self.found.lock().clone();
        for (address, found) in self.addresses.iter().zip(&mut found) {
            let Address::Names(place) = address else {
                continue;
            };
            counts.dns_lookups.fetch_add(1, Ordering::Relaxed);
            let looked_up = tokio::net::lookup_host(place.as_str());
            let error = match timeout(settings.resolve_timeout, looked_up).await {
                Ok(Ok(places)) => {
                    let places: Vec<_> = places.map(|place| place.to_string()).collect();
                    if !places.is_empty() {
                        *found = places;
                        continue;
                    }
                    "it has no address".to_owned()
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {:?}", settings.resolve_timeout),
            };
            counts.dns_failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                name = place,
                error,
                "memcached servers are not found; those found last stay"
            );
        }
        self.install(found, settings);
    }

    /// Servers that stay keep their connections and breakers.
    fn install(&self, found: Vec<Vec<String>>, settings: &MemcachedSettings) {
        let mut places: Vec<String> = found.iter().flatten().cloned().collect();
        places.sort_by(|a, b| natural_order(a, b));
        places.dedup();
        *self.found.lock() = found;
        let mut servers = self.servers.write();
        if servers.iter().map(|s| &s.address).eq(&places) {
            return;
        }
        let known: HashMap<&str, &Arc<Server>> =
            servers.iter().map(|s| (s.address.as_str(), s)).collect();
        let server = |place: String| match known.get(place.as_str()) {
            Some(server) => Arc::clone(server),
            None => Arc::new(Server::new(place, settings)),
        };
        let next: Arc<[_]> = places.into_iter().map(server).collect();
        *servers = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_stay_stay_the_same() {
        let settings = MemcachedSettings {
            addresses: "m-10:1, m-9:1, m-9:1".into(),
            ..MemcachedSettings::default()
        };
        let directory = Directory::new(&settings).unwrap();
        let before = directory.servers();
        let names = |servers: &[Arc<Server>]| {
            let names = servers.iter().map(|s| s.address.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&before), ["m-9:1", "m-10:1"]);
        let places = ["m-11:1", "m-10:1"].map(|p| vec![p.to_owned()]);
        directory.install(places.to_vec(), &settings);
        let after = directory.servers();
        assert_eq!(names(&after), ["m-10:1", "m-11:1"]);
        assert!(Arc::ptr_eq(&before[1], &after[0]));
    }

    #[tokio::test]
    async fn names_are_looked_up_and_a_failure_keeps_what_was_found() {
        let settings = MemcachedSettings {
            addresses: "dns+localhost:7,dns+no-such-name.invalid:7,a:1".into(),
            ..MemcachedSettings::default()
        };
        let directory = Directory::new(&settings).unwrap();
        assert_eq!(directory.servers().len(), 1);
        let counts = RemoteCounts::default();
        let kept = vec!["b:1".to_owned()];
        directory.found.lock()[1] = kept;
        directory.resolve(&settings, &counts).await;
        let servers = directory.servers();
        let has = |address: &str| servers.iter().any(|s| s.address == address);
        assert!(has("127.0.0.1:7") || has("[::1]:7"), "{servers:?}");
        assert!(has("b:1") && has("a:1"));
        assert_eq!(counts.dns_failures.load(Ordering::Relaxed), 1);
    }
}
