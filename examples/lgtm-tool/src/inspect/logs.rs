//! Index files, chunks and side objects of logs.

use std::collections::BTreeMap;

use bytes::Bytes;
use lgtm_core::codec::DecodeFail;
use lgtm_core::storage::{Bucket, ObjectFile, ReadAt};
use lgtm_core::{DecodeError, Error, Result};
use lgtm_logstore::bucket::key_of_object;
use lgtm_logstore::chunk::{ChunkCodec, read_object};
use lgtm_logstore::index::{IndexReader, IndexReaderSettings, IndexUnpacker, SeriesFilter};
use lgtm_logstore::skip::{SideDirectory, SideTail};

use crate::place::{Place, Signal};
use crate::progress::Progress;
use crate::report::{Cell, Report, Table};

/// Bytes that an index file may unpack to, in memory.
const MAX_INDEX_BYTES: u64 = 4 << 30;
const SERIES_AT_ONCE: usize = 1024;
/// A directory of more is not read.
const MAX_DIRECTORY_BYTES: u64 = 1 << 30;

pub(super) async fn index_file(place: &Place, path: &str, report: &mut Report) -> Result<()> {
    let bucket = place.bucket(Signal::Logs);
    let packed = bucket.get(path).await?;
    let packed_bytes = packed.len() as u64;
    let executor = place.executor.clone();
    let unpacker = IndexUnpacker::new(executor, None, MAX_INDEX_BYTES, u64::MAX);
    let (file, _) = unpacker.unpacked(path, packed).await?;
    let size = file.size();
    let index = IndexReader::open(file, IndexReaderSettings::default()).await?;
    let references = index.postings_all().await?;
    let (mut chunks, mut entries, mut kb) = (0u64, 0u64, 0u64);
    let bar = Progress::new("streams", references.len().div_ceil(SERIES_AT_ONCE));
    for some in references.chunks(SERIES_AT_ONCE) {
        let series = index.series_entries(some, &SeriesFilter::ALL).await?;
        for chunk in series.iter().flat_map(|s| s.chunks) {
            chunks += 1;
            entries += u64::from(chunk.entries);
            kb += u64::from(chunk.kb);
        }
        bar.step("");
    }
    drop(bar);
    let toc = index.toc();
    report.facts(
        "index file",
        [
            ("version", u64::from(index.version().number()).into()),
            ("packed", Cell::Bytes(packed_bytes)),
            ("size", Cell::Bytes(size)),
            ("from", toc.min_ms.into()),
            ("to", toc.max_ms.into()),
            ("streams", references.len().into()),
            ("chunks", chunks.into()),
            ("entries", entries.into()),
            ("uncompressed", Cell::Bytes(kb << 10)),
        ],
    );
    let mut sections = Table::new(&["section", "size"]);
    for (name, from, to) in [
        ("symbols", toc.symbols, toc.series),
        ("series", toc.series, toc.series_end()),
        ("postings", toc.postings, toc.postings_end()),
        (
            "postings table",
            toc.postings_table,
            toc.fingerprint_offsets,
        ),
    ] {
        sections.row([name.into(), Cell::Bytes(to.saturating_sub(from))]);
    }
    report.table("index sections", sections);
    let mut labels = Table::new(&[
        "label",
        "values",
        "streams",
        "bytes of values",
        "bytes of postings",
    ]);
    for name in index.label_names() {
        let (mut values, mut bytes, mut streams, mut postings) = (0u64, 0u64, 0u64, 0u64);
        let mut count = |value: &str| {
            values += 1;
            bytes += value.len() as u64;
        };
        index.for_each_label_value(name, &mut count).await?;
        for list in index.postings_for_values(name, &mut |_| true).await? {
            streams += list.len() as u64;
            postings += 12 + 4 * list.len() as u64;
        }
        let cells = [name.into(), values.into(), streams.into()];
        let sizes = [Cell::Bytes(bytes), Cell::Bytes(postings)];
        labels.row(cells.into_iter().chain(sizes));
    }
    report.table("labels", labels);
    Ok(())
}

pub(super) async fn chunk(place: &Place, path: &str, report: &mut Report) -> Result<()> {
    let bucket = place.bucket(Signal::Logs);
    let key = key_of_object(&bucket, path).ok_or_else(|| {
        Error::InvalidInput(format!(
            "object {path:?} is neither an index file nor named as a chunk"
        ))
    })?;
    let object = bucket.get(path).await?;
    let told = |e: DecodeError| Error::corrupt(path, e);
    let fails = |e: DecodeFail| match e {
        DecodeFail::Broken(e) => told(e),
        DecodeFail::Refused(e) => e,
    };
    let mut codec = ChunkCodec::default();
    let (meta, chunk) = read_object(&object, &mut codec.decompressor).map_err(told)?;
    let symbols = chunk.symbols(&mut codec).map_err(fails)?;
    let layout = chunk.layout();
    let entries = chunk.blocks().iter().map(|b| b.entry_count);
    let uncompressed = chunk.blocks().iter().map(|b| b.uncompressed_bytes);
    let is_whole = key.check_object(&object).is_ok();
    report.facts(
        "chunk",
        [
            ("tenant", meta.tenant.as_str().into()),
            ("stream", meta.labels.to_string().into()),
            ("fingerprint", format!("{:016x}", meta.fingerprint).into()),
            ("from", meta.from_ms.into()),
            ("to", meta.through_ms.into()),
            ("checksum fits", Cell::Flag(is_whole)),
            ("version", u64::from(layout.header.format.version()).into()),
            ("encoding", layout.header.encoding.as_str().into()),
            ("object", Cell::Bytes(object.len() as u64)),
            ("entries", entries.sum::<u64>().into()),
            ("uncompressed", Cell::Bytes(uncompressed.sum())),
            ("symbols", Cell::Bytes(symbols.text_bytes() as u64)),
        ],
    );
    let mut blocks = Table::new(&[
        "block",
        "entries",
        "from",
        "to",
        "compressed",
        "uncompressed",
    ]);
    let mut metadata: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (n, place) in chunk.blocks().iter().enumerate() {
        blocks.row([
            n.into(),
            place.entry_count.into(),
            place.min_ns.into(),
            place.max_ns.into(),
            Cell::Bytes(place.len),
            Cell::Bytes(place.uncompressed_bytes),
        ]);
        let block = chunk
            .read_block(place, &symbols, &mut codec)
            .map_err(fails)?;
        for (name, value) in block.iter().flat_map(|e| e.metadata()) {
            let (fields, bytes) = match metadata.get_mut(name) {
                Some(known) => known,
                None => metadata.entry(name.to_owned()).or_default(),
            };
            *fields += 1;
            *bytes += value.len() as u64;
        }
    }
    report.table("blocks", blocks);
    let mut table = Table::new(&["structured metadata", "fields", "bytes of values"]);
    for (name, (fields, bytes)) in metadata {
        table.row([name.into(), fields.into(), Cell::Bytes(bytes)]);
    }
    report.table("metadata", table);
    Ok(())
}

pub(super) async fn side_object(bucket: &Bucket, path: &str, report: &mut Report) -> Result<()> {
    let size = bucket.head(path).await?.size_bytes;
    let file = ObjectFile::new(bucket, path, size)?;
    let told = |e: DecodeError| Error::corrupt(path, e);
    let end: Bytes = file
        .read(size.saturating_sub(SideTail::LEN as u64)..size)
        .await?;
    let tail = SideTail::decode(&end, size).map_err(told)?;
    let range = tail.directory();
    let directory_bytes = range.end - range.start;
    if directory_bytes > MAX_DIRECTORY_BYTES {
        return Err(Error::LimitExceeded(format!(
            "{path}: a directory of {directory_bytes} bytes, at most {MAX_DIRECTORY_BYTES} are read"
        )));
    }
    let bytes = file.read(range).await?;
    let directory = SideDirectory::decode(&tail, bytes).map_err(told)?;
    let len = |range: std::ops::Range<u64>| range.end - range.start;
    let mut tenants: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for (key, chunk) in directory.chunks() {
        let sums = tenants.entry(key.tenant).or_default();
        sums[0] += 1;
        sums[2] += len(chunk.filters.range());
        sums[3] += len(chunk.counts.range());
    }
    let batches = directory.batches();
    for batch in &batches {
        let sums = tenants.entry(batch.tenant.clone()).or_default();
        sums[1] += batch.rows.len() as u64;
        sums[2] += len(batch.filters.range());
        sums[3] += len(batch.counts.range());
    }
    report.facts(
        "side object",
        [
            ("size", Cell::Bytes(size)),
            ("directory", Cell::Bytes(directory_bytes)),
            ("chunks", directory.len().into()),
            ("batches", batches.len().into()),
        ],
    );
    let mut table = Table::new(&["tenant", "chunks", "chunks in batches", "filters", "counts"]);
    for (tenant, [own, small, filters, counts]) in tenants {
        let cells = [tenant.into(), own.into(), small.into()];
        let sizes = [Cell::Bytes(filters), Cell::Bytes(counts)];
        table.row(cells.into_iter().chain(sizes));
    }
    report.table("tenants", table);
    Ok(())
}
