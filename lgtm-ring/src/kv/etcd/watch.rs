//! Following keys of etcd, through restarts and long silences.
//!
//! Each round reads all keys of the scope at some revision, tells what differs from what was told before, and then follows the changes
//! after that revision. So nothing is missed while the watch was broken, not even a deletion, and nothing depends on how much history the
//! server keeps.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use lgtm_core::{Error, Result};
use serde_json::json;

use crate::kv::backoff::Backoff;
use crate::kv::etcd::etcd::{EtcdGateway, scope_range};
use crate::kv::etcd::messages::{self, WatchLine};
use crate::kv::http_client::HttpClient;
use crate::kv::watch::{KvWatchSender, Scope};

/// One watch.
pub(super) struct Follower {
    pub(super) client: Weak<HttpClient>,
    pub(super) scope: Scope,
    pub(super) sender: KvWatchSender,
    pub(super) refresh: Duration,
    pub(super) max_line_bytes: usize,
    pub(super) backoff: Backoff,
    /// The revisions of the keys that were told.
    pub(super) known: HashMap<String, i64>,
}

/// How a round ended.
enum End {
    /// Nobody reads any more.
    Closed,
    /// Long silence: look whether all is well.
    Silent,
}

impl Follower {
    pub(super) async fn follow(mut self) {
        loop {
            let Some(client) = self.client.upgrade().map(EtcdGateway) else {
                return;
            };
            match self.round(client).await {
                Ok(End::Closed) => return,
                Ok(End::Silent) => {}
                Err(error) => {
                    let wait = self.backoff.wait();
                    tracing::warn!(scope = ?self.scope, %error, ?wait, "watch of etcd broke");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.sender.closed() => return,
                    }
                }
            }
        }
    }

    async fn round(&mut self, client: EtcdGateway) -> Result<End> {
        let revision = self.compare(&client).await?;
        let mut create = scope_range(&self.scope);
        create["start_revision"] = json!((revision + 1).to_string());
        let body = json!({ "create_request": create }).to_string();
        let response = client.0.open("/v3/watch", body.into()).await?;
        // The connection's task is that of the client; held here it would keep the client alive for as long as the watch is silent.
        drop(client);
        let status = response.status().as_u16();
        if status != 200 {
            return Err(Error::Unavailable(format!(
                "etcd /v3/watch: status {status}"
            )));
        }
        self.backoff.reset();
        let mut body = response.into_body();
        let mut pending: Vec<u8> = Vec::new();
        loop {
            let frame = tokio::select! {
                frame = tokio::time::timeout(self.refresh, body.frame()) => frame,
                () = self.sender.closed() => return Ok(End::Closed),
            };
            let Ok(frame) = frame else {
                return Ok(End::Silent);
            };
            let broken = |why: String| Error::Unavailable(format!("etcd /v3/watch: {why}"));
            let frame = frame.ok_or_else(|| broken("the server closed it".into()))?;
            let frame = frame.map_err(|e| broken(e.to_string()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.take(&mut pending, &data)?;
        }
    }

    /// Reads everything and tells what is new.
    async fn compare(&mut self, client: &EtcdGateway) -> Result<i64> {
        let (records, revision) = client.range(&self.scope).await?;
        let gone: Vec<String> = self
            .known
            .keys()
            .filter(|key| !records.iter().any(|r| r.key == **key))
            .cloned()
            .collect();
        for key in gone {
            self.tell(key, None, 0);
        }
        for record in records {
            if self.known.get(&record.key) != Some(&record.revision) {
                self.tell(record.key, Some(record.value), record.revision);
            }
        }
        Ok(revision)
    }

    /// Takes bytes of the stream; each line is a message.
    fn take(&mut self, pending: &mut Vec<u8>, data: &[u8]) -> Result<()> {
        let mut rest = data;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            pending.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line: WatchLine = messages::read("/v3/watch", 200, pending)?;
            pending.clear();
            for change in line.changes()? {
                self.tell(change.key, change.value, change.revision);
            }
        }
        if pending.len() + rest.len() > self.max_line_bytes {
            return Err(Error::LimitExceeded(format!(
                "etcd /v3/watch: a message of more than {} bytes",
                self.max_line_bytes
            )));
        }
        pending.extend_from_slice(rest);
        Ok(())
    }

    fn tell(&mut self, key: String, value: Option<Bytes>, revision: i64) {
        match value {
            Some(_) => self.known.insert(key.clone(), revision),
            None => self.known.remove(&key),
        };
        self.sender.send(&key, value);
    }
}
