//! Blocks of metrics, and the list of a tenant's.

use std::collections::HashMap;

use lgtm_core::Result;
use lgtm_core::storage::Bucket;
use lgtm_tsdb::block::{BlockReader, BlockReaderSettings, BucketIndex};
use lgtm_tsdb::chunk::Encoding;
use lgtm_tsdb::index::IndexReader;

use crate::progress::Progress;
use crate::report::{Cell, Report, Table};

const MAX_BUCKET_INDEX_BYTES: u64 = 512 << 20;
/// Series that are read at the same time.
const SERIES_AT_ONCE: usize = 256;
/// Metric names that are told apart; the sizes of the others stand under one.
const MAX_METRICS: usize = 1_000_000;
/// Metric names that are printed, the largest.
const SHOWN_METRICS: usize = 20;

/// What chunks there are of something.
#[derive(Debug, Clone, Copy, Default)]
struct ChunkSizes {
    series: u64,
    chunks: u64,
    samples: u64,
    bytes: u64,
}

pub(super) async fn block(bucket: &Bucket, folder: &str, report: &mut Report) -> Result<()> {
    let block = BlockReader::open_object(bucket, folder, BlockReaderSettings::default()).await?;
    let meta = block.meta();
    let sources: Vec<_> = meta
        .compaction
        .sources
        .iter()
        .map(|s| s.to_string())
        .collect();
    let parents: Vec<_> = (meta.compaction.parents.iter())
        .map(|p| p.ulid.to_string())
        .collect();
    let external = meta.thanos.iter().flat_map(|t| &t.labels);
    let external: Vec<_> = external.map(|(n, v)| format!("{n}={v:?}")).collect();
    let source = meta.thanos.as_ref().map_or("", |t| t.source.as_str());
    report.facts(
        "block",
        [
            ("id", meta.ulid.to_string().into()),
            ("from", meta.min_ms.into()),
            ("to", meta.max_ms.into()),
            ("level", u64::from(meta.compaction.level).into()),
            ("written by", source.into()),
            ("external labels", external.join(", ").into()),
            ("sources", sources.join(" ").into()),
            ("parents", parents.join(" ").into()),
            ("hints", meta.compaction.hints.join(" ").into()),
            ("series", meta.stats.num_series.into()),
            ("chunks", meta.stats.num_chunks.into()),
            ("samples", meta.stats.num_samples.into()),
            ("tombstones", block.tombstones().interval_count().into()),
        ],
    );
    let mut files = Table::new(&["file", "size"]);
    for object in bucket.list_sorted(folder).await? {
        let name = object.path.strip_prefix(folder).unwrap_or(&object.path);
        let name = name.trim_start_matches('/');
        files.row([name.into(), Cell::Bytes(object.size_bytes)]);
    }
    report.table("files", files);
    sections(block.index(), report);
    labels(block.index(), report).await?;
    chunks(&block, report).await
}

fn sections(index: &IndexReader, report: &mut Report) {
    let toc = index.toc();
    let mut table = Table::new(&["section", "size"]);
    for (name, from, to) in [
        ("symbols", toc.symbols, toc.series),
        ("series", toc.series, toc.series_end()),
        ("postings", toc.postings, toc.postings_end()),
    ] {
        table.row([name.into(), Cell::Bytes(to.saturating_sub(from))]);
    }
    report.facts(
        "index",
        [
            ("version", u64::from(index.version()).into()),
            ("symbols", u64::from(index.symbol_count()).into()),
        ],
    );
    report.table("index sections", table);
}

async fn labels(index: &IndexReader, report: &mut Report) -> Result<()> {
    let mut table = Table::new(&[
        "label",
        "values",
        "series",
        "bytes of values",
        "bytes of postings",
    ]);
    let names: Vec<String> = index.label_names().map(str::to_owned).collect();
    for name in names {
        let (mut values, mut bytes, mut series, mut postings) = (0u64, 0u64, 0u64, 0u64);
        let mut count = |value: &str| {
            values += 1;
            bytes += value.len() as u64;
        };
        index.for_each_label_value(&name, &mut count).await?;
        for list in index.postings_for_values(&name, &mut |_| true).await? {
            series += list.len() as u64;
            postings += 12 + 4 * list.len() as u64;
        }
        let cells = [name.into(), values.into(), series.into()];
        let sizes = [Cell::Bytes(bytes), Cell::Bytes(postings)];
        table.row(cells.into_iter().chain(sizes));
    }
    report.table("labels", table);
    Ok(())
}

/// Reads all chunks: their sizes by encoding and by metric name.
async fn chunks(block: &BlockReader, report: &mut Report) -> Result<()> {
    let references = block.index().postings_all().await?;
    let mut by_encoding: HashMap<Encoding, ChunkSizes> = HashMap::new();
    let mut by_metric: HashMap<String, ChunkSizes> = HashMap::new();
    let bar = Progress::new("series", references.len().div_ceil(SERIES_AT_ONCE));
    for some in references.chunks(SERIES_AT_ONCE) {
        for series in block.index().series(some).await? {
            let name = series.labels.metric_name().unwrap_or_default();
            let name = match by_metric.len() < MAX_METRICS || by_metric.contains_key(name) {
                true => name,
                false => "(others)",
            };
            let mut of_series = ChunkSizes {
                series: 1,
                ..ChunkSizes::default()
            };
            for chunk in block.chunks().read(&series.chunks).await? {
                let sizes = by_encoding.entry(chunk.encoding).or_default();
                for sizes in [sizes, &mut of_series] {
                    sizes.chunks += 1;
                    sizes.samples += u64::from(chunk.sample_count());
                    sizes.bytes += chunk.data.len() as u64;
                }
            }
            let sizes = by_metric.entry(name.to_owned()).or_default();
            sizes.series += of_series.series;
            sizes.chunks += of_series.chunks;
            sizes.samples += of_series.samples;
            sizes.bytes += of_series.bytes;
        }
        bar.step("");
    }
    let mut table = Table::new(&["encoding", "chunks", "samples", "size", "bytes per sample"]);
    let mut encodings: Vec<_> = by_encoding.into_iter().collect();
    encodings.sort_by_key(|(encoding, _)| *encoding as u8);
    for (encoding, sizes) in encodings {
        table.row([
            format!("{encoding:?}").into(),
            sizes.chunks.into(),
            sizes.samples.into(),
            Cell::Bytes(sizes.bytes),
            per(sizes.bytes, sizes.samples),
        ]);
    }
    report.table("chunks", table);
    let mut metrics: Vec<_> = by_metric.into_iter().collect();
    metrics.sort_by(|(a, x), (b, y)| y.bytes.cmp(&x.bytes).then_with(|| a.cmp(b)));
    let mut table = Table::new(&[
        "metric",
        "series",
        "chunks",
        "samples",
        "size",
        "bytes per sample",
    ]);
    for (name, sizes) in metrics.into_iter().take(SHOWN_METRICS) {
        table.row([
            name.into(),
            sizes.series.into(),
            sizes.chunks.into(),
            sizes.samples.into(),
            Cell::Bytes(sizes.bytes),
            per(sizes.bytes, sizes.samples),
        ]);
    }
    report.table("largest metrics", table);
    Ok(())
}

fn per(bytes: u64, samples: u64) -> Cell {
    match samples {
        0 => Cell::None,
        _ => Cell::Number(bytes as f64 / samples as f64),
    }
}

pub(super) async fn bucket_index(bucket: &Bucket, path: &str, report: &mut Report) -> Result<()> {
    let bytes = bucket.get(path).await?;
    let index = BucketIndex::decode(path, &bytes, MAX_BUCKET_INDEX_BYTES)?;
    let updated = lgtm_core::model::TimestampMs::new(index.updated_at_s.saturating_mul(1000));
    report.facts(
        "bucket index",
        [
            ("version", u64::from(index.version).into()),
            ("updated", updated.into()),
            ("blocks", index.blocks.len().into()),
            ("deletion marks", index.block_deletion_marks.len().into()),
            ("unreadable blocks", index.unreadable_blocks.len().into()),
        ],
    );
    let mut table = Table::new(&[
        "block", "level", "from", "to", "segments", "shard", "source",
    ]);
    for block in &index.blocks {
        table.row([
            block.id.to_string().into(),
            u64::from(block.compaction_level).into(),
            block.min_ms.into(),
            block.max_ms.into(),
            block.segment_count.into(),
            block.compactor_shard_id.as_str().into(),
            block.source.as_str().into(),
        ]);
    }
    report.table("blocks", table);
    Ok(())
}
