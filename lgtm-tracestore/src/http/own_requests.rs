//! Spans of the requests that a server answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderName;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use lgtm_core::http::header_text;

use crate::components::{OwnSpans, SpanParent};
use crate::trace::SpanKind;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// Has `spans` hear of the requests of these routes: a part of them, and all whose caller keeps its own.
pub fn with_own_spans(spans: &Arc<OwnSpans>, routes: Router) -> Router {
    routes.layer(from_fn_with_state(Arc::clone(spans), heard))
}

async fn heard(State(spans): State<Arc<OwnSpans>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let parent = SpanParent::of_traceparent(header_text(headers, TRACEPARENT));
    let Some(mut span) = spans.begin(SpanKind::Server, parent) else {
        return next.run(request).await;
    };
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("unmatched", MatchedPath::as_str);
    span.name(format!("{} {path}", request.method()));
    span.text("http.request.method", request.method().as_str());
    span.text("http.route", path);
    let tenant = header_text(headers, TENANT);
    if !tenant.is_empty() {
        span.text("tenant", tenant);
    }
    let answer = next.run(request).await;
    let status = answer.status();
    span.int("http.response.status_code", status.as_u16().into());
    if status.is_server_error() {
        span.fail();
    }
    answer
}
