//! A connection of HTTP/2 without TLS: several requests at a time, all of them polled by the connection's own task, so that they end with it.
//!
//! Each request has a [`Watch`] of its own, in which its bodies note what the client owes; that of the connection knows whether there are any.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, header};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::connection::{Debts, Requests, attend, panicked, watched};
use super::connections::OpenConnection;
use super::settings::ConnectionSettings;
use super::site_guard::GuardedDoor;
use super::stream::WatchedStream;
use super::watch::{Owed, Watch};

/// Bytes of an answer that are given to the connection at a time, so that it is seen whether the client takes them.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of a frame that any client may send, at least and at most.
const FRAME_BYTES: u32 = 64 << 10;
const MAX_FRAME_BYTES: u32 = 1 << 20;
/// Bytes of an answer that wait for a client that is slow to take them.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Serves the requests of a connection until either side has enough of it.
pub(super) async fn serve(
    stream: TcpStream,
    place: OpenConnection,
    router: Router,
    door: Option<GuardedDoor>,
) {
    let (watch, connections) = (Arc::clone(place.watch()), Arc::clone(place.connections()));
    let open = Arc::new(OpenRequests {
        connection: Arc::clone(&watch),
        watches: Mutex::default(),
    });
    let routes = TowerToHyperService::new(router);
    let (requests, counting) = (Arc::clone(&open), Arc::clone(&connections));
    let service = service_fn(move |request: Request<Incoming>| {
        let open = OpenRequests::begin(&requests, counting.epoch());
        let request = named(request.map(|body| watched(body, &open.watch)));
        let answer = match door.as_ref().and_then(|door| door.refusal(&request)) {
            Some(refusal) => Err(refusal),
            None => Ok(routes.call(request)),
        };
        let connections = Arc::clone(&counting);
        async move {
            let answer = match answer {
                Err(refusal) => refusal,
                Ok(answer) => match AssertUnwindSafe(answer).catch_unwind().await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(never)) => match never {},
                    Err(payload) => panicked(&connections, &*payload),
                },
            };
            Ok::<_, Infallible>(answer.map(|body| TakenBody {
                body,
                rest: Bytes::new(),
                open,
            }))
        }
    });
    let settings = connections.settings();
    let window = u32::try_from(settings.http2_window.as_u64()).unwrap_or(u32::MAX >> 1);
    // Where large bodies are expected, a few large frames bring one.
    let frame = (window / 8).clamp(FRAME_BYTES, MAX_FRAME_BYTES);
    let head = u32::try_from(settings.max_head_bytes.as_u64()).unwrap_or(u32::MAX);
    let tasks = Begun::default();
    let stream = WatchedStream::new(stream, Arc::clone(&watch), None);
    let connection = http2::Builder::new(tasks.clone())
        .max_concurrent_streams(settings.max_http2_streams)
        .initial_connection_window_size(window)
        .initial_stream_window_size(window / 2)
        .max_frame_size(frame)
        .max_header_list_size(head)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = pin!(Together {
        connection: Box::pin(connection),
        begun: tasks,
        running: FuturesUnordered::new(),
    });
    attend(connection, &watch, &*open, &connections).await;
}

/// The name that the client calls us by, where HTTP/1.1 has it: handlers look for it there.
fn named(mut request: Request<Body>) -> Request<Body> {
    let authority = request.uri().authority();
    let host = authority.and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(host) = host
        && !request.headers().contains_key(header::HOST)
    {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// Requests that a connection has begun and does not poll yet.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begun {
    fn execute(&self, request: F) {
        self.0.lock().push(request.boxed());
    }
}

/// A connection and its requests.
struct Together<C> {
    connection: Pin<Box<C>>,
    begun: Begun,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl<C: Future<Output = hyper::Result<()>>> Future for Together<C> {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let me = &mut *self;
        loop {
            if let Poll::Ready(ended) = me.connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            let begun = std::mem::take(&mut *me.begun.0.lock());
            let is_idle = begun.is_empty();
            me.running.extend(begun);
            // What a request did may be for the connection to send.
            let has_ended = matches!(me.running.poll_next_unpin(cx), Poll::Ready(Some(())));
            if is_idle && !has_ended {
                return Poll::Pending;
            }
        }
    }
}

impl<I, S> Requests for Together<http2::Connection<I, S, Begun>>
where
    S: hyper::service::HttpService<Incoming, ResBody = TakenBody> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<axum::BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn end(mut self: Pin<&mut Self>) {
        self.connection.as_mut().graceful_shutdown();
    }
}

/// The requests of a connection that are under way.
#[derive(Debug)]
struct OpenRequests {
    connection: Arc<Watch>,
    watches: Mutex<Vec<Arc<Watch>>>,
}

/// A request that is under way, until its answer is with the connection.
#[derive(Debug)]
struct OpenRequest {
    of: Arc<OpenRequests>,
    watch: Arc<Watch>,
}

impl OpenRequests {
    fn begin(of: &Arc<Self>, epoch: tokio::time::Instant) -> OpenRequest {
        let watch = Arc::new(Watch::new(of.connection.server, epoch));
        watch.request_began();
        let mut watches = of.watches.lock();
        if watches.is_empty() {
            of.connection.request_began();
        }
        watches.push(Arc::clone(&watch));
        drop(watches);
        OpenRequest {
            of: Arc::clone(of),
            watch,
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut watches = self.of.watches.lock();
        watches.retain(|w| !Arc::ptr_eq(w, &self.watch));
        if watches.is_empty() {
            self.of.connection.requests_ended();
        }
    }
}

impl Debts for OpenRequests {
    fn due(&self, settings: &ConnectionSettings) -> Option<(u64, Owed)> {
        let watches = self.watches.lock();
        let all = watches.iter().chain([&self.connection]);
        all.filter_map(|w| w.due(settings))
            .min_by_key(|(us, _)| *us)
    }

    fn overdue(&self, settings: &ConnectionSettings) -> Option<Owed> {
        let watches = self.watches.lock();
        let mut all = watches.iter().chain([&self.connection]);
        all.find_map(|w| w.overdue(settings))
    }

    fn fail_body(&self, settings: &ConnectionSettings) -> bool {
        let watches = self.watches.lock();
        let late = watches
            .iter()
            .find(|w| w.overdue(settings) == Some(Owed::Body));
        let Some(late) = late.filter(|w| w.fail_body()) else {
            return false;
        };
        // Its reader hears of it when it is polled, which may be elsewhere.
        late.body_came(0);
        true
    }
}

/// The body of an answer. It is asked for more when the client has taken what it gave, or has room for it.
#[derive(Debug)]
struct TakenBody {
    body: Body,
    /// What of the last piece of the body was not given yet.
    rest: Bytes,
    open: OpenRequest,
}

impl HttpBody for TakenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let me = &mut *self;
        me.open.watch.sent(0);
        if me.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut me.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => me.rest = bytes,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = me.rest.split_to(me.rest.len().min(PIECE_BYTES));
        me.open.watch.sent(piece.len() as u64);
        me.open.watch.send_blocked();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
