//! Remote read, see `docs/format/remote_read.md`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use lgtm_core::codec::{SizeBound, snappy};
use lgtm_core::exec::{current_cancel, move_to_pool};
use lgtm_core::model::{Labels, TenantId, TimeRange, TimestampMs};
use lgtm_core::{Error, Result};

use super::error::ApiError;
use super::query_api::QueryApi;
use crate::chunk::{Chunk, ChunkRef, SampleValue, encode_run};
use crate::components::clients::Queries;
use crate::components::read_range;
use crate::select::{SelectRequest, SeriesBatches, samples};
use crate::wire::{
    ReadBounds, ReadQuery, ReadRequest, SamplesResult, decode_read_request, put_chunk_frame,
};

/// A frame is closed when its chunks have grown to this.
const FRAME_BYTES: usize = 1 << 20;
/// Requests are a few matchers.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// `POST /read`
pub(super) async fn read(
    State(api): State<Arc<QueryApi>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match answer(&api, &headers, &body).await {
        Ok(response) => response,
        Err(e) => e.into_plain(),
    }
}

async fn answer(api: &QueryApi, headers: &HeaderMap, body: &Bytes) -> Result<Response, ApiError> {
    let tenant = api.tenant(headers)?;
    // Encoding samples is work even where they are few, and nobody waits for a remote read.
    move_to_pool().await;
    let mut plain = Vec::new();
    snappy::decompress(body, SizeBound::new(MAX_REQUEST_BYTES), &mut plain)?;
    let bounds = ReadBounds {
        max_queries: api.parser.max_selectors,
        max_matchers: api.parser.max_matchers,
    };
    let request = decode_read_request(&plain, bounds);
    let request = request.map_err(|e| ApiError::bad_data(e.to_string()))?;
    if request.streamed {
        let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
        let mut frames = ChunkFrames::new(api, &tenant, &request)?;
        // What goes wrong before the first byte is sent has a status of its own; later the connection breaks off.
        let first = frames.next_piece().await?;
        let executor = api.executor(headers);
        let rest = stream::try_unfold(frames, move |mut frames| {
            let executor = executor.clone();
            async move {
                let next = async move {
                    move_to_pool().await;
                    let piece = frames.next_piece().await?;
                    Ok::<_, Error>(piece.map(|bytes| (bytes, frames)))
                };
                executor.run_movable(next).await
            }
        });
        let body = Body::from_stream(stream::iter(first.map(Ok)).chain(rest));
        return Ok(([(header::CONTENT_TYPE, content_type)], body).into_response());
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

/// What a query of a read asks for; nothing when it lies too far back for the tenant.
fn select_request(
    api: &QueryApi,
    tenant: &TenantId,
    query: &ReadQuery,
) -> Result<Option<SelectRequest>> {
    let range = TimeRange::inclusive(query.start_ms, query.end_ms);
    // Chunks reach outside of what is asked for; what is taken of them must not lie outside of what the tenant may read.
    let limits = api.limits.for_tenant(tenant);
    let range = read_range(&limits, api.clock.now_ms(), range)?;
    let request = |range| SelectRequest::new(query.matchers.clone(), range);
    range.map(request).transpose()
}

fn decoded(
    labels: &Labels,
    chunks: &[Chunk],
    range: TimeRange,
) -> Result<Vec<(TimestampMs, SampleValue)>> {
    samples(chunks, range).map_err(|e| Error::corrupt(labels.to_string(), e))
}

/// The answer in samples. It is one message and has to be held whole.
async fn all_samples(api: &QueryApi, tenant: &TenantId, request: &ReadRequest) -> Result<Vec<u8>> {
    let max = api.settings.max_remote_read_bytes.as_usize();
    let within_bounds = |bytes: usize| {
        if bytes > max {
            return Err(Error::LimitExceeded(format!(
                "the answer of a remote read exceeds {max} bytes (max_remote_read_bytes); ask for less, or for chunks, which are streamed"
            )));
        }
        Ok(())
    };
    let cancel = current_cancel();
    let mut response = Vec::new();
    for query in &request.queries {
        let mut result = SamplesResult::default();
        let Some(request) = select_request(api, tenant, query)? else {
            result.finish(&mut response);
            continue;
        };
        let mut batches = api.queries.select(tenant, &request).await?;
        while let Some(batch) = batches.next_batch().await? {
            cancel.check("a remote read")?;
            for series in batch {
                let all = decoded(&series.labels, &series.chunks, request.range)?;
                if all.is_empty() {
                    continue;
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
                within_bounds(result.size_bytes())?;
            }
        }
        result.finish(&mut response);
        within_bounds(response.len())?;
    }
    Ok(response)
}

/// An answer in chunks, made batch by batch as it is sent.
struct ChunkFrames {
    queries: Arc<dyn Queries>,
    tenant: TenantId,
    /// Requests not begun yet, the last one first, by their place.
    waiting: Vec<(u64, SelectRequest)>,
    open: Option<(u64, TimeRange, Box<dyn SeriesBatches>)>,
}

impl ChunkFrames {
    fn new(api: &QueryApi, tenant: &TenantId, request: &ReadRequest) -> Result<Self> {
        let mut waiting = Vec::new();
        for (n, query) in request.queries.iter().enumerate().rev() {
            let request = select_request(api, tenant, query)?;
            waiting.extend(request.map(|r| (n as u64, r)));
        }
        Ok(Self {
            queries: Arc::clone(&api.queries),
            tenant: tenant.clone(),
            waiting,
            open: None,
        })
    }

    /// The frames of the next batch of series; `None` at the end.
    async fn next_piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some((n, range, batches)) = &mut self.open else {
                let Some((n, request)) = self.waiting.pop() else {
                    return Ok(None);
                };
                let batches = self.queries.select(&self.tenant, &request).await?;
                self.open = Some((n, request.range, batches));
                continue;
            };
            let Some(batch) = batches.next_batch().await? else {
                self.open = None;
                continue;
            };
            let mut out = Vec::new();
            for series in batch {
                let chunks = in_order(series.chunks.into_vec(), &series.labels, *range)?;
                put_frames(&mut out, *n, &series.labels, &chunks);
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
    }
}

/// One series, in as many frames as its chunks fill.
fn put_frames(out: &mut Vec<u8>, query: u64, labels: &Labels, chunks: &[Chunk]) {
    let mut frame: Vec<ChunkRef<'_>> = Vec::new();
    let mut bytes = 0;
    for c in chunks {
        frame.push(c.borrowed());
        bytes += c.data.len();
        if bytes >= FRAME_BYTES {
            put_chunk_frame(out, query, labels, &frame);
            frame.clear();
            bytes = 0;
        }
    }
    if !frame.is_empty() {
        put_chunk_frame(out, query, labels, &frame);
    }
}

/// Chunks in time order and without overlap, of the three encodings that a reader of the protocol knows. Those that overlap are
/// encoded anew, and so are those with start timestamps, which are left out: the protocol has no word for them in samples either.
fn in_order(mut chunks: Vec<Chunk>, labels: &Labels, range: TimeRange) -> Result<Vec<Chunk>> {
    chunks.sort_by_key(|c| (c.min_ms, c.max_ms));
    if chunks.windows(2).any(|w| w[1].min_ms <= w[0].max_ms) {
        return encoded_anew(&chunks, labels, range);
    }
    if !chunks.iter().any(|c| c.encoding.keeps_starts()) {
        return Ok(chunks);
    }
    let mut out = Vec::with_capacity(chunks.len() + 1);
    for c in chunks {
        if c.encoding.keeps_starts() {
            out.extend(encoded_anew(&[c], labels, range)?);
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

fn encoded_anew(chunks: &[Chunk], labels: &Labels, range: TimeRange) -> Result<Vec<Chunk>> {
    Ok(encode_run(decoded(labels, chunks, range)?))
}
