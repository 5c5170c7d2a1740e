//! One connection to another process, made when it is needed and again when it is lost.

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::settings::RpcClientSettings;
use crate::error::{Error, Result};
use crate::exec::TaskGroup;

/// A bound of a connection's window that is never reached: what bounds memory are the windows of answers.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// Bytes of the largest frame that is taken: few frames make a batch of series.
const MAX_FRAME_BYTES: u32 = 256 << 10;
/// Bytes of headers and trailers: an error is told twice, each within 10 KiB.
const MAX_HEADERS_BYTES: u32 = 64 << 10;

type Sender = http2::SendRequest<Body>;

/// Runs what belongs to a connection with the tasks of its client.
#[derive(Clone)]
struct Tasks(Arc<TaskGroup>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        drop(self.0.spawn("rpc request", task));
    }
}

/// A connection, or why there was none.
#[derive(Debug, Default)]
struct State {
    sender: Option<Sender>,
    failed: Option<(Instant, Error)>,
}

/// One connection to another process.
#[derive(Debug, Default)]
pub(super) struct RpcConnection(Mutex<State>);

impl RpcConnection {
    /// Sends a request; the answer's head. One that no connection has taken is sent again on a new one.
    ///
    /// # Errors
    /// `Unavailable`, saying what is wrong with the connection.
    pub(super) async fn send(
        &self,
        address: &str,
        settings: &RpcClientSettings,
        tasks: &Arc<TaskGroup>,
        request: impl Fn() -> axum::http::Request<Body>,
    ) -> Result<axum::http::Response<Incoming>> {
        let mut is_first = true;
        loop {
            let mut sender = self.sender(address, settings, tasks).await?;
            let mut refused = match sender.try_send_request(request()).await {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            // Given back untouched: the other side had just closed the connection, idle as it was.
            let is_untouched = refused.take_message().is_some();
            if !(is_first && is_untouched) {
                return Err(broken(address, &refused.into_error()));
            }
            is_first = false;
        }
    }

    async fn sender(
        &self,
        address: &str,
        settings: &RpcClientSettings,
        tasks: &Arc<TaskGroup>,
    ) -> Result<Sender> {
        let asked = Instant::now();
        let mut state = self.0.lock().await;
        if let Some(sender) = state.sender.as_ref().filter(|s| !s.is_closed()) {
            return Ok(sender.clone());
        }
        // Who waited while another one tried need not try as long again.
        if let Some((at, error)) = &state.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let connected = tokio::time::timeout(
            settings.connect_timeout,
            connected(address, settings, tasks),
        );
        let connected = connected.await.unwrap_or_else(|_| {
            Err(Error::Unavailable(format!(
                "{address}: no connection within {:?}",
                settings.connect_timeout
            )))
        });
        match connected {
            Ok(sender) => {
                state.sender = Some(sender.clone());
                Ok(sender)
            }
            Err(error) => {
                state.sender = None;
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

async fn connected(
    address: &str,
    settings: &RpcClientSettings,
    tasks: &Arc<TaskGroup>,
) -> Result<Sender> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| Error::Unavailable(format!("{address}: {e}")))?;
    // A push should not wait for more to send; a stream that refuses works all the same.
    let _ = stream.set_nodelay(true);
    let window = u32::try_from(settings.answer_window.as_u64()).unwrap_or(u32::MAX >> 1);
    let handshake = http2::Builder::new(Tasks(Arc::clone(tasks)))
        .timer(TokioTimer::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_header_list_size(MAX_HEADERS_BYTES)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|e| broken(address, &e))?;
    let of = address.to_owned();
    let connection = async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, address = of, "a connection to another process ended");
        }
    };
    drop(tasks.spawn("rpc connection", connection));
    Ok(sender)
}

/// What went wrong with a connection, with its causes.
pub(super) fn broken(address: &str, e: &(dyn std::error::Error + 'static)) -> Error {
    let mut text = format!("{address}: {e}");
    let mut cause = e.source();
    while let Some(e) = cause {
        text.push_str(&format!(": {e}"));
        cause = e.source();
    }
    Error::Unavailable(text)
}
