//! Which protocol a client speaks: told by its first bytes, which stay in the socket.

use std::future::{pending, poll_fn};
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::connections::OpenConnection;
use super::settings::ConnectionSettings;
use super::watch::{Asked, Owed, Watch};

/// The beginning of HTTP/2's preface, `PRI * HTTP/2.0`. No method of HTTP/1.1 begins so.
const PREFACE: &[u8] = b"PRI";
/// How long to wait for more where the first bytes do not tell; a peek at them does not wait.
const PAUSE: Duration = Duration::from_millis(10);

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// The protocol of a connection, known with its first bytes. `None`: the client went away, was late, or is to leave.
pub(super) async fn of_stream(stream: &TcpStream, place: &OpenConnection) -> Option<Protocol> {
    let (watch, connections) = (place.watch(), place.connections());
    let settings = connections.settings();
    let asked = poll_fn(|cx| match watch.poll_asked(cx.waker()) {
        Asked::Nothing => Poll::Pending,
        Asked::Stop | Asked::Leave => Poll::Ready(()),
    });
    tokio::select! {
        biased;
        () = asked => None,
        owed = late(watch, settings) => {
            connections.counts.closed_late(owed);
            None
        }
        protocol = begun(stream, watch, settings) => match protocol {
            Ok(protocol) => protocol,
            Err(owed) => {
                connections.counts.closed_late(owed);
                None
            }
        },
    }
}

/// What a client has not sent a byte of in time.
async fn late(watch: &Watch, settings: &ConnectionSettings) -> Owed {
    loop {
        let Some((due_us, _)) = watch.due(settings) else {
            return pending().await;
        };
        sleep_until(watch.instant(due_us)).await;
        if let Some(owed) = watch.overdue(settings) {
            return owed;
        }
    }
}

async fn begun(
    stream: &TcpStream,
    watch: &Watch,
    settings: &ConnectionSettings,
) -> Result<Option<Protocol>, Owed> {
    let mut begin = [0; PREFACE.len()];
    let mut until = None;
    loop {
        let Ok(n @ 1..) = stream.peek(&mut begin).await else {
            return Ok(None);
        };
        if &begin[..n] == PREFACE {
            return Ok(Some(Protocol::Http2));
        }
        if !PREFACE.starts_with(&begin[..n]) {
            return Ok(Some(Protocol::Http1));
        }
        watch.received();
        let until = *until.get_or_insert_with(|| Instant::now() + settings.head_timeout);
        if Instant::now() >= until {
            return Err(Owed::RestOfHead);
        }
        sleep(PAUSE).await;
    }
}
