//! Answers calls of other processes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use hyper::body::Frame;
use tokio::time::{Instant, Sleep};

use super::fault;
use super::message::{RpcMessage, decompressed};
use super::settings::{RpcCompression, RpcServerSettings};
use crate::codec::ContentEncoding;
use crate::error::{Error, Result};
use crate::exec::{CancelToken, Executor};
use crate::http::{BodyError, GrpcMessage, collect_body, grpc_refusal, grpc_timeout, tenant};
use crate::limits::{Inflight, InflightBound, Ticket};
use crate::model::TenantId;
use crate::telemetry::Registry;

/// Bytes before a message.
const PREFIX_BYTES: u64 = 5;
/// What is decompressed where it stands.
const INLINE_BYTES: usize = 64 << 10;

/// A call, as the one sees it who answers.
#[derive(Debug)]
pub struct RpcCall {
    /// For whom; the error of a call that does not say.
    pub tenant: Result<TenantId>,
    /// What is asked.
    pub message: Bytes,
    /// What the message holds of the bound on all calls; what it becomes is to be added.
    pub room: Ticket,
}

impl RpcCall {
    /// Answers the call while its message is held.
    async fn held<T, Fut>(self, work: impl FnOnce(TenantId, Bytes) -> Fut) -> Result<T>
    where
        Fut: Future<Output = Result<T>>,
    {
        let Self {
            tenant,
            message,
            room,
        } = self;
        let answer = work(tenant?, message).await;
        drop(room);
        answer
    }
}

/// Turns functions into methods that other processes may call.
///
/// ```
/// use std::sync::Arc;
/// use lgtm_core::exec::Executor;
/// use lgtm_core::rpc::{RpcCall, RpcMessage, RpcServer, RpcServerSettings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> lgtm_core::Result<()> {
/// let executor = Executor::inline(tokio::runtime::Handle::current());
/// let rpc = RpcServer::new(RpcServerSettings::default(), executor)?;
/// let echo = |call: RpcCall| async move {
///     Ok(RpcMessage::of(|out| out.extend_from_slice(&call.message)))
/// };
/// // Served by an HttpServer.
/// let router: axum::Router = axum::Router::new().route("/example.Echo/Say", rpc.unary(echo));
/// # drop(router);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RpcServer {
    settings: RpcServerSettings,
    inflight: Arc<Inflight>,
    executor: Executor,
}

impl RpcServer {
    /// A server within these bounds, which compresses on `executor`.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of their bounds.
    pub fn new(settings: RpcServerSettings, executor: Executor) -> Result<Arc<Self>> {
        settings.validate()?;
        let calls = InflightBound {
            max: settings.max_inflight_calls,
            hint: "(max_inflight_calls)",
        };
        let bytes = InflightBound {
            max: settings.max_inflight_bytes.as_u64(),
            hint: "(max_inflight_bytes)",
        };
        Ok(Arc::new(Self {
            settings,
            inflight: Arc::new(Inflight::new(calls, bytes)),
            executor,
        }))
    }

    /// The calls under way.
    pub fn inflight(&self) -> &Arc<Inflight> {
        &self.inflight
    }

    /// Has `registry` tell how many calls are under way, and what their messages hold.
    pub fn register_metrics(&self, registry: &Registry) {
        let inflight = Arc::downgrade(&self.inflight);
        registry.collect(move |c| {
            let Some(inflight) = inflight.upgrade() else {
                return;
            };
            let (calls, bytes) = (inflight.requests() as f64, inflight.bytes() as f64);
            c.gauge(
                "lgtm_rpc_inflight_calls",
                "Calls of other processes under way.",
                &[],
                calls,
            );
            c.gauge(
                "lgtm_rpc_inflight_bytes",
                "Bytes of their messages, and of what they were decoded to.",
                &[],
                bytes,
            );
        });
    }

    /// A method that answers with one message. `work` is dropped when the caller goes away or its time is over.
    pub fn unary<F, Fut>(self: &Arc<Self>, work: F) -> MethodRouter
    where
        F: Fn(RpcCall) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<RpcMessage>> + Send + 'static,
    {
        self.streaming(move |call| {
            let answer = work(call);
            async move {
                let message = answer.await?;
                Ok(stream::iter([Ok(message)]))
            }
        })
    }

    /// A method that answers with any number of messages, which are asked for as the caller takes them. Work and stream are dropped when the
    /// caller goes away or its time is over.
    pub fn streaming<F, Fut, S>(self: &Arc<Self>, work: F) -> MethodRouter
    where
        F: Fn(RpcCall) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
        S: Stream<Item = Result<RpcMessage>> + Send + 'static,
    {
        let server = Arc::clone(self);
        post(move |request: Request| {
            let (server, work) = (Arc::clone(&server), work.clone());
            async move { server.answer(request, work).await }
        })
    }

    /// A method that asks `of` and answers with one message. The message of the call is held until then.
    pub fn asking<I, F, Fut>(self: &Arc<Self>, of: &Arc<I>, work: F) -> MethodRouter
    where
        I: ?Sized + Send + Sync + 'static,
        F: Fn(Arc<I>, TenantId, Bytes) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<RpcMessage>> + Send + 'static,
    {
        let of = Arc::clone(of);
        self.unary(move |call: RpcCall| {
            let (of, work) = (Arc::clone(&of), work.clone());
            call.held(move |tenant, message| work(of, tenant, message))
        })
    }

    /// A method that asks `of` and answers with any number of messages. The message of the call is held until the first of them.
    pub fn asking_for_many<I, F, Fut, S>(self: &Arc<Self>, of: &Arc<I>, work: F) -> MethodRouter
    where
        I: ?Sized + Send + Sync + 'static,
        F: Fn(Arc<I>, TenantId, Bytes) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<S>> + Send + 'static,
        S: Stream<Item = Result<RpcMessage>> + Send + 'static,
    {
        let of = Arc::clone(of);
        self.streaming(move |call: RpcCall| {
            let (of, work) = (Arc::clone(&of), work.clone());
            call.held(move |tenant, message| work(of, tenant, message))
        })
    }

    async fn answer<Fut, S>(&self, request: Request, work: impl FnOnce(RpcCall) -> Fut) -> Response
    where
        Fut: Future<Output = Result<S>> + Send + 'static,
        S: Stream<Item = Result<RpcMessage>> + Send + 'static,
    {
        if let Some(refusal) = grpc_refusal(request.version(), request.headers()) {
            return refusal;
        }
        let (parts, body) = request.into_parts();
        let within = grpc_timeout(&parts.headers);
        let until = within.map(|within| (Instant::now() + within, within));
        let began = async {
            let call = self.read(&parts.headers, body).await?;
            work(call).await
        };
        let began = match until {
            None => began.await,
            Some((at, within)) => match tokio::time::timeout_at(at, began).await {
                Ok(began) => began,
                Err(_) => Err(timed_out(within)),
            },
        };
        match began {
            Ok(messages) => self.stream(&parts.headers, messages, until),
            Err(error) => refused(&error),
        }
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<RpcCall> {
        let max_bytes = self.settings.max_message_size.as_u64();
        let read = collect_body(&self.inflight, headers, body, max_bytes + PREFIX_BYTES);
        let (mut room, body) = read.await.map_err(of_body)?;
        let GrpcMessage { encoding, bytes } =
            GrpcMessage::of(headers, &body).map_err(|s| Error::InvalidInput(s.message))?;
        let message = if encoding == ContentEncoding::Identity {
            bytes
        } else {
            let max_bytes = self.settings.max_message_size.as_usize();
            let is_small = bytes.len() <= INLINE_BYTES;
            let job = move |_: &CancelToken| decompressed(encoding, &bytes, max_bytes);
            let message = if is_small {
                job(&CancelToken::new())?
            } else {
                self.executor.run(job, &CancelToken::new()).await?
            };
            room.add(message.len() as u64)?;
            message
        };
        Ok(RpcCall {
            tenant: tenant(headers, true).map_err(|e| Error::InvalidInput(e.to_string())),
            message,
            room,
        })
    }

    fn stream(
        &self,
        request: &HeaderMap,
        messages: impl Stream<Item = Result<RpcMessage>> + Send + 'static,
        until: Option<(Instant, Duration)>,
    ) -> Response {
        let accepted = request.get_all("grpc-accept-encoding").iter();
        let mut accepted = accepted.filter_map(|v| v.to_str().ok());
        let takes_zstd = accepted.any(|all| all.split(',').any(|name| name.trim() == "zstd"));
        let compression = if takes_zstd {
            RpcCompression::Zstd
        } else {
            RpcCompression::None
        };
        let executor = self.executor.clone();
        let messages = messages.then(move |message| {
            let executor = executor.clone();
            async move { message?.framed(compression, &executor).await }
        });
        let body = AnswerBody {
            messages: Some(messages.boxed()),
            until: until.map(|(at, within)| (Box::pin(tokio::time::sleep_until(at)), within)),
        };
        let mut response = (
            [(header::CONTENT_TYPE, "application/grpc")],
            Body::new(body),
        )
            .into_response();
        if takes_zstd {
            let zstd = HeaderValue::from_static("zstd");
            response.headers_mut().insert("grpc-encoding", zstd);
        }
        response
    }
}

fn of_body(e: BodyError) -> Error {
    match e {
        BodyError::NoRoom(e) => e,
        BodyError::TooLarge { .. } => Error::LimitExceeded(format!("{e} (max_message_size)")),
        BodyError::TooSlow(why) => Error::Unavailable(why),
        BodyError::BrokenOff(why) => Error::Cancelled(why),
    }
}

fn timed_out(within: Duration) -> Error {
    Error::Timeout {
        what: "the call".into(),
        after: within,
    }
}

/// A call that ends before it has answered: headers and trailers in one.
fn refused(error: &Error) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "application/grpc")], ()).into_response();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().extend(fault::trailers_of(error));
    response
}

/// Messages, then the trailers.
struct AnswerBody {
    /// None once the trailers are sent.
    messages: Option<BoxStream<'static, Result<Bytes>>>,
    until: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let me = &mut *self;
        let Some(messages) = &mut me.messages else {
            return Poll::Ready(None);
        };
        let is_late = me.until.as_mut().and_then(|(until, within)| {
            let is_over = until.as_mut().poll(cx).is_ready();
            is_over.then_some(*within)
        });
        let next = match is_late {
            Some(within) => Some(Err(timed_out(within))),
            None => ready!(messages.poll_next_unpin(cx)),
        };
        let trailers = match next {
            Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Some(Err(error)) => fault::trailers_of(&error),
            None => fault::trailers_of_success(),
        };
        me.messages = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_none()
    }
}
