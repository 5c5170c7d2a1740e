//! Whether a block is what it says: all its checksums, counts, times and references.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::index::PostingsTally;
use lgtm_core::model::{Labels, TimestampMs};
use lgtm_core::storage::{Bucket, Fault, Findings, ObjectInfo};
use lgtm_core::{Error, ErrorKind, Result};

use crate::block::{BlockMeta, BlockReader, BlockReaderSettings};
use crate::chunk::{Chunk, SampleValue, iter};
use crate::index::{ChunkRefMeta, SeriesMeta};

/// Series that are read at the same time.
const SERIES_AT_ONCE: usize = 256;
/// Chunks that are read and decoded at the same time: some megabytes, some tens of milliseconds.
const CHUNKS_AT_ONCE: usize = 2048;
/// Different label pairs whose postings are compared with the series: some hundred megabytes.
const MAX_PAIRS: usize = 4 << 20;

/// What was found in a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifiedBlock {
    /// Series.
    pub series: u64,
    /// Chunks.
    pub chunks: u64,
    /// Samples that are floats.
    pub float_samples: u64,
    /// Samples that are histograms.
    pub histogram_samples: u64,
    /// Bytes of all objects of the block.
    pub bytes: u64,
}

impl VerifiedBlock {
    /// Samples of both kinds.
    pub fn samples(&self) -> u64 {
        self.float_samples + self.histogram_samples
    }
}

/// Reads all of the block in the folder `folder` (`tenant/ULID`) of `bucket` and adds what is wrong with it to `findings`.
///
/// Checked are: the meta against its folder, its files, its counts and its time range; every checksum of index, chunks and tombstones; the order of
/// labels, series and chunks; every sample's time; postings against the series, in both directions; that tombstones and chunk references lead to something.
/// Costs a read of all its bytes; memory is some tens of megabytes, four bytes a series, and forty for each label pair.
///
/// # Errors
/// Those that say nothing of the block: a store that does not answer. Dropping the future ends the check.
pub async fn verify_block(
    bucket: &Bucket,
    folder: &str,
    executor: &Executor,
    findings: &mut Findings,
) -> Result<VerifiedBlock> {
    let objects: Vec<ObjectInfo> = bucket.list(folder).try_collect().await?;
    let mut found = VerifiedBlock {
        bytes: objects.iter().map(|o| o.size_bytes).sum(),
        ..VerifiedBlock::default()
    };
    let meta_path = format!("{folder}/meta.json");
    let sizes: BTreeMap<&str, u64> = objects
        .iter()
        .filter_map(|o| Some((name_in(folder, o)?, o.size_bytes)))
        .collect();
    if !sizes.contains_key("meta.json") {
        // Uploads write it last, and deletions take it first.
        let (fault, detail) = match sizes.is_empty() {
            true => (Fault::Missing, "there is no such block".to_owned()),
            false => (
                Fault::Leftover,
                format!("{} objects without a meta.json", sizes.len()),
            ),
        };
        findings.add(folder, fault, detail);
        return Ok(found);
    }
    let decoded = bucket.get(&meta_path).await.and_then(|bytes| {
        BlockMeta::decode(&bytes).map_err(|e| Error::corrupt(meta_path.clone(), e))
    });
    let Some(meta) = findings.good(&meta_path, decoded)? else {
        return Ok(found);
    };
    if folder.rsplit('/').next() != Some(meta.ulid.to_string().as_str()) {
        let detail = format!("it is the meta of block {}", meta.ulid);
        findings.add(&meta_path, Fault::WrongPlace, detail);
        return Ok(found);
    }
    check_files(folder, &meta, &sizes, findings);
    let settings = BlockReaderSettings::default();
    let block = match BlockReader::open_object(bucket, folder, settings).await {
        Ok(block) => block,
        Err(e) => {
            findings.add_error(&place_of(&e, folder), e)?;
            return Ok(found);
        }
    };
    if let Err(e) = block.chunks().verify_headers().await {
        findings.add_error(&place_of(&e, folder), e)?;
    }
    let mut check = BlockCheck {
        folder,
        block: &block,
        executor,
        findings,
        found,
        tally: PostingsTally::new(MAX_PAIRS),
        last_labels: None,
    };
    check.series().await?;
    found = check.found;
    Ok(found)
}

fn name_in<'a>(folder: &str, object: &'a ObjectInfo) -> Option<&'a str> {
    object.path.strip_prefix(folder)?.strip_prefix('/')
}

/// The object that an error names, if it names one below `folder`.
fn place_of(error: &Error, folder: &str) -> String {
    let place = match error {
        Error::Corrupt { place, .. } => place,
        Error::NotFound(place) => place,
        _ => return folder.to_owned(),
    };
    match place.find(folder) {
        Some(at) => place[at..].to_owned(),
        None => folder.to_owned(),
    }
}

/// The files that are there against those that the meta names.
fn check_files(
    folder: &str,
    meta: &BlockMeta,
    sizes: &BTreeMap<&str, u64>,
    findings: &mut Findings,
) {
    let told = meta.thanos.iter().flat_map(|t| &t.files);
    for file in told.filter(|f| f.rel_path != "meta.json") {
        let path = format!("{folder}/{}", file.rel_path);
        match sizes.get(file.rel_path.as_str()) {
            None => findings.add(path, Fault::Missing, "meta.json names it"),
            Some(size) if *size != file.size_bytes => {
                let detail = format!("{size} bytes, meta.json says {}", file.size_bytes);
                findings.add(path, Fault::WrongSize, detail);
            }
            Some(_) => {}
        }
    }
    if !sizes.contains_key("index") {
        let path = format!("{folder}/index");
        // With a list of files it is told already.
        if meta.thanos.as_ref().is_none_or(|t| t.files.is_empty()) {
            findings.add(path, Fault::Missing, "a block has one");
        }
    }
}

struct BlockCheck<'a> {
    folder: &'a str,
    block: &'a BlockReader,
    executor: &'a Executor,
    findings: &'a mut Findings,
    found: VerifiedBlock,
    tally: PostingsTally,
    last_labels: Option<Labels>,
}

/// A chunk that an index lists, and the series that it is of.
#[derive(Debug, Clone, Copy)]
struct ListedChunk {
    series: u32,
    chunk: ChunkRefMeta,
}

impl BlockCheck<'_> {
    fn index_path(&self) -> String {
        format!("{}/index", self.folder)
    }

    async fn series(&mut self) -> Result<()> {
        let index = self.block.index();
        let path = self.index_path();
        let all = index.postings_all().await;
        let Some(references) = self.findings.good(&path, all)? else {
            return Ok(());
        };
        for some in references.chunks(SERIES_AT_ONCE) {
            let series = match index.series(some).await {
                Ok(series) => series,
                Err(e) if is_of_block(&e) => self.one_by_one(some).await?,
                Err(e) => return Err(e),
            };
            let mut listed = Vec::new();
            for series in series {
                self.one_series(&series);
                listed.extend(series.chunks.iter().map(|chunk| ListedChunk {
                    series: series.reference,
                    chunk: *chunk,
                }));
            }
            for some in listed.chunks(CHUNKS_AT_ONCE) {
                self.chunks(some).await?;
            }
        }
        self.postings().await?;
        self.tombstones(&references);
        self.counts();
        Ok(())
    }

    /// Series of which some cannot be read: those that can, after naming the others.
    async fn one_by_one(&mut self, references: &[u32]) -> Result<Vec<SeriesMeta>> {
        let path = self.index_path();
        let mut out = Vec::new();
        for reference in references {
            let one = self.block.index().series(&[*reference]).await;
            out.extend(self.findings.good(&path, one)?.into_iter().flatten());
        }
        Ok(out)
    }

    fn one_series(&mut self, series: &SeriesMeta) {
        self.found.series += 1;
        self.found.chunks += series.chunks.len() as u64;
        for (name, value) in series.labels.iter() {
            self.tally.add(name, value, series.reference);
        }
        if let Some(last) = &self.last_labels
            && *last >= series.labels
        {
            let detail = match *last == series.labels {
                true => format!("series {} is there twice", series.labels),
                false => format!("series {} stands behind {last}", series.labels),
            };
            let path = self.index_path();
            self.findings.add(path, Fault::WrongOrder, detail);
        }
        let meta = self.block.meta();
        for chunk in &series.chunks {
            if chunk.min_ms < meta.min_ms || chunk.max_ms >= meta.max_ms {
                let detail = format!(
                    "a chunk of {} from {} to {}, meta.json says {} to {}",
                    series.labels, chunk.min_ms, chunk.max_ms, meta.min_ms, meta.max_ms
                );
                let path = self.index_path();
                self.findings.add(path, Fault::WrongTimeRange, detail);
            }
        }
        self.last_labels = Some(series.labels.clone());
    }

    async fn chunks(&mut self, listed: &[ListedChunk]) -> Result<()> {
        let metas: Vec<ChunkRefMeta> = listed.iter().map(|l| l.chunk).collect();
        match self.block.chunks().read(&metas).await {
            Ok(chunks) => self.decode(listed.to_vec(), chunks).await,
            Err(e) if is_of_block(&e) => {
                let mut good = Vec::new();
                for one in listed {
                    match self.block.chunks().read(&[one.chunk]).await {
                        Ok(chunks) => good.extend(chunks.into_iter().map(|c| (*one, c))),
                        Err(e) => self.chunk_error(one, e)?,
                    }
                }
                let (listed, chunks) = good.into_iter().unzip();
                self.decode(listed, chunks).await
            }
            Err(e) => Err(e),
        }
    }

    fn chunk_error(&mut self, one: &ListedChunk, error: Error) -> Result<()> {
        let place = place_of(&error, self.folder);
        match place.contains("/chunks/") {
            true => self.findings.add_error(&place, error),
            // No segment holds it.
            false if error.kind() == ErrorKind::Corrupt => {
                let detail = format!("series {}: {error}", one.series);
                let path = self.index_path();
                self.findings.add(path, Fault::Dangling, detail);
                Ok(())
            }
            false => self.findings.add_error(&place, error),
        }
    }

    async fn decode(&mut self, listed: Vec<ListedChunk>, chunks: Vec<Chunk>) -> Result<()> {
        let job = move |_: &CancelToken| {
            let facts = chunks.iter().map(ChunkFacts::of);
            Ok::<_, Error>(listed.into_iter().zip(facts).collect::<Vec<_>>())
        };
        let facts: Vec<(ListedChunk, ChunkFacts)> =
            self.executor.run(job, &CancelToken::new()).await?;
        for (one, facts) in facts {
            self.found.float_samples += facts.floats;
            self.found.histogram_samples += facts.histograms;
            for (fault, detail) in facts.faults {
                let segment = (one.chunk.reference >> 32) + 1;
                let path = format!("{}/chunks/{segment:06}", self.folder);
                let at = one.chunk.reference & 0xffff_ffff;
                let detail = format!("chunk at byte {at} of series {}: {detail}", one.series);
                self.findings.add(path, fault, detail);
            }
        }
        Ok(())
    }

    async fn postings(&mut self) -> Result<()> {
        let path = self.index_path();
        if self.tally.is_full() {
            let detail = format!("postings: more than {MAX_PAIRS} different label pairs");
            self.findings.add(path, Fault::Unchecked, detail);
            return Ok(());
        }
        let index = self.block.index();
        let names: Vec<String> = index.label_names().map(str::to_owned).collect();
        for name in names {
            let values = index.label_values(&name).await;
            let Some(values) = self.findings.good(&path, values)? else {
                continue;
            };
            let wrong = self.tally.compare_index(index, &name, &values).await;
            for detail in self.findings.good(&path, wrong)?.unwrap_or_default() {
                self.findings.add(&path, Fault::WrongLookup, detail);
            }
        }
        let unlisted = self.tally.unlisted();
        if unlisted > 0 {
            let detail = format!("{unlisted} label pairs that series bear have no list");
            self.findings.add(path, Fault::WrongLookup, detail);
        }
        Ok(())
    }

    fn tombstones(&mut self, references: &[u32]) {
        let tombstones = self.block.tombstones();
        let path = format!("{}/tombstones", self.folder);
        for (series, _) in tombstones.iter() {
            if references.binary_search(&series).is_err() {
                let detail = format!("series {series} is not in the index");
                self.findings.add(&path, Fault::Dangling, detail);
            }
        }
        // How many `meta.json` tells is no check: an upload leaves the file out and the number in, as Mimir's shipper does.
    }

    fn counts(&mut self) {
        let stats = &self.block.meta().stats;
        let path = format!("{}/meta.json", self.folder);
        let found = &self.found;
        // What older Prometheus did not write is 0.
        let has_kinds = stats.num_float_samples + stats.num_histogram_samples > 0;
        let kinds = [
            (
                "float samples",
                found.float_samples,
                stats.num_float_samples,
            ),
            (
                "histogram samples",
                found.histogram_samples,
                stats.num_histogram_samples,
            ),
        ];
        let always = [
            ("series", found.series, stats.num_series),
            ("chunks", found.chunks, stats.num_chunks),
            ("samples", found.samples(), stats.num_samples),
        ];
        let kinds = kinds.into_iter().filter(|_| has_kinds);
        for (what, found, told) in always.into_iter().chain(kinds) {
            self.findings
                .compare(&path, Fault::WrongCount, what, found, told);
        }
    }
}

/// Whether an error says something of what was read rather than of the store.
fn is_of_block(error: &Error) -> bool {
    use ErrorKind::{Corrupt, InvalidInput, LimitExceeded, NotFound};
    matches!(
        error.kind(),
        Corrupt | NotFound | LimitExceeded | InvalidInput
    )
}

/// What is in a chunk.
#[derive(Debug, Default)]
struct ChunkFacts {
    floats: u64,
    histograms: u64,
    faults: Vec<(Fault, String)>,
}

impl ChunkFacts {
    fn of(chunk: &Chunk) -> Self {
        let mut facts = Self::default();
        if let Err((fault, detail)) = facts.walk(chunk) {
            facts.faults.push((fault, detail));
        }
        facts
    }

    fn walk(&mut self, chunk: &Chunk) -> Result<(), (Fault, String)> {
        let broken = |e: lgtm_core::DecodeError| (Fault::Damaged, e.to_string());
        let mut times: Option<(TimestampMs, TimestampMs)> = None;
        for sample in iter(chunk.encoding, &chunk.data).map_err(broken)? {
            let (t_ms, value) = sample.map_err(broken)?;
            match value {
                SampleValue::Float(_) => self.floats += 1,
                SampleValue::Histogram(_) | SampleValue::FloatHistogram(_) => self.histograms += 1,
            }
            times = match times {
                None => Some((t_ms, t_ms)),
                Some((_, last)) if t_ms <= last => {
                    let detail = format!("a sample at {t_ms} follows one at {last}");
                    return Err((Fault::WrongOrder, detail));
                }
                Some((first, _)) => Some((first, t_ms)),
            };
        }
        let told = u64::from(chunk.sample_count());
        if self.floats + self.histograms != told {
            let detail = format!("{} samples, it says {told}", self.floats + self.histograms);
            return Err((Fault::WrongCount, detail));
        }
        match times {
            Some(times) if times != (chunk.min_ms, chunk.max_ms) => Err((
                Fault::WrongTimeRange,
                format!(
                    "samples from {} to {}, the index says {} to {}",
                    times.0, times.1, chunk.min_ms, chunk.max_ms
                ),
            )),
            Some(_) => Ok(()),
            None => Err((Fault::WrongCount, "no sample".to_owned())),
        }
    }
}
