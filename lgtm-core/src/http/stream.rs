//! A stream that notes in its connection's [`Watch`] when bytes come and when the client takes none, and holds back the first lines of
//! requests that are long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::long_url::HeldLine;
use super::watch::Watch;

/// What is read and thrown away at a time.
const DRAIN_BYTES: usize = 64 << 10;

/// What is read at a time of a first line that is long.
const LINE_PIECE_BYTES: usize = 8 << 10;

/// The stream of one connection.
#[derive(Debug)]
pub(super) struct WatchedStream<S> {
    stream: S,
    watch: Arc<Watch>,
    /// None where requests have no lines.
    line: Option<HeldLine>,
    /// Where what nobody wants is read to; made when it is needed.
    drained: Vec<u8>,
    is_shut: bool,
}

impl<S> WatchedStream<S> {
    /// A stream of HTTP/1.1, whose first lines are held back where they are long; without `line` one of HTTP/2, whose requests are watched one by one.
    pub(super) fn new(stream: S, watch: Arc<Watch>, line: Option<HeldLine>) -> Self {
        Self {
            stream,
            watch,
            line,
            drained: Vec::new(),
            is_shut: false,
        }
    }

    /// That the stream is to end, although its owner has not ended it.
    fn check_cut(&self, cx: &Context<'_>) -> io::Result<()> {
        if self.watch.poll_cut(cx.waker()) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }

    fn note_sent(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &sent {
            Poll::Pending => self.watch.send_blocked(),
            Poll::Ready(Ok(n)) => self.watch.sent(*n as u64),
            Poll::Ready(Err(_)) => {}
        }
        sent
    }
}

fn take_of_line(line: &mut HeldLine, watch: &Watch, bytes: &[u8]) {
    if let Some(query) = line.take(bytes) {
        watch.put_long_query(query);
    }
}

impl<S> Drop for WatchedStream<S> {
    fn drop(&mut self) {
        self.watch.stream_ended();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        let me = &mut *self;
        let Some(line) = &mut me.line else {
            return Pin::new(&mut me.stream).poll_read(cx, buf);
        };
        if !line.is_open() && line.next().is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut me.stream).poll_read(cx, buf))?;
            let came = &buf.filled()[before..];
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let begins = me.watch.awaits_head();
            me.watch.received();
            if !begins || !HeldLine::is_long(came) {
                return Poll::Ready(Ok(()));
            }
            take_of_line(line, &me.watch, came);
            buf.set_filled(before);
        }
        let mut piece = [0; LINE_PIECE_BYTES];
        while line.is_open() {
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut me.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                line.close();
            } else {
                take_of_line(line, &me.watch, read.filled());
            }
        }
        let next = line.next();
        let given = next.len().min(buf.remaining());
        buf.put_slice(&next[..given]);
        line.gave(given);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_sent(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.note_sent(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.watch.flushed();
        Poll::Ready(Ok(()))
    }

    /// Ends our half. A client that is still sending a body gets the time to read the answer first (see `LINGER` of the watch, which
    /// bounds this).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if !me.is_shut {
            ready!(Pin::new(&mut me.stream).poll_shutdown(cx))?;
            me.is_shut = true;
        }
        if !me.watch.is_body_left() {
            return Poll::Ready(Ok(()));
        }
        me.drained.resize(DRAIN_BYTES, 0);
        loop {
            me.watch.linger_awaited();
            let mut buf = ReadBuf::new(&mut me.drained);
            ready!(Pin::new(&mut me.stream).poll_read(cx, &mut buf))?;
            me.watch.linger_came();
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
