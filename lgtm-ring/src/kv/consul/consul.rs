//! The Consul store.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use lgtm_core::units::ByteSize;
use lgtm_core::{DecodeError, Error, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::kv::backoff::Backoff;
use crate::kv::consul::watch::Follower;
use crate::kv::http_client::{Answer, Connect, HttpClient, TcpConnect, authority};
use crate::kv::kv::{Kv, MAX_CAS_ATTEMPTS, check_key, too_many_conflicts};
use crate::kv::watch::{KvWatch, Scope};

/// How a [`ConsulKv`] talks to its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsulSettings {
    /// The agent, `host:port` or `http://host:port`. `localhost:8500`: every node has one.
    pub host: String,
    /// The token of an access control list; empty for none.
    pub acl_token: String,
    /// How long a request may take, the waiting of a blocking query not counted. 20 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub timeout: Duration,
    /// How long a blocking query waits for a change. 10 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub watch_wait: Duration,
    /// The shortest time between two blocking queries of one watch. 1 s: a key that changes all the time is not read all the time.
    #[serde(with = "lgtm_core::units::duration")]
    pub watch_interval: Duration,
    /// The longest wait before a compare-and-set that lost is tried again; drawn once per call. 1 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub cas_retry_delay: Duration,
    /// The first wait after a failed query of a watch. 1 s.
    #[serde(with = "lgtm_core::units::duration")]
    pub min_backoff: Duration,
    /// The longest wait; it doubles up to this. 1 min, for as long as the agent is down.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_backoff: Duration,
    /// The largest answer, base64 and all. 64 MiB.
    pub max_response_bytes: ByteSize,
}

impl Default for ConsulSettings {
    fn default() -> Self {
        Self {
            host: "localhost:8500".into(),
            acl_token: String::new(),
            timeout: Duration::from_secs(20),
            watch_wait: Duration::from_secs(10),
            watch_interval: Duration::from_secs(1),
            cas_retry_delay: Duration::from_secs(1),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            max_response_bytes: ByteSize::mib(64),
        }
    }
}

impl ConsulSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        authority(&self.host)?;
        for (name, value) in [
            ("timeout", self.timeout),
            ("watch_wait", self.watch_wait),
            ("min_backoff", self.min_backoff),
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

/// Collects the parts of a [`ConsulKv`].
#[derive(Debug)]
pub struct ConsulBuilder {
    settings: ConsulSettings,
    connect: Arc<dyn Connect>,
    seed: u64,
}

impl ConsulBuilder {
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
    pub fn build(self, runtime: Handle) -> Result<ConsulKv> {
        self.settings.validate()?;
        let mut client = HttpClient::new(
            vec![authority(&self.settings.host)?],
            self.connect,
            self.settings.timeout,
            self.settings.max_response_bytes.as_usize(),
            runtime,
        );
        if !self.settings.acl_token.is_empty() {
            client.header = Some(("x-consul-token", self.settings.acl_token.clone()));
        }
        let delay = self.settings.cas_retry_delay.max(Duration::from_millis(1));
        Ok(ConsulKv(Arc::new(ConsulStore {
            client: ConsulAgent(Arc::new(client)),
            settings: self.settings,
            retries: Mutex::new(Backoff::new(delay, delay, self.seed)),
            seed: self.seed,
        })))
    }
}

/// Values in Consul. Clones share it; dropping the last one ends its watches.
///
/// A compare-and-set is Consul's own, on the key's `ModifyIndex`. Consul takes values of up to 512 KiB.
///
/// It is tested against a server in the tests that follows Consul's documented rules, not against Consul itself.
#[derive(Debug, Clone)]
pub struct ConsulKv(Arc<ConsulStore>);

#[derive(Debug)]
struct ConsulStore {
    client: ConsulAgent,
    settings: ConsulSettings,
    retries: Mutex<Backoff>,
    seed: u64,
}

/// A key as Consul shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsulEntry {
    key: String,
    #[serde(default)]
    value: Option<String>,
    modify_index: u64,
}

/// A key, its value, and the index at which it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConsulRecord {
    pub(super) key: String,
    pub(super) value: Bytes,
    pub(super) index: u64,
}

/// Requests of the API.
#[derive(Debug, Clone)]
pub(super) struct ConsulAgent(pub(super) Arc<HttpClient>);

impl ConsulAgent {
    /// The records of a scope and the index of the answer; with `index` above 0 it waits until that has passed, for `wait` at most.
    pub(super) async fn query(
        &self,
        scope: &Scope,
        index: u64,
        wait: Duration,
    ) -> Result<(Vec<ConsulRecord>, u64)> {
        let (mut path, extra) = match scope {
            Scope::Key(key) => (key_path(key) + "?", Duration::ZERO),
            Scope::Prefix(prefix) => (key_path(prefix) + "?recurse&", Duration::ZERO),
        };
        let mut extra = extra;
        if index > 0 {
            let _ = write!(path, "index={index}&wait={}ms", wait.as_millis());
            // Consul adds up to a sixteenth, so that not all clients come back at once.
            extra = wait + wait / 16;
        }
        let answer = self
            .0
            .request(Method::GET, &path, Bytes::new(), extra)
            .await?;
        let index = answer.index.as_deref().unwrap_or("").parse().unwrap_or(0);
        if answer.status == StatusCode::NOT_FOUND {
            return Ok((Vec::new(), index));
        }
        let entries: Vec<ConsulEntry> = read(&path, &answer)?;
        let records = entries.into_iter().map(|entry| {
            let value = STANDARD.decode(entry.value.unwrap_or_default());
            let value = value.map_err(|e| corrupt(&path, e.to_string()))?;
            Ok(ConsulRecord {
                key: entry.key,
                value: value.into(),
                index: entry.modify_index,
            })
        });
        Ok((records.collect::<Result<_>>()?, index))
    }
}

fn corrupt(path: &str, reason: String) -> Error {
    Error::corrupt(
        format!("consul {path}"),
        DecodeError::new("answer", 0, reason),
    )
}

fn check(path: &str, answer: &Answer) -> Result<()> {
    if answer.status == StatusCode::OK {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body);
    let text = format!("consul {path}: status {}: {}", answer.status, text.trim());
    Err(match answer.status.as_u16() {
        413 => Error::LimitExceeded(text),
        429 => Error::RateLimited {
            message: text,
            retry_after: None,
        },
        400..=499 => Error::InvalidInput(text),
        _ => Error::Unavailable(text),
    })
}

fn read<'a, T: Deserialize<'a>>(path: &str, answer: &'a Answer) -> Result<T> {
    check(path, answer)?;
    serde_json::from_slice(&answer.body).map_err(|e| corrupt(path, e.to_string()))
}

/// The path of a key: everything that is not plain is escaped, slashes stay.
fn key_path(key: &str) -> String {
    let mut path = "/v1/kv/".to_owned();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                path.push(char::from(byte));
            }
            _ => _ = write!(path, "%{byte:02X}"),
        }
    }
    path
}

impl ConsulKv {
    /// A store with these settings.
    pub fn builder(settings: ConsulSettings) -> ConsulBuilder {
        ConsulBuilder {
            settings,
            connect: Arc::new(TcpConnect),
            seed: std::process::id().into(),
        }
    }

    async fn record(&self, key: &str) -> Result<Option<ConsulRecord>> {
        let scope = Scope::Key(key.to_owned());
        let (mut records, _) = self.0.client.query(&scope, 0, Duration::ZERO).await?;
        Ok(records.pop())
    }

    async fn write(&self, method: Method, path: &str, body: Bytes) -> Result<bool> {
        let client = &self.0.client.0;
        let answer = client.request(method, path, body, Duration::ZERO).await?;
        read(path, &answer)
    }

    fn watch(&self, scope: Scope) -> KvWatch {
        let (sender, watch) = KvWatch::channel();
        let settings = &self.0.settings;
        let follower = Follower {
            client: Arc::downgrade(&self.0.client.0),
            scope,
            sender,
            wait: settings.watch_wait,
            interval: settings.watch_interval,
            backoff: Backoff::new(settings.min_backoff, settings.max_backoff, self.0.seed),
            index: 0,
            known: Default::default(),
        };
        self.0
            .client
            .0
            .tasks
            .spawn("consul watch", follower.follow());
        watch
    }
}

#[async_trait]
impl Kv for ConsulKv {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(key)?;
        Ok(self.record(key).await?.map(|r| r.value))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let path = key_path(prefix) + "?keys";
        let client = &self.0.client.0;
        let answer = client
            .request(Method::GET, &path, Bytes::new(), Duration::ZERO)
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let mut keys: Vec<String> = read(&path, &answer)?;
        keys.sort();
        Ok(keys)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.write(Method::DELETE, &key_path(key), Bytes::new())
            .await
            .map(drop)
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        check_key(key)?;
        let delay = self.0.retries.lock().wait();
        for attempt in 0..MAX_CAS_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(delay).await;
            }
            let (current, index) = match self.record(key).await? {
                Some(record) => (Some(record.value), record.index),
                None => (None, 0),
            };
            let Some(value) = change(current)? else {
                return Ok(());
            };
            let path = format!("{}?cas={index}", key_path(key));
            if self.write(Method::PUT, &path, value).await? {
                return Ok(());
            }
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
