//! Blocks of the golden set, and what tests do with blocks.

use std::path::PathBuf;

use lgtm_core::codec::Allowance;
use lgtm_tracestore::schema::{
    BlockFile, BlockVersion, BlockWriter, BlockWriterSettings, Column, ColumnDecoder, Levels,
    RowPlan, RowReader, WrittenBlock,
};
use lgtm_tracestore::trace::{DedicatedColumns, Trace, TraceId};

/// A block of the golden set.
pub(crate) struct GoldenBlock {
    /// Name of its bucket without what all have.
    pub(crate) name: String,
    /// Whether it is the one that readers see.
    pub(crate) is_live: bool,
    pub(crate) version: BlockVersion,
    pub(crate) dedicated: DedicatedColumns,
    pub(crate) meta: serde_json::Value,
    pub(crate) bytes: Vec<u8>,
}

/// All blocks below a folder of buckets.
pub(crate) fn golden(root: &std::path::Path) -> Vec<GoldenBlock> {
    let mut out = Vec::new();
    for bucket in sorted(root) {
        let name = bucket.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = name.strip_prefix("bucket-") else {
            continue;
        };
        for tenant in sorted(&bucket) {
            for block in sorted(&tenant).into_iter().filter(|p| p.is_dir()) {
                let live = block.join("meta.json");
                let is_live = live.exists();
                let meta = if is_live {
                    live
                } else {
                    block.join("meta.compacted.json")
                };
                let meta: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(meta).unwrap()).unwrap();
                out.push(GoldenBlock {
                    name: name.to_owned(),
                    is_live,
                    version: BlockVersion::of_name(meta["format"].as_str().unwrap()).unwrap(),
                    dedicated: serde_json::from_value(meta["dedicatedColumns"].clone()).unwrap(),
                    bytes: std::fs::read(block.join("data.parquet")).unwrap(),
                    meta,
                });
            }
        }
    }
    assert!(!out.is_empty(), "no golden block below {}", root.display());
    out
}

fn sorted(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut out: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    out.sort();
    out
}

/// Calls with an allowance of so many bytes.
pub(crate) fn allowed<T>(bytes: usize, f: impl FnOnce(&mut Allowance<'_>) -> T) -> T {
    let mut grow = |_| Ok(());
    f(&mut Allowance::new(bytes, &mut grow))
}

/// The footer of a file.
pub(crate) fn open(bytes: &[u8]) -> BlockFile {
    let size = bytes.len() as u64;
    let tail = bytes.len() - 8;
    let footer = u32::from_le_bytes(bytes[tail..tail + 4].try_into().unwrap());
    let range = BlockFile::footer_range(size, footer).unwrap();
    let footer = &bytes[range.start as usize..];
    allowed(0, |a| BlockFile::decode(footer, size, a)).unwrap()
}

/// All traces of a file, as protobuf.
pub(crate) fn read_all(
    bytes: &[u8],
    version: BlockVersion,
    dedicated: &DedicatedColumns,
) -> Vec<(TraceId, Vec<u8>)> {
    let file = open(bytes);
    let mut out = Vec::new();
    for group in 0..file.row_groups.len() {
        let plan = RowPlan::row_group(&file, group);
        allowed(0, |a| {
            let mut rows = RowReader::open(&file, &plan, version, dedicated, bytes, a).unwrap();
            let mut trace = Vec::new();
            while let Some(id) = rows.next(&mut trace, a).unwrap() {
                out.push((id, std::mem::take(&mut trace)));
            }
        });
    }
    out
}

/// A file of these traces.
pub(crate) fn write(
    traces: &[(TraceId, Vec<u8>)],
    settings: BlockWriterSettings,
) -> (Vec<u8>, WrittenBlock) {
    let mut writer = BlockWriter::new(Vec::new(), settings).unwrap();
    for (id, trace) in traces {
        let trace = allowed(0, |a| Trace::decode(trace, a)).unwrap();
        writer.append(*id, &trace).unwrap();
    }
    writer.finish().unwrap()
}

/// A whole column of a row group.
pub(crate) fn column(file: &BlockFile, bytes: &[u8], group: usize, leaf: usize) -> Column {
    let (leaf, chunk) = file.chunk(group, leaf).unwrap();
    let mut decoder = ColumnDecoder::new(leaf, chunk, Levels::All);
    let range = chunk.range.start as usize..chunk.range.end as usize;
    allowed(0, |a| decoder.pages(&bytes[range], a)).unwrap();
    decoder.finish()
}
