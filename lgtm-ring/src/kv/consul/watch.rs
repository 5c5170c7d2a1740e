//! Following keys of Consul by blocking queries.
//!
//! A query names the index of the last answer and is answered when that has passed, or after `wait`. The rules of Consul's documentation:
//! an index that went backwards (a restored snapshot, another cluster) starts over at 0; an index of 0 in an answer counts as 1, or the next
//! query would not block.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;

use crate::kv::backoff::Backoff;
use crate::kv::consul::consul::{ConsulAgent, ConsulRecord};
use crate::kv::http_client::HttpClient;
use crate::kv::watch::{KvWatchSender, Scope};

/// One watch.
pub(super) struct Follower {
    pub(super) client: Weak<HttpClient>,
    pub(super) scope: Scope,
    pub(super) sender: KvWatchSender,
    pub(super) wait: Duration,
    pub(super) interval: Duration,
    pub(super) backoff: Backoff,
    pub(super) index: u64,
    /// The indexes of the keys that were told.
    pub(super) known: HashMap<String, u64>,
}

impl Follower {
    pub(super) async fn follow(mut self) {
        loop {
            let Some(client) = self.client.upgrade().map(ConsulAgent) else {
                return;
            };
            let begin = tokio::time::Instant::now();
            let answer = tokio::select! {
                answer = client.query(&self.scope, self.index, self.wait) => answer,
                () = self.sender.closed() => return,
            };
            drop(client);
            let next = match answer {
                Ok((records, index)) => {
                    self.backoff.reset();
                    self.answered(records, index);
                    begin + self.interval
                }
                Err(error) => {
                    let wait = self.backoff.wait();
                    tracing::warn!(scope = ?self.scope, %error, ?wait, "watch of consul broke");
                    tokio::time::Instant::now() + wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    fn answered(&mut self, records: Vec<ConsulRecord>, index: u64) {
        if index > 0 && index == self.index {
            // The wait passed and nothing changed.
            return;
        }
        let backwards = index < self.index;
        self.index = if backwards { 0 } else { index.max(1) };
        if backwards {
            // Indexes of before mean nothing any more.
            self.known.values_mut().for_each(|known| *known = 0);
        }
        let here = |key: &String| records.iter().any(|r| r.key == *key);
        let gone: Vec<_> = self
            .known
            .keys()
            .filter(|key| !here(key))
            .cloned()
            .collect();
        for key in gone {
            self.tell(key, None, 0);
        }
        for record in records {
            if self.known.get(&record.key) != Some(&record.index) {
                self.tell(record.key, Some(record.value), record.index);
            }
        }
    }

    fn tell(&mut self, key: String, value: Option<Bytes>, index: u64) {
        match value {
            Some(_) => self.known.insert(key.clone(), index),
            None => self.known.remove(&key),
        };
        self.sender.send(&key, value);
    }
}
