//! Joining what several index files have of one tenant.
//!
//! Two passes over the series: the first finds which symbols are in use, so that nothing of another tenant gets into the new file; the second
//! takes the series in the order of their fingerprints. Memory is the symbols, a batch of series a file, the postings of the new file and its
//! packed bytes.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use lgtm_core::codec::Compressor;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::Labels;
use lgtm_core::{Error, Result};

use crate::index::{
    ChunkMeta, IndexEncoder, IndexEncoderSettings, IndexReader, IndexStats, IndexVersion,
    SeriesEntries, SeriesFilter, TENANT_LABEL, pack, sort_chunks,
};

/// Series of a file that are read together. A batch is a millisecond or two of decoding.
const BATCH_SERIES: usize = 1024;
/// Bytes of the new file that are packed together, as a member of the gzip stream.
const MEMBER_BYTES: usize = 1 << 20;

/// Bounds of a merge.
#[derive(Debug, Clone)]
pub struct MergeSettings {
    /// Packed bytes that the new file may have.
    pub max_packed_bytes: usize,
    /// Memory for the postings of the new file; beyond it they go to `folder`.
    pub max_postings_bytes: usize,
    /// An existing local folder.
    pub folder: Option<PathBuf>,
}

/// What becomes of the chunks of a series while its file is written anew.
pub trait ChunkEdits: Debug + Send + Sync {
    /// Takes out of a series' chunks what goes and puts in what comes. It is asked several times for the same chunks, and of some of a series' chunks at
    /// a time; a series that is left without chunks goes too.
    fn edit(&self, fingerprint: u64, labels: &Labels, chunks: &mut Vec<ChunkMeta>);
}

/// The chunks of some series of a file as `edits` leave them; `None` where there are none.
async fn edited(
    reader: &IndexReader,
    entries: &SeriesEntries,
    edits: Option<&dyn ChunkEdits>,
) -> Result<Option<Vec<Vec<ChunkMeta>>>> {
    let Some(edits) = edits else {
        return Ok(None);
    };
    let mut labels = reader.labels_of(entries).await?;
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries.iter() {
        let mut chunks = entry.chunks.to_vec();
        edits.edit(entry.fingerprint, &labels.of(&entry)?, &mut chunks);
        out.push(chunks);
    }
    Ok(Some(out))
}

/// A file, and the series of it that are joined.
#[derive(Debug)]
pub struct MergeSource {
    /// The file.
    pub reader: Arc<IndexReader>,
    /// Series of one tenant, ascending.
    pub references: Vec<u32>,
}

/// A new file.
#[derive(Debug)]
pub struct MergedIndex {
    /// Its bytes, packed.
    pub packed: Vec<u8>,
    /// What it holds.
    pub stats: IndexStats,
}

/// Joins the series of some files, each chunk once, as `edits` leave them; the tenant's label is left out. `None` when there is no series.
///
/// Compresses on `executor`. May be cancelled at any point.
///
/// # Errors
/// `Corrupt` and what else reading the files gives, `LimitExceeded` beyond the bounds, `Cancelled`.
pub async fn merge(
    sources: Vec<MergeSource>,
    version: IndexVersion,
    settings: &MergeSettings,
    edits: Option<&dyn ChunkEdits>,
    executor: &Executor,
    cancel: &CancelToken,
) -> Result<Option<MergedIndex>> {
    let (symbols, maps) = used_symbols(&sources, edits, cancel).await?;
    let encoder_settings = IndexEncoderSettings {
        max_postings_memory_bytes: settings.max_postings_bytes,
        scratch_dir: settings.folder.clone(),
    };
    let mut out = PackedOutput {
        packed: Vec::new(),
        waiting: Vec::new(),
        max_bytes: settings.max_packed_bytes,
        executor,
        cancel,
    };
    let mut encoder = IndexEncoder::new(version, symbols, encoder_settings);
    let mut cursors: Vec<SeriesCursor<'_>> = sources
        .into_iter()
        .zip(maps)
        .map(|(source, symbols)| SeriesCursor::new(source, symbols, edits))
        .collect();
    let mut count = 0u64;
    let mut chunks: Vec<ChunkMeta> = Vec::new();
    loop {
        for cursor in &mut cursors {
            cursor.fill(cancel).await?;
        }
        let heads = cursors.iter().filter_map(|c| c.ready.front());
        let Some(first) = heads.min_by(|a, b| a.key().cmp(&b.key())) else {
            break;
        };
        let (fingerprint, labels) = (first.fingerprint, first.labels.clone());
        chunks.clear();
        for cursor in &mut cursors {
            let is_same = |s: &OwnSeries| s.key() == (fingerprint, &*labels);
            // A damaged file might repeat a series.
            while cursor.ready.front().is_some_and(is_same) {
                chunks.extend(cursor.ready.pop_front().into_iter().flat_map(|s| s.chunks));
                cursor.fill(cancel).await?;
            }
        }
        sort_chunks(&mut chunks);
        encoder.add_series(fingerprint, &labels, &chunks)?;
        count += 1;
        if encoder.pending_bytes() >= MEMBER_BYTES {
            out.push(encoder.take_output().as_deref().unwrap_or_default())
                .await?;
        }
    }
    if count == 0 {
        return Ok(None);
    }
    out.push(encoder.take_output().as_deref().unwrap_or_default())
        .await?;
    let finish = move |_: &CancelToken| encoder.finish();
    let mut tail = executor.run(finish, cancel).await?;
    loop {
        let next = move |_: &CancelToken| -> Result<_> {
            let bytes = tail.take_output()?;
            Ok((bytes, tail))
        };
        let (bytes, rest) = executor.run(next, cancel).await?;
        tail = rest;
        match bytes {
            Some(bytes) => out.push(&bytes).await?,
            None => break,
        }
    }
    let stats = tail.stats();
    let packed = out.finish().await?;
    Ok(Some(MergedIndex { packed, stats }))
}

/// The symbols that the series use, and for each file the new ordinals of its own.
async fn used_symbols(
    sources: &[MergeSource],
    edits: Option<&dyn ChunkEdits>,
    cancel: &CancelToken,
) -> Result<(SymbolTable, Vec<SymbolMap>)> {
    let mut maps = Vec::with_capacity(sources.len());
    let mut texts: BTreeSet<String> = BTreeSet::new();
    for source in sources {
        let own = source.reader.symbol_table().await?;
        let mut used = vec![false; own.len()];
        let tenant_label = own.ordinal(TENANT_LABEL);
        for batch in source.references.chunks(BATCH_SERIES) {
            cancel.check("compaction")?;
            tokio::task::yield_now().await;
            let entries = source
                .reader
                .series_entries(batch, &SeriesFilter::ALL)
                .await?;
            let edited = edited(&source.reader, &entries, edits).await?;
            let stays = |n: &usize| edited.as_ref().is_none_or(|e| !e[*n].is_empty());
            let series = entries.iter().enumerate().filter(|(n, _)| stays(n));
            let labels = series.flat_map(|(_, e)| e.labels.iter().copied());
            for (name, value) in labels.filter(|(name, _)| Some(*name) != tenant_label) {
                for ordinal in [name, value] {
                    match used.get_mut(ordinal as usize) {
                        Some(used) => *used = true,
                        None => return Err(unknown_symbol(ordinal, own.len())),
                    }
                }
            }
        }
        let in_use = own.iter().zip(&used).filter(|(_, used)| **used);
        texts.extend(in_use.map(|(text, _)| text.to_owned()));
        maps.push((own, used, tenant_label));
    }
    let table = SymbolTable::from_sorted(&texts)?;
    let map = |(own, used, tenant_label): (SymbolTable, Vec<bool>, Option<u32>)| {
        let ordinals = own.iter().zip(used).map(|(text, used)| {
            if used {
                table.ordinal(text).unwrap_or(u32::MAX)
            } else {
                u32::MAX
            }
        });
        SymbolMap {
            ordinals: ordinals.collect(),
            tenant_label,
        }
    };
    let maps = maps.into_iter().map(map).collect();
    Ok((table, maps))
}

fn unknown_symbol(ordinal: u32, len: usize) -> Error {
    let reason = format!("symbol {ordinal} of a table of {len}");
    Error::corrupt(
        "index series",
        lgtm_core::DecodeError::new("index series", 0, reason),
    )
}

/// The new ordinals of a file's symbols.
#[derive(Debug)]
struct SymbolMap {
    ordinals: Vec<u32>,
    tenant_label: Option<u32>,
}

/// A series of the new file.
#[derive(Debug)]
struct OwnSeries {
    fingerprint: u64,
    labels: Vec<(u32, u32)>,
    chunks: Vec<ChunkMeta>,
}

impl OwnSeries {
    fn key(&self) -> (u64, &[(u32, u32)]) {
        (self.fingerprint, &self.labels)
    }
}

/// The series of a file, in order.
#[derive(Debug)]
struct SeriesCursor<'a> {
    source: MergeSource,
    edits: Option<&'a dyn ChunkEdits>,
    symbols: SymbolMap,
    next: usize,
    ready: VecDeque<OwnSeries>,
}

impl<'a> SeriesCursor<'a> {
    fn new(source: MergeSource, symbols: SymbolMap, edits: Option<&'a dyn ChunkEdits>) -> Self {
        Self {
            source,
            edits,
            symbols,
            next: 0,
            ready: VecDeque::new(),
        }
    }

    /// Reads the next batch, if none is left of the last one.
    async fn fill(&mut self, cancel: &CancelToken) -> Result<()> {
        while self.ready.is_empty() && self.next < self.source.references.len() {
            cancel.check("compaction")?;
            tokio::task::yield_now().await;
            let end = self.source.references.len().min(self.next + BATCH_SERIES);
            let batch = &self.source.references[self.next..end];
            let reader = &self.source.reader;
            let entries = reader.series_entries(batch, &SeriesFilter::ALL).await?;
            self.next = end;
            let mut edited = edited(reader, &entries, self.edits).await?;
            for (n, entry) in entries.iter().enumerate() {
                let chunks = match &mut edited {
                    None => entry.chunks.to_vec(),
                    Some(edited) if edited[n].is_empty() => continue,
                    Some(edited) => std::mem::take(&mut edited[n]),
                };
                let own = entry.labels.iter();
                let own = own.filter(|(name, _)| Some(*name) != self.symbols.tenant_label);
                let ordinal = |at: u32| {
                    let known = self.symbols.ordinals.get(at as usize);
                    known.copied().unwrap_or(u32::MAX)
                };
                self.ready.push_back(OwnSeries {
                    fingerprint: entry.fingerprint,
                    labels: own.map(|(n, v)| (ordinal(*n), ordinal(*v))).collect(),
                    chunks,
                });
            }
        }
        Ok(())
    }
}

/// The packed bytes of the new file.
#[derive(Debug)]
struct PackedOutput<'a> {
    packed: Vec<u8>,
    /// Bytes that are not packed yet.
    waiting: Vec<u8>,
    max_bytes: usize,
    executor: &'a Executor,
    cancel: &'a CancelToken,
}

impl PackedOutput<'_> {
    async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= MEMBER_BYTES {
            self.pack_waiting().await
        } else {
            Ok(())
        }
    }

    async fn pack_waiting(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.waiting);
        let job = move |_: &CancelToken| -> Result<Vec<u8>> {
            let mut packed = Vec::new();
            pack(&bytes, &mut Compressor::default(), &mut packed)?;
            Ok(packed)
        };
        let packed = self.executor.run(job, self.cancel).await?;
        if self.packed.len() + packed.len() > self.max_bytes {
            return Err(Error::LimitExceeded(format!(
                "the joined index exceeds {} packed bytes, the bound is max_packed_size",
                self.max_bytes
            )));
        }
        self.packed.extend_from_slice(&packed);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<u8>> {
        if !self.waiting.is_empty() {
            self.pack_waiting().await?;
        }
        Ok(self.packed)
    }
}
