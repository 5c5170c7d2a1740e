//! Connections that go on as something else than HTTP, as a WebSocket does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{Error, Result};

/// A connection that will be ours once the answer `101 Switching Protocols` to its request is sent.
///
/// The server goes on watching it: a client that does not read what it is sent loses its connection as with any answer, and the end of the server
/// ends it.
#[derive(Debug)]
pub struct Upgrading(OnUpgrade);

impl Upgrading {
    /// The connection of a request; `None` when the server cannot give it away, or nobody asked for another protocol.
    pub fn of(request: &mut Request) -> Option<Self> {
        request.extensions_mut().remove().map(Self)
    }

    /// Waits until the answer is sent.
    ///
    /// # Errors
    /// `Unavailable` when the connection ended before.
    pub async fn stream(self) -> Result<UpgradedStream> {
        match self.0.await {
            Ok(stream) => Ok(UpgradedStream(TokioIo::new(stream))),
            Err(e) => Err(Error::Unavailable(format!("the connection broke off: {e}"))),
        }
    }
}

/// What both sides send after the upgrade.
#[derive(Debug)]
pub struct UpgradedStream(TokioIo<Upgraded>);

impl AsyncRead for UpgradedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for UpgradedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
