//! Lines of JSON, each an OTLP request, become blocks.

use lgtm_core::Result;
use lgtm_core::codec::{Allowance, SizeBound};
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::otlp::OtlpSpelling;
use lgtm_tracestore::TraceStore;
use lgtm_tracestore::limits::Limits;
use lgtm_tracestore::wire::otlp_to_protobuf;

use super::import::Imported;
use super::text::TextLines;
use crate::place::{Place, scratch};

/// Memory for one request.
const MAX_REQUEST_BYTES: usize = 512 << 20;
/// Bytes of requests, as protobuf, that are in memory and on disk before they are written as blocks.
const BYTES_AT_ONCE: u64 = 1 << 30;

pub(super) async fn import(
    place: &Place,
    tenant: &TenantId,
    lines: &mut TextLines,
) -> Result<Imported> {
    let folder = scratch()?;
    let db = TraceStore::builder(folder.path(), place.backend())
        .layout(place.layout().clone())
        .limits(Overrides::fixed(Limits::default()))
        .without_housekeeping()
        .open()
        .await?;
    let mut done = Imported::default();
    let mut request = Vec::new();
    let mut unwritten = 0u64;
    while let Some(line) = lines.next()? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(MAX_REQUEST_BYTES, &mut grow);
        let bound = SizeBound::new(MAX_REQUEST_BYTES);
        let read = otlp_to_protobuf(
            OtlpSpelling::Json,
            line,
            bound,
            &mut request,
            &mut allowance,
        );
        read.map_err(|e| lines.wrong(&e))?;
        let report = db.append_otlp(tenant, &request).await;
        let report = report.map_err(|e| lines.wrong(&e))?;
        done.items += report.spans;
        for (rule, count) in &report.refused {
            done.refuse(rule.id(), *count);
        }
        unwritten += request.len() as u64;
        if unwritten >= BYTES_AT_ONCE {
            done.objects += db.flush().await?.blocks;
            unwritten = 0;
        }
    }
    done.objects += db.flush().await?.blocks;
    db.close().await?;
    Ok(done)
}
