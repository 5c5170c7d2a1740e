//! The entries that another process brings, and what it brings as they come in.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::Result;
use lgtm_core::model::{TimeRangeNs, TimestampNs};
use lgtm_core::rpc::{Remote, RpcStream};

use super::entries_message::{self, EntriesMessage};
use super::inspect_message;
use super::methods;
use crate::components::clients::{TailFeed, TailFrame};
use crate::select::{
    EntryBatch, EntryBatches, SelectEnd, SelectOrder, SelectRequest, StreamCounts,
};

/// The answer of another process to a select.
#[derive(Debug)]
pub(super) struct RemoteEntries {
    answer: RpcStream,
    of: Remote,
    method: &'static str,
    times: Option<TimeRangeNs>,
    /// That of the last batch that has come whole.
    horizon_ns: TimestampNs,
    /// What came while the other kind was asked for. Counts come first, so that no more than one batch waits.
    batch: Option<EntryBatch>,
    counts: VecDeque<Vec<StreamCounts>>,
    end: Option<SelectEnd>,
}

impl RemoteEntries {
    /// Waits until the other side has fixed what is in the answer.
    pub(super) async fn begin(
        answer: RpcStream,
        of: Remote,
        method: &'static str,
        request: &SelectRequest,
    ) -> Result<Self> {
        let mut this = Self {
            answer,
            of,
            method,
            times: None,
            horizon_ns: match request.order {
                SelectOrder::NewestFirst => TimestampNs::MAX,
                _ => TimestampNs::MIN,
            },
            batch: None,
            counts: VecDeque::new(),
            end: None,
        };
        this.take().await?;
        Ok(this)
    }

    /// Takes the next message; whether there was one.
    async fn take(&mut self) -> Result<bool> {
        let Some(message) = self.answer.next().await? else {
            return match self.end {
                Some(_) => Ok(false),
                None => Err(self.of.endless(self.method)),
            };
        };
        let read = entries_message::read(&message);
        match read.map_err(|e| self.of.unreadable(self.method, &e))? {
            EntriesMessage::Times(times) => self.times = times,
            EntriesMessage::Counts(counts) => self.counts.push_back(counts),
            EntriesMessage::End(end) => self.end = Some(end),
            EntriesMessage::Blocks(blocks, horizon) => {
                self.horizon_ns = horizon.unwrap_or(self.horizon_ns);
                self.batch = Some(EntryBatch {
                    blocks,
                    horizon_ns: self.horizon_ns,
                });
            }
        }
        Ok(true)
    }
}

#[async_trait]
impl EntryBatches for RemoteEntries {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        loop {
            if let Some(batch) = self.batch.take() {
                return Ok(Some(batch));
            }
            if !self.take().await? {
                return Ok(None);
            }
        }
    }

    async fn next_counts(&mut self) -> Result<Option<Vec<StreamCounts>>> {
        loop {
            if let Some(counts) = self.counts.pop_front() {
                return Ok(Some(counts));
            }
            // Behind them come batches.
            if self.batch.is_some() || self.end.is_some() || !self.take().await? {
                return Ok(None);
            }
        }
    }

    fn times(&self) -> Option<TimeRangeNs> {
        self.times
    }

    fn end(&mut self) -> SelectEnd {
        self.end.replace(SelectEnd::default()).unwrap_or_default()
    }
}

type NextMessage = Pin<Box<dyn Future<Output = (RpcStream, Result<Option<Bytes>>)> + Send>>;

/// What another process hands on as it comes in.
pub(super) struct RemoteFeed {
    of: Remote,
    /// The message that comes next: kept from call to call, so that a call that is given up loses nothing. None once nothing comes any more.
    next: Option<NextMessage>,
}

impl fmt::Debug for RemoteFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFeed")
            .field("of", &self.of)
            .finish_non_exhaustive()
    }
}

fn next_message(mut answer: RpcStream) -> NextMessage {
    Box::pin(async move {
        let message = answer.next().await;
        (answer, message)
    })
}

impl RemoteFeed {
    pub(super) fn new(answer: RpcStream, of: Remote) -> Self {
        Self {
            of,
            next: Some(next_message(answer)),
        }
    }
}

#[async_trait]
impl TailFeed for RemoteFeed {
    async fn next_frame(&mut self) -> Result<Option<TailFrame>> {
        let Some(next) = &mut self.next else {
            return Ok(None);
        };
        let (answer, message) = next.await;
        self.next = None;
        let Some(message) = message? else {
            return Err(self.of.endless(methods::TAIL));
        };
        let frame = inspect_message::frame(&message);
        let frame = frame.map_err(|e| self.of.unreadable(methods::TAIL, &e))?;
        if frame.is_some() {
            self.next = Some(next_message(answer));
        }
        Ok(frame)
    }
}
