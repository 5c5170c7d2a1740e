//! What stands before every route of a query API, whichever signal's: bodies within bounds, work in the line of its tenant, answers counted until they
//! are read and compressed as the client takes them, calls that panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use super::body_reader::BodyError;
use super::{caught, compress, hold_large, movable, tenants, with_body};
use crate::error::Error;
use crate::exec::Executor;
use crate::limits::{Inflight, InflightBound};
use crate::units::ByteSize;

/// How much requests and answers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteBounds {
    /// Bytes of a body.
    pub max_body: ByteSize,
    /// Bytes of all bodies at a time; 0: no bound.
    pub max_bodies: ByteSize,
    /// Bytes of large answers that are held whole and not yet read; 0: no bound.
    pub max_answers: ByteSize,
    /// Whether the tenant, in whose line work is done, comes from its header.
    pub multitenancy_enabled: bool,
}

/// How an API words what is refused before its routes.
#[derive(Debug, Clone, Copy)]
pub struct Refusals {
    /// A body that was not read.
    pub body: fn(BodyError) -> Response,
    /// Any other error.
    pub error: fn(Error) -> Response,
}

/// What stands before the routes of one API.
#[derive(Debug)]
pub struct RouteGuard {
    bounds: RouteBounds,
    refusals: Refusals,
    executor: Executor,
    bodies: Arc<Inflight>,
    answers: Arc<Inflight>,
    panicked: AtomicU64,
}

fn bytes_bound(max: ByteSize, hint: &'static str) -> Arc<Inflight> {
    // Queries have their own turns, so that only bytes are bounded here.
    let requests = InflightBound { max: 0, hint: "" };
    let max = max.as_u64();
    Arc::new(Inflight::new(requests, InflightBound { max, hint }))
}

impl RouteGuard {
    /// A guard whose routes work on `executor`.
    pub fn new(bounds: RouteBounds, refusals: Refusals, executor: Executor) -> Arc<Self> {
        Arc::new(Self {
            bodies: bytes_bound(
                bounds.max_bodies,
                "(server.max_inflight_query_bodies_bytes)",
            ),
            answers: bytes_bound(
                bounds.max_answers,
                "by answers that their clients have not read yet (server.max_inflight_answer_bytes)",
            ),
            bounds,
            refusals,
            executor,
            panicked: AtomicU64::new(0),
        })
    }

    /// Calls so far that ran into a fault of this program.
    pub fn panics(&self) -> u64 {
        self.panicked.load(Ordering::Relaxed)
    }

    /// What answers hold that are held whole and not yet read.
    pub fn answers(&self) -> &Arc<Inflight> {
        &self.answers
    }

    /// Where the work of a request is computed: in the line of its tenant.
    pub fn executor(&self, headers: &HeaderMap) -> Executor {
        match tenants(headers, self.bounds.multitenancy_enabled, 0) {
            Ok(tenant) => self.executor.in_line(tenant.as_str()),
            // The handler refuses it.
            Err(_) => self.executor.clone(),
        }
    }

    /// The routes, guarded.
    pub fn around<S: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        routes: Router<S>,
    ) -> Router<S> {
        // Ours takes the place of axum's bound.
        let routes = routes
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(Arc::clone(self), bounded))
            .layer(from_fn_with_state(Arc::clone(self), held));
        self.around_upgrades(routes)
            .layer(from_fn_with_state(Arc::clone(self), compressed))
    }

    /// Routes whose connections go on as something else: there is no answer to be held or compressed.
    pub fn around_upgrades<S: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        routes: Router<S>,
    ) -> Router<S> {
        routes
            .layer(from_fn_with_state(Arc::clone(self), panics_caught))
            .layer(from_fn_with_state(Arc::clone(self), moved))
    }
}

/// Reads the body before its handler runs.
async fn bounded(State(guard): State<Arc<RouteGuard>>, request: Request, next: Next) -> Response {
    let max = guard.bounds.max_body.as_u64();
    let answer = with_body(&guard.bodies, max, request, next).await;
    answer.unwrap_or_else(|e| (guard.refusals.body)(e))
}

/// Counts a large answer that is held whole, until its client has read it.
async fn held(State(guard): State<Arc<RouteGuard>>, request: Request, next: Next) -> Response {
    let answer = hold_large(&guard.answers, next.run(request).await);
    answer.unwrap_or_else(|e| (guard.refusals.error)(e))
}

/// Answers an internal error for a call that panics, and counts it. Queries are caught nearer to where they run, with their text in the log, and
/// counted there; this is for all other calls.
async fn panics_caught(
    State(guard): State<Arc<RouteGuard>>,
    request: Request,
    next: Next,
) -> Response {
    let panicked = || {
        guard.panicked.fetch_add(1, Ordering::Relaxed);
        (guard.refusals.error)(Error::Internal("the call panicked".into()))
    };
    caught(panicked, request, next).await
}

/// Lets a call go on in the pool, in its tenant's line.
async fn moved(State(guard): State<Arc<RouteGuard>>, request: Request, next: Next) -> Response {
    let executor = guard.executor(request.headers());
    let answer = movable(executor, request, next).await;
    answer.unwrap_or_else(|e| (guard.refusals.error)(e))
}

/// Compresses what the handlers answer, in the line of its tenant.
async fn compressed(
    State(guard): State<Arc<RouteGuard>>,
    request: Request,
    next: Next,
) -> Response {
    compress(|headers| guard.executor(headers), request, next).await
}
