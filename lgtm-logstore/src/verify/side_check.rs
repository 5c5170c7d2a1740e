//! Side objects: their sections, and what they say of chunks.

use bytes::Bytes;
use lgtm_core::codec::DecodeFail;
use lgtm_core::exec::CancelToken;
use lgtm_core::storage::{Bucket, Fault, Findings, ObjectFile, ReadAt};
use lgtm_core::{DecodeError, Error, ErrorKind, Result};

use super::verifier::{KnownChunk, LogVerifier, hash_of, names_of};
use crate::chunk::{ChunkCodec, ChunkKey, read_object};
use crate::skip::{
    BatchCounts, ChunkCounts, SideChunk, SideDirectory, SidePlace, SideTail, SkipFilters,
    SkipQuestion,
};

/// A directory of more is not read: that of a million chunks has sixty.
const MAX_DIRECTORY_BYTES: u64 = 1 << 30;

impl LogVerifier {
    /// Checks a side object: every checksum; of each chunk that an index file named before, that it has as many entries as were counted and as many bytes as are told, and
    /// that no filter rules out a block which has a line.
    ///
    /// # Errors
    /// Those that say nothing of the objects: a store that does not answer.
    pub async fn side_object(&mut self, path: &str, findings: &mut Findings) -> Result<()> {
        let Some(side) = self.side.clone() else {
            return Ok(());
        };
        self.found.side_objects += 1;
        let opened = open(&side, path).await;
        let Some((file, directory)) = findings.good(path, opened)? else {
            return Ok(());
        };
        self.found.bytes += file.size();
        let chunks: Vec<(ChunkKey, SideChunk)> = directory.chunks().collect();
        for (key, chunk) in chunks {
            let known = self.seen.get(&hash_of(&key)).copied();
            self.side_chunk(path, &file, (&key, chunk), known, findings)
                .await?;
        }
        for batch in directory.batches() {
            section(&file, path, batch.filters, findings, |bytes| {
                SkipFilters::decode(bytes).map(drop)
            })
            .await?;
            let counts = section(&file, path, batch.counts, findings, BatchCounts::decode).await?;
            let Some(counts) = counts else {
                continue;
            };
            for row in batch.rows {
                let Some(known) = self.seen.get(&row.hash).copied() else {
                    continue;
                };
                match counts.chunk(row.number) {
                    Ok(Some(small)) => {
                        let lines = small.totals.iter().map(|(lines, _)| lines).sum();
                        compare(
                            path,
                            lines,
                            known,
                            &format!("number {}", row.number),
                            findings,
                        );
                    }
                    Ok(None) => {}
                    Err(e) => findings.add(path, Fault::Damaged, e.to_string()),
                }
            }
        }
        Ok(())
    }

    async fn side_chunk(
        &self,
        path: &str,
        file: &ObjectFile,
        (key, chunk): (&ChunkKey, SideChunk),
        known: Option<KnownChunk>,
        findings: &mut Findings,
    ) -> Result<()> {
        let filters = section(file, path, chunk.filters, findings, SkipFilters::decode).await?;
        let counts = section(file, path, chunk.counts, findings, |bytes| {
            ChunkCounts::decode(&bytes)
        })
        .await?;
        let Some(known) = known else {
            return Ok(());
        };
        let name = format!("{}/{:x} from {}", key.tenant, key.fingerprint, key.from_ms);
        if chunk.object_bytes != 0 && chunk.object_bytes != known.object_bytes {
            let detail = format!(
                "chunk {name} has {} bytes, it says {}",
                known.object_bytes, chunk.object_bytes
            );
            findings.add(path, Fault::Disagreement, detail);
        }
        if let Some(counts) = counts {
            let lines = counts.levels.iter().map(|level| level.total().0).sum();
            compare(path, lines, known, &name, findings);
        }
        let Some(filters) = filters else {
            return Ok(());
        };
        let object = match self.chunk_bytes(key).await {
            Ok(object) => object,
            // That is told where the chunk is checked.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let job = move |_: &CancelToken| match ruled_out(&filters, &object) {
            Ok(faults) => Ok(faults),
            Err(DecodeFail::Broken(_)) => Ok(Vec::new()),
            Err(DecodeFail::Refused(e)) => Err(e),
        };
        for detail in self.executor.run(job, &CancelToken::new()).await? {
            let detail = format!("chunk {name}: {detail}");
            findings.add(path, Fault::WrongLookup, detail);
        }
        Ok(())
    }

    async fn chunk_bytes(&self, key: &ChunkKey) -> Result<Bytes> {
        let [name, other] = names_of(&self.bucket, &self.periods, key);
        match self.bucket.get(&name).await {
            Err(e) if e.kind() == ErrorKind::NotFound => self.bucket.get(&other).await,
            read => read,
        }
    }
}

async fn open(side: &Bucket, path: &str) -> Result<(ObjectFile, SideDirectory)> {
    let size = side.head(path).await?.size_bytes;
    let file = ObjectFile::new(side, path, size)?;
    let corrupt = |e: DecodeError| Error::corrupt(path, e);
    let end = file
        .read(size.saturating_sub(SideTail::LEN as u64)..size)
        .await?;
    let tail = SideTail::decode(&end, size).map_err(corrupt)?;
    let range = tail.directory();
    if range.end - range.start > MAX_DIRECTORY_BYTES {
        return Err(Error::LimitExceeded(format!(
            "{path}: a directory of {} bytes, at most {MAX_DIRECTORY_BYTES} are read",
            range.end - range.start
        )));
    }
    let bytes = file.read(range).await?;
    let directory = SideDirectory::decode(&tail, bytes).map_err(corrupt)?;
    Ok((file, directory))
}

/// Reads and checks a section; `None` for an empty or a damaged one.
async fn section<T>(
    file: &ObjectFile,
    path: &str,
    place: SidePlace,
    findings: &mut Findings,
    decode: impl Fn(Bytes) -> Result<T, DecodeError>,
) -> Result<Option<T>> {
    if place.is_empty() {
        return Ok(None);
    }
    let read = file.read(place.range()).await.and_then(|bytes| {
        let checked = place.check(&bytes).and_then(|()| decode(bytes));
        checked.map_err(|e| {
            let offset = e.offset + place.range().start;
            Error::corrupt(path, DecodeError { offset, ..e })
        })
    });
    findings.good(path, read)
}

fn compare(path: &str, lines: u64, known: KnownChunk, chunk: &str, findings: &mut Findings) {
    // Entries that are equal are counted once.
    if lines > u64::from(known.entries) || (lines == 0 && known.entries > 0) {
        let detail = format!(
            "chunk {chunk} has {} entries, {lines} were counted",
            known.entries
        );
        findings.add(path, Fault::WrongCount, detail);
    }
}

/// Blocks that the filters rule out for a line that they have. Of each block the first and the last line are tried.
fn ruled_out(filters: &SkipFilters, object: &Bytes) -> Result<Vec<String>, DecodeFail> {
    let mut codec = ChunkCodec::default();
    let (_, chunk) = read_object(object, &mut codec.decompressor)?;
    let symbols = chunk.symbols(&mut codec)?;
    let mut faults = Vec::new();
    for (n, place) in chunk.blocks().iter().enumerate() {
        let block = chunk.read_block(place, &symbols, &mut codec)?;
        for entry in [block.iter().next(), block.iter().next_back()]
            .into_iter()
            .flatten()
        {
            let mut question = SkipQuestion::default();
            question.line(entry.line);
            if !filters.choose(&question, |_| false).has(n) {
                let line = String::from_utf8_lossy(&entry.line[..entry.line.len().min(100)]);
                faults.push(format!(
                    "its filters rule out block {n}, which has {line:?}"
                ));
            }
        }
    }
    Ok(faults)
}
