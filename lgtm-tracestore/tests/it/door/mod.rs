//! A trace store behind its doors, in memory, and a client that asks them.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, Request, Version};
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::storage::Backend;
use lgtm_tracestore::components::{DistributorSettings, TraceStore};
use lgtm_tracestore::http::ApiSettings;
use lgtm_tracestore::limits::Limits;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/x-protobuf";
/// When all of it takes place, seconds.
pub(crate) const NOW_S: u64 = 1_800_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// How a call ended, whether or not it had an answer before.
    pub(crate) fn grpc_status(&self) -> (u16, String) {
        let find = |name: &str| self.trailers.get(name).or(self.headers.get(name));
        let text = |name: &str| find(name).map_or("", |v| v.to_str().unwrap()).to_owned();
        (text("grpc-status").parse().unwrap(), text("grpc-message"))
    }

    /// The messages of a call.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        let (mut out, mut rest) = (Vec::new(), &self.body[..]);
        while !rest.is_empty() {
            assert_eq!(rest[0], 0, "not compressed");
            let len = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            out.push(rest[5..5 + len].to_vec());
            rest = &rest[5 + len..];
        }
        out
    }
}

/// How a door is made.
#[derive(Debug, Default)]
pub(crate) struct DoorParts {
    pub(crate) limits: Limits,
    pub(crate) settings: ApiSettings,
    pub(crate) distributor: DistributorSettings,
    /// Where it computes; without one, on threads of its own.
    pub(crate) executor: Option<Executor>,
}

/// A store behind its doors.
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) store: TraceStore,
    _dir: tempfile::TempDir,
}

impl Door {
    pub(crate) async fn new() -> Self {
        Self::with(DoorParts::default()).await
    }

    pub(crate) async fn with(parts: DoorParts) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = TraceStore::builder(dir.path(), Backend::memory());
        if let Some(executor) = parts.executor {
            store = store.executor(executor);
        }
        let store = store
            .limits(Overrides::fixed(parts.limits))
            .distributor(parts.distributor)
            .clock(Arc::new(ManualClock::at_ms(NOW_S as i64 * 1000)))
            .without_housekeeping();
        let store = store.open().await.unwrap();
        let queries = store.query_api(parts.settings.clone()).unwrap();
        let redactions = store.redaction_api(parts.settings.multitenancy_enabled);
        let pushes = store.push_api(parts.settings);
        let router = pushes.router().merge(queries.router());
        Self {
            router: router.merge(redactions.router()),
            store,
            _dir: dir,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, mut body) = answer.into_parts();
        let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
        while let Some(frame) =
            std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
        {
            match frame.unwrap().into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            }
        }
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: bytes,
            trailers,
        }
    }

    /// A request to a path with its query, which is escaped already.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.into())).unwrap())
            .await
    }

    pub(crate) async fn get(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        self.get_as(path, params, "").await
    }

    pub(crate) async fn get_as(&self, path: &str, params: &[(&str, &str)], accept: &str) -> Answer {
        let query = query(params);
        if query.len() > 60_000 {
            // More than a URL holds without a server.
            let form = ("content-type", "application/x-www-form-urlencoded");
            return self
                .ask("POST", path, &[("accept", accept), form], query)
                .await;
        }
        let path = format!("{path}?{query}");
        self.ask("GET", &path, &[("accept", accept)], "").await
    }

    /// Sends OTLP in JSON, all of which must be taken.
    pub(crate) async fn push(&self, request: &Value) {
        self.push_as(request, "").await;
    }

    pub(crate) async fn push_as(&self, request: &Value, tenant: &str) {
        let headers = [("content-type", JSON), ("x-scope-orgid", tenant)];
        let answer = self
            .ask("POST", "/v1/traces", &headers, request.to_string())
            .await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, r#"{"partialSuccess":{}}"#)
        );
    }

    /// A call, and how it ended.
    pub(crate) async fn call(&self, method: &str, message: &[u8]) -> Answer {
        self.call_with(method, &[], message).await
    }

    pub(crate) async fn call_with(
        &self,
        method: &str,
        headers: &[(&str, &str)],
        message: &[u8],
    ) -> Answer {
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        let mut request = Request::builder()
            .method("POST")
            .uri(method)
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }
}

/// Names and values as a URL has them.
pub(crate) fn query(params: &[(&str, &str)]) -> String {
    let escaped = |text: &str| {
        text.bytes()
            .map(|b| format!("%{b:02X}"))
            .collect::<String>()
    };
    let pairs = params
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A span to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) service: &'static str,
    pub(crate) trace: String,
    pub(crate) span: &'static str,
    pub(crate) parent: &'static str,
    pub(crate) name: &'static str,
    /// Seconds before now, and how many it takes.
    pub(crate) ago_s: u64,
    pub(crate) length_s: u64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
}

impl Sent {
    /// A root of ten seconds that began a minute ago.
    pub(crate) fn root(service: &'static str, trace: &str, name: &'static str) -> Self {
        Self {
            service,
            trace: trace.to_owned(),
            span: "00000000000000a1",
            parent: "",
            name,
            ago_s: 60,
            length_s: 10,
            attributes: Vec::new(),
        }
    }
}

/// OTLP in JSON.
pub(crate) fn otlp(spans: &[Sent]) -> Value {
    let pairs = |attributes: &[(&str, Value)]| {
        let pairs = attributes.iter();
        let pairs = pairs.map(|(key, value)| json!({"key": key, "value": value}));
        pairs.collect::<Value>()
    };
    let resources = spans.iter().map(|s| {
        let start_ns = (NOW_S - s.ago_s) * SECOND;
        let mut span = json!({
            "traceId": s.trace,
            "spanId": s.span,
            "name": s.name,
            "kind": 2,
            "startTimeUnixNano": start_ns.to_string(),
            "endTimeUnixNano": (start_ns + s.length_s * SECOND).to_string(),
            "attributes": pairs(&s.attributes),
        });
        if !s.parent.is_empty() {
            span["parentSpanId"] = s.parent.into();
        }
        let service = json!({"stringValue": s.service});
        json!({
            "resource": {"attributes": pairs(&[("service.name", service)])},
            "scopeSpans": [{"scope": {"name": "test"}, "spans": [span]}],
        })
    });
    json!({"resourceSpans": resources.collect::<Value>()})
}

pub(crate) const ID: &str = "000000000000000000000000000000ab";

/// One trace of two spans.
pub(crate) fn shop() -> Value {
    let root = Sent {
        attributes: vec![
            ("http.status_code", json!({"intValue": "200"})),
            ("a b/c", json!({"stringValue": "x"})),
        ],
        ..Sent::root("shop", ID, "GET /cart")
    };
    let child = Sent {
        service: "stock",
        span: "00000000000000a2",
        parent: "00000000000000a1",
        name: "look up",
        ago_s: 58,
        length_s: 3,
        attributes: vec![("db.rows", json!({"intValue": "7"}))],
        ..Sent::root("stock", ID, "")
    };
    otlp(&[root, child])
}
