//! Methods that other processes call.

use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;
use futures::stream::{self, Stream};
use lgtm_core::Result;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::Executor;
use lgtm_core::http::{DecodeEffort, decode_push};
use lgtm_core::limits::BatchPool;
use lgtm_core::model::TimestampNs;
use lgtm_core::rpc::messages::list_messages;
use lgtm_core::rpc::{RpcMessage, RpcServer};

use super::entries_message as entries;
use super::inspect_message::{self as inspect, SentPatterns, Volumes};
use super::methods::{self, SelectMethods};
use super::report_message::put_report;
use super::select_message::select;
use crate::components::clients::{IngesterClient, Inspect, StoreGatewayClient, TailFeed};
use crate::limits::{Accepted, PushPart};
use crate::select::{EntryBatches, Select, StreamBlock, StreamCounts};
use crate::wire::{PushBatch, decode_part};

/// Pushes up to this are decoded where they stand: that takes a fraction of a millisecond.
const SMALL_PUSH_BYTES: usize = 512 << 10;

/// All that others may ask of an ingester, as the routes of an [`HttpServer`](lgtm_core::http::HttpServer). Large pushes are decoded on `executor`.
pub fn ingester_routes(
    rpc: &Arc<RpcServer>,
    ingester: Arc<dyn IngesterClient>,
    executor: &Executor,
) -> Router {
    let of = &ingester;
    let patterns = rpc.asking_for_many(of, |i, tenant, message| async move {
        let request = inspect::patterns_request(&message)?;
        let list = i.patterns(&tenant, &request).await?.map(SentPatterns);
        Ok(stream::iter(list_messages(list).map(Ok)))
    });
    let tail = rpc.asking_for_many(of, |i, tenant, message| async move {
        let request = inspect::tail_request(&message)?;
        Ok(sent_frames(i.tail(&tenant, &request).await?))
    });
    let path = |method: &str| format!("/{method}");
    select_routes(rpc, &methods::INGESTER, of)
        .route(&path(methods::PUSH), push(rpc, of, executor.clone()))
        .route(&path(methods::PATTERNS), patterns)
        .route(&path(methods::TAIL), tail)
}

/// All that others may ask of an index-gateway.
pub fn index_gateway_routes(rpc: &Arc<RpcServer>, chunks: Arc<dyn StoreGatewayClient>) -> Router {
    select_routes(rpc, &methods::INDEX_GATEWAY, &chunks)
}

fn select_routes<H: Select + Inspect + ?Sized>(
    rpc: &Arc<RpcServer>,
    methods: &SelectMethods,
    of: &Arc<H>,
) -> Router {
    let entries = rpc.asking_for_many(of, |holder, tenant, message| async move {
        let asked = select(&message)?;
        let answer = match &asked.wish {
            Some(wish) => holder.select_counted(&tenant, &asked.request, wish),
            None => holder.select(&tenant, &asked.request),
        };
        Ok(sent_entries(answer.await?, asked.wish.is_some()))
    });
    let series = rpc.asking_for_many(of, |holder, tenant, message| async move {
        let list = holder.series(&tenant, &select(&message)?.request).await?;
        Ok(stream::iter(list_messages(list).map(Ok)))
    });
    let names = rpc.asking_for_many(of, |holder, tenant, message| async move {
        let asked = select(&message)?;
        let list = holder.label_names(&tenant, &asked.request).await?;
        Ok(stream::iter(list_messages(list).map(Ok)))
    });
    let values = rpc.asking_for_many(of, |holder, tenant, message| async move {
        let asked = select(&message)?;
        let list = holder.label_values(&tenant, &asked.name, &asked.request);
        Ok(stream::iter(list_messages(list.await?).map(Ok)))
    });
    let volumes = rpc.asking_for_many(of, |holder, tenant, message| async move {
        let list = holder.volumes(&tenant, &select(&message)?.request).await?;
        Ok(stream::iter(list_messages(list.map(Volumes)).map(Ok)))
    });
    let path = |method: &str| format!("/{method}");
    Router::new()
        .route(&path(methods.select), entries)
        .route(&path(methods.series), series)
        .route(&path(methods.label_names), names)
        .route(&path(methods.label_values), values)
        .route(&path(methods.volumes), volumes)
}

fn push(
    rpc: &Arc<RpcServer>,
    ingester: &Arc<dyn IngesterClient>,
    executor: Executor,
) -> MethodRouter {
    let ingester = Arc::clone(ingester);
    let batches: Arc<BatchPool<PushBatch>> = Arc::default();
    rpc.unary(move |call| {
        let (ingester, executor) = (Arc::clone(&ingester), executor.clone());
        let batches = Arc::clone(&batches);
        async move {
            let tenant = call.tenant?;
            let effort = if call.message.len() <= SMALL_PUSH_BYTES {
                DecodeEffort::Small
            } else {
                DecodeEffort::Large
            };
            let (batch, message) = (batches.take(call.room), call.message);
            let decode = move |batch: &mut PushBatch, allowance: &mut Allowance<'_>| {
                decode_part(batch, &message, allowance)
            };
            let batch = decode_push(&executor, batch, effort, 0, decode).await?;
            let accepted = Arc::new(Accepted::all(&batch));
            let part = PushPart::new(Arc::new(batch), accepted);
            let report = ingester.push(&tenant, part).await?;
            Ok(RpcMessage::of(|out| put_report(out, &report)))
        }
    })
}

/// What of an answer is sent next.
#[derive(Debug, PartialEq)]
enum Next {
    Times,
    Counts,
    Batches,
    Nothing,
}

/// An answer that is being sent.
struct Sending {
    answer: Box<dyn EntryBatches>,
    next: Next,
    is_counted: bool,
    /// What of the last batch, or of the last counts, was not sent yet.
    blocks: Vec<StreamBlock>,
    counts: Vec<StreamCounts>,
    at: usize,
    horizon_ns: TimestampNs,
}

impl Sending {
    async fn message(&mut self) -> Result<Option<RpcMessage>> {
        loop {
            if self.at < self.blocks.len() {
                let (rest, mut count) = (&self.blocks[self.at..], 0);
                let message = RpcMessage::of(|out| {
                    count = entries::put_blocks(out, rest, self.horizon_ns);
                });
                self.at += count;
                return Ok(Some(message));
            }
            if self.at < self.counts.len() {
                let (rest, mut count) = (&self.counts[self.at..], 0);
                let message = RpcMessage::of(|out| count = entries::put_counts(out, rest));
                self.at += count;
                return Ok(Some(message));
            }
            (self.blocks, self.counts, self.at) = (Vec::new(), Vec::new(), 0);
            match self.next {
                Next::Times => {
                    self.next = match self.is_counted {
                        true => Next::Counts,
                        false => Next::Batches,
                    };
                    let times = self.answer.times();
                    return Ok(Some(RpcMessage::of(|out| entries::put_times(out, times))));
                }
                Next::Counts => match self.answer.next_counts().await? {
                    Some(counts) => self.counts = counts,
                    None => self.next = Next::Batches,
                },
                Next::Batches => match self.answer.next_batch().await? {
                    Some(batch) => {
                        self.horizon_ns = batch.horizon_ns;
                        self.blocks = entries::in_pieces(batch.blocks);
                    }
                    None => {
                        self.next = Next::Nothing;
                        let end = self.answer.end();
                        return Ok(Some(RpcMessage::of(|out| entries::put_end(out, &end))));
                    }
                },
                Next::Nothing => return Ok(None),
            }
        }
    }
}

/// Times, counts, entries batch by batch, and how it ended.
fn sent_entries(
    answer: Box<dyn EntryBatches>,
    is_counted: bool,
) -> impl Stream<Item = Result<RpcMessage>> + Send {
    let sending = Sending {
        answer,
        next: Next::Times,
        is_counted,
        blocks: Vec::new(),
        counts: Vec::new(),
        at: 0,
        horizon_ns: TimestampNs::EPOCH,
    };
    stream::try_unfold(sending, |mut sending| async move {
        let message = sending.message().await?;
        Ok(message.map(|message| (message, sending)))
    })
}

/// Frames as they come, and that no more come.
fn sent_frames(feed: Box<dyn TailFeed>) -> impl Stream<Item = Result<RpcMessage>> + Send {
    stream::try_unfold(Some(feed), |feed| async move {
        let Some(mut feed) = feed else {
            return Ok(None);
        };
        Ok(Some(match feed.next_frame().await? {
            Some(frame) => (
                RpcMessage::of(|out| inspect::put_frame(out, &frame)),
                Some(feed),
            ),
            None => (RpcMessage::of(inspect::put_tail_end), None),
        }))
    })
}
