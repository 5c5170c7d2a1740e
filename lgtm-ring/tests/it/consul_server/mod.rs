//! The part of Consul that a ring needs, after its documentation: key-value store with indexes, check-and-set, blocking queries.
//!
//! Rules kept: every write moves one index of the whole store; `ModifyIndex` of a key is the index of its last write; a blocking query is
//! answered when the index of what it asked for has passed the one it names, or after `wait`; a deletion moves the index of its
//! prefix; `cas=0` creates only.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lgtm_ring::kv::Connection;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

/// The server. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConsulServer(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    store: Mutex<Store>,
    changed: Notify,
}

#[derive(Debug)]
struct Store {
    index: u64,
    keys: BTreeMap<String, (Bytes, u64)>,
    /// Indexes of deletions, kept so that blocking queries see them.
    deleted: BTreeMap<String, u64>,
    queries: u64,
    token: Option<String>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            index: 10,
            keys: BTreeMap::new(),
            deleted: BTreeMap::new(),
            queries: 0,
            token: None,
        }
    }
}

impl ConsulServer {
    /// Serves one connection.
    pub(crate) async fn serve(self, io: Box<dyn Connection>) {
        let service = service_fn(move |request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(io), service)
            .await;
    }

    /// Goes back to an earlier life of the store, as after restoring a snapshot: same values, small indexes.
    pub(crate) fn restore(&self, values: &[(&str, &str)]) {
        let mut store = self.0.store.lock();
        store.index = 3;
        store.deleted.clear();
        store.keys = values
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (Bytes::copy_from_slice(v.as_bytes()), 3)))
            .collect();
        self.0.changed.notify_waiters();
    }

    /// Blocking queries so far.
    pub(crate) fn queries(&self) -> u64 {
        self.0.store.lock().queries
    }

    /// Only requests with this token are served from now on.
    pub(crate) fn require_token(&self, token: &str) {
        self.0.store.lock().token = Some(token.to_owned());
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let token = request.headers().get("x-consul-token").cloned();
        if let Some(wanted) = &self.0.store.lock().token
            && token
                .as_ref()
                .is_none_or(|t| t.as_bytes() != wanted.as_bytes())
        {
            return reply(StatusCode::FORBIDDEN, 0, "Permission denied".into());
        }
        let Some(key) = request.uri().path().strip_prefix("/v1/kv/") else {
            return reply(StatusCode::NOT_FOUND, 0, String::new());
        };
        let key = unescape(key);
        let query: BTreeMap<String, String> = request
            .uri()
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        match *request.method() {
            Method::GET => self.get(&key, &query).await,
            Method::PUT => {
                let body = request.into_body().collect().await;
                let body = body.map(|b| b.to_bytes()).unwrap_or_default();
                self.put(key, body, query.get("cas").map(|n| n.parse().unwrap()))
            }
            Method::DELETE => {
                let mut store = self.0.store.lock();
                if store.keys.remove(&key).is_some() {
                    store.index += 1;
                    let index = store.index;
                    store.deleted.insert(key, index);
                    self.0.changed.notify_waiters();
                }
                reply(StatusCode::OK, 0, "true".into())
            }
            _ => reply(StatusCode::METHOD_NOT_ALLOWED, 0, String::new()),
        }
    }

    fn put(&self, key: String, body: Bytes, cas: Option<u64>) -> Response<Full<Bytes>> {
        if body.len() > 512 << 10 {
            let text = format!("Request body({} bytes) too large", body.len());
            return reply(StatusCode::PAYLOAD_TOO_LARGE, 0, text);
        }
        let mut store = self.0.store.lock();
        let now = store.keys.get(&key).map_or(0, |(_, index)| *index);
        let fits = cas.is_none_or(|seen| seen == now);
        if fits {
            store.index += 1;
            let index = store.index;
            store.keys.insert(key, (body, index));
            self.0.changed.notify_waiters();
        }
        reply(StatusCode::OK, 0, fits.to_string())
    }

    async fn get(&self, key: &str, query: &BTreeMap<String, String>) -> Response<Full<Bytes>> {
        let recurse = query.contains_key("recurse") || query.contains_key("keys");
        let seen: u64 = query.get("index").map_or(0, |n| n.parse().unwrap());
        if seen > 0 {
            self.0.store.lock().queries += 1;
            let wait = query["wait"].trim_end_matches("ms").parse().unwrap();
            let passed = async {
                loop {
                    let changed = self.0.changed.notified();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    // An index that the store never had answers at once, too.
                    let index = self.index_of(key, recurse);
                    if index > seen || self.0.store.lock().index < seen {
                        return;
                    }
                    changed.await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(wait), passed).await;
        }
        let index = self.index_of(key, recurse);
        let store = self.0.store.lock();
        let found: Vec<_> = store
            .keys
            .iter()
            .filter(|(k, _)| covers(key, recurse, k))
            .collect();
        if found.is_empty() {
            return reply(StatusCode::NOT_FOUND, index, String::new());
        }
        let body = if query.contains_key("keys") {
            json!(found.iter().map(|(k, _)| k).collect::<Vec<_>>())
        } else {
            found
                .iter()
                .map(|(k, (value, index))| {
                    // An empty value is shown as null.
                    let value = (!value.is_empty()).then(|| STANDARD.encode(value));
                    json!({"Key": k, "Value": value, "Flags": 0, "LockIndex": 0,
                "CreateIndex": index, "ModifyIndex": index})
                })
                .collect()
        };
        reply(StatusCode::OK, index, body.to_string())
    }

    /// The greatest index of what a query asks for; that of the store if there is nothing.
    fn index_of(&self, key: &str, recurse: bool) -> u64 {
        let store = self.0.store.lock();
        let kept = store.keys.iter().map(|(k, (_, index))| (k, *index));
        let gone = store.deleted.iter().map(|(k, index)| (k, *index));
        let of_scope = kept.chain(gone).filter(|(k, _)| covers(key, recurse, k));
        of_scope
            .map(|(_, index)| index)
            .max()
            .unwrap_or(store.index)
    }
}

fn covers(key: &str, recurse: bool, other: &str) -> bool {
    other == key || recurse && other.starts_with(key)
}

fn unescape(path: &str) -> String {
    let mut bytes = path.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            plain => plain,
        });
    }
    String::from_utf8(out).unwrap()
}

fn reply(status: StatusCode, index: u64, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    if index > 0 {
        response = response.header("X-Consul-Index", index);
    }
    response.body(Full::new(body.into())).unwrap()
}
