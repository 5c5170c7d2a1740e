//! What several holders bring to who follows a query, in one order, with what there was before.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use async_trait::async_trait;
use hashbrown::HashSet;
use lgtm_core::model::{Labels, TimestampNs};
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::clients::{TailFeed, TailFrame, TailRequest};
use super::followers::{FRAME_ENTRIES, TOLD_DROPS};
use crate::logql::{AnswerStream, Direction, ParserSettings, Query, QueryError, QueryRange};

/// Frames that wait to be shown, as in Loki. With more the holders are not asked, and leave out what they have no room for.
const MAX_FRAMES: usize = 10;
/// Bytes of lines that wait so.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Entries shown last that are remembered, so that none is shown twice.
const REMEMBERED: usize = 10_000;

/// How queries are followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TailSettings {
    /// How long a query is followed; then the client asks again. Default 1h, Loki's number.
    #[serde(with = "lgtm_core::units::duration")]
    pub max_duration: Duration,
}

impl Default for TailSettings {
    fn default() -> Self {
        Self {
            max_duration: Duration::from_secs(3600),
        }
    }
}

/// The query for what there was before: to be asked once the holders are followed, so that nothing falls between.
///
/// # Errors
/// `Parse`.
pub fn tail_history(
    request: &TailRequest,
    now_ns: TimestampNs,
    parser: &ParserSettings,
) -> Result<Query, QueryError> {
    let range = QueryRange {
        limit: request.limit.max(1),
        direction: Direction::Backward,
        ..QueryRange::new(request.start_ns.min(now_ns), now_ns.saturating_add(1))
    };
    Query::range(&request.query, range, parser)
}

/// Joins feeds. Entries that came from the past or from another holder already are left out.
///
/// Its last answer is an error whose text is the reason of the close frame: `reached tail max duration limit` or `all ingesters closed the
/// connection`.
#[derive(Debug)]
pub struct JoinedTail {
    feeds: Vec<Box<dyn TailFeed>>,
    /// Entries that wait, by time and arrival.
    waiting: BTreeMap<(TimestampNs, u64), AnswerStream>,
    waiting_bytes: usize,
    arrivals: u64,
    /// When those that wait are shown.
    due: Option<Instant>,
    delay: Duration,
    dropped: Vec<(TimestampNs, Labels)>,
    shown: HashSet<u64>,
    shown_order: VecDeque<u64>,
    until: Instant,
}

impl JoinedTail {
    /// Joins `feeds`; `history` is what [`tail_history`] gave. Needs a runtime with timers.
    pub fn new(
        feeds: Vec<Box<dyn TailFeed>>,
        history: Vec<AnswerStream>,
        request: &TailRequest,
        settings: &TailSettings,
    ) -> Self {
        let now = Instant::now();
        let mut joined = Self {
            feeds,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            arrivals: 0,
            due: None,
            delay: Duration::from_nanos(u64::try_from(request.delay_ns).unwrap_or(0)),
            dropped: Vec::new(),
            shown: HashSet::new(),
            shown_order: VecDeque::new(),
            until: now + settings.max_duration,
        };
        for stream in history {
            let AnswerStream {
                stream,
                metadata,
                parsed,
                entries,
            } = stream;
            for entry in entries {
                joined.add(AnswerStream {
                    stream: stream.clone(),
                    metadata: metadata.clone(),
                    parsed: parsed.clone(),
                    entries: vec![entry],
                });
            }
        }
        // The past has waited long enough.
        joined.due = Some(now).filter(|_| !joined.waiting.is_empty());
        joined
    }

    /// Takes an entry, unless it is known.
    fn add(&mut self, one: AnswerStream) {
        let Some(entry) = one.entries.first() else {
            return;
        };
        let t_ns = entry.t_ns;
        let identity = (t_ns, &entry.line, &one.stream, &one.metadata, &one.parsed);
        let hash = self.shown.hasher().hash_one(identity);
        if !self.shown.insert(hash) {
            return;
        }
        self.shown_order.push_back(hash);
        if self.shown_order.len() > REMEMBERED
            && let Some(oldest) = self.shown_order.pop_front()
        {
            self.shown.remove(&oldest);
        }
        self.arrivals += 1;
        self.waiting_bytes += entry.line.len();
        self.waiting.insert((t_ns, self.arrivals), one);
        self.due.get_or_insert_with(|| Instant::now() + self.delay);
    }

    fn take(&mut self, frame: TailFrame) {
        for stream in frame.streams {
            self.add(stream);
        }
        let room = TOLD_DROPS.saturating_sub(self.dropped.len());
        self.dropped.extend(frame.dropped.into_iter().take(room));
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_FRAMES * FRAME_ENTRIES || self.waiting_bytes >= MAX_WAITING_BYTES
    }

    /// The frame that is due, if one is.
    fn due_frame(&mut self) -> Option<TailFrame> {
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if !(is_due || self.is_full()) && (self.dropped.is_empty() || self.due.is_some()) {
            return None;
        }
        let mut frame = TailFrame {
            streams: Vec::new(),
            dropped: std::mem::take(&mut self.dropped),
        };
        while frame.streams.len() < FRAME_ENTRIES
            && let Some((_, stream)) = self.waiting.pop_first()
        {
            let lines = stream.entries.iter().map(|e| e.line.len());
            self.waiting_bytes -= lines.sum::<usize>();
            frame.streams.push(stream);
        }
        if self.waiting.is_empty() {
            self.due = None;
        }
        Some(frame)
    }
}

#[async_trait]
impl TailFeed for JoinedTail {
    async fn next_frame(&mut self) -> Result<Option<TailFrame>> {
        loop {
            if self.until <= Instant::now() {
                let text = "reached tail max duration limit";
                return Err(Error::Unavailable(text.into()));
            }
            if let Some(frame) = self.due_frame() {
                return Ok(Some(frame));
            }
            if self.feeds.is_empty() && self.waiting.is_empty() {
                let text = "all ingesters closed the connection";
                return Err(Error::Unavailable(text.into()));
            }
            let wake = self.due.map_or(self.until, |due| due.min(self.until));
            let fetched = {
                let frames = self.feeds.iter_mut().map(|feed| feed.next_frame());
                let frames: Vec<_> = frames.collect();
                let any = async {
                    if frames.is_empty() {
                        std::future::pending().await
                    } else {
                        futures::future::select_all(frames).await
                    }
                };
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(wake) => None,
                    (frame, place, _) = any => Some((frame, place)),
                }
            };
            match fetched {
                None => {}
                Some((Ok(Some(frame)), _)) => self.take(frame),
                Some((Ok(None), place)) => drop(self.feeds.swap_remove(place)),
                Some((Err(e), place)) => {
                    tracing::warn!(error = %e, "a holder that is followed went away");
                    drop(self.feeds.swap_remove(place));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
