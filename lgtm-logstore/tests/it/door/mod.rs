//! A log store behind its doors, in memory, and a client that asks them.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, header};
use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::storage::Backend;
use lgtm_logstore::components::{DistributorSettings, LogStore, TailSettings};
use lgtm_logstore::http::ApiSettings;
use lgtm_logstore::limits::Limits;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/x-protobuf";
/// When all of it takes place, seconds.
pub(crate) const NOW_S: i64 = 1_800_000_000;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |v| v.to_str().unwrap())
    }
}

/// How a door is made.
#[derive(Debug, Default)]
pub(crate) struct DoorParts {
    pub(crate) limits: Limits,
    pub(crate) settings: ApiSettings,
    pub(crate) distributor: DistributorSettings,
    pub(crate) tail: TailSettings,
    pub(crate) executor: Option<Executor>,
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

/// A store behind its doors.
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) store: LogStore,
    _dir: tempfile::TempDir,
}

impl Door {
    pub(crate) async fn new() -> Self {
        Self::with(DoorParts::default()).await
    }

    pub(crate) async fn of(limits: Limits) -> Self {
        Self::with(DoorParts {
            limits,
            ..DoorParts::default()
        })
        .await
    }

    pub(crate) async fn with(parts: DoorParts) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = match parts.clock {
            Some(clock) => clock,
            None => Arc::new(ManualClock::at_ms(NOW_S * 1000)),
        };
        let mut store = LogStore::builder(dir.path(), Backend::memory())
            .limits(Overrides::fixed(parts.limits))
            .distributor(parts.distributor)
            .tail(parts.tail)
            .clock(clock)
            .without_housekeeping();
        if let Some(executor) = parts.executor {
            store = store.executor(executor);
        }
        let store = store.open().await.unwrap();
        let queries = store.query_api(parts.settings.clone()).unwrap();
        let pushes = store.push_api(parts.settings);
        Self {
            router: pushes.router().merge(queries.router()),
            store,
            _dir: dir,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.into(),
        }
    }

    pub(crate) async fn get(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        self.get_with(path, params, &[]).await
    }

    pub(crate) async fn get_with(
        &self,
        path: &str,
        params: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::get(format!("{path}?{}", encoded(params)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// The same by POST.
    pub(crate) async fn form(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(encoded(params)))
            .unwrap();
        self.send(request).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Pushes entries of one stream, seconds before now; all must be taken.
    pub(crate) async fn push(&self, labels: Value, entries: &[(i64, &str)]) {
        let values = entries.iter().map(|(before_s, line)| {
            let t_ns = (NOW_S - before_s) * 1_000_000_000;
            json!([t_ns.to_string(), line])
        });
        let values: Vec<Value> = values.collect();
        let body = json!({"streams": [{"stream": labels, "values": values}]}).to_string();
        let headers = [("Content-Type", JSON)];
        let answer = self.post("/loki/api/v1/push", &headers, body).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
}

/// Parameters as a URL or a form has them.
pub(crate) fn encoded(params: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        let byte = |b: u8| {
            if b.is_ascii_alphanumeric() {
                (b as char).to_string()
            } else {
                format!("%{b:02X}")
            }
        };
        text.bytes().map(byte).collect::<String>()
    };
    let pairs = params
        .iter()
        .map(|(n, v)| format!("{}={}", escape(n), escape(v)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Bytes as protobuf's `LEN` field.
pub(crate) fn field(out: &mut Vec<u8>, number: u64, body: &[u8]) {
    lgtm_core::codec::protobuf::put_bytes_field(out, number, body);
}

/// A push of one stream as protobuf and Snappy.
pub(crate) fn protobuf_push(labels: &str, entries: &[(i64, &str)]) -> Vec<u8> {
    let mut stream = Vec::new();
    field(&mut stream, 1, labels.as_bytes());
    for (before_s, line) in entries {
        let mut time = Vec::new();
        lgtm_core::codec::protobuf::put_varint_field(&mut time, 1, (NOW_S - before_s) as u64);
        let mut entry = Vec::new();
        field(&mut entry, 1, &time);
        field(&mut entry, 2, line.as_bytes());
        field(&mut stream, 2, &entry);
    }
    let mut body = Vec::new();
    field(&mut body, 1, &stream);
    snap::raw::Encoder::new().compress_vec(&body).unwrap()
}
