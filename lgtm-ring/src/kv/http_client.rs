//! The little HTTP that etcd and Consul need: one request per connection, bounded answers, deadlines.
//!
//! A ring asks its store every few seconds; a watch holds one connection open. So there is no pool.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lgtm_core::exec::TaskGroup;
use lgtm_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// A connection to a server.
pub trait Connection: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static> Connection for T {}

/// Makes connections: plain TCP by default; pass your own for TLS or a proxy.
#[async_trait]
pub trait Connect: Debug + Send + Sync + 'static {
    /// A connection to `authority`, a `host:port`.
    async fn connect(&self, authority: &str) -> Result<Box<dyn Connection>>;
}

/// Plain TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnect;

#[async_trait]
impl Connect for TcpConnect {
    async fn connect(&self, authority: &str) -> Result<Box<dyn Connection>> {
        let stream = TcpStream::connect(authority).await;
        let stream = stream.map_err(|e| Error::Unavailable(format!("{authority}: {e}")))?;
        Ok(Box::new(stream))
    }
}

/// Requests to whichever of some equal servers answers.
#[derive(Debug)]
pub(super) struct HttpClient {
    pub(super) authorities: Vec<String>,
    pub(super) connect: Arc<dyn Connect>,
    /// A header on every request: name and value.
    pub(super) header: Option<(&'static str, String)>,
    pub(super) timeout: Duration,
    pub(super) max_bytes: usize,
    /// The server that answered last.
    pub(super) preferred: AtomicUsize,
    pub(super) tasks: TaskGroup,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The header that carries Consul's index.
    #[cfg(feature = "consul")]
    pub(super) index: Option<String>,
    pub(super) body: Bytes,
}

impl HttpClient {
    pub(super) fn new(
        authorities: Vec<String>,
        connect: Arc<dyn Connect>,
        timeout: Duration,
        max_bytes: usize,
        runtime: Handle,
    ) -> Self {
        Self {
            authorities,
            connect,
            header: None,
            timeout,
            max_bytes,
            preferred: AtomicUsize::new(0),
            tasks: TaskGroup::new(runtime),
        }
    }

    /// A request and its whole answer, within the deadline and `extra` time.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout` (a write may have happened), `LimitExceeded` for an answer that is too large.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        extra: Duration,
    ) -> Result<Answer> {
        let after = self.timeout + extra;
        let whole = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            #[cfg(feature = "consul")]
            let index = response.headers().get("x-consul-index");
            #[cfg(feature = "consul")]
            let index = index.and_then(|v| v.to_str().ok()).map(str::to_owned);
            let body = Limited::new(response.into_body(), self.max_bytes);
            let body = body.collect().await.map_err(|e| match e
                .downcast_ref::<http_body_util::LengthLimitError>()
            {
                Some(_) => Error::LimitExceeded(format!(
                    "{path}: answer of more than {} bytes",
                    self.max_bytes
                )),
                None => Error::Unavailable(format!("{path}: {e}")),
            })?;
            Ok(Answer {
                status,
                #[cfg(feature = "consul")]
                index,
                body: body.to_bytes(),
            })
        };
        timeout(after, whole).await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                what: format!("request {path}"),
                after,
            })
        })
    }

    /// A request whose answer is read as it comes. Only the head of the answer has a deadline.
    #[cfg(feature = "etcd")]
    pub(super) async fn open(&self, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let opened = timeout(self.timeout, self.send(Method::POST, path, body)).await;
        opened.unwrap_or_else(|_| {
            Err(Error::Timeout {
                what: format!("request {path}"),
                after: self.timeout,
            })
        })
    }

    /// Tries the servers in turn until one can be connected to; a request that was sent is not sent to another.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let count = self.authorities.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = Error::InvalidInput("no server is configured".into());
        for n in 0..count {
            let server = (first + n) % count;
            let authority = &self.authorities[server];
            match self.connect.connect(authority).await {
                Ok(connection) => {
                    self.preferred.store(server, Ordering::Relaxed);
                    let sent = self
                        .send_over(connection, authority, method, path, body)
                        .await;
                    if sent.is_err() {
                        self.preferred
                            .store((server + 1) % count, Ordering::Relaxed);
                    }
                    return sent;
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn send_over(
        &self,
        connection: Box<dyn Connection>,
        authority: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let failed = |e: hyper::Error| Error::Unavailable(format!("{authority}{path}: {e}"));
        let io = TokioIo::new(connection);
        let (mut sender, driver) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(failed)?;
        // Ends with the connection, which ends when the answer is read or dropped.
        self.tasks.spawn("http connection", driver);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", authority)
            .header("connection", "close");
        if let Some((name, value)) = &self.header {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| Error::InvalidInput(format!("request {path}: {e}")))?;
        sender.send_request(request).await.map_err(failed)
    }
}

/// The `host:port` of a server as operators write it: with or without `http://`.
///
/// # Errors
/// `InvalidInput`; for `https://`, which needs a [`Connect`] of one's own, too.
pub(super) fn authority(endpoint: &str) -> Result<String> {
    let wrong = |why: &str| Err(Error::InvalidInput(format!("endpoint {endpoint:?} {why}")));
    if endpoint.starts_with("https://") {
        return wrong("is https; give host:port and a Connect that speaks TLS");
    }
    let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let authority = authority.trim_end_matches('/');
    match authority.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && !host.contains(['/', '@', ' '])
                && port.parse::<u16>().is_ok_and(|p| p > 0) =>
        {
            Ok(authority.to_owned())
        }
        _ => wrong("is not host:port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_operators_write_them() {
        assert_eq!(authority("http://etcd-0:2379/").unwrap(), "etcd-0:2379");
        assert_eq!(authority("[::1]:2379").unwrap(), "[::1]:2379");
        for bad in [
            "",
            "etcd",
            "http://etcd",
            "https://etcd:2379",
            "a/b:1",
            "etcd:0",
        ] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }
}
