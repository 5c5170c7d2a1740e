//! `ls`: what is in a bucket.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::storage::Bucket;
use lgtm_logstore::bucket::{key_of_object, list_index_files};
use lgtm_tsdb::bucket::BlockScanner;

use crate::place::{Place, Signal};
use crate::progress::Progress;
use crate::report::{Cell, Report, Table};

/// Metas that are read at the same time.
const CONCURRENCY: usize = 16;

pub(crate) async fn ls(place: &Place) -> Result<Report> {
    let mut report = Report::default();
    for signal in place.signals() {
        match signal {
            Signal::Metrics => metrics(place, &mut report).await?,
            Signal::Logs => logs(place, &mut report).await?,
            Signal::Traces => traces(place, &mut report).await?,
        }
    }
    Ok(report)
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    objects: u64,
    bytes: u64,
}

impl Size {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Bytes of the objects below a tenant's folder, by the folder in it. Memory is that of the folders' names.
async fn sizes(bucket: &Bucket, tenant: &TenantId) -> Result<BTreeMap<String, Size>> {
    let mut out: BTreeMap<String, Size> = BTreeMap::new();
    let mut objects = bucket.list(tenant.as_str());
    while let Some(object) = objects.try_next().await? {
        let folder = object.path.split('/').nth(1).unwrap_or_default();
        match out.get_mut(folder) {
            Some(size) => size.add(object.size_bytes),
            None => out
                .entry(folder.to_owned())
                .or_default()
                .add(object.size_bytes),
        }
    }
    Ok(out)
}

/// The times of some ranges together.
fn span(ranges: impl Iterator<Item = (TimestampMs, TimestampMs)>) -> [Cell; 2] {
    let all = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    match all {
        Some((from, to)) => [from.into(), to.into()],
        None => [Cell::None, Cell::None],
    }
}

async fn metrics(place: &Place, report: &mut Report) -> Result<()> {
    let bucket = place.bucket(Signal::Metrics);
    let scanner = BlockScanner::new(bucket.clone(), CONCURRENCY);
    let mut tenants = Table::new(&[
        "tenant", "blocks", "from", "to", "series", "samples", "size",
    ]);
    let mut blocks = Table::new(&[
        "block", "level", "from", "to", "series", "chunks", "samples", "size", "shard", "marks",
    ]);
    let all = place.tenants(Signal::Metrics).await?;
    let bar = Progress::new("tenants", all.len());
    for tenant in all {
        let found = scanner.scan(&tenant, SystemClock::new().now_ms()).await?;
        let sizes = sizes(&bucket, &tenant).await?;
        bar.step(tenant.as_str());
        if place.tenant.is_none() {
            let metas = || found.blocks.values().map(|b| &b.meta);
            let [from, to] = span(metas().map(|m| (m.min_ms, m.max_ms)));
            tenants.row([
                tenant.as_str().into(),
                found.blocks.len().into(),
                from,
                to,
                metas().map(|m| m.stats.num_series).sum::<u64>().into(),
                metas().map(|m| m.stats.num_samples).sum::<u64>().into(),
                Cell::Bytes(sizes.values().map(|s| s.bytes).sum()),
            ]);
            continue;
        }
        for (id, block) in &found.blocks {
            let meta = &block.meta;
            let mut marks = Vec::new();
            marks.extend(found.deletion_marks.contains_key(id).then_some("deletion"));
            marks.extend(found.no_compact.contains(id).then_some("no-compact"));
            let size = sizes.get(&id.to_string()).copied().unwrap_or_default();
            blocks.row([
                id.to_string().into(),
                u64::from(meta.compaction.level).into(),
                meta.min_ms.into(),
                meta.max_ms.into(),
                meta.stats.num_series.into(),
                meta.stats.num_chunks.into(),
                meta.stats.num_samples.into(),
                Cell::Bytes(size.bytes),
                meta.shard_id().into(),
                marks.join(",").into(),
            ]);
        }
        let partial = found.partial.iter().map(|id| (id, "no meta.json"));
        let unreadable = found.unreadable.iter().map(|(id, why)| (id, why.as_str()));
        let mut broken = Table::new(&["block", "why"]);
        for (id, why) in partial.chain(unreadable) {
            broken.row([id.to_string().into(), why.into()]);
        }
        report.table("blocks that are not whole", broken);
    }
    match place.tenant {
        Some(_) => report.table("metric blocks", blocks),
        None => report.table("metrics", tenants),
    }
    Ok(())
}

async fn logs(place: &Place, report: &mut Report) -> Result<()> {
    let bucket = place.bucket(Signal::Logs);
    let files = list_index_files(&bucket, &place.periods()?).await?;
    let mut index = Table::new(&["day", "tenant", "index file"]);
    for file in &files {
        let tenant = file.tenant.as_ref().map(TenantId::as_str);
        if place
            .tenant
            .as_ref()
            .is_some_and(|t| tenant.is_some_and(|of| of != t.as_str()))
        {
            continue;
        }
        index.row([
            TimestampMs::new(file.day * lgtm_logstore::schema::DAY_MS).into(),
            tenant.map_or(Cell::None, Cell::from),
            file.path.as_str().into(),
        ]);
    }
    // Keys name the tenant; flat ones have no folder of it.
    let mut chunks: BTreeMap<String, (Size, Option<(TimestampMs, TimestampMs)>)> = BTreeMap::new();
    let under = place.tenant.as_ref().map_or("", TenantId::as_str);
    let mut objects = bucket.list(under);
    while let Some(object) = objects.try_next().await? {
        let Some(key) = key_of_object(&bucket, &object.path) else {
            continue;
        };
        let (size, times) = chunks.entry(key.tenant).or_default();
        size.add(object.size_bytes);
        *times = Some(match *times {
            None => (key.from_ms, key.through_ms),
            Some((from, to)) => (from.min(key.from_ms), to.max(key.through_ms)),
        });
    }
    let mut tenants = Table::new(&["tenant", "chunks", "from", "to", "size"]);
    for (tenant, (size, times)) in chunks {
        let [from, to] = span(times.into_iter());
        let cells = [tenant.into(), size.objects.into(), from, to];
        tenants.row(cells.into_iter().chain([Cell::Bytes(size.bytes)]));
    }
    report.table("logs", tenants);
    report.table("log index", index);
    if let Some(side) = place.side_bucket() {
        let mut days: BTreeMap<String, Size> = BTreeMap::new();
        let mut objects = side.list("");
        while let Some(object) = objects.try_next().await? {
            let day = object.path.split('/').next().unwrap_or_default();
            days.entry(day.to_owned())
                .or_default()
                .add(object.size_bytes);
        }
        let mut table = Table::new(&["day", "objects", "size"]);
        for (day, size) in days {
            table.row([day.into(), size.objects.into(), Cell::Bytes(size.bytes)]);
        }
        report.table("log side objects", table);
    }
    Ok(())
}

async fn traces(place: &Place, report: &mut Report) -> Result<()> {
    use lgtm_tracestore::bucket::BlockList;
    let bucket = place.bucket(Signal::Traces);
    let clock = std::sync::Arc::new(SystemClock::new());
    let list = BlockList::new(
        bucket.clone(),
        place.executor.clone(),
        clock,
        std::time::Duration::MAX,
    );
    let mut tenants = Table::new(&[
        "tenant",
        "blocks",
        "superseded",
        "from",
        "to",
        "traces",
        "size",
    ]);
    let mut blocks = Table::new(&[
        "block",
        "format",
        "level",
        "from",
        "to",
        "traces",
        "row groups",
        "size",
        "state",
    ]);
    let all = place.tenants(Signal::Traces).await?;
    let bar = Progress::new("tenants", all.len());
    for tenant in all {
        let found = list.list_bucket(&tenant).await?;
        let sizes = sizes(&bucket, &tenant).await?;
        bar.step(tenant.as_str());
        if place.tenant.is_none() {
            let times = found.live.iter().map(|m| (m.start.to_ms(), m.end.to_ms()));
            let [from, to] = span(times);
            tenants.row([
                tenant.as_str().into(),
                found.live.len().into(),
                found.compacted.len().into(),
                from,
                to,
                found.live.iter().map(|m| m.trace_count).sum::<u64>().into(),
                Cell::Bytes(sizes.values().map(|s| s.bytes).sum()),
            ]);
            continue;
        }
        let live = found.live.iter().map(|m| (&**m, "serves"));
        let compacted = found.compacted.iter().map(|c| (&c.meta, "superseded"));
        for (meta, state) in live.chain(compacted) {
            let id = meta.block_id.to_string();
            let size = sizes.get(&id).copied().unwrap_or_default();
            blocks.row([
                id.into(),
                meta.format.as_str().into(),
                u64::from(meta.compaction_level).into(),
                meta.start.into(),
                meta.end.into(),
                meta.trace_count.into(),
                u64::from(meta.row_group_count).into(),
                Cell::Bytes(size.bytes),
                state.into(),
            ]);
        }
    }
    match place.tenant {
        Some(_) => report.table("trace blocks", blocks),
        None => report.table("traces", tenants),
    }
    Ok(())
}
