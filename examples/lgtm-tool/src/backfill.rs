//! `backfill`: blocks of this machine go into the bucket.

use std::path::Path;

use lgtm_core::storage::{Bucket, DataKind, Findings, FolderUpload, Layout, ObjectInfo};
use lgtm_core::{Error, Result};
use lgtm_tsdb::block::{BlockId, BlockMeta};
use lgtm_tsdb::verify::verify_block;

use crate::arguments::Arguments;
use crate::place::{Place, Signal};
use crate::progress::Progress;
use crate::report::{Cell, Report, Table};
use crate::run::Answer;

/// Findings of a block that are printed.
const MAX_FINDINGS: usize = 100;
/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 4 << 20;
const META: &str = "meta.json";

pub(crate) async fn backfill(place: &Place, arguments: &Arguments) -> Result<Answer> {
    arguments.must_write()?;
    if place.one_signal()? != Signal::Metrics {
        return Err(Error::InvalidInput(
            "only blocks of metrics are backfilled; logs and traces are imported".into(),
        ));
    }
    let tenant = place.one_tenant().await?;
    let bucket = place.bucket(Signal::Metrics);
    let mut table = Table::new(&["block", "samples", "size", "what became of it"]);
    let mut damage = Table::new(&["object", "fault", "detail"]);
    let mut is_fine = true;
    let folders = arguments.words();
    let bar = Progress::new("blocks", folders.len());
    for folder in folders {
        let (from, id) = open(folder)?;
        let name = id.to_string();
        let mut findings = Findings::new(MAX_FINDINGS);
        let found = verify_block(&from, &name, &place.executor, &mut findings).await?;
        let is_whole = findings.damage_count() == 0;
        for finding in findings.kept().iter().filter(|f| f.fault.is_damage()) {
            damage.row([
                finding.object.as_str().into(),
                finding.fault.as_str().into(),
                finding.detail.as_str().into(),
            ]);
        }
        let there = format!("{tenant}/{name}/{META}");
        let outcome = if !is_whole {
            is_fine = false;
            "damaged, not taken"
        } else if bucket.exists(&there).await? {
            "there already"
        } else {
            upload(&from, &name, &bucket, &format!("{tenant}/{name}")).await?;
            "uploaded"
        };
        table.row([
            name.into(),
            Cell::Count(found.samples()),
            Cell::Bytes(found.bytes),
            outcome.into(),
        ]);
        bar.step(folder);
    }
    let mut report = Report::default();
    report.table("blocks", table);
    report.table("damage", damage);
    Ok(Answer { report, is_fine })
}

/// The folder above a block as a bucket, and the block's id, which its folder is called by.
fn open(folder: &str) -> Result<(Bucket, BlockId)> {
    let path = Path::new(folder);
    let wrong = |why: &str| Error::InvalidInput(format!("folder {folder}: {why}"));
    let path = (path.canonicalize()).map_err(|e| Error::NotFound(format!("{folder}: {e}:")))?;
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let id = name.parse();
    let id = id.map_err(|_| wrong("it is not called by a block's id"))?;
    let above = path.parent().and_then(Path::to_str);
    let above = above.ok_or_else(|| wrong("the folder above it has no name in UTF-8"))?;
    let backend = lgtm_core::storage::from_url(&format!("file:{above}"), &Default::default())?;
    let layout = Layout::builder()
        .store(lgtm_core::storage::Backend::memory())
        .store_for(DataKind::MetricBlocks, backend)
        .build()?;
    Ok((layout.bucket(DataKind::MetricBlocks), id))
}

/// Copies a block, what makes it one at last.
async fn upload(from: &Bucket, folder: &str, to: &Bucket, target: &str) -> Result<()> {
    let objects = from.list_sorted(folder).await?;
    let meta = from.get(&format!("{folder}/{META}")).await?;
    BlockMeta::decode(&meta).map_err(|e| Error::corrupt(format!("{folder}/{META}"), e))?;
    let mut upload = FolderUpload::new(to.clone(), target);
    let copied = copy(from, folder, &objects, &mut upload).await;
    let done = match copied {
        Ok(()) => upload.publish(META, meta.to_vec()).await,
        Err(e) => Err(e),
    };
    if done.is_err() {
        upload.abort().await;
    }
    done
}

async fn copy(
    from: &Bucket,
    folder: &str,
    objects: &[ObjectInfo],
    upload: &mut FolderUpload,
) -> Result<()> {
    for object in objects {
        let name = object.path.strip_prefix(folder).unwrap_or(&object.path);
        let name = name.trim_start_matches('/');
        if name == META || object.size_bytes == 0 {
            continue;
        }
        let mut at = 0;
        while at < object.size_bytes {
            let end = (at + PIECE_BYTES).min(object.size_bytes);
            let bytes = from.get_range(&object.path, at..end).await?;
            upload.write(name, &bytes).await?;
            at = end;
        }
        upload.finish(name).await?;
    }
    Ok(())
}
