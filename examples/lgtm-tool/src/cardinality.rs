//! `cardinality`: how many series or streams there are, and which labels make them so many.

use std::collections::{HashMap, HashSet};

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::model::Labels;
use lgtm_core::{Error, Result};
use lgtm_logstore::bucket::list_index_files;
use lgtm_logstore::index::{
    IndexReader, IndexReaderSettings, IndexUnpacker, SeriesFilter, TENANT_LABEL,
};
use lgtm_logstore::schema::DAY_MS;
use lgtm_tsdb::block::{BlockReader, BlockReaderSettings};
use lgtm_tsdb::bucket::BlockScanner;
use xxhash_rust::xxh3::xxh3_64;

use crate::arguments::Arguments;
use crate::place::{Place, Signal};
use crate::progress::Progress;
use crate::report::{Cell, Report, Table};
use crate::times::Window;

/// Series that are read at the same time.
const SERIES_AT_ONCE: usize = 1024;
/// Metas that are read at the same time.
const CONCURRENCY: usize = 16;
/// Rows of each table without `-limit`.
const DEFAULT_ROWS: usize = 20;
/// Different values that are counted by themselves; those of others are counted as values of their label only.
const MAX_PAIRS: usize = 4_000_000;
/// Bytes that an index file may unpack to, in memory.
const MAX_INDEX_BYTES: u64 = 4 << 30;

/// Counts each series once, in however many blocks or index files it stands. Memory: 16 bytes a series and a value.
#[derive(Default)]
struct Tally {
    series: HashSet<u64>,
    metrics: HashMap<String, u64>,
    labels: HashMap<String, OfLabel>,
    pairs: HashMap<(String, String), u64>,
}

#[derive(Default)]
struct OfLabel {
    series: u64,
    values: HashSet<u64>,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, labels: &Labels) {
        if !self.series.insert(labels.stable_hash()) {
            return;
        }
        if let Some(name) = labels.metric_name() {
            bump(&mut self.metrics, name);
        }
        for (name, value) in labels.iter() {
            let of = match self.labels.get_mut(name) {
                Some(of) => of,
                None => self.labels.entry(name.to_owned()).or_default(),
            };
            of.series += 1;
            if of.values.insert(xxh3_64(value.as_bytes())) {
                of.bytes += value.len() as u64;
            }
            let pair = (name.to_owned(), value.to_owned());
            if self.pairs.len() < MAX_PAIRS || self.pairs.contains_key(&pair) {
                *self.pairs.entry(pair).or_default() += 1;
            }
        }
    }

    fn report(self, what: &'static str, rows: usize) -> Report {
        let mut report = Report::default();
        report.facts(
            "cardinality",
            [
                (what, self.series.len().into()),
                ("metric names", self.metrics.len().into()),
                ("label names", self.labels.len().into()),
            ],
        );
        let mut table = Table::new(&["metric", what]);
        for (name, count) in largest(self.metrics, rows) {
            table.row([name.into(), Cell::Count(count)]);
        }
        report.table("metrics", table);
        let mut labels: Vec<_> = self.labels.into_iter().collect();
        labels.sort_by(|(a, x), (b, y)| (y.values.len(), a).cmp(&(x.values.len(), b)));
        let mut table = Table::new(&["label", "values", what, "bytes of values"]);
        for (name, of) in labels.into_iter().take(rows) {
            table.row([
                name.into(),
                of.values.len().into(),
                Cell::Count(of.series),
                Cell::Bytes(of.bytes),
            ]);
        }
        report.table("labels", table);
        let mut table = Table::new(&["label", "value", what]);
        for ((name, value), count) in largest(self.pairs, rows) {
            table.row([name.into(), value.into(), Cell::Count(count)]);
        }
        report.table("pairs", table);
        report
    }
}

fn bump(counts: &mut HashMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}

/// Those with the most, the first by name of those with as many.
fn largest<K: Ord>(counts: HashMap<K, u64>, rows: usize) -> Vec<(K, u64)> {
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    all.truncate(rows);
    all
}

pub(crate) async fn cardinality(place: &Place, arguments: &Arguments) -> Result<Report> {
    let rows = match arguments.flag("limit") {
        None => DEFAULT_ROWS,
        Some(text) => text
            .parse()
            .map_err(|_| Error::InvalidInput(format!("-limit={text} is no number")))?,
    };
    let window = Window::read(arguments)?;
    match place.one_signal()? {
        Signal::Metrics => Ok(metrics(place, window).await?.report("series", rows)),
        Signal::Logs => Ok(logs(place, window).await?.report("streams", rows)),
        Signal::Traces => Err(Error::InvalidInput(
            "traces have no series; inspect shows the columns of a block".into(),
        )),
    }
}

/// Blocks that reach into the range.
async fn metrics(place: &Place, window: Window) -> Result<Tally> {
    let bucket = place.bucket(Signal::Metrics);
    let tenant = place.one_tenant().await?;
    let scanner = BlockScanner::new(bucket.clone(), CONCURRENCY);
    let found = scanner.scan(&tenant, SystemClock::new().now_ms()).await?;
    let mut tally = Tally::default();
    let bar = Progress::new("blocks", found.blocks.len());
    for (id, block) in &found.blocks {
        bar.step(&id.to_string());
        let range = window.range_ms();
        let reaches = block.meta.min_ms < range.max_ms && block.meta.max_ms > range.min_ms;
        if found.deletion_marks.contains_key(id) || !reaches {
            continue;
        }
        let folder = format!("{tenant}/{id}");
        let settings = BlockReaderSettings::default();
        let block = BlockReader::open_object(&bucket, &folder, settings).await?;
        let references = block.index().postings_all().await?;
        for some in references.chunks(SERIES_AT_ONCE) {
            for series in block.index().series(some).await? {
                tally.add(&series.labels);
            }
        }
    }
    Ok(tally)
}

/// Index files of days that reach into the range.
async fn logs(place: &Place, window: Window) -> Result<Tally> {
    let bucket = place.bucket(Signal::Logs);
    let tenant = place.one_tenant().await?;
    let files = list_index_files(&bucket, &place.periods()?).await?;
    let mut tally = Tally::default();
    let bar = Progress::new("index files", files.len());
    for file in files {
        bar.step(&file.path);
        let range = window.range_ms();
        let reaches =
            file.day * DAY_MS < range.max_ms.get() && (file.day + 1) * DAY_MS > range.min_ms.get();
        let is_ours = file.tenant.as_ref().is_none_or(|t| *t == tenant);
        if !is_ours || !reaches {
            continue;
        }
        let packed = bucket.get(&file.path).await?;
        let executor = place.executor.clone();
        let unpacker = IndexUnpacker::new(executor, None, MAX_INDEX_BYTES, u64::MAX);
        let (bytes, _) = unpacker.unpacked(&file.path, packed).await?;
        let index = IndexReader::open(bytes, IndexReaderSettings::default()).await?;
        let references = index.postings_all().await?;
        for some in references.chunks(SERIES_AT_ONCE) {
            let entries = index.series_entries(some, &SeriesFilter::ALL).await?;
            let mut labels = index.labels_of(&entries).await?;
            for entry in entries.iter() {
                let labels = labels.of(&entry)?;
                match (labels.get(TENANT_LABEL), &file.tenant) {
                    (Some(of), None) if of != tenant.as_str() => {}
                    // Files of several tenants say whose a stream is by a label that it does not have.
                    (Some(_), None) => {
                        let own = labels.iter().filter(|l| l.0 != TENANT_LABEL);
                        tally.add(&Labels::from_sorted(own)?);
                    }
                    _ => tally.add(&labels),
                }
            }
        }
    }
    Ok(tally)
}
