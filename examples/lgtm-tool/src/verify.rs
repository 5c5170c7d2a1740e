//! `verify`: the checks of the stores, over a bucket or one object.

use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, DataKind, Findings};
use lgtm_core::{Error, Result};
use lgtm_logstore::bucket::StoredIndex;
use lgtm_logstore::verify::LogVerifier;

use crate::arguments::Arguments;
use crate::place::{Place, Signal};
use crate::progress::Progress;
use crate::report::{Cell, Report, Table};
use crate::run::Answer;

/// Findings that are printed; more are counted.
const MAX_FINDINGS: usize = 10_000;

pub(crate) async fn verify(place: &Place, arguments: &Arguments) -> Result<Answer> {
    let mut findings = Findings::new(MAX_FINDINGS);
    let mut checked = Table::new(&["signal", "what", "count"]);
    match arguments.word(0) {
        Some(object) => one(place, object, &mut checked, &mut findings).await?,
        None => {
            for signal in place.signals() {
                match signal {
                    Signal::Metrics => metrics(place, &mut checked, &mut findings).await?,
                    Signal::Logs => logs(place, &mut checked, &mut findings).await?,
                    Signal::Traces => traces(place, &mut checked, &mut findings).await?,
                }
            }
        }
    }
    Ok(answer(checked, &findings))
}

fn answer(checked: Table, findings: &Findings) -> Answer {
    let mut damage = Table::new(&["object", "fault", "detail"]);
    let mut notices = Table::new(&["object", "fault", "detail"]);
    for finding in findings.kept() {
        let table = match finding.fault.is_damage() {
            true => &mut damage,
            false => &mut notices,
        };
        table.row([
            finding.object.as_str().into(),
            finding.fault.as_str().into(),
            finding.detail.as_str().into(),
        ]);
    }
    let is_fine = findings.damage_count() == 0;
    let mut report = Report::default();
    report.table("checked", checked);
    report.table("notices", notices);
    report.table("damage", damage);
    report.facts(
        "result",
        [
            ("ok", Cell::Flag(is_fine)),
            ("damage", findings.damage_count().into()),
            ("notices", findings.notice_count().into()),
        ],
    );
    Answer { report, is_fine }
}

fn count(table: &mut Table, signal: Signal, counts: &[(&str, Cell)]) {
    for (what, cell) in counts {
        table.row([signal.as_str().into(), (*what).into(), cell.clone()]);
    }
}

async fn metrics(place: &Place, checked: &mut Table, findings: &mut Findings) -> Result<()> {
    let bucket = place.bucket(Signal::Metrics);
    let mut blocks = Vec::new();
    for tenant in place.tenants(Signal::Metrics).await? {
        let found = lgtm_tsdb::verify::verify_tenant(&bucket, &tenant, findings).await?;
        blocks.extend(found.into_iter().map(|id| format!("{tenant}/{id}")));
    }
    metric_blocks(place, &bucket, &blocks, checked, findings).await
}

async fn metric_blocks(
    place: &Place,
    bucket: &Bucket,
    folders: &[String],
    checked: &mut Table,
    findings: &mut Findings,
) -> Result<()> {
    let bar = Progress::new("metric blocks", folders.len());
    let (mut series, mut chunks, mut samples, mut bytes) = (0, 0, 0, 0);
    for folder in folders {
        let executor = &place.executor;
        let found = lgtm_tsdb::verify::verify_block(bucket, folder, executor, findings).await?;
        series += found.series;
        chunks += found.chunks;
        samples += found.samples();
        bytes += found.bytes;
        bar.step(folder);
    }
    let counts = [
        ("blocks", folders.len().into()),
        ("series", Cell::Count(series)),
        ("chunks", Cell::Count(chunks)),
        ("samples", Cell::Count(samples)),
        ("bytes", Cell::Bytes(bytes)),
    ];
    count(checked, Signal::Metrics, &counts);
    Ok(())
}

fn log_verifier(place: &Place) -> Result<LogVerifier> {
    Ok(LogVerifier::new(
        place.bucket(Signal::Logs),
        place.side_bucket(),
        place.periods()?,
        place.executor.clone(),
    ))
}

fn count_logs(verifier: &LogVerifier, checked: &mut Table) {
    let found = verifier.found();
    let counts = [
        ("index files", Cell::Count(found.index_files)),
        ("streams", Cell::Count(found.streams)),
        ("chunks", Cell::Count(found.chunks)),
        ("entries", Cell::Count(found.entries)),
        ("side objects", Cell::Count(found.side_objects)),
        ("bytes", Cell::Bytes(found.bytes)),
    ];
    count(checked, Signal::Logs, &counts);
}

async fn logs(place: &Place, checked: &mut Table, findings: &mut Findings) -> Result<()> {
    let mut verifier = log_verifier(place)?;
    let mut files = verifier.index_files().await?;
    if let Some(tenant) = &place.tenant {
        files.retain(|f| f.tenant.as_ref().is_none_or(|t| t == tenant));
    }
    let bar = Progress::new("index files", files.len());
    for file in &files {
        verifier.index_file(file, findings).await?;
        bar.step(&file.path);
    }
    drop(bar);
    verifier.marks(findings).await?;
    if place.tenant.is_none() {
        verifier.unlisted_chunks(findings).await?;
    }
    let objects = verifier.side_objects().await?;
    let bar = Progress::new("side objects", objects.len());
    for object in &objects {
        verifier.side_object(object, findings).await?;
        bar.step(object);
    }
    drop(bar);
    count_logs(&verifier, checked);
    Ok(())
}

async fn traces(place: &Place, checked: &mut Table, findings: &mut Findings) -> Result<()> {
    let bucket = place.bucket(Signal::Traces);
    let mut blocks = Vec::new();
    for tenant in place.tenants(Signal::Traces).await? {
        let found = lgtm_tracestore::verify::verify_tenant(&bucket, &tenant, findings).await?;
        blocks.extend(found.into_iter().map(|id| (tenant.clone(), id)));
    }
    trace_blocks(place, &bucket, &blocks, checked, findings).await
}

async fn trace_blocks(
    place: &Place,
    bucket: &Bucket,
    blocks: &[(TenantId, lgtm_tracestore::block_id::BlockId)],
    checked: &mut Table,
    findings: &mut Findings,
) -> Result<()> {
    let bar = Progress::new("trace blocks", blocks.len());
    let (mut traces, mut spans, mut groups, mut bytes) = (0, 0, 0, 0);
    for (tenant, id) in blocks {
        let executor = &place.executor;
        let found =
            lgtm_tracestore::verify::verify_block(bucket, tenant, *id, executor, findings).await?;
        traces += found.traces;
        spans += found.spans;
        groups += found.row_groups;
        bytes += found.bytes;
        bar.step(&id.to_string());
    }
    let counts = [
        ("blocks", blocks.len().into()),
        ("row groups", Cell::Count(groups)),
        ("traces", Cell::Count(traces)),
        ("spans", Cell::Count(spans)),
        ("bytes", Cell::Bytes(bytes)),
    ];
    count(checked, Signal::Traces, &counts);
    Ok(())
}

/// One object: a block by its folder or any object in it, an index file, a chunk, a side object.
async fn one(
    place: &Place,
    object: &str,
    checked: &mut Table,
    findings: &mut Findings,
) -> Result<()> {
    let (kind, path) = place.locate(object)?;
    let unknown = || {
        Error::InvalidInput(format!(
            "object {object:?} is neither a block nor an index file, a chunk or a side object"
        ))
    };
    let mut parts = path.splitn(3, '/');
    let (tenant, name) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    match kind {
        DataKind::MetricBlocks => {
            name.parse::<lgtm_tsdb::block::BlockId>()
                .map_err(|_| unknown())?;
            let folder = format!("{tenant}/{name}");
            let bucket = place.bucket(Signal::Metrics);
            metric_blocks(place, &bucket, &[folder], checked, findings).await
        }
        DataKind::Traces => {
            let id = name.parse().map_err(|_| unknown())?;
            let tenant = TenantId::new(tenant)?;
            let bucket = place.bucket(Signal::Traces);
            trace_blocks(place, &bucket, &[(tenant, id)], checked, findings).await
        }
        DataKind::Logs => {
            let mut verifier = log_verifier(place)?;
            let files = verifier.index_files().await?;
            match files.iter().find(|f: &&StoredIndex| f.path == path) {
                Some(file) => verifier.index_file(file, findings).await?,
                None => verifier.chunk_object(&path, findings).await?,
            }
            count_logs(&verifier, checked);
            Ok(())
        }
        DataKind::LogSkip => {
            let mut verifier = log_verifier(place)?;
            verifier.side_object(&path, findings).await?;
            count_logs(&verifier, checked);
            Ok(())
        }
        _ => Err(unknown()),
    }
}
