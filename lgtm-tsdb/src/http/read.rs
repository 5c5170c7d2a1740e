//! Remote read.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::model::{Labels, TenantId, TimeRange};
use lgtm_core::{Error, Result};

use super::api::Api;
use super::error::ApiError;
use super::query::budget;
use super::tenant::tenant;
use crate::chunk::{SampleValue, encode_run};
use crate::select::{SelectRequest, SeriesChunk, SeriesChunks, samples};
use crate::wire::{
    ReadChunk, ReadQuery, ReadRequest, SamplesResult, decode_read_request, decompress,
    put_chunk_frame,
};

/// A frame is closed when its chunks have grown to this.
const FRAME_BYTES: usize = 1 << 20;
/// Requests are a few matchers.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// An answer is held in memory until it is sent; a larger one is refused.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// `POST /read`
pub(super) async fn read(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    match answer(&api, &headers, &body).await {
        Ok(response) => response,
        Err(e) => e.into_plain(),
    }
}

async fn answer(api: &Api, headers: &HeaderMap, body: &Bytes) -> Result<Response, ApiError> {
    let tenant = tenant(headers, api.settings.multitenancy_enabled)?;
    let mut plain = Vec::new();
    decompress(body, MAX_REQUEST_BYTES, &mut plain)?;
    let request = decode_read_request(&plain).map_err(|e| ApiError::bad_data(e.to_string()))?;
    if request.streamed {
        let frames = chunks(api, &tenant, &request).await?;
        let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
        return Ok(([(header::CONTENT_TYPE, content_type)], frames).into_response());
    }
    let response = all_samples(api, &tenant, &request).await?;
    let compressed = snap::raw::Encoder::new().compress_vec(&response);
    let compressed =
        compressed.map_err(|e| Error::Internal(format!("answer of a remote read: {e}")))?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-protobuf"),
        (header::CONTENT_ENCODING, "snappy"),
    ];
    Ok((headers, compressed).into_response())
}

/// Hands every series of a query to `sink`, in label order.
async fn for_each(
    api: &Api,
    tenant: &TenantId,
    query: &ReadQuery,
    mut sink: impl FnMut(SeriesChunks, TimeRange) -> Result<()>,
) -> Result<()> {
    let range = TimeRange::inclusive(query.start_ms, query.end_ms);
    let request = SelectRequest {
        matchers: query.matchers.clone(),
        range,
        budget: budget(api, tenant),
        hints: Default::default(),
    };
    let mut batches = api.source.select(tenant, &request).await?;
    while let Some(batch) = batches.next_batch().await? {
        for series in batch {
            sink(series, range)?;
        }
    }
    Ok(())
}

fn within_bounds(bytes: usize) -> Result<()> {
    if bytes <= MAX_RESPONSE_BYTES {
        return Ok(());
    }
    Err(Error::LimitExceeded(format!(
        "the answer of a remote read exceeds {MAX_RESPONSE_BYTES} bytes; ask for less"
    )))
}

fn decoded(
    labels: &Labels,
    chunks: &[SeriesChunk],
    range: TimeRange,
) -> Result<Vec<(i64, SampleValue)>> {
    samples(chunks, range).map_err(|e| Error::corrupt(labels.to_string(), e))
}

async fn all_samples(api: &Api, tenant: &TenantId, request: &ReadRequest) -> Result<Vec<u8>> {
    let mut response = Vec::new();
    for query in &request.queries {
        let mut result = SamplesResult::default();
        for_each(api, tenant, query, |series, range| {
            let all = decoded(&series.labels, &series.chunks, range)?;
            if all.is_empty() {
                return Ok(());
            }
            result.begin(&series.labels);
            for (t_ms, value) in &all {
                match value {
                    SampleValue::Float(v) => result.float(*t_ms, *v),
                    SampleValue::Histogram(h) => result.histogram(*t_ms, h),
                    SampleValue::FloatHistogram(h) => result.float_histogram(*t_ms, h),
                }
            }
            result.end();
            within_bounds(result.size_bytes())
        })
        .await?;
        result.finish(&mut response);
        within_bounds(response.len())?;
    }
    Ok(response)
}

async fn chunks(api: &Api, tenant: &TenantId, request: &ReadRequest) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (n, query) in request.queries.iter().enumerate() {
        for_each(api, tenant, query, |series, range| {
            let chunks = in_order(series.chunks, &series.labels, range)?;
            let mut frame: Vec<ReadChunk<'_>> = Vec::new();
            let mut bytes = 0;
            for c in &chunks {
                frame.push(ReadChunk {
                    min_ms: c.min_ms,
                    max_ms: c.max_ms,
                    encoding: c.encoding as u8,
                    data: &c.data,
                });
                bytes += c.data.len();
                if bytes >= FRAME_BYTES {
                    put_chunk_frame(&mut out, n as u64, &series.labels, &frame);
                    frame.clear();
                    bytes = 0;
                }
            }
            if !frame.is_empty() {
                put_chunk_frame(&mut out, n as u64, &series.labels, &frame);
            }
            within_bounds(out.len())
        })
        .await?;
    }
    Ok(out)
}

/// Chunks in time order and without overlap; those that overlap are encoded anew.
fn in_order(
    mut chunks: Vec<SeriesChunk>,
    labels: &Labels,
    range: TimeRange,
) -> Result<Vec<SeriesChunk>> {
    chunks.sort_by_key(|c| (c.min_ms, c.max_ms));
    if chunks.windows(2).all(|w| w[1].min_ms > w[0].max_ms) {
        return Ok(chunks);
    }
    let merged = encode_run(decoded(labels, &chunks, range)?);
    Ok(merged
        .into_iter()
        .map(|c| SeriesChunk {
            min_ms: c.min_ms,
            max_ms: c.max_ms,
            encoding: c.encoding,
            data: c.data.into(),
        })
        .collect())
}
