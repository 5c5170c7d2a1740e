//! An index file against itself, and the chunks that it names.

use std::sync::Arc;

use futures::StreamExt;
use lgtm_core::index::PostingsTally;
use lgtm_core::model::{Labels, TimestampMs};
use lgtm_core::storage::{Fault, Findings};
use lgtm_core::{ErrorKind, Result};

use super::chunk_check::{ChunkTold, checked};
use super::verifier::{KnownChunk, LogVerifier, hash_of, names_of};
use crate::bucket::{StoredIndex, key_of_object};
use crate::chunk::ChunkKey;
use crate::index::{
    FingerprintRange, IndexFileName, IndexReader, IndexReaderSettings, SeriesFilter, SeriesMeta,
    TENANT_LABEL,
};
use crate::schema::DAY_MS;

/// Series that are read at the same time.
const SERIES_AT_ONCE: usize = 256;
/// Chunks that are read at the same time.
const CHUNKS_AT_ONCE: usize = 4;
/// Different label pairs whose postings are compared with the series.
const MAX_PAIRS: usize = 4 << 20;
/// Fingerprints below this stand for streams whose hashes collide: Loki's mapper gives them.
const MAPPED_FINGERPRINTS: u64 = 1 << 20;

/// A file while it is checked.
struct FileCheck<'a> {
    file: &'a StoredIndex,
    reader: Arc<IndexReader>,
    references: Vec<u32>,
    tally: PostingsTally,
    /// Of the stream before.
    last: Option<(u64, Labels)>,
    times: Option<(TimestampMs, TimestampMs)>,
}

impl LogVerifier {
    /// Checks an index file and the chunks that it names, as far as they were not read yet.
    ///
    /// Checked are: its packing, every checksum, the order of streams and labels, fingerprints, postings against the streams in both directions, its times, its name; of
    /// each chunk that it is there, its checksum, that it is the one that the index means, and its entries.
    ///
    /// # Errors
    /// Those that say nothing of the objects: a store that does not answer.
    pub async fn index_file(&mut self, file: &StoredIndex, findings: &mut Findings) -> Result<()> {
        let path = &file.path;
        self.found.index_files += 1;
        let Some(packed) = findings.good(path, self.bucket.get(path).await)? else {
            return Ok(());
        };
        self.found.bytes += packed.len() as u64;
        let opened = async {
            let (unpacked, _) = self.unpacker.unpacked(path, packed).await?;
            let reader = IndexReader::open(unpacked, IndexReaderSettings::default()).await?;
            let references = reader.postings_all().await?;
            Ok((reader, references))
        };
        let Some((reader, references)) = findings.good(path, opened.await)? else {
            return Ok(());
        };
        let mut check = FileCheck {
            file,
            reader: Arc::new(reader),
            references,
            tally: PostingsTally::new(MAX_PAIRS),
            last: None,
            times: None,
        };
        for at in (0..check.references.len()).step_by(SERIES_AT_ONCE) {
            let streams = check.streams(at, findings).await?;
            self.found.streams += streams.len() as u64;
            let chunks = streams.iter().flat_map(|s| check.chunks_of(s, findings));
            let chunks: Vec<ChunkTold> = chunks.collect();
            self.chunks(chunks, findings).await?;
        }
        check.postings(findings).await?;
        check.frame(findings);
        Ok(())
    }

    /// Checks one chunk by its object, against its own name only.
    ///
    /// # Errors
    /// As [`LogVerifier::index_file`].
    pub async fn chunk_object(&mut self, path: &str, findings: &mut Findings) -> Result<()> {
        let Some(key) = key_of_object(&self.bucket, path) else {
            findings.add(path, Fault::Unchecked, "its name is no key of a chunk");
            return Ok(());
        };
        let told = ChunkTold {
            key,
            meta: None,
            labels: None,
            named_by: path.to_owned(),
        };
        self.chunks(vec![told], findings).await
    }

    async fn chunks(&mut self, mut told: Vec<ChunkTold>, findings: &mut Findings) -> Result<()> {
        told.retain(|t| !self.seen.contains_key(&hash_of(&t.key)));
        let (bucket, periods) = (self.bucket.clone(), self.periods.clone());
        let executor = self.executor.clone();
        let reads = told.into_iter().map(|told| {
            let (bucket, executor) = (bucket.clone(), executor.clone());
            let [name, other] = names_of(&bucket, &periods, &told.key);
            async move {
                let mut read = (bucket.get(&name).await, name);
                if read
                    .0
                    .as_ref()
                    .is_err_and(|e| e.kind() == ErrorKind::NotFound)
                    && let Ok(object) = bucket.get(&other).await
                {
                    read = (Ok(object), other);
                }
                match read {
                    (Ok(object), name) => {
                        let told_of = told.clone();
                        let checked = checked(&executor, told, object).await;
                        (told_of, name, checked.map(Some))
                    }
                    (Err(e), name) if e.kind() == ErrorKind::NotFound => (told, name, Ok(None)),
                    (Err(e), name) => (told, name, Err(e)),
                }
            }
        });
        let mut reads = futures::stream::iter(reads).buffered(CHUNKS_AT_ONCE);
        let mut known = Vec::new();
        while let Some((told, name, checked)) = reads.next().await {
            let facts = match findings.good(&name, checked)? {
                Some(Some(facts)) => facts,
                Some(None) => {
                    let detail = format!("{} names it", told.named_by);
                    findings.add(name, Fault::Missing, detail);
                    continue;
                }
                None => continue,
            };
            for (fault, detail) in facts.faults {
                findings.add(&name, fault, detail);
            }
            self.found.chunks += 1;
            self.found.entries += facts.entries;
            self.found.bytes += facts.object_bytes;
            known.push((
                told.key,
                KnownChunk {
                    entries: u32::try_from(facts.entries).unwrap_or(u32::MAX),
                    object_bytes: u32::try_from(facts.object_bytes).unwrap_or(u32::MAX),
                },
            ));
        }
        drop(reads);
        for (key, known) in known {
            self.remember(&key, known);
        }
        Ok(())
    }
}

impl FileCheck<'_> {
    /// Some streams; those that cannot be read are named and left out.
    async fn streams(&mut self, at: usize, findings: &mut Findings) -> Result<Vec<SeriesMeta>> {
        let end = self.references.len().min(at + SERIES_AT_ONCE);
        let some = &self.references[at..end];
        let streams = match self.reader.series(some, &SeriesFilter::ALL).await {
            Ok(streams) => streams,
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::LimitExceeded) => {
                let mut out = Vec::new();
                for reference in some {
                    let one = self.reader.series(&[*reference], &SeriesFilter::ALL).await;
                    let good = findings.good(&self.file.path, one)?;
                    out.extend(good.into_iter().flatten());
                }
                out
            }
            Err(e) => return Err(e),
        };
        if let Some(first) = streams.first() {
            let only = FingerprintRange {
                first: first.fingerprint,
                last: first.fingerprint,
            };
            let narrowed = self.reader.narrow(&self.references, only);
            if narrowed.binary_search(&first.reference).is_err() {
                let detail = format!(
                    "fingerprint {:x} is not found by the fingerprint offsets",
                    first.fingerprint
                );
                findings.add(&self.file.path, Fault::WrongLookup, detail);
            }
        }
        Ok(streams)
    }

    /// Checks a stream; the chunks that it has.
    fn chunks_of(&mut self, stream: &SeriesMeta, findings: &mut Findings) -> Vec<ChunkTold> {
        let path = &self.file.path;
        for (name, value) in stream.labels.iter() {
            self.tally.add(name, value, stream.reference);
        }
        let of_label = stream.labels.get(TENANT_LABEL);
        let tenant = self.file.tenant.as_ref().map(|t| t.as_str());
        let Some(tenant) = tenant.or(of_label) else {
            let detail = format!("stream {} has no label of a tenant", stream.labels);
            findings.add(path, Fault::Damaged, detail);
            return Vec::new();
        };
        let own = stream.labels.iter().filter(|(n, _)| *n != TENANT_LABEL);
        let labels = Labels::from_sorted_keeping_empty(own).unwrap_or_else(|_| Labels::empty());
        let fingerprint = stream.fingerprint;
        if labels.stable_hash() != fingerprint && fingerprint >= MAPPED_FINGERPRINTS {
            let detail = format!(
                "stream {labels} has fingerprint {fingerprint:x}, its labels have {:x}",
                labels.stable_hash()
            );
            findings.add(path, Fault::Disagreement, detail);
        }
        if let Some((before, labels_before)) = &self.last
            && (*before, labels_before) >= (fingerprint, &stream.labels)
        {
            let detail = format!("stream {} stands behind {labels_before}", stream.labels);
            findings.add(path, Fault::WrongOrder, detail);
        }
        self.last = Some((fingerprint, stream.labels.clone()));
        let day = self.file.day * DAY_MS..(self.file.day + 1) * DAY_MS;
        let mut out = Vec::new();
        for chunk in &stream.chunks {
            if chunk.max_ms.get() < day.start || chunk.min_ms.get() >= day.end {
                let detail = format!(
                    "a chunk of {labels} from {} to {} in the table of day {}",
                    chunk.min_ms, chunk.max_ms, self.file.day
                );
                findings.add(path, Fault::WrongPlace, detail);
            }
            self.times = Some(match self.times {
                None => (chunk.min_ms, chunk.max_ms),
                Some((min, max)) => (min.min(chunk.min_ms), max.max(chunk.max_ms)),
            });
            out.push(ChunkTold {
                key: ChunkKey {
                    tenant: tenant.to_owned(),
                    fingerprint,
                    from_ms: chunk.min_ms,
                    through_ms: chunk.max_ms,
                    checksum: chunk.checksum,
                },
                meta: Some(*chunk),
                labels: Some(labels.clone()),
                named_by: path.clone(),
            });
        }
        out
    }

    async fn postings(&mut self, findings: &mut Findings) -> Result<()> {
        let path = &self.file.path;
        if self.tally.is_full() {
            let detail = format!("postings: more than {MAX_PAIRS} different label pairs");
            findings.add(path, Fault::Unchecked, detail);
            return Ok(());
        }
        let reader = Arc::clone(&self.reader);
        for name in reader.label_names() {
            let Some(values) = findings.good(path, reader.label_values(name).await)? else {
                continue;
            };
            let wrong = self.tally.compare_index(&*reader, name, &values).await;
            for detail in findings.good(path, wrong)?.unwrap_or_default() {
                findings.add(path, Fault::WrongLookup, detail);
            }
        }
        let unlisted = self.tally.unlisted();
        if unlisted > 0 {
            let detail = format!("{unlisted} label pairs that streams bear have no list");
            findings.add(path, Fault::WrongLookup, detail);
        }
        Ok(())
    }

    /// What stands around the streams: times in the table of contents, and the name.
    fn frame(&self, findings: &mut Findings) {
        let toc = self.reader.toc();
        let path = &self.file.path;
        let times = self.times.unwrap_or_default();
        if times != (toc.min_ms, toc.max_ms) {
            let detail = format!(
                "chunks from {} to {}, the table of contents says {} to {}",
                times.0, times.1, toc.min_ms, toc.max_ms
            );
            findings.add(path, Fault::WrongTimeRange, detail);
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        if let Ok(IndexFileName::Compacted { checksum, .. }) = name.parse::<IndexFileName>()
            && checksum != self.reader.checksum()
        {
            let detail = format!(
                "its table of contents has checksum {:08x}, its name says {checksum:08x}",
                self.reader.checksum()
            );
            findings.add(path, Fault::WrongPlace, detail);
        }
    }
}
