//! Blocks of traces as OTLP: each line is a request in JSON with one trace.

use lgtm_core::clock::SystemClock;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};
use lgtm_tracestore::block::BlockMeta;
use lgtm_tracestore::block_id::BlockId;
use lgtm_tracestore::bucket::{BlockList, OpenBlock};
use lgtm_tracestore::trace::{Trace, TraceForm, TraceSummary};

use super::export::Exported;
use crate::arguments::Arguments;
use crate::output::Output;
use crate::place::{Place, Signal};
use crate::progress::Progress;
use crate::times::Window;

/// Memory for a footer, and for a trace.
const MAX_TRACE_BYTES: usize = 256 << 20;
/// Memory for a row group.
const MAX_GROUP_BYTES: usize = 1 << 30;

pub(super) async fn export(
    place: &Place,
    arguments: &Arguments,
    window: Window,
    out: &mut Output,
) -> Result<Exported> {
    let mut done = Exported::default();
    let (tenant, blocks) = blocks(place, arguments, window).await?;
    for meta in blocks {
        block(place, &tenant, meta, window, out, &mut done).await?;
        done.objects += 1;
    }
    Ok(done)
}

/// The blocks that are asked for, the oldest first.
async fn blocks(
    place: &Place,
    arguments: &Arguments,
    window: Window,
) -> Result<(TenantId, Vec<BlockMeta>)> {
    let (tenant, only) = match arguments.word(0) {
        None => (place.one_tenant().await?, None),
        Some(object) => {
            let (_, path) = place.locate(object)?;
            let mut parts = path.split('/');
            let tenant = TenantId::new(parts.next().unwrap_or_default())?;
            let id = parts.next().and_then(|p| p.parse::<BlockId>().ok());
            let id = id.ok_or_else(|| Error::InvalidInput(format!("{object:?} is no block")))?;
            (tenant, Some(id))
        }
    };
    let list = BlockList::new(
        place.bucket(Signal::Traces),
        place.executor.clone(),
        std::sync::Arc::new(SystemClock::new()),
        std::time::Duration::MAX,
    );
    let found = list.list_bucket(&tenant).await?;
    let live = found.live.iter().map(|meta| (**meta).clone());
    let superseded = found.compacted.iter().map(|c| c.meta.clone());
    let mut wanted: Vec<BlockMeta> = match only {
        None => live
            .filter(|m| m.overlaps(window.from, window.to))
            .collect(),
        Some(id) => live
            .chain(superseded)
            .filter(|m| m.block_id == id)
            .collect(),
    };
    if let Some(id) = only.filter(|_| wanted.is_empty()) {
        return Err(Error::NotFound(format!("block {tenant}/{id}")));
    }
    wanted.sort_by_key(|m| (m.start, m.block_id));
    Ok((tenant, wanted))
}

async fn block(
    place: &Place,
    tenant: &TenantId,
    meta: BlockMeta,
    window: Window,
    out: &mut Output,
    done: &mut Exported,
) -> Result<()> {
    let name = meta.block_id.to_string();
    let bucket = place.bucket(Signal::Traces);
    let open = OpenBlock::new(
        bucket,
        place.executor.clone(),
        tenant,
        meta,
        MAX_TRACE_BYTES,
    )?;
    let groups = open.file().await?.row_groups.len();
    let bar = Progress::new("row groups", groups);
    for group in 0..groups {
        let mut traces = open.row_group(group, MAX_GROUP_BYTES).await?;
        let mut bytes = Vec::new();
        while traces.next_trace(&mut bytes)?.is_some() {
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(MAX_TRACE_BYTES, &mut grow);
            let trace = Trace::decode(&bytes, &mut allowance).map_err(|e| match e {
                DecodeFail::Broken(e) => Error::corrupt(format!("block {tenant}/{name}"), e),
                DecodeFail::Refused(e) => e,
            })?;
            let summary = TraceSummary::of(&trace);
            let ns = |t: u64| i64::try_from(t).unwrap_or(i64::MAX);
            if ns(summary.start_ns) <= window.to.get() && ns(summary.end_ns) >= window.from.get() {
                out.write(trace.to_json(TraceForm::Otlp).as_bytes())?;
                out.write(b"\n")?;
                done.items += 1;
            }
            bytes.clear();
        }
        bar.step(&name);
    }
    Ok(())
}
