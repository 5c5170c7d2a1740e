//! Bodies and listings that go on after a broken connection.
//!
//! A large object or a long listing takes many reads; when one fails in a way that may pass, the rest is asked for from where it
//! stopped, instead of losing the whole.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result};

use bytes::Bytes;

use crate::storage::deadline::within;
use crate::storage::fault::{self, Fault};
use crate::storage::guarded::Guarded;
use crate::storage::meter::{LIST_PAGE, Operation};
use crate::storage::retry::{Repeat, Tries};
use crate::storage::slots::Slot;

/// The same result with a body that is counted, has deadlines, and is taken up again when it breaks.
///
/// The slot of a ranged read is kept until its body is read or dropped. The slot of a whole object is not: a merge of many open
/// objects would wait for its own slots for ever.
pub(super) fn resuming_body(
    guarded: Guarded,
    location: Path,
    options: GetOptions,
    result: GetResult,
    slot: Slot,
) -> GetResult {
    let GetResultPayload::Stream(stream) = result.payload else {
        // A local file, read by the caller itself.
        guarded.meter().read(result.range.end - result.range.start);
        return result;
    };
    let tries = guarded.retry().begin(Repeat::Always);
    let body = Body {
        operation: if options.range.is_some() {
            Operation::GetRange
        } else {
            Operation::Get
        },
        slot: options.range.is_some().then_some(slot),
        guarded,
        location,
        options,
        stream,
        at: result.range.start,
        end: result.range.end,
        e_tag: result.meta.e_tag.clone(),
        tries,
    };
    let stream = stream::try_unfold(body, Body::next).boxed();
    GetResult {
        payload: GetResultPayload::Stream(stream),
        ..result
    }
}

struct Body {
    guarded: Guarded,
    location: Path,
    options: GetOptions,
    operation: Operation,
    stream: BoxStream<'static, Result<Bytes>>,
    /// The next byte to come, and where the body ends, in the object.
    at: u64,
    end: u64,
    e_tag: Option<String>,
    tries: Tries,
    slot: Option<Slot>,
}

impl Body {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        loop {
            let limit = self.guarded.settings().request_timeout;
            let error = match within(limit, async { self.stream.try_next().await }).await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    self.guarded.meter().read(chunk.len() as u64);
                    return Ok(Some((chunk, self)));
                }
                Ok(None) if self.at >= self.end => return Ok(None),
                Ok(None) => Fault::CutShort {
                    at: self.at,
                    len: self.end,
                }
                .into(),
                Err(error) => error,
            };
            self.guarded
                .meter()
                .failed(self.operation, fault::kind_of(&error));
            self.resume(error).await?;
        }
    }

    /// Asks for what is still missing, of the same version of the object where the back end tells versions apart.
    async fn resume(&mut self, error: object_store::Error) -> Result<()> {
        self.stream = stream::empty().boxed();
        self.slot = None;
        self.tries.again_after(error).await?;
        if self.at >= self.end {
            return Ok(());
        }
        let mut options = self.options.clone();
        options.range = Some(GetRange::Bounded(self.at..self.end));
        options.if_match = options.if_match.or_else(|| self.e_tag.clone());
        let (result, slot) = self.guarded.open(&self.location, &options).await?;
        self.slot = (self.operation == Operation::GetRange).then_some(slot);
        self.stream = match result.payload {
            GetResultPayload::Stream(stream) => stream,
            file => GetResult {
                payload: file,
                ..result
            }
            .into_stream(),
        };
        Ok(())
    }
}

/// A listing that is counted by page and, where the back end lists in the order of names, goes on after the last entry seen.
pub(super) fn list_stream(
    guarded: Guarded,
    prefix: Option<Path>,
    offset: Option<Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let tries = guarded.retry().begin(Repeat::Always);
    let list = List {
        guarded,
        prefix,
        after: offset,
        stream: None,
        seen: 0,
        tries,
    };
    stream::try_unfold(list, List::next).boxed()
}

struct List {
    guarded: Guarded,
    prefix: Option<Path>,
    /// The last entry seen, or where the caller begins.
    after: Option<Path>,
    stream: Option<BoxStream<'static, Result<ObjectMeta>>>,
    seen: usize,
    tries: Tries,
}

impl List {
    async fn next(mut self) -> Result<Option<(ObjectMeta, Self)>> {
        loop {
            match self.try_next().await {
                Ok(Some(meta)) => {
                    self.seen += 1;
                    if self.seen.is_multiple_of(LIST_PAGE) {
                        self.guarded.meter().count(Operation::List, 1);
                    }
                    if self.guarded.kind().lists_by_name() {
                        self.after = Some(meta.location.clone());
                    }
                    return Ok(Some((meta, self)));
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.stream = None;
                    if self.seen > 0 && !self.guarded.kind().lists_by_name() {
                        return Err(error);
                    }
                    self.tries.again_after(error).await?;
                }
            }
        }
    }

    /// The next entry. Only the first, which brings the first page, takes a slot: a caller that reads objects while it lists would
    /// else wait for itself.
    async fn try_next(&mut self) -> Result<Option<ObjectMeta>> {
        let limit = self.guarded.settings().request_timeout;
        if let Some(stream) = &mut self.stream {
            let entry = within(limit, async { stream.try_next().await }).await;
            if let Err(error) = &entry {
                self.guarded
                    .meter()
                    .failed(Operation::List, fault::kind_of(error));
            }
            return entry;
        }
        let prefix = self.prefix.as_ref();
        let mut stream = match &self.after {
            Some(after) => self.guarded.store().list_with_offset(prefix, after),
            None => self.guarded.store().list(prefix),
        };
        let first = async { stream.try_next().await };
        let (entry, _slot) = self.guarded.once(Operation::List, limit, first).await?;
        self.stream = Some(stream);
        Ok(entry)
    }
}
