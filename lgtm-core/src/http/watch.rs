//! What a connection waits for its client to do, and since when.
//!
//! The stream, the bodies and the requests of a connection note here what they see; the connection asks when its client is overdue. All
//! notes come from the connection's own task, those of a stream that was given away from the task that has it; others only read them, to
//! choose whom to close.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::long_url::LongQuery;
use super::settings::ConnectionSettings;

/// How long a client that was answered before it had sent its whole body may go on sending at most. Were the connection closed with
/// bytes unread, the client's system would throw the answer away.
const LINGER: Duration = Duration::from_secs(10);
/// How long it may send nothing then.
const LINGER_STALL: Duration = Duration::from_secs(1);

/// What a client owes us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    Request,
    RestOfHead,
    Body,
    Reading,
    End,
}

impl Owed {
    pub(super) const ALL: [Self; 5] = [
        Self::Request,
        Self::RestOfHead,
        Self::Body,
        Self::Reading,
        Self::End,
    ];

    /// Why a connection was closed whose client was late with this, in metrics.
    pub(super) fn as_reason(self) -> &'static str {
        match self {
            Self::Request => "idle",
            Self::RestOfHead => "head_timeout",
            Self::Body => "body_timeout",
            Self::Reading => "send_timeout",
            Self::End => "linger_timeout",
        }
    }
}

/// What others ask of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    /// End after the request that is under way.
    Stop,
    /// End now, to make room.
    Leave,
}

/// Waiting of one kind, within one request. Microseconds since the epoch of the watch; 0 is "not waiting".
#[derive(Debug, Default)]
struct Stall {
    since_us: AtomicU64,
    /// Waits that are over.
    waited_us: AtomicU64,
    bytes: AtomicU64,
}

impl Stall {
    fn begin(&self, now_us: u64) {
        if self.since_us.load(Relaxed) == 0 {
            self.since_us.store(now_us, Relaxed);
        }
    }

    fn end(&self, bytes: u64, now_us: impl FnOnce() -> u64) {
        self.bytes.store(self.bytes.load(Relaxed) + bytes, Relaxed);
        let since = self.since_us.load(Relaxed);
        if since > 0 {
            let waited = self.waited_us.load(Relaxed) + now_us().saturating_sub(since);
            self.waited_us.store(waited, Relaxed);
            self.since_us.store(0, Relaxed);
        }
    }

    fn forget(&self) {
        self.since_us.store(0, Relaxed);
        self.waited_us.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
    }

    /// When the wait must be over: `stall` after its begin, and before all waits together exceed what `whole` allows for the bytes that
    /// came.
    fn due_us(&self, stall: Duration, whole: impl FnOnce(u64) -> u64) -> Option<u64> {
        let since = self.since_us.load(Relaxed);
        if since == 0 {
            return None;
        }
        let left = whole(self.bytes.load(Relaxed)).saturating_sub(self.waited_us.load(Relaxed));
        Some(since.saturating_add(micros(stall).min(left)))
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

const IN_REQUEST: u64 = 0;
const NO_HEAD: u64 = 1;
const PART_OF_HEAD: u64 = 2;

/// The notes of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    /// The server that accepted it.
    pub(super) server: &'static str,
    epoch: Instant,
    /// Whether a head is waited for, in the two lowest bits ([`IN_REQUEST`], [`NO_HEAD`], [`PART_OF_HEAD`]), and since when above; 0 there
    /// until somebody asks, since most heads come at once and reading the clock for each would cost.
    head: AtomicU64,
    body: Stall,
    send: Stall,
    linger: Stall,
    /// Whether a body came to less than it was to be, so that more may be on its way.
    is_body_left: AtomicBool,
    has_body_failed: AtomicBool,
    /// Whether a request was answered.
    is_served: AtomicBool,
    /// Whether the answer is with the stream but not yet sent.
    is_answer_made: AtomicBool,
    /// Whether the next request came before that was.
    is_next_begun: AtomicBool,
    /// The query of the next request, where it went around the parser.
    long_query: Mutex<Option<LongQuery>>,
    asked: AtomicU8,
    waker: AtomicWaker,
    sent_waker: AtomicWaker,
    /// Whether somebody else has the stream now.
    is_upgraded: AtomicBool,
    has_stream_ended: AtomicBool,
    /// Whether the stream is to end although somebody has it.
    is_cut: AtomicBool,
    cut_waker: AtomicWaker,
    /// Whoever waits for the body, where it is not polled with the connection.
    body_waker: AtomicWaker,
}

impl Watch {
    /// Of a connection that was accepted now. `epoch` is any time before.
    pub(super) fn new(server: &'static str, epoch: Instant) -> Self {
        let watch = Self {
            server,
            epoch,
            head: AtomicU64::new(NO_HEAD),
            body: Stall::default(),
            send: Stall::default(),
            linger: Stall::default(),
            is_body_left: AtomicBool::new(false),
            has_body_failed: AtomicBool::new(false),
            is_served: AtomicBool::new(false),
            is_answer_made: AtomicBool::new(false),
            is_next_begun: AtomicBool::new(false),
            long_query: Mutex::default(),
            asked: AtomicU8::new(0),
            waker: AtomicWaker::new(),
            sent_waker: AtomicWaker::new(),
            is_upgraded: AtomicBool::new(false),
            has_stream_ended: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            cut_waker: AtomicWaker::new(),
            body_waker: AtomicWaker::new(),
        };
        watch.note_time();
        watch
    }

    fn now_us(&self) -> u64 {
        micros(self.epoch.elapsed()) + 1
    }

    pub(super) fn instant(&self, us: u64) -> Instant {
        self.epoch + Duration::from_micros(us)
    }

    /// Whether the next byte begins a request, as far as the client waits for the answer before.
    pub(super) fn awaits_head(&self) -> bool {
        self.head.load(Relaxed) & 3 == NO_HEAD
    }

    /// Keeps the query of the request whose head comes.
    pub(super) fn put_long_query(&self, query: LongQuery) {
        *self.long_query.lock() = Some(query);
    }

    /// The query of the request whose head came.
    pub(super) fn take_long_query(&self) -> Option<LongQuery> {
        self.long_query.lock().take()
    }

    /// Bytes came.
    pub(super) fn received(&self) {
        if self.awaits_head() {
            self.head.store(PART_OF_HEAD, Relaxed);
        }
    }

    /// A head that is waited for since the last time anybody asked is waited for since now.
    fn note_time(&self) {
        let head = self.head.load(Relaxed);
        if head != IN_REQUEST && head >> 2 == 0 {
            self.head.store(self.now_us() << 2 | head, Relaxed);
        }
    }

    /// A head is whole. The answer before may still be on its way, when the client did not wait for it.
    pub(super) fn request_began(&self) {
        self.head.store(IN_REQUEST, Relaxed);
        self.body.forget();
        self.is_body_left.store(false, Relaxed);
        self.has_body_failed.store(false, Relaxed);
        if self.is_answer_made.load(Relaxed) {
            self.is_next_begun.store(true, Relaxed)
        } else {
            self.send.forget()
        }
    }

    /// No request is under way on a connection that may have several.
    pub(super) fn requests_ended(&self) {
        self.is_served.store(true, Relaxed);
        self.head.store(NO_HEAD, Relaxed);
    }

    /// Ready when the answer before is sent. The server would otherwise queue answer upon answer for a client that asks and does not
    /// read.
    pub(super) fn poll_answer_sent(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_next_begun.load(Relaxed) {
            return Poll::Ready(());
        }
        self.sent_waker.register(cx.waker());
        Poll::Pending
    }

    /// The last of an answer is with the stream.
    pub(super) fn answer_made(&self) {
        self.is_answer_made.store(true, Relaxed);
    }

    /// All that was with the stream is sent.
    pub(super) fn flushed(&self) {
        if self.is_answer_made.load(Relaxed) {
            self.is_answer_made.store(false, Relaxed);
            self.is_served.store(true, Relaxed);
            if self.is_next_begun.swap(false, Relaxed) {
                self.send.forget();
                self.sent_waker.wake();
            } else {
                self.head.store(NO_HEAD, Relaxed);
            }
        }
    }

    /// A handler waits for a body; `waker` is woken when that fails.
    pub(super) fn body_awaited(&self, waker: &std::task::Waker) {
        self.body_waker.register(waker);
        self.body.begin(self.now_us());
    }

    /// A piece of a body came, or its end.
    pub(super) fn body_came(&self, bytes: u64) {
        self.body.end(bytes, || self.now_us());
    }

    /// Nobody wants the rest of a body.
    pub(super) fn body_left(&self) {
        self.body.end(0, || self.now_us());
        self.is_body_left.store(true, Relaxed);
    }

    pub(super) fn is_body_left(&self) -> bool {
        self.is_body_left.load(Relaxed)
    }

    /// Makes the body that is waited for an error; `false` when it is one already.
    pub(super) fn fail_body(&self) -> bool {
        let is_told = !self.has_body_failed.swap(true, Relaxed);
        self.body_waker.wake();
        is_told
    }

    pub(super) fn has_body_failed(&self) -> bool {
        self.has_body_failed.load(Relaxed)
    }

    /// The stream takes nothing.
    pub(super) fn send_blocked(&self) {
        let begins = self.send.since_us.load(Relaxed) == 0;
        self.send.begin(self.now_us());
        // The connection is not polled with the stream any more, and has to look at the time anew.
        if begins && self.is_upgraded.load(Relaxed) {
            self.waker.wake();
        }
    }

    /// The stream took something.
    pub(super) fn sent(&self, bytes: u64) {
        self.send.end(bytes, || self.now_us());
    }

    /// The rest of a body that nobody wants is waited for.
    pub(super) fn linger_awaited(&self) {
        self.head.store(IN_REQUEST, Relaxed);
        self.linger.begin(self.now_us());
    }

    pub(super) fn linger_came(&self) {
        self.linger.end(0, || self.now_us());
    }

    /// What the client owes and when it is overdue; `None` while it owes nothing. To be asked whenever the connection has done what it
    /// could, for a head that is waited for is timed here.
    pub(super) fn due(&self, s: &ConnectionSettings) -> Option<(u64, Owed)> {
        self.note_time();
        let head = self.head.load(Relaxed);
        let since = head >> 2;
        let head = match head & 3 {
            NO_HEAD => Some((since.saturating_add(micros(s.idle_timeout)), Owed::Request)),
            PART_OF_HEAD => {
                let due = since.saturating_add(micros(s.head_timeout));
                Some((due, Owed::RestOfHead))
            }
            _ => None,
        };
        let whole = |_| micros(s.body_timeout);
        let body = self.body.due_us(s.body_stall_timeout, whole);
        let paced = |bytes: u64| match s.min_send_rate.as_u64() {
            0 => u64::MAX,
            rate => {
                let allowed = u128::from(bytes) * 1_000_000 / u128::from(rate);
                micros(s.send_stall_timeout)
                    .saturating_add(allowed.min(u128::from(u64::MAX)) as u64)
            }
        };
        let send = self.send.due_us(s.send_stall_timeout, paced);
        let linger = self.linger.due_us(LINGER_STALL, |_| micros(LINGER));
        let all = [
            head,
            body.map(|us| (us, Owed::Body)),
            send.map(|us| (us, Owed::Reading)),
            linger.map(|us| (us, Owed::End)),
        ];
        all.into_iter().flatten().min_by_key(|(us, _)| *us)
    }

    /// What the client is late with now.
    pub(super) fn overdue(&self, s: &ConnectionSettings) -> Option<Owed> {
        let (due, owed) = self.due(s)?;
        (due <= self.now_us()).then_some(owed)
    }

    /// Since when the client has kept us waiting; `None` while it owes nothing.
    pub(super) fn waiting_since_us(&self) -> Option<u64> {
        let stalls = [&self.body, &self.send, &self.linger];
        let since = stalls.into_iter().map(|s| s.since_us.load(Relaxed));
        let since = since.chain([self.head.load(Relaxed) >> 2]);
        since.filter(|us| *us > 0).min()
    }

    /// Whether a request was answered on this connection.
    pub(super) fn is_served(&self) -> bool {
        self.is_served.load(Relaxed)
    }

    /// Whether no request is under way.
    pub(super) fn is_between_requests(&self) -> bool {
        self.head.load(Relaxed) != IN_REQUEST || self.linger.since_us.load(Relaxed) != 0
    }

    /// Somebody else has the stream from now on: no request is waited for.
    pub(super) fn upgraded(&self) {
        self.head.store(IN_REQUEST, Relaxed);
        self.send.forget();
        self.is_upgraded.store(true, Relaxed);
    }

    /// The stream is no more.
    pub(super) fn stream_ended(&self) {
        self.has_stream_ended.store(true, Relaxed);
        self.waker.wake();
    }

    pub(super) fn has_stream_ended(&self) -> bool {
        self.has_stream_ended.load(Relaxed)
    }

    /// Ends a stream that somebody else has.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Relaxed);
        self.cut_waker.wake();
    }

    /// Whether the stream is to end; `waker` is woken when it is.
    pub(super) fn poll_cut(&self, waker: &std::task::Waker) -> bool {
        if self.is_upgraded.load(Relaxed) {
            self.cut_waker.register(waker);
        }
        self.is_cut.load(Relaxed)
    }

    /// Asks the connection to end.
    pub(super) fn ask(&self, asked: Asked) {
        let code = match asked {
            Asked::Nothing => 0,
            Asked::Stop => 1,
            Asked::Leave => 2,
        };
        self.asked.fetch_max(code, Relaxed);
        self.waker.wake();
    }

    pub(super) fn asked(&self) -> Asked {
        match self.asked.load(Relaxed) {
            0 => Asked::Nothing,
            1 => Asked::Stop,
            _ => Asked::Leave,
        }
    }

    /// What others ask; `waker` is woken when they do.
    pub(super) fn poll_asked(&self, waker: &std::task::Waker) -> Asked {
        self.waker.register(waker);
        self.asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteSize;

    fn settings() -> ConnectionSettings {
        ConnectionSettings {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(100),
            body_stall_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            send_stall_timeout: Duration::from_secs(20),
            min_send_rate: ByteSize::bytes(1000),
            ..Default::default()
        }
    }

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte_on() {
        let (s, w) = (settings(), Watch::new("x", Instant::now()));
        after(99).await;
        assert_eq!(w.overdue(&s), None);
        w.received();
        assert_eq!(w.overdue(&s), None);
        after(9).await;
        w.received();
        assert_eq!(w.overdue(&s), None);
        after(2).await;
        assert_eq!(w.overdue(&s), Some(Owed::RestOfHead));
        w.request_began();
        assert_eq!((w.due(&s), w.waiting_since_us()), (None, None));
        w.answer_made();
        w.flushed();
        assert_eq!(w.overdue(&s), None);
        after(101).await;
        assert_eq!(w.overdue(&s), Some(Owed::Request));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickled_body_has_an_end_and_our_own_work_does_not_count() {
        let (s, w) = (settings(), Watch::new("x", Instant::now()));
        w.request_began();
        for _ in 0..3 {
            after(1000).await;
            w.body_awaited(std::task::Waker::noop());
            after(9).await;
            assert_eq!(w.overdue(&s), None);
            w.body_came(1 << 20);
        }
        w.body_awaited(std::task::Waker::noop());
        after(4).await;
        assert_eq!(w.overdue(&s), Some(Owed::Body));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_must_keep_its_pace() {
        let (s, w) = (settings(), Watch::new("x", Instant::now()));
        w.request_began();
        w.sent(30_000);
        w.send_blocked();
        after(19).await;
        assert_eq!(w.overdue(&s), None);
        w.sent(1);
        w.send_blocked();
        after(19).await;
        w.sent(1);
        w.send_blocked();
        assert_eq!(w.overdue(&s), None);
        // 38 s so far; 20 and 30 for the bytes are allowed.
        after(13).await;
        assert_eq!(w.overdue(&s), Some(Owed::Reading));
    }
}
