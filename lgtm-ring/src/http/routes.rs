//! `GET` shows, `POST forget=<id>` removes.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lgtm_core::clock::Clock;
use lgtm_core::{Error, ErrorKind, Result};

use crate::status::RingStatus;
use crate::store::RingStore;
use crate::watch::RingHandle;

/// A form with one name needs no more.
const MAX_FORM_BYTES: usize = 64 << 10;

/// What the page of one ring needs.
#[derive(Debug, Clone)]
pub struct RingPage {
    /// The ring's name, for the title.
    pub name: String,
    /// The ring that is shown.
    pub ring: RingHandle,
    /// Where instances are forgotten; `None` for a ring that is in no store.
    pub store: Option<RingStore>,
    /// The clock by which heartbeats are judged.
    pub clock: Arc<dyn Clock>,
}

/// The routes of the page, at `/`, to be nested where the host wants it, e.g. at `/ingester/ring`.
///
/// `GET` answers JSON when `Accept` contains `application/json`, else HTML, with tokens for `?tokens=true`. `POST` with the form field
/// `forget=<id>` removes the instance from the ring and answers 302 to `#`; 404 for an instance that is not there.
pub fn router(page: RingPage) -> Router {
    Router::new()
        .route("/", get(show).post(forget))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(Arc::new(page))
}

async fn show(
    State(page): State<Arc<RingPage>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let now_s = page.clock.now_ms().to_seconds();
    let status = RingStatus::of(&page.ring.current(), now_s);
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("application/json")) {
        return match serde_json::to_vec(&status) {
            Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
            Err(error) => failure(&Error::Internal(error.to_string())),
        };
    }
    let query = query.unwrap_or_default();
    let show_tokens = field(query.as_bytes(), "tokens").is_some_and(|v| v == "true");
    let html = status.to_html(&page.name, show_tokens);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

async fn forget(State(page): State<Arc<RingPage>>, form: Bytes) -> Response {
    match forget_instance(&page, &form).await {
        Ok(()) => (StatusCode::FOUND, [(header::LOCATION, "#")]).into_response(),
        Err(error) => failure(&error),
    }
}

async fn forget_instance(page: &RingPage, form: &[u8]) -> Result<()> {
    let id = field(form, "forget")
        .ok_or_else(|| Error::InvalidInput("the form has no field forget".into()))?;
    let store = page
        .store
        .as_ref()
        .ok_or_else(|| Error::InvalidInput(format!("the {} ring is in no store", page.name)))?;
    if !store.forget(&id).await? {
        return Err(Error::NotFound(format!("instance {id} in the ring")));
    }
    tracing::info!(ring = %page.name, instance = %id, "forgotten by hand");
    Ok(())
}

/// The first value of a field in `a=b&c=d`.
fn field(form: &[u8], name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(form);
    let (_, value) = fields.find(|(field, _)| field == name)?;
    Some(value.into_owned())
}

fn failure(error: &Error) -> Response {
    let status = match error.kind() {
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, error.to_string()).into_response()
}
