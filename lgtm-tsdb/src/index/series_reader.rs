//! Reads series entries in batches.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use lgtm_core::model::Labels;
use lgtm_core::{DecodeError, Error, Result};

use crate::index::encoder::SERIES_ALIGN;
use crate::index::read_at::corrupt_at;
use crate::index::reader::IndexReader;
use crate::index::series::{SeriesEntry, SeriesMeta, decode_entry, entry_len};

const WHAT: &str = "index series";

impl IndexReader {
    /// The series at `references`, which must ascend as postings do, with their labels in full.
    ///
    /// Memory is the result plus `reads.concurrency` joined reads: bound the batch (some thousands are plenty).
    ///
    /// # Errors
    /// `InvalidInput` when the references do not ascend, `Corrupt` when one leads to no series, and what the reads return.
    pub async fn series(&self, references: &[u32]) -> Result<Vec<SeriesMeta>> {
        let entries = self.series_entries(references).await?;
        let mut ordinals: Vec<u32> = entries
            .iter()
            .flat_map(|e| e.labels.iter().flat_map(|&(n, v)| [n, v]))
            .collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        let symbols = self.lookup_symbols(&ordinals).await?;
        let text = |ordinal: u32| {
            let found = ordinals.binary_search(&ordinal);
            symbols[found.expect("every ordinal was looked up")].as_str()
        };
        let mut buffer = Vec::with_capacity(256);
        let series = entries.into_iter().map(|entry| {
            let pairs = entry.labels.iter().map(|&(n, v)| (text(n), text(v)));
            let labels = Labels::from_sorted_in(&mut buffer, pairs).map_err(|e| {
                let error = DecodeError::new(WHAT, 0, e.to_string());
                corrupt_at(&*self.file, self.series_offset(entry.reference), error)
            })?;
            Ok(SeriesMeta {
                reference: entry.reference,
                labels,
                chunks: entry.chunks,
            })
        });
        series.collect()
    }

    /// Like [`IndexReader::series`], with labels as symbol ordinals: what compaction maps from table to table.
    pub async fn series_entries(&self, references: &[u32]) -> Result<Vec<SeriesEntry>> {
        let wishes = self.series_wishes(references)?;
        let plans = self.settings.reads.join(&wishes);
        let mut reads = stream::iter(plans.into_iter().map(|plan| async move {
            let bytes = self.file.read(plan.range.clone()).await?;
            Ok::<_, Error>((plan, bytes))
        }))
        .buffered(self.settings.reads.concurrency.max(1));
        let mut out = Vec::with_capacity(references.len());
        while let Some((plan, bytes)) = reads.try_next().await? {
            for i in plan.items {
                let start = wishes[i].start;
                let have = bytes.slice((start - plan.range.start) as usize..);
                out.push(self.decode_series(references[i], start, have).await?);
            }
        }
        Ok(out)
    }

    fn series_offset(&self, reference: u32) -> u64 {
        match self.version {
            1 => u64::from(reference),
            _ => u64::from(reference) * SERIES_ALIGN,
        }
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
            let start = self.series_offset(reference);
            if section.contains(&start) {
                return Ok(start..section.end.min(start + guess));
            }
            let reason = format!("series {reference} is outside of {section:?}");
            let error = DecodeError::new(WHAT, 0, reason);
            Err(corrupt_at(&*self.file, start, error))
        };
        references.iter().map(wish).collect()
    }

    async fn decode_series(
        &self,
        reference: u32,
        start: u64,
        mut have: Bytes,
    ) -> Result<SeriesEntry> {
        let corrupt = |error| corrupt_at(&*self.file, start, error);
        let room = self.toc.series_end() - start;
        match entry_len(&have) {
            Some(len) if len > room => {
                let reason = format!("entry of {len} bytes, {room} left in the section");
                return Err(corrupt(DecodeError::new(WHAT, 0, reason)));
            }
            Some(len) if len > have.len() as u64 => {
                self.settings
                    .reads
                    .check_item(&*self.file, "a series entry", len)?;
                have = self.file.read(start..start + len).await?;
            }
            _ => {}
        }
        let mut entry = decode_entry(&have, reference).map_err(corrupt)?;
        for (name, value) in &mut entry.labels {
            for symbol in [name, value] {
                *symbol = self.symbols.ordinal(*symbol).ok_or_else(|| {
                    let reason = format!("symbol {symbol} is not in the table");
                    corrupt(DecodeError::new(WHAT, 0, reason))
                })?;
            }
        }
        Ok(entry)
    }
}
