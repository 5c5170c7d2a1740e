//! The etcd store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::Method;
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::kv::backoff::Backoff;
use crate::kv::etcd::messages::{self, EtcdRecord, RangeAnswer, TxnAnswer};
use crate::kv::etcd::watch::Follower;
use crate::kv::http_client::{Connect, HttpClient, TcpConnect, authority};
use crate::kv::kv::{Kv, MAX_CAS_ATTEMPTS, check_key, too_many_conflicts};
use crate::kv::watch::{KvWatch, Scope};

/// How an [`EtcdKv`] talks to its servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EtcdSettings {
    /// The servers of one etcd cluster, `host:port` or `http://host:port`. They are tried in turn.
    pub endpoints: Vec<String>,
    /// How long a request may take. 10 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub timeout: Duration,
    /// The first wait before a broken watch is opened again. 1 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub min_backoff: Duration,
    /// The longest wait; it doubles up to this. 1 min, for as long as the servers are down.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_backoff: Duration,
    /// A watch that is silent for so long is opened anew and compared with the store. 5 min: a connection can die unseen.
    #[serde(with = "lgtm_core::units::duration")]
    pub watch_refresh: Duration,
    /// The largest answer, base64 and all. 64 MiB.
    pub max_response_bytes: ByteSize,
}

impl Default for EtcdSettings {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            timeout: Duration::from_secs(10),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            watch_refresh: Duration::from_secs(300),
            max_response_bytes: ByteSize::mib(64),
        }
    }
}

impl EtcdSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        if self.endpoints.is_empty() {
            return Err(Error::InvalidInput("endpoints is empty".into()));
        }
        for endpoint in &self.endpoints {
            authority(endpoint)?;
        }
        for (name, value) in [
            ("timeout", self.timeout),
            ("min_backoff", self.min_backoff),
            ("watch_refresh", self.watch_refresh),
        ] {
            if value.is_zero() {
                return Err(Error::InvalidInput(format!("{name} is 0, must be more")));
            }
        }
        if self.max_backoff < self.min_backoff {
            return Err(Error::InvalidInput(format!(
                "max_backoff is {:?}, must be at least min_backoff, {:?}",
                self.max_backoff, self.min_backoff
            )));
        }
        Ok(())
    }
}

/// Collects the parts of an [`EtcdKv`].
#[derive(Debug)]
pub struct EtcdBuilder {
    settings: EtcdSettings,
    connect: Arc<dyn Connect>,
    seed: u64,
}

impl EtcdBuilder {
    /// What makes connections, if it is not plain TCP.
    #[must_use]
    pub fn connect(mut self, connect: Arc<dyn Connect>) -> Self {
        self.connect = connect;
        self
    }

    /// A random number, from which waits derive. Without it, the process id serves.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks everything, touches nothing. Watches and connections run as tasks on `runtime`.
    ///
    /// # Errors
    /// `InvalidInput`, naming the fault.
    pub fn build(self, runtime: Handle) -> Result<EtcdKv> {
        self.settings.validate()?;
        let endpoints = self.settings.endpoints.iter().map(|e| authority(e));
        let client = HttpClient::new(
            endpoints.collect::<Result<_>>()?,
            self.connect,
            self.settings.timeout,
            self.settings.max_response_bytes.as_usize(),
            runtime,
        );
        let retries = Backoff::new(
            Duration::from_millis(10),
            Duration::from_millis(500),
            self.seed,
        );
        Ok(EtcdKv(Arc::new(EtcdStore {
            client: EtcdGateway(Arc::new(client)),
            settings: self.settings,
            retries: Mutex::new(retries),
            seed: self.seed,
        })))
    }
}

/// Values in etcd. Clones share it; dropping the last one ends its watches.
///
/// Values have no lease: a member that is gone is seen by its heartbeat, as in every other store. A compare-and-set is a transaction on
/// the key's revision. While the servers are down, reads and writes fail (`Unavailable`), watches wait and come back with what changed.
#[derive(Debug, Clone)]
pub struct EtcdKv(Arc<EtcdStore>);

#[derive(Debug)]
struct EtcdStore {
    client: EtcdGateway,
    settings: EtcdSettings,
    retries: Mutex<Backoff>,
    seed: u64,
}

/// Requests of the gateway.
#[derive(Debug, Clone)]
pub(super) struct EtcdGateway(pub(super) Arc<HttpClient>);

impl EtcdGateway {
    async fn call<T: for<'a> Deserialize<'a>>(&self, path: &str, body: &Value) -> Result<T> {
        let body = Bytes::from(body.to_string());
        let extra = Duration::ZERO;
        let answer = self.0.request(Method::POST, path, body, extra).await?;
        messages::read(path, answer.status.as_u16(), &answer.body)
    }

    /// The records of a scope, and the revision of the store at which they were so.
    pub(super) async fn range(&self, scope: &Scope) -> Result<(Vec<EtcdRecord>, i64)> {
        let body = scope_range(scope);
        let answer: RangeAnswer = self.call("/v3/kv/range", &body).await?;
        answer.records()
    }
}

pub(super) fn scope_range(scope: &Scope) -> Value {
    match scope {
        Scope::Key(key) => messages::range(key, false),
        Scope::Prefix(prefix) => messages::range(prefix, true),
    }
}

impl EtcdKv {
    /// A store with these settings.
    pub fn builder(settings: EtcdSettings) -> EtcdBuilder {
        EtcdBuilder {
            settings,
            connect: Arc::new(TcpConnect),
            seed: std::process::id().into(),
        }
    }

    async fn record(&self, key: &str) -> Result<Option<EtcdRecord>> {
        let (mut records, _) = self.0.client.range(&Scope::Key(key.to_owned())).await?;
        Ok(records.pop())
    }

    fn watch(&self, scope: Scope) -> KvWatch {
        let (sender, watch) = KvWatch::channel();
        let settings = &self.0.settings;
        let follower = Follower {
            // Not the store: a watch must not keep alive what ends it.
            client: Arc::downgrade(&self.0.client.0),
            scope,
            sender,
            refresh: settings.watch_refresh,
            max_line_bytes: settings.max_response_bytes.as_usize(),
            backoff: Backoff::new(settings.min_backoff, settings.max_backoff, self.0.seed),
            known: Default::default(),
        };
        self.0.client.0.tasks.spawn("etcd watch", follower.follow());
        watch
    }
}

#[async_trait]
impl Kv for EtcdKv {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(key)?;
        Ok(self.record(key).await?.map(|r| r.value))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut body = messages::range(prefix, true);
        body["keys_only"] = json!(true);
        let answer: RangeAnswer = self.0.client.call("/v3/kv/range", &body).await?;
        let keys = answer.records()?.0.into_iter().map(|r| r.key);
        let mut keys: Vec<_> = keys.collect();
        keys.sort();
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        let body = messages::range(key, false);
        let _: Value = self.0.client.call("/v3/kv/deleterange", &body).await?;
        Ok(())
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        check_key(key)?;
        for _ in 0..MAX_CAS_ATTEMPTS {
            let (current, revision) = match self.record(key).await? {
                Some(record) => (Some(record.value), record.revision),
                None => (None, 0),
            };
            let Some(value) = change(current)? else {
                return Ok(());
            };
            let txn = messages::put_if(key, revision, &value);
            let answer: TxnAnswer = self.0.client.call("/v3/kv/txn", &txn).await?;
            if answer.succeeded {
                self.0.retries.lock().reset();
                return Ok(());
            }
            let wait = self.0.retries.lock().wait();
            tokio::time::sleep(wait).await;
        }
        Err(too_many_conflicts(key))
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        check_key(key)?;
        Ok(self.watch(Scope::Key(key.to_owned())))
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        Ok(self.watch(Scope::Prefix(prefix.to_owned())))
    }
}
