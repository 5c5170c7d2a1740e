//! Reads series entries in batches.

use std::ops::Range;

use bytes::Bytes;
use lgtm_core::index::SymbolTexts;
use lgtm_core::model::{LabelArena, Labels};
use lgtm_core::storage::corrupt_at;
use lgtm_core::{DecodeError, Error, Result};

use crate::index::encoder::SERIES_ALIGN;
use crate::index::reader::IndexReader;
use crate::index::series::{
    SeriesEntries, SeriesEntry, SeriesFilter, SeriesMeta, decode_entry, entry_len,
};

const WHAT: &str = "index series";

/// Builds the labels of entries out of their symbols.
#[derive(Debug)]
pub struct LabelsOf<'a> {
    index: &'a IndexReader,
    texts: SymbolTexts<'a>,
    arena: LabelArena,
}

impl LabelsOf<'_> {
    /// The labels of an entry, in memory that it may share with those before and after it.
    ///
    /// # Errors
    /// `Corrupt` when the entry's labels are not in order or refer to no symbol.
    pub fn of(&mut self, entry: &SeriesEntry<'_>) -> Result<Labels> {
        let mut missing = None;
        let texts = &self.texts;
        let mut text = |ordinal: u32| {
            let found = texts.get(ordinal);
            if found.is_none() {
                missing = Some(ordinal);
            }
            found.unwrap_or_default()
        };
        let pairs = entry.labels.iter().map(|&(n, v)| (text(n), text(v)));
        let labels = self.arena.from_sorted(pairs);
        let reason = match (labels, missing) {
            (Ok(labels), None) => return Ok(labels),
            (_, Some(ordinal)) => format!("symbol {ordinal} is not in the table"),
            (Err(e), None) => e.to_string(),
        };
        let error = DecodeError::new(WHAT, 0, reason);
        let at = u64::from(entry.reference) * SERIES_ALIGN;
        Err(corrupt_at(&*self.index.file, at, error))
    }
}

impl IndexReader {
    /// The series at `references`, which must ascend as postings do, as far as `filter` wants them, with their labels in full.
    ///
    /// Memory is the result plus `reads.concurrency` joined reads: bound the batch (some thousands are plenty). Those who want only some
    /// labels save by [`IndexReader::series_entries`] and [`IndexReader::labels_of`].
    ///
    /// # Errors
    /// `InvalidInput` when the references do not ascend, `Corrupt` when one leads to no series, and what the reads return.
    pub async fn series(
        &self,
        references: &[u32],
        filter: &SeriesFilter,
    ) -> Result<Vec<SeriesMeta>> {
        let entries = self.series_entries(references, filter).await?;
        let mut labels = self.labels_of(&entries).await?;
        let series = entries.iter().map(|entry| {
            Ok(SeriesMeta {
                reference: entry.reference,
                fingerprint: entry.fingerprint,
                labels: labels.of(&entry)?,
                chunks: entry.chunks.to_vec(),
            })
        });
        series.collect()
    }

    /// Gets the symbols of `entries` to hand: no read where the symbol table is kept whole.
    ///
    /// # Errors
    /// `Corrupt`, and what the reads return.
    pub async fn labels_of(&self, entries: &SeriesEntries) -> Result<LabelsOf<'_>> {
        let wanted = entries.all_labels().iter().flat_map(|&(n, v)| [n, v]);
        let reads = &self.settings.reads;
        Ok(LabelsOf {
            index: self,
            texts: self.symbols.texts(&*self.file, wanted, reads).await?,
            arena: LabelArena::default(),
        })
    }

    /// Like [`IndexReader::series`], with labels as symbol ordinals: what compaction maps from table to table. Allocates nothing per series.
    ///
    /// # Errors
    /// As [`IndexReader::series`].
    pub async fn series_entries(
        &self,
        references: &[u32],
        filter: &SeriesFilter,
    ) -> Result<SeriesEntries> {
        let wishes = self.series_wishes(references)?;
        let read = self.file.read_many(&wishes, &self.settings.reads).await?;
        let mut out = SeriesEntries::with_capacity(references.len());
        for ((&reference, wish), have) in references.iter().zip(&wishes).zip(read) {
            let start = wish.start;
            let have = match self.missing_len(start, &have)? {
                None => have,
                Some(len) => self.read_long(start, len).await?,
            };
            decode_entry(self.version, &have, reference, filter, &mut out)
                .map_err(|e| corrupt_at(&*self.file, start, e))?;
        }
        Ok(out)
    }

    fn series_wishes(&self, references: &[u32]) -> Result<Vec<Range<u64>>> {
        if !references.is_sorted_by(|a, b| a < b) {
            return Err(Error::InvalidInput(
                "series references do not ascend".into(),
            ));
        }
        let section = self.toc.series..self.toc.series_end();
        let guess = self.settings.series_guess_bytes.max(16);
        let wish = |&reference| {
            let start = u64::from(reference) * SERIES_ALIGN;
            if section.contains(&start) {
                return Ok(start..section.end.min(start + guess));
            }
            let reason = format!("series {reference} is outside of {section:?}");
            let error = DecodeError::new(WHAT, 0, reason);
            Err(corrupt_at(&*self.file, start, error))
        };
        references.iter().map(wish).collect()
    }

    /// The entry's length, if it is longer than what is at hand.
    fn missing_len(&self, start: u64, have: &[u8]) -> Result<Option<u64>> {
        let room = self.toc.series_end() - start;
        match entry_len(have) {
            Some(len) if len > room => {
                let reason = format!("entry of {len} bytes, {room} left in the section");
                let error = DecodeError::new(WHAT, 0, reason);
                Err(corrupt_at(&*self.file, start, error))
            }
            Some(len) if len > have.len() as u64 => Ok(Some(len)),
            _ => Ok(None),
        }
    }

    async fn read_long(&self, start: u64, len: u64) -> Result<Bytes> {
        let reads = &self.settings.reads;
        reads.check_item(&*self.file, "a series entry", len)?;
        self.file.read(start..start + len).await
    }
}
