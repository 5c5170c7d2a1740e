//! One connection from its first byte to its last: which protocol it speaks, then requests of HTTP/1.1 one after the other ([`http2`](super::http2) has
//! those of the other protocol).

use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::answer_body::AnswerBody;
use super::connections::{Connections, OpenConnection};
use super::http2;
use super::protocol::{self, Protocol};
use super::request_body::RequestBody;
use super::settings::ConnectionSettings;
use super::site_guard::GuardedDoor;
use super::stream::WatchedStream;
use super::watch::{Asked, Owed, Watch};
use crate::exec::panic_message;

/// Serves the requests of a connection until either side has enough of it.
pub(super) async fn serve(
    stream: TcpStream,
    place: OpenConnection,
    router: Router,
    door: Option<GuardedDoor>,
) {
    match protocol::of_stream(&stream, &place).await {
        Some(Protocol::Http1) => serve_http1(stream, place, router, door).await,
        Some(Protocol::Http2) => http2::serve(stream, place, router, door).await,
        None => {}
    }
}

async fn serve_http1(
    stream: TcpStream,
    place: OpenConnection,
    router: Router,
    door: Option<GuardedDoor>,
) {
    let watch = Arc::clone(place.watch());
    let connections = place.connections();
    let settings = connections.settings();
    let routes = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        watch.request_began();
        let mut request = request.map(|body| watched(body, &watch));
        if let Some(query) = watch.take_long_query() {
            request.extensions_mut().insert(query);
        }
        let answer = match door.as_ref().and_then(|door| door.refusal(&request)) {
            Some(refusal) => Err(refusal),
            None => Ok(routes.call(request)),
        };
        let watch = Arc::clone(&watch);
        async move {
            poll_fn(|cx| watch.poll_answer_sent(cx)).await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(refusal) => return Ok(refusal.map(|body| AnswerBody::new(body, watch))),
            };
            // What panics has no state that anyone looks at again: handlers share parts whose locks are not poisoned by unwinding.
            let answer = AssertUnwindSafe(answer).catch_unwind().await;
            let answer = match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(payload) => panicked(connections, &*payload),
            };
            Ok::<_, Infallible>(answer.map(|body| AnswerBody::new(body, watch)))
        }
    });
    let line = connections.held_line();
    let stream = TokioIo::new(WatchedStream::new(stream, Arc::clone(&watch), Some(line)));
    let connection = http1::Builder::new()
        .max_buf_size(settings.max_head_bytes.as_usize())
        // The watch has the times, and knows more than when a head began.
        .header_read_timeout(None)
        .serve_connection(stream, service)
        .with_upgrades();
    {
        let connection = pin!(connection);
        attend(connection, &watch, &*watch, connections).await;
    }
    if !watch.has_stream_ended() {
        attend_upgraded(&watch, connections).await;
    }
}

/// What a connection's requests are, as far as [`attend`] knows.
pub(super) trait Requests: Future<Output = hyper::Result<()>> {
    /// Ends after the requests that are under way.
    fn end(self: Pin<&mut Self>);
}

/// What the client of a connection owes.
pub(super) trait Debts {
    /// See [`Watch::due`].
    fn due(&self, settings: &ConnectionSettings) -> Option<(u64, Owed)>;

    /// See [`Watch::overdue`].
    fn overdue(&self, settings: &ConnectionSettings) -> Option<Owed>;

    /// Makes the body that is overdue an error; `false` when it is one already.
    fn fail_body(&self, settings: &ConnectionSettings) -> bool;
}

impl Debts for Watch {
    fn due(&self, settings: &ConnectionSettings) -> Option<(u64, Owed)> {
        Self::due(self, settings)
    }

    fn overdue(&self, settings: &ConnectionSettings) -> Option<Owed> {
        Self::overdue(self, settings)
    }

    fn fail_body(&self, _: &ConnectionSettings) -> bool {
        Self::fail_body(self)
    }
}

impl<S> Requests for http1::UpgradeableConnection<TokioIo<WatchedStream<TcpStream>>, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = AnswerBody>,
    S::Error: Into<axum::BoxError>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves requests until the last one, or until the client is late with one of its debts.
pub(super) async fn attend(
    mut requests: Pin<&mut impl Requests>,
    watch: &Watch,
    debts: &impl Debts,
    connections: &Connections,
) {
    let settings = connections.settings();
    let mut sleep = pin!(sleep_until(Instant::now() + settings.idle_timeout));
    let mut is_stopping = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = requests.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(%error, server = watch.server, "a connection broke off");
                }
                return Poll::Ready(());
            }
            match watch.poll_asked(cx.waker()) {
                Asked::Nothing => {}
                Asked::Leave => return Poll::Ready(()),
                Asked::Stop if watch.is_between_requests() => return Poll::Ready(()),
                Asked::Stop if is_stopping => {}
                Asked::Stop => {
                    is_stopping = true;
                    requests.as_mut().end();
                    continue;
                }
            }
            let Some((due_us, _)) = debts.due(settings) else {
                return Poll::Pending;
            };
            ready!(poll_until(sleep.as_mut(), cx, watch.instant(due_us)));
            let Some(owed) = debts.overdue(settings) else {
                continue;
            };
            // Who reads the body is told first, and may answer; it is polled with the connection.
            let is_told = owed == Owed::Body && debts.fail_body(settings);
            if owed != Owed::Body || is_told {
                connections.counts.closed_late(owed);
            }
            if !is_told {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// Watches a connection that somebody else has now, until it ends or has to.
async fn attend_upgraded(watch: &Watch, connections: &Connections) {
    watch.upgraded();
    let settings = connections.settings();
    let mut sleep = pin!(sleep_until(Instant::now() + settings.idle_timeout));
    poll_fn(|cx| {
        loop {
            let asked = watch.poll_asked(cx.waker());
            if watch.has_stream_ended() || asked != Asked::Nothing {
                return Poll::Ready(());
            }
            let Some((due_us, _)) = watch.due(settings) else {
                return Poll::Pending;
            };
            ready!(poll_until(sleep.as_mut(), cx, watch.instant(due_us)));
            if let Some(owed) = watch.overdue(settings) {
                connections.counts.closed_late(owed);
                return Poll::Ready(());
            }
        }
    })
    .await;
    watch.cut();
}

/// A request's body, which most requests do not have.
pub(super) fn watched(body: Incoming, watch: &Arc<Watch>) -> Body {
    if body.is_end_stream() {
        Body::empty()
    } else {
        Body::new(RequestBody::new(body, Arc::clone(watch)))
    }
}

pub(super) fn panicked(
    connections: &Connections,
    payload: &(dyn std::any::Any + Send),
) -> Response {
    connections.counts.panics.inc();
    tracing::error!(panic = panic_message(payload), "a request panicked");
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    (status, "the request met a fault of this program\n").into_response()
}

/// Ready when `due` has passed, maybe earlier. A sleep that ends before is left alone: most times move on before they come.
fn poll_until(mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
    if due < sleep.deadline() || sleep.is_elapsed() {
        sleep.as_mut().reset(due);
    }
    sleep.poll(cx)
}
