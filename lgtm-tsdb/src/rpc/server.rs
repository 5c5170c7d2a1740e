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
use lgtm_core::model::Labels;
use lgtm_core::rpc::messages::{ListEnd, list_messages, put_label_sets, put_list_end};
use lgtm_core::rpc::{RpcMessage, RpcServer};

use super::inspect_message as inspect;
use super::methods::{self, SelectMethods};
use super::report_message::put_report;
use super::{batch_message, select_message};
use crate::components::clients::IngesterClient;
use crate::head::{AppendReport, EXEMPLAR_LABELS_TOO_LONG};
use crate::select::{LabelBatches, Select, SeriesBatches, SeriesChunks};
use crate::wire::{PushPart, WriteBatch, decode_part};

/// Pushes up to this are decoded where they stand: that takes half a millisecond.
const SMALL_PUSH_BYTES: usize = 512 << 10;

/// All that others may ask of an ingester, as the routes of an [`HttpServer`](lgtm_core::http::HttpServer). Large pushes are decoded on `executor`.
pub fn ingester_routes(
    rpc: &Arc<RpcServer>,
    ingester: Arc<dyn IngesterClient>,
    executor: &Executor,
) -> Router {
    let of = &ingester;
    let route = |router: Router, method: &str, answer: MethodRouter| {
        router.route(&format!("/{method}"), answer)
    };
    let mut all = select_routes(rpc, &methods::INGESTER, Arc::clone(of) as Arc<dyn Select>);
    all = route(all, methods::PUSH, push(rpc, of, executor.clone()));
    let metadata = rpc.asking(of, |i, tenant, message| async move {
        let metric = inspect::metadata_request(&message)?;
        let answer = i.metadata(&tenant, metric.as_deref()).await?;
        Ok(RpcMessage::of(|out| inspect::put_metadata(out, &answer)))
    });
    all = route(all, methods::METADATA, metadata);
    let exemplars = rpc.asking(of, |i, tenant, message| async move {
        let request = inspect::exemplars_request(&message)?;
        let answer = i.exemplars(&tenant, &request).await?;
        Ok(RpcMessage::of(|out| inspect::put_exemplars(out, &answer)))
    });
    all = route(all, methods::EXEMPLARS, exemplars);
    let label_names = rpc.asking(of, |i, tenant, message| async move {
        let (_, request) = inspect::cardinality_request(&message)?;
        let answer = i.label_names_cardinality(&tenant, &request).await?;
        Ok(RpcMessage::of(|out| inspect::put_label_names(out, &answer)))
    });
    all = route(all, methods::LABEL_NAMES_CARDINALITY, label_names);
    let label_values = rpc.asking(of, |i, tenant, message| async move {
        let (names, request) = inspect::cardinality_request(&message)?;
        let answer = i.label_values_cardinality(&tenant, &names, &request);
        let answer = answer.await?;
        Ok(RpcMessage::of(|out| {
            inspect::put_label_values(out, &answer)
        }))
    });
    all = route(all, methods::LABEL_VALUES_CARDINALITY, label_values);
    let histograms = rpc.asking(of, |i, tenant, message| async move {
        let matchers = inspect::matchers(&message)?;
        let answer = i.active_histograms(&tenant, &matchers).await?;
        Ok(RpcMessage::of(|out| inspect::put_histograms(out, &answer)))
    });
    all = route(all, methods::ACTIVE_HISTOGRAMS, histograms);
    let head_stats = rpc.asking(of, |i, tenant, message| async move {
        let answer = i.head_stats(&tenant, inspect::limit(&message)?).await?;
        Ok(RpcMessage::of(|out| inspect::put_head_stats(out, &answer)))
    });
    all = route(all, methods::HEAD_STATS, head_stats);
    let tenant_stats = rpc.asking(of, |i, tenant, _| async move {
        let answer = i.tenant_stats(&tenant).await?;
        Ok(RpcMessage::of(|out| inspect::put_tenant_stats(out, answer)))
    });
    all = route(all, methods::TENANT_STATS, tenant_stats);
    let active = rpc.asking_for_many(of, |i, tenant, message| async move {
        let request = inspect::active_request(&message)?;
        Ok(sent_labels(i.active_series(&tenant, &request).await?))
    });
    route(all, methods::ACTIVE_SERIES, active)
}

/// All that others may ask of a store-gateway.
pub fn store_gateway_routes(rpc: &Arc<RpcServer>, blocks: Arc<dyn Select>) -> Router {
    select_routes(rpc, &methods::STORE_GATEWAY, blocks)
}

fn select_routes(rpc: &Arc<RpcServer>, methods: &SelectMethods, of: Arc<dyn Select>) -> Router {
    let select = rpc.asking_for_many(&of, |holder, tenant, message| async move {
        let (request, _) = select_message::select(&message)?;
        Ok(sent_series(holder.select(&tenant, &request).await?))
    });
    let series = rpc.asking_for_many(&of, |holder, tenant, message| async move {
        let (request, _) = select_message::select(&message)?;
        let list = holder.series(&tenant, &request).await?;
        Ok(stream::iter(list_messages(list).map(Ok)))
    });
    let names = rpc.asking_for_many(&of, |holder, tenant, message| async move {
        let (request, _) = select_message::select(&message)?;
        let list = holder.label_names(&tenant, &request).await?;
        Ok(stream::iter(list_messages(list).map(Ok)))
    });
    let values = rpc.asking_for_many(&of, |holder, tenant, message| async move {
        let (request, name) = select_message::select(&message)?;
        let list = holder.label_values(&tenant, &name, &request).await?;
        Ok(stream::iter(list_messages(list).map(Ok)))
    });
    let path = |method: &str| format!("/{method}");
    Router::new()
        .route(&path(methods.select), select)
        .route(&path(methods.series), series)
        .route(&path(methods.label_names), names)
        .route(&path(methods.label_values), values)
}

fn push(
    rpc: &Arc<RpcServer>,
    ingester: &Arc<dyn IngesterClient>,
    executor: Executor,
) -> MethodRouter {
    let ingester = Arc::clone(ingester);
    let batches: Arc<BatchPool<WriteBatch>> = Arc::default();
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
            let decode = move |batch: &mut WriteBatch, allowance: &mut Allowance<'_>| {
                decode_part(batch, &message, allowance)
            };
            let batch = decode_push(&executor, batch, effort, 0, decode).await?;
            let long = batch.long_exemplar_count();
            let part = PushPart::whole(Arc::new(batch));
            let mut report: AppendReport = ingester.push(&tenant, part).await?;
            if long > 0 {
                let dropped = &mut report.dropped_exemplars;
                *dropped.entry(EXEMPLAR_LABELS_TOO_LONG.into()).or_default() += long;
            }
            Ok(RpcMessage::of(|out| put_report(out, &report)))
        }
    })
}

/// An answer that is being sent.
struct Sending<B, T> {
    batches: B,
    /// What of the last batch was not sent yet.
    rest: Vec<T>,
    at: usize,
    is_done: bool,
}

impl<B, T> Sending<B, T> {
    fn new(batches: B) -> Self {
        Self {
            batches,
            rest: Vec::new(),
            at: 0,
            is_done: false,
        }
    }

    /// The next message of what is there.
    fn message(&mut self, put: impl FnOnce(&mut Vec<u8>, &[T]) -> usize) -> Option<RpcMessage> {
        let rest = &self.rest[self.at..];
        if rest.is_empty() {
            return None;
        }
        let mut count = 0;
        let message = RpcMessage::of(|out| count = put(out, rest));
        self.at += count;
        Some(message)
    }

    fn fill(&mut self, batch: Vec<T>) {
        (self.rest, self.at) = (batch, 0);
    }
}

/// Series, batch by batch, and how it ended.
fn sent_series(batches: Box<dyn SeriesBatches>) -> impl Stream<Item = Result<RpcMessage>> + Send {
    let sending = Sending::<_, SeriesChunks>::new(batches);
    stream::try_unfold(sending, |mut sending| async move {
        loop {
            if let Some(message) = sending.message(batch_message::put_series) {
                return Ok(Some((message, sending)));
            }
            if sending.is_done {
                return Ok(None);
            }
            match sending.batches.next_batch().await? {
                Some(batch) => sending.fill(batch),
                None => {
                    sending.is_done = true;
                    let end = sending.batches.end();
                    let message = RpcMessage::of(|out| batch_message::put_end(out, &end));
                    return Ok(Some((message, sending)));
                }
            }
        }
    })
}

/// Label sets, batch by batch.
fn sent_labels(batches: Box<dyn LabelBatches>) -> impl Stream<Item = Result<RpcMessage>> + Send {
    let sending = Sending::<_, Labels>::new(batches);
    stream::try_unfold(sending, |mut sending| async move {
        loop {
            if let Some(message) = sending.message(put_label_sets) {
                return Ok(Some((message, sending)));
            }
            if sending.is_done {
                return Ok(None);
            }
            match sending.batches.next_batch().await? {
                Some(batch) => sending.fill(batch),
                None => {
                    sending.is_done = true;
                    let message = RpcMessage::of(|out| put_list_end(out, &ListEnd::default()));
                    return Ok(Some((message, sending)));
                }
            }
        }
    })
}
