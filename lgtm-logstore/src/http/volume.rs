//! How much there is: `/index/stats`, `/index/shards`, `/index/volume`, `/index/volume_range`.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use lgtm_core::exec::move_to_pool;
use lgtm_core::http::UrlQuery;
use lgtm_core::model::Listed;
use lgtm_core::units::ByteSize;

use super::answer_text::AnswerText;
use super::error::ApiError;
use super::json::{json, push_list};
use super::query::{Call, call};
use super::query_api::QueryApi;
use super::selector::{SelectorRule, selector};
use crate::components::{VolumeAggregation, VolumeRequest, selector_stats, volume, volume_range};
use crate::limits::query_limits;
use crate::logql::{Answer, LabelEncoding, QueryRange, QueryStats, QueryValue};
use crate::select::{FetchBounds, SelectRequest, StreamVolume};

/// `/index/stats`
pub(super) async fn stats(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let range = c.params.ordered_range(c.now_ns)?;
    let matchers = selector(c.params.query(), SelectorRule::Selective).await?;
    let request = SelectRequest::new(matchers, range);
    let stats = selector_stats(&*api.queries, &c.tenant, &request).await?;
    let s = stats.items;
    Ok(json(format!(
        "{{\"streams\":{},\"chunks\":{},\"bytes\":{},\"entries\":{}}}",
        s.streams, s.chunks, s.bytes, s.entries
    )))
}

/// What one shard of an answer has.
#[derive(Default)]
struct Shard {
    /// The first fingerprint in it, and the last.
    bounds: (u64, u64),
    streams: u64,
    chunks: u64,
    bytes: u64,
    entries: u64,
}

/// `/index/shards`: the streams of a selector in the order of their fingerprints, cut where a part has the bytes that are wanted.
pub(super) async fn shards(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let range = c.params.ordered_range(c.now_ns)?;
    let target = c.params.get("targetBytesPerShard").unwrap_or_default();
    let target = ByteSize::from_str(target).map_or(0, ByteSize::as_u64);
    if target == 0 {
        return Err(ApiError::bad_request(
            "targetBytesPerShard must be a positive value",
        ));
    }
    let matchers = selector(c.params.query(), SelectorRule::Selective).await?;
    let request = SelectRequest::new(matchers, range);
    let streams = api.queries.volumes(&c.tenant, &request).await?.items;
    move_to_pool().await;
    let mut out = String::from("{\"shards\":");
    push_list(&mut out, cut(&streams, target), |out, shard| {
        let (min, max) = shard.bounds;
        out.push_str(&format!(
            "{{\"bounds\":{{\"min\":\"{min:016x}\",\"max\":\"{max:016x}\"}},\"stats\":{{\"streams\":{},\"chunks\":{},\"bytes\":{},\"entries\":{}}}}}",
            shard.streams, shard.chunks, shard.bytes, shard.entries
        ));
    });
    out.push_str(&format!(
        ",\"statistics\":{}}}",
        QueryStats::default().to_json()
    ));
    Ok(json(out))
}

fn cut(streams: &[StreamVolume], target: u64) -> Vec<Shard> {
    let mut streams: Vec<(u64, &StreamVolume)> = streams
        .iter()
        .map(|s| (s.labels.stable_hash(), s))
        .collect();
    streams.sort_by_key(|(fingerprint, _)| *fingerprint);
    let mut shards = vec![Shard::default()];
    for (fingerprint, stream) in streams {
        if let Some(last) = shards.last_mut()
            && last.bytes >= target
        {
            last.bounds.1 = fingerprint - 1;
            shards.push(Shard {
                bounds: (fingerprint, 0),
                ..Shard::default()
            });
        }
        if let Some(last) = shards.last_mut() {
            last.streams += 1;
            last.chunks += stream.chunks;
            last.bytes += stream.bytes;
            last.entries += stream.entries;
        }
    }
    if let Some(last) = shards.last_mut() {
        last.bounds.1 = u64::MAX;
    }
    shards
}

/// `/index/volume`
pub(super) async fn instant(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let request = request(&api, &c).await?;
    let found = volume(&*api.queries, &c.tenant, &request).await?;
    Ok(answered(&api, &headers, found))
}

/// `/index/volume_range`
pub(super) async fn range(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let c = call(&api, query.as_deref(), &headers, &body)?;
    let request = request(&api, &c).await?;
    let usual = QueryRange::new(request.range.min_ns, request.range.max_ns).step_ms;
    let step = c.params.duration("step")?;
    let step = step.unwrap_or_else(|| usual.saturating_mul(1_000_000));
    let found = volume_range(&*api.queries, &c.tenant, &request, step).await?;
    Ok(answered(&api, &headers, found))
}

async fn request(api: &QueryApi, c: &Call) -> Result<VolumeRequest, ApiError> {
    let limits = query_limits(&api.limits, &c.tenant);
    if !limits.volume_enabled {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "not found"));
    }
    let range = c.params.ordered_range(c.now_ns)?;
    let limit = match c.params.get("limit") {
        Some("0") => None,
        _ => c.params.count("limit")?,
    };
    let aggregate_by = match c.params.get("aggregateBy") {
        None | Some("series") => VolumeAggregation::Series,
        Some("labels") => VolumeAggregation::Labels,
        Some(_) => return Err(ApiError::bad_request("invalid aggregation option")),
    };
    let targets = c.params.get("targetLabels").unwrap_or_default();
    let targets = targets.split(',').filter(|t| !t.is_empty());
    Ok(VolumeRequest {
        matchers: selector(c.params.query(), SelectorRule::Any).await?,
        range,
        target_labels: targets.map(str::to_owned).collect(),
        aggregate_by,
        limit: limit.unwrap_or(0),
        max_series: limits.volume_max_series,
        bounds: FetchBounds::default(),
    })
}

/// Volumes as the answers to queries are written.
fn answered(api: &QueryApi, headers: &HeaderMap, found: Listed<QueryValue>) -> Response {
    let entries = match &found.items {
        QueryValue::Matrix(all) | QueryValue::Vector(all) => all.len() as u64,
        QueryValue::Streams(_) | QueryValue::Scalar(_) => 0,
    };
    let mut answer = Answer {
        value: found.items,
        warnings: found.warnings,
        stats: Default::default(),
        memory: Default::default(),
    };
    answer.stats.entries_returned = entries;
    let text = AnswerText::new(answer, LabelEncoding::Merged);
    json(text.into_body(api.executor(headers)))
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::Labels;

    use super::*;

    #[test]
    fn shards_are_cut_between_streams_and_cover_all() {
        let stream = |n: u64| StreamVolume {
            labels: Labels::from_pairs([("app", n.to_string())]).unwrap(),
            chunks: 1,
            bytes: 100,
            entries: 2,
            spans: Vec::new(),
        };
        let streams: Vec<StreamVolume> = (0..10).map(stream).collect();
        let shards = cut(&streams, 250);
        assert_eq!(
            shards.iter().map(|s| s.streams).collect::<Vec<_>>(),
            [3, 3, 3, 1]
        );
        assert_eq!((shards[0].bounds.0, shards[3].bounds.1), (0, u64::MAX));
        for pair in shards.windows(2) {
            assert_eq!(pair[0].bounds.1 + 1, pair[1].bounds.0);
        }
        let total: u64 = shards.iter().map(|s| s.bytes).sum();
        assert_eq!(total, 1000);
        assert_eq!(cut(&[], 1).len(), 1);
    }
}
