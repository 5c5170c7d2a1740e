//! `tempopb.StreamingQuerier`: the query API as streams of messages. What is known is told every now and then, the whole answer at the end, in messages of
//! bounded size.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use lgtm_core::Error;
use lgtm_core::codec::protobuf::{bytes_tag, put_bytes_field};
use lgtm_core::codec::{ContentEncoding, SizeBound, put_uvarint};
use lgtm_core::error::DecodeError;
use lgtm_core::exec::move_to_pool;
use lgtm_core::http::{GrpcCode, GrpcMessage, GrpcStatus, grpc_refusal, grpc_stream, grpc_timeout};
use tokio::sync::mpsc;

use super::heard::{NewNames, NewValues, NewWindows, SettledHits, tells_windows};
use super::metrics_answer::{MetricsKind, MetricsText};
use super::packets::{Packets, Part, Sent, encoded};
use super::params::Params;
use super::query_api::{Call, QueryApi};
use super::search_answer::{SearchAnswer, put_search_end};
use super::tag_names::{NamedScopes, TagsVersion, flat, named};
use super::tag_values::{put_value, texts};
use super::{protobuf, streaming_requests};
use crate::components::QueryEnd;
use crate::traceql::{TagValue, TraceHit};

/// Messages that may wait for the client. The query goes on meanwhile; at its end it waits.
const WAITING_MESSAGES: usize = 4;

/// Bytes of a request: many times the longest query.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// How long a query may take for a client that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Reads a call and answers it by what `run` sends.
async fn streamed<T, F>(
    api: Arc<QueryApi>,
    request: Request,
    decode: impl FnOnce(&[u8]) -> std::result::Result<T, DecodeError>,
    run: impl FnOnce(Arc<QueryApi>, Call, T, Packets) -> F,
) -> Response
where
    F: Future<Output = std::result::Result<(), GrpcStatus>> + Send + 'static,
{
    if let Some(refusal) = grpc_refusal(request.version(), request.headers()) {
        return refusal;
    }
    let (parts, body) = request.into_parts();
    let begun = async {
        let tenant = api.tenants(&parts.headers).map_err(GrpcStatus::from)?;
        let body = axum::body::to_bytes(body, MAX_REQUEST_BYTES)
            .await
            .map_err(|e| {
                GrpcStatus::new(
                    GrpcCode::ResourceExhausted,
                    format!("the request is too large: {e}"),
                )
            })?;
        let message = GrpcMessage::of(&parts.headers, &body)?;
        let bytes = plain(&message)?;
        let asked = decode(&bytes)
            .map_err(|e| GrpcStatus::new(GrpcCode::InvalidArgument, e.to_string()))?;
        let call = Call {
            bounds: api.bounds(&tenant),
            tenant,
            params: Params::default(),
            now_ns: api.now_ns(),
        };
        Ok((call, asked))
    };
    let (call, asked) = match begun.await {
        Ok(begun) => begun,
        Err(status) => return GrpcStatus::into_response(status),
    };
    let (sender, receiver) = mpsc::channel(WAITING_MESSAGES);
    let packets = Packets {
        sender,
        max_bytes: api
            .settings
            .queries
            .max_grpc_streaming_packet_size
            .as_usize(),
    };
    let timeout = grpc_timeout(&parts.headers).unwrap_or(DEFAULT_TIMEOUT);
    let executor = api.guard.executor(&parts.headers);
    let (pool, query) = (
        executor.clone(),
        run(Arc::clone(&api), call, asked, packets),
    );
    let query = async move {
        let timed = async move {
            let end = tokio::time::timeout(timeout, query).await;
            Ok::<_, Error>(end.unwrap_or_else(|_| {
                let text = "context deadline exceeded";
                Err(GrpcStatus::new(GrpcCode::DeadlineExceeded, text))
            }))
        };
        let end = pool.run_movable(timed).await;
        end.unwrap_or_else(|e| Err(e.into()))
    };
    grpc_stream(&parts.headers, while_running(query, receiver), executor)
}

/// A request's message, decompressed.
fn plain(message: &GrpcMessage) -> std::result::Result<Bytes, GrpcStatus> {
    if message.encoding == ContentEncoding::Identity {
        return Ok(message.bytes.clone());
    }
    let mut out = Vec::new();
    let mut grow = |_| Ok(());
    let mut allowance = lgtm_core::codec::Allowance::new(2 * MAX_REQUEST_BYTES, &mut grow);
    let bound = SizeBound::new(MAX_REQUEST_BYTES);
    message
        .encoding
        .decompress(&message.bytes, bound, &mut out, &mut allowance)?;
    Ok(out.into())
}

/// The messages that a query sends while it runs, then those that still wait, then how it ended. The query ends with the stream.
fn while_running(
    query: impl Future<Output = std::result::Result<(), GrpcStatus>> + Send + 'static,
    messages: mpsc::Receiver<Sent>,
) -> impl Stream<Item = Sent> + Send + 'static {
    let running = (Some(Box::pin(query)), messages, None);
    futures::stream::unfold(running, |(mut query, mut messages, mut end)| async move {
        loop {
            let Some(asked) = &mut query else {
                // Nobody sends any more: what waits comes, then the end.
                let next = match messages.recv().await {
                    Some(message) => message,
                    None => Err(end.take()?),
                };
                return Some((next, (query, messages, end)));
            };
            tokio::select! {
                biased;
                Some(message) = messages.recv() => return Some((message, (query, messages, end))),
                ended = asked => {
                    end = ended.err();
                    query = None;
                }
            }
        }
    })
}

/// `Search`
pub(super) async fn search(State(api): State<Arc<QueryApi>>, request: Request) -> Response {
    streamed(
        api,
        request,
        streaming_requests::search,
        |api, c, asked, packets| async move {
            let (request, sets) = asked.request(&api, &c).await?;
            let answer = SearchAnswer {
                sets,
                pads_trace_ids: c.bounds.pads_trace_ids,
            };
            let part = |hits: &[TraceHit], end: &QueryEnd| Part {
                items: (hits.iter())
                    .map(|hit| encoded(|out| answer.put_trace(out, hit)))
                    .collect(),
                tail: encoded(|out| put_search_end(out, end)),
            };
            let settled = SettledHits::default();
            let query = api.queries.search(&c.tenant, &request, Some(&settled));
            let news = || {
                let (hits, end) = settled.take()?;
                Some(part(&hits, &end))
            };
            let answered = told_at_intervals(&api, &packets, query, news).await?;
            packets
                .send_all(part(&answered.value, &answered.end), &[])
                .await;
            Ok(())
        },
    )
    .await
}

/// `SearchTags`
pub(super) async fn tags(State(api): State<Arc<QueryApi>>, request: Request) -> Response {
    names(api, request, TagsVersion::V1).await
}

/// `SearchTagsV2`
pub(super) async fn tags_v2(State(api): State<Arc<QueryApi>>, request: Request) -> Response {
    names(api, request, TagsVersion::V2).await
}

async fn names(api: Arc<QueryApi>, request: Request, version: TagsVersion) -> Response {
    streamed(
        api,
        request,
        streaming_requests::names,
        move |api, c, asked, packets| async move {
            let max_bytes = packets.max_bytes / 2;
            let part = |scopes: &NamedScopes, end: &QueryEnd| Part {
                items: match version {
                    TagsVersion::V1 => (flat(scopes).into_iter())
                        .map(|name| encoded(|out| put_bytes_field(out, 1, name.as_bytes())))
                        .collect(),
                    TagsVersion::V2 => (scopes.iter())
                        .flat_map(|(scope, names)| scope_messages(scope, names, max_bytes))
                        .collect(),
                },
                tail: encoded(|out| protobuf::put_metadata_metrics(out, 2, end)),
            };
            let heard = Arc::new(NewNames::default());
            let query = asked.ask(&api, &c, version, Some(Arc::clone(&heard) as _));
            let news = || Some(part(&named(heard.take()?), &QueryEnd::default()));
            let answer = told_at_intervals(&api, &packets, query, news).await?;
            packets
                .send_all(part(&answer.value, &answer.end), &[])
                .await;
            Ok(())
        },
    )
    .await
}

/// Field `scopes` of `SearchTagsV2Response`: names of a scope, in several messages of about `max_bytes` that repeat its name.
fn scope_messages(scope: &str, names: &[String], max_bytes: usize) -> Vec<Vec<u8>> {
    let head = || encoded(|out| protobuf::put_text(out, 1, scope));
    let mut bodies = vec![head()];
    for name in names {
        if let Some(last) = bodies.last()
            && last.len() + name.len() > max_bytes
        {
            bodies.push(head());
        }
        if let Some(last) = bodies.last_mut() {
            put_bytes_field(last, 2, name.as_bytes());
        }
    }
    let fields = bodies.into_iter().map(|body| {
        encoded(|out| {
            put_uvarint(out, bytes_tag(1));
            lgtm_core::codec::put_bytes(out, &body);
        })
    });
    fields.collect()
}

/// `SearchTagValues`
pub(super) async fn values(State(api): State<Arc<QueryApi>>, request: Request) -> Response {
    values_of(api, request, TagsVersion::V1).await
}

/// `SearchTagValuesV2`
pub(super) async fn values_v2(State(api): State<Arc<QueryApi>>, request: Request) -> Response {
    values_of(api, request, TagsVersion::V2).await
}

async fn values_of(api: Arc<QueryApi>, request: Request, version: TagsVersion) -> Response {
    streamed(
        api,
        request,
        streaming_requests::values,
        move |api, c, asked, packets| async move {
            let part = |values: &[TagValue], end: &QueryEnd| Part {
                items: match version {
                    TagsVersion::V1 => (texts(values).into_iter())
                        .map(|text| encoded(|out| put_bytes_field(out, 1, text.as_bytes())))
                        .collect(),
                    TagsVersion::V2 => (values.iter())
                        .map(|value| encoded(|out| put_value(out, value)))
                        .collect(),
                },
                tail: encoded(|out| protobuf::put_metadata_metrics(out, 2, end)),
            };
            let heard = Arc::new(NewValues::default());
            let query = asked.ask(&api, &c, version, Some(Arc::clone(&heard) as _));
            let news = || {
                let values: Vec<TagValue> = heard.take()?.into_iter().collect();
                Some(part(&values, &QueryEnd::default()))
            };
            let answer = told_at_intervals(&api, &packets, query, news).await?;
            packets
                .send_all(part(&answer.value, &answer.end), &[])
                .await;
            Ok(())
        },
    )
    .await
}

/// `MetricsQueryRange`
pub(super) async fn range(State(api): State<Arc<QueryApi>>, request: Request) -> Response {
    metrics(api, request, MetricsKind::Range).await
}

/// `MetricsQueryInstant`
pub(super) async fn instant(State(api): State<Arc<QueryApi>>, request: Request) -> Response {
    metrics(api, request, MetricsKind::Instant).await
}

async fn metrics(api: Arc<QueryApi>, request: Request, kind: MetricsKind) -> Response {
    let decode = |bytes: &[u8]| streaming_requests::metrics(kind, bytes);
    streamed(
        api,
        request,
        decode,
        move |api, c, asked, packets| async move {
            let request = asked.request(&api, &c).await?;
            let part = |text: &MetricsText| Part {
                items: (text.answer.series.iter())
                    .map(|s| encoded(|out| text.put_series(out, s)))
                    .collect(),
                tail: encoded(|out| text.put_metrics(out)),
            };
            let heard = Arc::new(NewWindows::default());
            let listener = tells_windows(&request).then(|| Arc::clone(&heard) as _);
            let query = api.queries.metrics(&c.tenant, &request, listener);
            let news = || {
                let windows = heard.take(&request).into_iter();
                let texts = windows.map(|w| part(&MetricsText::new(kind, w).without_exemplars()));
                texts.reduce(|mut all, window| {
                    all.items.extend(window.items);
                    all
                })
            };
            let answered = told_at_intervals(&api, &packets, query, news).await?;
            let text = MetricsText::new(kind, answered);
            let status = encoded(|out| text.put_status(out));
            packets.send_all(part(&text), &status).await;
            Ok(())
        },
    )
    .await
}

/// Runs a query, and sends what `news` has of it now and then.
async fn told_at_intervals<T, E>(
    api: &QueryApi,
    packets: &Packets,
    query: impl Future<Output = std::result::Result<T, E>>,
    news: impl Fn() -> Option<Part>,
) -> std::result::Result<T, E> {
    let mut query = std::pin::pin!(query);
    let mut ticks = tokio::time::interval(api.settings.queries.streaming_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        tokio::select! {
            biased;
            answered = &mut query => return answered,
            _ = ticks.tick() => {
                // It has taken long, and so may its news.
                move_to_pool().await;
                if let Some(part) = news() {
                    packets.send_all(part, &[]).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_scope_may_stand_in_several_messages() {
        let names: Vec<String> = (0..100).map(|n| format!("name{n}")).collect();
        let messages = scope_messages("span", &names, 64);
        assert!(messages.len() > 5);
        assert!(messages.iter().all(|m| m.len() < 90));
        assert_eq!(
            scope_messages("span", &[], 64),
            [b"\x0a\x06\x0a\x04span".to_vec()]
        );
    }
}
