//! `tempopb.BackendScheduler/SubmitRedaction`: traces taken out of what is stored.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use lgtm_core::codec::protobuf::{
    bytes_tag, fixed64_tag, put_bytes_field, put_varint_field, skip, varint_tag,
};
use lgtm_core::codec::{ContentEncoding, Reader};
use lgtm_core::error::DecodeError;
use lgtm_core::exec::CancelToken;
use lgtm_core::http::{GrpcCode, GrpcMessage, GrpcStatus, grpc_refusal, grpc_unary, tenant};
use lgtm_core::model::TimeRangeNs;
use lgtm_core::{Error, ErrorKind};

use crate::compact::{RedactedTraces, RedactionReport, RedactionRequest};
use crate::components::Compactor;
use crate::trace::TraceId;
use crate::traceql::RedactionFilter;

/// Bytes of a request: some fifty thousand ids.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// The door of redactions: the method of Tempo's scheduler, over gRPC. It ends when the blocks that there are have been rewritten; a caller that goes away leaves
/// the rest to the compactor's rounds. Unlike Tempo's, a tenant may have several at a time.
#[derive(Debug)]
pub struct RedactionApi {
    compactor: Arc<Compactor>,
    multitenancy_enabled: bool,
}

impl RedactionApi {
    /// A door to `compactor`. With `multitenancy_enabled` the tenant comes from the header `X-Scope-OrgID`.
    pub fn new(compactor: Arc<Compactor>, multitenancy_enabled: bool) -> Arc<Self> {
        Arc::new(Self {
            compactor,
            multitenancy_enabled,
        })
    }

    /// The route.
    pub fn router(self: &Arc<Self>) -> Router {
        const SUBMIT: &str = "/tempopb.BackendScheduler/SubmitRedaction";
        Router::new()
            .route(SUBMIT, post(submit))
            .with_state(Arc::clone(self))
    }

    async fn redact(&self, request: Request) -> Result<RedactionReport, GrpcStatus> {
        let (parts, body) = request.into_parts();
        let tenant = tenant(&parts.headers, self.multitenancy_enabled)
            .map_err(|e| GrpcStatus::new(GrpcCode::Unauthenticated, e.to_string()))?;
        let body = axum::body::to_bytes(body, MAX_REQUEST_BYTES).await;
        let body = body.map_err(|e| {
            let text = format!("the request is larger than {MAX_REQUEST_BYTES} bytes: {e}");
            GrpcStatus::new(GrpcCode::ResourceExhausted, text)
        })?;
        let message = GrpcMessage::of(&parts.headers, &body)?;
        if message.encoding != ContentEncoding::Identity {
            let text = "compressed redactions are not taken";
            return Err(GrpcStatus::new(GrpcCode::Unimplemented, text));
        }
        let request = decode(&message.bytes).map_err(refused)?;
        if !self.compactor.rewrites_blocks_of(&tenant) {
            let text = format!("compaction is disabled for tenant {tenant}");
            return Err(GrpcStatus::new(GrpcCode::FailedPrecondition, text));
        }
        let never = CancelToken::new();
        let done = self.compactor.redact(&tenant, &request, &never).await;
        done.map_err(refused)
    }
}

fn refused(e: Error) -> GrpcStatus {
    let code = match e.kind() {
        ErrorKind::InvalidInput => GrpcCode::InvalidArgument,
        ErrorKind::NotFound => GrpcCode::NotFound,
        ErrorKind::LimitExceeded | ErrorKind::RateLimited => GrpcCode::ResourceExhausted,
        ErrorKind::Conflict => GrpcCode::Aborted,
        ErrorKind::Timeout => GrpcCode::DeadlineExceeded,
        ErrorKind::Unavailable => GrpcCode::Unavailable,
        ErrorKind::Cancelled => GrpcCode::Cancelled,
        ErrorKind::Corrupt => GrpcCode::DataLoss,
        _ => GrpcCode::Internal,
    };
    GrpcStatus::new(code, e.to_string())
}

async fn submit(State(api): State<Arc<RedactionApi>>, request: Request) -> Response {
    if let Some(refusal) = grpc_refusal(request.version(), request.headers()) {
        return refusal;
    }
    match api.redact(request).await {
        Ok(report) => {
            for warning in &report.warnings {
                tracing::warn!(batch = %report.batch, warning, "a redaction has not been everywhere yet; it is tried again");
            }
            let mut out = Vec::new();
            put_bytes_field(&mut out, 1, report.batch.to_string().as_bytes());
            put_varint_field(&mut out, 2, report.blocks);
            grpc_unary(out)
        }
        Err(status) => status.into_response(),
    }
}

/// Of `SubmitRedactionRequest`; the tenant in it is not looked at.
fn decode(bytes: &[u8]) -> Result<RedactionRequest, Error> {
    let asked = Asked::decode(bytes).map_err(|e| Error::InvalidInput(e.to_string()))?;
    let invalid = |text: &str| Err(Error::InvalidInput(text.into()));
    let range = match (asked.start_ns, asked.end_ns) {
        (0, 0) => None,
        (0, _) | (_, 0) => return invalid("a range has both start and end, or neither"),
        (start, end) if start >= end => return invalid("start is not before end"),
        (start, end) => {
            let ns = |t: u64| i64::try_from(t).unwrap_or(i64::MAX);
            Some(TimeRangeNs::new(ns(start), ns(end)))
        }
    };
    let traces = match (asked.query, asked.ids.is_empty()) {
        (Some(_), false) => return invalid("trace ids and a query exclude each other"),
        (None, true) => return invalid("neither trace ids nor a query"),
        (None, false) if range.is_some() => return invalid("start and end go with a query only"),
        (None, false) => RedactedTraces::Ids(asked.ids),
        (Some(query), true) => {
            let filter = RedactionFilter::new(&query);
            let filter = filter.map_err(|e| Error::InvalidInput(e.to_string()))?;
            RedactedTraces::Query(filter, range)
        }
    };
    Ok(RedactionRequest {
        traces,
        is_dry_run: asked.is_dry_run,
    })
}

#[derive(Debug, Default)]
struct Asked {
    ids: Vec<TraceId>,
    query: Option<String>,
    is_dry_run: bool,
    start_ns: u64,
    end_ns: u64,
}

impl Asked {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("redaction request", bytes);
        let mut out = Self::default();
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(2) => match r.bytes()?.try_into() {
                    Ok(id) => out.ids.push(TraceId::new(id)),
                    Err(_) => return Err(r.error("a trace id is not 16 bytes long")),
                },
                tag if tag == bytes_tag(3) => out.query = Some(query(r.bytes()?)?),
                tag if tag == varint_tag(4) => match r.uvarint()? {
                    0 => out.is_dry_run = false,
                    1 => out.is_dry_run = true,
                    _ => return Err(r.error("a mode is neither apply nor dry run")),
                },
                tag if tag == varint_tag(5) => out.start_ns = r.uvarint()?,
                tag if tag == varint_tag(6) => out.end_ns = r.uvarint()?,
                tag if tag == fixed64_tag(5) => out.start_ns = r.u64_le()?,
                tag if tag == fixed64_tag(6) => out.end_ns = r.u64_le()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }
}

fn query(bytes: &[u8]) -> Result<String, DecodeError> {
    let mut r = Reader::new("redaction query", bytes);
    let mut out = String::new();
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => match std::str::from_utf8(r.bytes()?) {
                Ok(text) => out = text.into(),
                Err(_) => return Err(r.error("a query is not UTF-8")),
            },
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}
