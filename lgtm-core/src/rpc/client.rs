//! Calls to another process.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::connection::{RpcConnection, broken};
use super::fault;
use super::message::{MessageReader, RpcMessage};
use super::settings::{RpcClientSettings, RpcCompression};
use crate::codec::ContentEncoding;
use crate::error::{Error, Result};
use crate::exec::{Executor, TaskGroup};
use crate::model::TenantId;

/// What eight digits of milliseconds say at most, a day.
const LONGEST_MS: u128 = 99_999_999;

/// Who calls what, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct RpcCaller<'a> {
    /// The method, `package.Service/Method`.
    pub method: &'static str,
    /// For whom; none for what is nobody's, as health.
    pub tenant: Option<&'a TenantId>,
    /// How long the answer may take, to its last message. The server is told.
    pub within: Duration,
}

/// Calls one other process. Connections are made when they are needed, and kept; dropping the client and all its answers closes them.
#[derive(Debug)]
pub struct RpcClient {
    address: String,
    connections: Vec<RpcConnection>,
    next: AtomicUsize,
    settings: RpcClientSettings,
    tasks: Arc<TaskGroup>,
    executor: Executor,
}

impl RpcClient {
    /// A client of the process at `address`, `host:port`. Does no I/O. Large messages are compressed on `executor`.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of their bounds, and for an address without a port.
    pub fn new(address: &str, settings: RpcClientSettings, executor: Executor) -> Result<Self> {
        settings.validate()?;
        let is_address = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address || axum::http::uri::Authority::try_from(address).is_err() {
            return Err(Error::InvalidInput(format!(
                "{address:?} is not like host:port"
            )));
        }
        Ok(Self {
            address: address.to_owned(),
            connections: (0..settings.connections)
                .map(|_| RpcConnection::default())
                .collect(),
            next: AtomicUsize::new(0),
            tasks: Arc::new(executor.task_group()),
            settings,
            executor,
        })
    }

    /// Whom it calls.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where what it brings may be decoded.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Calls a method that answers with one message. Dropping the future stops the work on the other side.
    ///
    /// # Errors
    /// That of the other side, as it was there; `Unavailable` when it cannot be reached or breaks off, `Timeout` when the time is over: then a write may
    /// have happened.
    pub async fn unary(&self, caller: RpcCaller<'_>, message: RpcMessage) -> Result<Bytes> {
        let mut answer = self.stream(caller, message).await?;
        let Some(only) = answer.next().await? else {
            return Err(answer.broken_off("without a message"));
        };
        match answer.next().await? {
            None => Ok(only),
            Some(_) => Err(Error::Internal(format!(
                "{} of {} has answered with several messages",
                caller.method, self.address
            ))),
        }
    }

    /// Calls a method that answers with any number of messages. Dropping future or stream stops the work on the other side.
    ///
    /// # Errors
    /// As [`RpcClient::unary`], so far as they are known before the first message.
    pub async fn stream(&self, caller: RpcCaller<'_>, message: RpcMessage) -> Result<RpcStream> {
        let deadline = Deadline {
            at: Instant::now() + caller.within,
            within: caller.within,
            what: caller.method,
        };
        let begun = deadline.of(self.begin(caller, message)).await?;
        let encoding = begun.headers().get("grpc-encoding");
        let encoding = encoding.and_then(|v| v.to_str().ok()).unwrap_or("");
        let encoding = ContentEncoding::from_header(encoding).ok_or_else(|| {
            Error::Internal(format!(
                "{} answers in the unknown encoding {encoding:?}",
                self.address
            ))
        })?;
        let max_bytes = self.settings.max_message_size.as_usize();
        let mut answer = RpcStream {
            reader: MessageReader::new(encoding, max_bytes),
            ended: None,
            body: None,
            deadline,
            address: self.address.clone(),
            executor: self.executor.clone(),
            _tasks: Arc::clone(&self.tasks),
        };
        // A call that ends before it has answered has its trailers among its headers.
        match fault::told_by(begun.headers()) {
            Some(Err(error)) => return Err(error),
            Some(Ok(())) => answer.ended = Some(Ok(())),
            None => answer.body = Some(begun.into_body()),
        }
        Ok(answer)
    }

    async fn begin(
        &self,
        caller: RpcCaller<'_>,
        message: RpcMessage,
    ) -> Result<Response<Incoming>> {
        let compression = self.settings.compression;
        if message.len() > self.settings.max_message_size.as_usize() {
            return Err(Error::LimitExceeded(format!(
                "a message of {} bytes to {}, the limit is {} (max_message_size)",
                message.len(),
                self.address,
                self.settings.max_message_size
            )));
        }
        let message = message.framed(compression, &self.executor).await?;
        let uri = format!("http://{}/{}", self.address, caller.method);
        let mut head = Request::builder().method(Method::POST).uri(uri);
        if let Some(headers) = head.headers_mut() {
            let grpc = HeaderValue::from_static("application/grpc");
            headers.insert(header::CONTENT_TYPE, grpc);
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            if compression == RpcCompression::Zstd {
                let zstd = HeaderValue::from_static("zstd");
                headers.insert("grpc-encoding", zstd.clone());
                headers.insert("grpc-accept-encoding", zstd);
            }
        }
        let left_ms = caller.within.as_millis().clamp(1, LONGEST_MS);
        head = head.header("grpc-timeout", format!("{left_ms}m"));
        if let Some(tenant) = caller.tenant {
            head = head.header("x-scope-orgid", tenant.as_str());
        }
        let head = head
            .body(())
            .map_err(|e| Error::Internal(format!("a call of {}: {e}", caller.method)))?;
        let request = || head.clone().map(|()| Body::from(message.clone()));
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let (settings, tasks) = (&self.settings, &self.tasks);
        let answer = self.connections[place]
            .send(&self.address, settings, tasks, request)
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Unavailable(format!(
                "{} answers {} with HTTP status {}",
                self.address,
                caller.method,
                answer.status()
            )));
        }
        Ok(answer)
    }
}

/// Until when a call is waited for.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    within: Duration,
    what: &'static str,
}

impl Deadline {
    async fn of<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout_at(self.at, work).await {
            Ok(done) => done,
            Err(_) => Err(Error::Timeout {
                what: self.what.into(),
                after: self.within,
            }),
        }
    }
}

/// The messages of an answer.
#[derive(Debug)]
pub struct RpcStream {
    reader: MessageReader,
    /// None once the trailers have come.
    body: Option<Incoming>,
    ended: Option<Result<()>>,
    deadline: Deadline,
    address: String,
    executor: Executor,
    /// The connection lives as long as its answers.
    _tasks: Arc<TaskGroup>,
}

impl RpcStream {
    /// The next message; `None` when the other side has said that there are no more. Not cancel-safe: drop the stream instead.
    ///
    /// # Errors
    /// As [`RpcClient::unary`], and `LimitExceeded` for a message that is too long. The answer is not whole then.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let deadline = self.deadline;
        deadline.of(self.take()).await
    }

    async fn take(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(message) = self.reader.next(&self.executor).await? {
                return Ok(Some(message));
            }
            let Some(body) = &mut self.body else {
                return match &self.ended {
                    Some(Ok(())) if self.reader.is_between_messages() => Ok(None),
                    Some(Err(error)) => Err(error.clone()),
                    _ => Err(self.broken_off("in the middle of a message")),
                };
            };
            match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.reader.push(piece),
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        let told = trailers.and_then(|t| fault::told_by(&t));
                        let told = told.unwrap_or_else(|| Err(self.broken_off("without a status")));
                        (self.ended, self.body) = (Some(told), None);
                    }
                },
                Some(Err(e)) => return Err(broken(&self.address, &e)),
                None => return Err(self.broken_off("without a status")),
            }
        }
    }

    fn broken_off(&self, how: &str) -> Error {
        Error::Unavailable(format!(
            "the answer of {} to {} ended {how}",
            self.address, self.deadline.what
        ))
    }
}
