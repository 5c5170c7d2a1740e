//! What an operator asks of ingesters that are about to go: paths and answers are Mimir's, and one path Loki's.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, routing::MethodRouter};
use lgtm_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::modules::OwnPlace;

/// The ingesters that a path is about.
type Places = Arc<Vec<Arc<OwnPlace>>>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unregister {
    unregister: bool,
}

#[derive(Debug, Serialize)]
struct Downscale {
    /// Since when it takes no writes, Unix seconds; 0: it takes them.
    timestamp: i64,
}

/// Below `/ingester` for all ingesters of the process, and below `/SIGNAL/ingester` for one. Without a ring all of them say 404.
pub(crate) fn router(places: &[Arc<OwnPlace>]) -> Router {
    let mut router = Router::new().nest("/ingester", pages(places.to_vec()));
    for place in places {
        let signal = place.name.split('-').next().unwrap_or_default();
        let own = pages(vec![Arc::clone(place)]);
        router = router.nest(&format!("/{signal}/ingester"), own);
    }
    router
}

fn pages(places: Vec<Arc<OwnPlace>>) -> Router {
    let shutdown = || -> MethodRouter<Places> { get(prepared).post(prepare).delete(unprepare) };
    let unregister = get(unregisters).put(set_unregisters).delete(reset);
    let downscale = get(read_only_since).post(read_only).delete(writable);
    Router::new()
        .route("/prepare-shutdown", shutdown())
        .route("/prepare_shutdown", shutdown())
        .route("/unregister-on-shutdown", unregister)
        .route("/prepare-instance-ring-downscale", downscale)
        .with_state(Arc::new(places))
}

/// The first failure, as an answer. The others were tried all the same.
fn answer(result: Result<(), Error>, good: impl IntoResponse) -> Response {
    match result {
        Ok(()) => good.into_response(),
        Err(e) => {
            let status = match e.kind() {
                ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, format!("{e}\n")).into_response()
        }
    }
}

fn json(value: &impl Serialize) -> Response {
    // These have no maps and no numbers that are none.
    let text = serde_json::to_string(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn nobody(places: &Places) -> Option<Response> {
    let text = "no ingester of this process is in a ring (-ring.kvstore)\n";
    (places.is_empty()).then(|| (StatusCode::NOT_FOUND, text).into_response())
}

async fn prepared(State(places): State<Places>) -> Response {
    if let Some(nobody) = nobody(&places) {
        return nobody;
    }
    let all = places.iter().all(|place| place.is_prepared());
    (if all { "set\n" } else { "unset\n" }).into_response()
}

async fn prepare(State(places): State<Places>) -> Response {
    set_prepared(&places, true).await
}

async fn unprepare(State(places): State<Places>) -> Response {
    set_prepared(&places, false).await
}

async fn set_prepared(places: &Places, for_good: bool) -> Response {
    if let Some(nobody) = nobody(places) {
        return nobody;
    }
    let mut result = Ok(());
    for place in places.iter() {
        result = result.and(place.prepare_shutdown(for_good).await);
    }
    answer(result, StatusCode::NO_CONTENT)
}

async fn unregisters(State(places): State<Places>) -> Response {
    if let Some(nobody) = nobody(&places) {
        return nobody;
    }
    let unregister = places.iter().all(|place| place.unregisters());
    json(&Unregister { unregister })
}

async fn set_unregisters(State(places): State<Places>, body: Bytes) -> Response {
    if let Some(nobody) = nobody(&places) {
        return nobody;
    }
    match serde_json::from_slice::<Unregister>(&body) {
        Ok(wanted) => {
            let wanted = Some(wanted.unregister);
            places
                .iter()
                .for_each(|place| place.set_unregisters(wanted));
            unregisters(State(places)).await
        }
        Err(e) => {
            let text = format!("the body must be {{\"unregister\": true}} or false: {e}\n");
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
}

async fn reset(State(places): State<Places>) -> Response {
    places.iter().for_each(|place| place.set_unregisters(None));
    unregisters(State(places)).await
}

async fn read_only_since(State(places): State<Places>) -> Response {
    if let Some(nobody) = nobody(&places) {
        return nobody;
    }
    let since = |place: &Arc<OwnPlace>| {
        let membership = place.membership();
        let since = membership.read_only_updated_timestamp_s;
        if membership.read_only { since } else { 0 }
    };
    // All of them have gone read-only since the last one has.
    let since: Vec<i64> = places.iter().map(since).collect();
    let all = since.iter().all(|since| *since > 0);
    let timestamp = since.into_iter().max().filter(|_| all).unwrap_or(0);
    json(&Downscale { timestamp })
}

async fn read_only(State(places): State<Places>) -> Response {
    set_read_only(places, true).await
}

async fn writable(State(places): State<Places>) -> Response {
    set_read_only(places, false).await
}

async fn set_read_only(places: Places, read_only: bool) -> Response {
    let mut result = Ok(());
    for place in places.iter() {
        result = result.and(place.set_read_only(read_only).await);
    }
    match result {
        Ok(()) => read_only_since(State(places)).await,
        failed => answer(failed, ()),
    }
}
