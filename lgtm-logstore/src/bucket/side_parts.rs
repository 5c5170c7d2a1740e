//! What side objects have of the chunks of a question: found by their directories, loaded by range, kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use hashbrown::HashMap;
use lgtm_core::exec::{CancelToken, Executor, in_place};
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::{DecodeError, Error, Result};

use super::side_cache::{KnownCounts, SideId, SidePart};
use super::side_files::{SideFile, SideFiles, SideKind};
use super::streams::FoundChunk;
use crate::chunk::ChunkKey;
use crate::schema::DAY_MS;
use crate::skip::{
    BatchCounts, ChunkCounts, SideChunk, SideDirectory, SidePlace, SkipFilters, chunk_hash,
    tenant_hash,
};

/// Bytes of sections that are loaded at once.
const FETCH_BYTES: u64 = 4 << 20;
/// Chunks that are looked up in less time than another thread needs to wake up; a thousand take a millisecond or two.
const LOOKED_UP_AT_ONCE: usize = 256;

/// A section that is not in memory, and what it is wanted for.
#[derive(Debug)]
struct MissingSection {
    place: SidePlace,
    id: SideId,
    is_of_batch: bool,
    /// Numbers of chunks in a question, and those that they have in their batch.
    chunks: Vec<(usize, u16)>,
}

/// Sections of an object by where they begin.
type Missing = BTreeMap<u64, MissingSection>;
/// What is missing of one object.
type MissingInFile = (Arc<SideFile>, Missing);

impl SideFiles {
    /// The parts of a kind that stand beside chunks of a tenant, in their order; `None` where nothing is known.
    pub(super) async fn parts(
        &self,
        tenant: &TenantId,
        chunks: &[FoundChunk],
        kind: SideKind,
    ) -> Vec<Option<SidePart>> {
        let days: BTreeSet<i64> = chunks
            .iter()
            .map(|c| c.meta.min_ms.get().div_euclid(DAY_MS))
            .collect();
        self.open_days(&days).await;
        let (mut out, missing) = if chunks.len() > LOOKED_UP_AT_ONCE {
            in_place(|| self.known_parts(tenant, chunks, kind))
        } else {
            self.known_parts(tenant, chunks, kind)
        };
        let executor = self.executor.in_line(tenant.as_str());
        let loads = missing.into_iter().flat_map(|(file, sections)| {
            let portions = portions(sections.into_values());
            portions.into_iter().map(move |some| (file.clone(), some))
        });
        let loads = loads.map(|(file, some)| self.load(file, some, kind, &executor));
        let mut loads = futures::stream::iter(loads).buffer_unordered(self.concurrency);
        while let Some(loaded) = loads.next().await {
            let mut cache = self.cache.lock();
            for (section, part) in loaded {
                for (n, number) in &section.chunks {
                    out[*n] = Some(part.of_chunk(*number));
                }
                cache.insert(section.id, part);
            }
        }
        let known = out.iter().flatten().count() as u64;
        let counts = &self.counts;
        counts
            .asked
            .fetch_add(chunks.len() as u64, Ordering::Relaxed);
        counts.known.fetch_add(known, Ordering::Relaxed);
        out
    }

    /// What is in memory, and where the rest stands, by object.
    fn known_parts(
        &self,
        tenant: &TenantId,
        chunks: &[FoundChunk],
        kind: SideKind,
    ) -> (Vec<Option<SidePart>>, Vec<MissingInFile>) {
        let tenant_number = tenant_hash(tenant.as_str());
        let mut cache = self.cache.lock();
        let list = self.list.lock();
        let mut out = Vec::with_capacity(chunks.len());
        let mut missing: HashMap<*const SideFile, MissingInFile> = HashMap::new();
        let mut key = ChunkKey {
            tenant: tenant.as_str().to_owned(),
            fingerprint: 0,
            from_ms: TimestampMs::EPOCH,
            through_ms: TimestampMs::EPOCH,
            checksum: 0,
        };
        // Neighbours are mostly of one object.
        let mut last: Option<(*const SideFile, Arc<SideDirectory>)> = None;
        for (n, chunk) in chunks.iter().enumerate() {
            let m = &chunk.meta;
            (key.fingerprint, key.checksum) = (chunk.fingerprint, m.checksum);
            (key.from_ms, key.through_ms) = (m.min_ms, m.max_ms);
            let own = SideId::of_chunk(tenant_number, &key, kind);
            out.push(cache.get(&own));
            if out[n].is_some() {
                continue;
            }
            let hash = chunk_hash(tenant_number, key.fingerprint, key.from_ms, key.checksum);
            let Some(file) = list.chunks.get(&hash) else {
                continue;
            };
            let address = Arc::as_ptr(file);
            if last.as_ref().is_none_or(|(of, _)| *of != address) {
                last = file.directory.lock().clone().map(|d| (address, d));
            }
            let Some(found) = last.as_ref().and_then(|(_, d)| d.find(&key)) else {
                continue;
            };
            let place = place_of(&found, kind);
            if place.is_empty() {
                continue;
            }
            let id = match found.in_batch {
                None => own,
                Some(_) => SideId::of_batch(&file.path, place, kind),
            };
            let number = found.in_batch.unwrap_or(0);
            if found.in_batch.is_some()
                && let Some(part) = cache.get(&id)
            {
                out[n] = Some(part.of_chunk(number));
                continue;
            }
            let of_file = missing.entry(address);
            let (_, sections) = of_file.or_insert_with(|| (Arc::clone(file), Missing::new()));
            let section = sections.entry(place.range().start);
            let section = section.or_insert_with(|| MissingSection {
                place,
                id,
                is_of_batch: found.in_batch.is_some(),
                chunks: Vec::new(),
            });
            section.chunks.push((n, number));
        }
        (out, missing.into_values().collect())
    }

    /// Sections of one object.
    async fn load(
        &self,
        file: Arc<SideFile>,
        sections: Vec<MissingSection>,
        kind: SideKind,
        executor: &Executor,
    ) -> Vec<(MissingSection, SidePart)> {
        let ranges: Vec<_> = sections.iter().map(|s| s.place.range()).collect();
        let loaded = match self.bucket.get_ranges(&file.path, &ranges).await {
            Ok(loaded) => loaded,
            Err(e) => {
                self.set_aside(&file, &e);
                return Vec::new();
            }
        };
        let bytes: u64 = loaded.iter().map(|s| s.len() as u64).sum();
        self.counts.loaded.fetch_add(bytes, Ordering::Relaxed);
        let path = file.path.clone();
        let job = move |_: &CancelToken| -> Result<(Vec<_>, Option<Error>)> {
            let mut out = Vec::with_capacity(sections.len());
            let mut fault = None;
            for (section, bytes) in sections.into_iter().zip(loaded) {
                match read_section(&section, &bytes, kind) {
                    Ok(part) => out.push((section, part)),
                    Err(e) => fault = Some(Error::corrupt(path.clone(), e)),
                }
            }
            Ok((out, fault))
        };
        match executor.run(job, &CancelToken::new()).await {
            Ok((out, fault)) => {
                if let Some(e) = fault {
                    self.set_aside(&file, &e);
                }
                out
            }
            Err(e) => {
                self.set_aside(&file, &e);
                Vec::new()
            }
        }
    }
}

fn place_of(found: &SideChunk, kind: SideKind) -> SidePlace {
    match kind {
        SideKind::Filters => found.filters,
        SideKind::Counts => found.counts,
    }
}

/// Cuts sections into portions that are loaded at once.
fn portions(sections: impl Iterator<Item = MissingSection>) -> Vec<Vec<MissingSection>> {
    let mut out: Vec<Vec<MissingSection>> = Vec::new();
    let mut bytes = u64::MAX;
    for one in sections {
        let range = one.place.range();
        let size = range.end - range.start;
        match out
            .last_mut()
            .filter(|_| bytes.saturating_add(size) <= FETCH_BYTES)
        {
            Some(last) => {
                bytes += size;
                last.push(one);
            }
            None => {
                bytes = size;
                out.push(vec![one]);
            }
        }
    }
    out
}

fn read_section(
    section: &MissingSection,
    bytes: &[u8],
    kind: SideKind,
) -> Result<SidePart, DecodeError> {
    section.place.check(bytes)?;
    // What was loaded beside it need not stay in memory with it.
    let copied = || Bytes::copy_from_slice(bytes);
    Ok(match kind {
        SideKind::Filters => SidePart::Filters(Arc::new(SkipFilters::decode(copied())?)),
        SideKind::Counts if section.is_of_batch => {
            SidePart::Batch(Arc::new(BatchCounts::decode(copied())?), 0)
        }
        SideKind::Counts => {
            let counts = KnownCounts::new(ChunkCounts::decode(bytes)?);
            SidePart::Counts(Arc::new(counts))
        }
    })
}
