//! Blocks of traces, and the list of a tenant's.

use lgtm_core::codec::DecodeFail;
use lgtm_core::model::TenantId;
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, ErrorKind, Result};
use lgtm_tracestore::block::{
    BlockMeta, COMPACTED_META, META, TENANT_INDEX_JSON, TENANT_INDEX_PROTOBUF, TenantIndex,
};
use lgtm_tracestore::bucket::OpenBlock;
use lgtm_tracestore::skip::{SKIP_FILE, SkipIndex};

use crate::place::{Place, Signal};
use crate::report::{Cell, Report, Table};

pub(super) const INDEX_JSON: &str = TENANT_INDEX_JSON;
pub(super) const INDEX_PROTOBUF: &str = TENANT_INDEX_PROTOBUF;
const MAX_INDEX_BYTES: usize = 512 << 20;
/// Memory for a footer.
const MAX_FOOTER_BYTES: usize = 256 << 20;

pub(super) async fn block(place: &Place, path: &str, report: &mut Report) -> Result<()> {
    let bucket = place.bucket(Signal::Traces);
    let folder: Vec<&str> = path.split('/').take(2).collect();
    let tenant = TenantId::new(folder[0])?;
    let folder = folder.join("/");
    let (meta, state) = read_meta(&bucket, &folder).await?;
    report.facts(
        "block",
        [
            ("id", meta.block_id.to_string().into()),
            ("state", state.into()),
            ("format", meta.format.as_str().into()),
            ("from", meta.start.into()),
            ("to", meta.end.into()),
            ("level", u64::from(meta.compaction_level).into()),
            ("traces", meta.trace_count.into()),
            ("row groups", u64::from(meta.row_group_count).into()),
            ("data", Cell::Bytes(meta.size_bytes)),
            ("footer", Cell::Bytes(meta.footer_size_bytes.into())),
            ("bloom shards", u64::from(meta.bloom_shards).into()),
            (
                "replication factor",
                u64::from(meta.replication_factor).into(),
            ),
        ],
    );
    let mut dedicated = Table::new(&["scope", "attribute", "type"]);
    for column in meta.dedicated_columns.as_slice() {
        dedicated.row([
            format!("{:?}", column.scope).to_lowercase().into(),
            column.name.as_str().into(),
            format!("{:?}", column.kind).to_lowercase().into(),
        ]);
    }
    let mut files = Table::new(&["file", "size"]);
    for object in bucket.list_sorted(&folder).await? {
        let name = object.path.strip_prefix(&folder).unwrap_or(&object.path);
        let name = name.trim_start_matches('/');
        files.row([name.into(), Cell::Bytes(object.size_bytes)]);
    }
    report.table("files", files);
    report.table("dedicated columns", dedicated);
    side_file(&bucket, &folder, report).await?;
    let executor = place.executor.clone();
    let open = OpenBlock::new(bucket, executor, &tenant, meta, MAX_FOOTER_BYTES)?;
    columns(&open, report).await
}

/// The meta of a block that serves, or of one that is superseded.
async fn read_meta(bucket: &Bucket, folder: &str) -> Result<(BlockMeta, &'static str)> {
    for (name, state) in [(META, "serves"), (COMPACTED_META, "superseded")] {
        let path = format!("{folder}/{name}");
        match bucket.get(&path).await {
            Ok(bytes) => {
                let meta = BlockMeta::decode(&bytes).map_err(|e| Error::corrupt(path, e))?;
                return Ok((meta, state));
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Err(Error::NotFound(format!("{folder}/{META}")))
}

async fn columns(open: &OpenBlock, report: &mut Report) -> Result<()> {
    let file = open.file().await?;
    let mut columns = Table::new(&[
        "column", "type", "codec", "size", "entries", "nulls", "share",
    ]);
    let chunks = file.row_groups.iter().flat_map(|g| &g.chunks);
    let all: u64 = chunks.map(|c| c.range.end - c.range.start).sum();
    for (n, leaf) in file.leaves.iter().enumerate() {
        let (mut bytes, mut entries, mut nulls) = (0, 0, Some(0));
        let mut codec = String::new();
        for chunk in file.row_groups.iter().filter_map(|g| g.chunks.get(n)) {
            bytes += chunk.range.end - chunk.range.start;
            entries += chunk.entries;
            nulls = nulls.and_then(|sum| Some(sum + chunk.nulls?));
            codec = format!("{:?}", chunk.codec).to_lowercase();
        }
        columns.row([
            leaf.path.as_str().into(),
            format!("{:?}", leaf.physical).to_lowercase().into(),
            codec.into(),
            Cell::Bytes(bytes),
            Cell::Count(entries),
            nulls.map_or(Cell::None, Cell::Count),
            format!("{:.1}%", 100.0 * bytes as f64 / all.max(1) as f64).into(),
        ]);
    }
    report.table("columns", columns);
    let mut groups = Table::new(&["row group", "traces", "size"]);
    for (n, group) in file.row_groups.iter().enumerate() {
        let bytes = group.chunks.iter().map(|c| c.range.end - c.range.start);
        groups.row([n.into(), group.rows.into(), Cell::Bytes(bytes.sum())]);
    }
    report.table("row groups", groups);
    Ok(())
}

async fn side_file(bucket: &Bucket, folder: &str, report: &mut Report) -> Result<()> {
    let path = format!("{folder}/{SKIP_FILE}");
    let file = match bucket.get(&path).await {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let size = file.len() as u64;
    let index = SkipIndex::decode(file).map_err(|e| Error::corrupt(path, e))?;
    let mut names = Table::new(&["scope", "attribute"]);
    let all = index.names().map(Iterator::collect::<Vec<_>>);
    for (scope, name) in all.iter().flatten() {
        let name = String::from_utf8_lossy(name).into_owned();
        names.row([scope.name().into(), name.into()]);
    }
    report.facts(
        "side file",
        [
            ("size", Cell::Bytes(size)),
            ("has all names", Cell::Flag(all.is_some())),
            ("traces", index.origin().traces.into()),
        ],
    );
    report.table("attributes", names);
    Ok(())
}

pub(super) async fn tenant_index(bucket: &Bucket, path: &str, report: &mut Report) -> Result<()> {
    let bytes = bucket.get(path).await?;
    let decoded = match path.ends_with(INDEX_JSON) {
        true => TenantIndex::decode_json_gzip(&bytes, MAX_INDEX_BYTES),
        false => TenantIndex::decode_protobuf_zstd(&bytes, MAX_INDEX_BYTES),
    };
    let index = decoded.map_err(|e| match e {
        DecodeFail::Broken(e) => Error::corrupt(path, e),
        DecodeFail::Refused(e) => e,
    })?;
    report.facts(
        "tenant index",
        [
            ("created", index.created.into()),
            ("blocks", index.meta.len().into()),
            ("superseded", index.compacted.len().into()),
        ],
    );
    let mut table = Table::new(&[
        "block", "format", "level", "from", "to", "traces", "size", "state",
    ]);
    let live = index.meta.iter().map(|m| (m, "serves"));
    let compacted = index.compacted.iter().map(|c| (&c.meta, "superseded"));
    for (meta, state) in live.chain(compacted) {
        table.row([
            meta.block_id.to_string().into(),
            meta.format.as_str().into(),
            u64::from(meta.compaction_level).into(),
            meta.start.into(),
            meta.end.into(),
            meta.trace_count.into(),
            Cell::Bytes(meta.size_bytes),
            state.into(),
        ]);
    }
    report.table("blocks", table);
    Ok(())
}
