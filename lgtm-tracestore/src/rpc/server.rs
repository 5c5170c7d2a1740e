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
use lgtm_core::rpc::{RpcMessage, RpcServer};

use super::held_answers::{AnswerHold, HeldAnswers};
use super::recent_message::{self as message, SentTraces};
use super::report_message::put_report;
use super::{find_message, methods};
use crate::components::clients::IngesterClient;
use crate::limits::PushPart;
use crate::select::{RecentTrace, SelectEnd};
use crate::trace::TraceId;
use crate::wire::{PushBatch, PushOptions, decode_otlp};

/// Pushes up to this are decoded where they stand: that takes a fraction of a millisecond.
const SMALL_PUSH_BYTES: usize = 512 << 10;

/// All that others may ask of an ingester, as the routes of an [`HttpServer`](lgtm_core::http::HttpServer). Large pushes are decoded on `executor`.
pub fn ingester_routes(
    rpc: &Arc<RpcServer>,
    ingester: Arc<dyn IngesterClient>,
    executor: &Executor,
) -> Router {
    routes(rpc, ingester, executor, &HeldAnswers::new())
}

pub(super) fn routes(
    rpc: &Arc<RpcServer>,
    ingester: Arc<dyn IngesterClient>,
    executor: &Executor,
    held: &Arc<HeldAnswers>,
) -> Router {
    let of = &ingester;
    let find = rpc.asking_for_many(of, |i, tenant, asked| async move {
        let request = find_message::request(&asked)?;
        let found = i.find_trace(&tenant, &request).await?;
        Ok(stream::iter(find_message::messages(found).map(Ok)))
    });
    let answers = Arc::clone(held);
    let recent = rpc.asking_for_many(of, move |i, tenant, asked| {
        let answers = Arc::clone(&answers);
        async move {
            let traces = i.recent(&tenant, &message::request(&asked)?).await?;
            Ok(sent_recent(answers.hold(tenant, traces)))
        }
    });
    let have = rpc.asking(held, |held, tenant, asked| async move {
        let (number, ids) = message::look_up(&asked)?;
        let answer = held.get(&tenant, number)?;
        let had = answer.traces.lock().await.have(&ids).await?;
        Ok(RpcMessage::of(|out| message::put_had(out, &had)))
    });
    let whole = rpc.asking_for_many(held, |held, tenant, asked| async move {
        let (number, ids) = message::look_up(&asked)?;
        let answer = held.get(&tenant, number)?;
        let mut traces = answer.traces.lock().await;
        let found = traces.whole_traces(&ids).await?;
        let end = traces.end();
        drop(traces);
        Ok(sent_whole(&ids, found, end))
    });
    let path = |method: &str| format!("/{method}");
    Router::new()
        .route(&path(methods::PUSH), push(rpc, of, executor.clone()))
        .route(&path(methods::FIND_TRACE), find)
        .route(&path(methods::RECENT), recent)
        .route(&path(methods::HAVE), have)
        .route(&path(methods::WHOLE_TRACES), whole)
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
                // The distributor has cut what is too long.
                let options = PushOptions {
                    max_attribute_bytes: 0,
                };
                decode_otlp(batch, options, allowance, |body, allowance| {
                    allowance.reserve(body, message.len())?;
                    body.extend_from_slice(&message);
                    Ok(())
                })
            };
            let batch = decode_push(&executor, batch, effort, 0, decode).await?;
            let part = PushPart::whole(Arc::new(batch));
            let report = ingester.push(&tenant, part).await?;
            Ok(RpcMessage::of(|out| put_report(out, &report)))
        }
    })
}

/// What of an answer is sent next.
#[derive(Debug, PartialEq)]
enum Next {
    Number,
    Traces,
    /// The end is sent: the answer is held until its caller goes, or its time is over.
    Hold,
}

struct Sending {
    hold: AnswerHold,
    next: Next,
    traces: SentTraces,
}

impl Sending {
    async fn message(&mut self) -> Result<RpcMessage> {
        if self.next == Next::Number {
            self.next = Next::Traces;
            let number = self.hold.number();
            return Ok(RpcMessage::of(|out| {
                message::put_answer_number(out, number);
            }));
        }
        if self.next == Next::Hold {
            futures::future::pending::<()>().await;
        }
        if self.traces.is_empty() {
            let mut answer = self.hold.answer.traces.lock().await;
            self.traces = SentTraces::new(answer.next_traces().await?);
            if self.traces.is_empty() {
                self.next = Next::Hold;
                let end = answer.end();
                return Ok(RpcMessage::of(|out| message::put_end(out, &end)));
            }
        }
        Ok(RpcMessage::of(|out| self.traces.put(out)))
    }
}

/// Traces as they come, and how it ended; then it is held.
fn sent_recent(hold: AnswerHold) -> impl Stream<Item = Result<RpcMessage>> + Send {
    let sending = Sending {
        hold,
        next: Next::Number,
        traces: SentTraces::default(),
    };
    stream::try_unfold(sending, |mut sending| async move {
        let message = sending.message().await?;
        Ok(Some((message, sending)))
    })
}

/// Traces that were looked up, in the order of their ids in the question.
fn sent_whole(
    ids: &[TraceId],
    found: Vec<Vec<u8>>,
    end: SelectEnd,
) -> impl Stream<Item = Result<RpcMessage>> + Send + use<> {
    let traces = ids.iter().zip(found);
    let traces = traces.map(|(id, bytes)| RecentTrace { id: *id, bytes });
    let (mut traces, mut end) = (SentTraces::new(traces.collect()), Some(end));
    stream::iter(std::iter::from_fn(move || {
        if !traces.is_empty() {
            return Some(Ok(RpcMessage::of(|out| traces.put(out))));
        }
        let end = end.take()?;
        Some(Ok(RpcMessage::of(|out| message::put_end(out, &end))))
    }))
}
