//! The symbols of an open index: kept whole when small, else every 32nd offset and ranged reads.

use std::ops::Range;

use crate::codec::Reader;
use crate::error::{DecodeError, Error, Result};
use crate::storage::{ReadAt, ReadPlan, corrupt_at};
use bytes::Bytes;

use crate::index::section::{EntryVisitor, Keep, Section, Windowed};
use crate::index::symbol_stream::SymbolStream;
use crate::index::symbols::SymbolTable;

const WHAT: &str = "index symbol table";
const SAMPLE_EVERY: u32 = 32;

/// The symbols that some series refer to, at hand.
#[derive(Debug)]
pub enum SymbolTexts<'a> {
    /// All there are.
    Table(&'a SymbolTable),
    /// Those that were looked up, by ascending ordinal.
    Some(Vec<(u32, String)>),
}

impl SymbolTexts<'_> {
    /// The symbol at an ordinal, if it is at hand.
    #[inline]
    pub fn get(&self, ordinal: u32) -> Option<&str> {
        match self {
            Self::Table(table) => table.get(ordinal),
            Self::Some(some) => {
                let found = some.binary_search_by_key(&ordinal, |(o, _)| *o).ok()?;
                some.get(found).map(|(_, text)| text.as_str())
            }
        }
    }
}

/// How labels name a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SymbolRefs {
    /// By its place among the symbols.
    Ordinals,
    /// By where it begins in the file (Prometheus' version 1). Such a table is kept whole.
    Offsets,
}

/// How an open index finds its symbols.
#[derive(Debug)]
pub struct SymbolsReader(Kept);

#[derive(Debug)]
enum Kept {
    Whole {
        table: SymbolTable,
        /// Where each symbol begins in the file, if labels refer to it by that (version 1).
        offsets: Option<Vec<u64>>,
    },
    Sampled {
        section: Section,
        /// Of every 32nd symbol, from the section's start.
        offsets: Vec<u32>,
        count: u32,
    },
}

#[derive(Default)]
struct Sampler {
    offsets: Vec<u32>,
    count: u32,
}

impl EntryVisitor for Sampler {
    fn entry(&mut self, r: &mut Reader<'_>, at: u64) -> Result<(), DecodeError> {
        r.str()?;
        if self.count.is_multiple_of(SAMPLE_EVERY) {
            self.offsets.push(at as u32);
        }
        self.count += 1;
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        4 * self.offsets.len() as u64
    }
}

impl SymbolsReader {
    /// Reads or scans `section`, whose checksum is verified either way.
    ///
    /// # Errors
    /// `Corrupt`; `LimitExceeded` naming `max_memory_bytes` when the samples take more than `max_bytes`; what [`ReadAt::read`] returns.
    pub async fn open(
        file: &Windowed<'_>,
        mut section: Section,
        refs: SymbolRefs,
        keep: Keep,
        max_bytes: u64,
    ) -> Result<Self> {
        let start = section.range.start;
        let by_offset = refs == SymbolRefs::Offsets;
        if keep == Keep::Whole || by_offset {
            let bytes = file.read(section.range).await?;
            let mut offsets = Vec::new();
            let begins = |at: u32| {
                if by_offset {
                    offsets.push(start + u64::from(at));
                }
            };
            let table = SymbolTable::decode_noting(&bytes, begins)
                .map_err(|e| corrupt_at(file.file, start, e))?;
            let offsets = by_offset.then_some(offsets);
            return Ok(Self(Kept::Whole { table, offsets }));
        }
        let mut sampler = Sampler::default();
        section
            .scan(file, WHAT, Keep::Sampled, max_bytes, &mut sampler)
            .await?;
        Ok(Self(Kept::Sampled {
            section,
            offsets: sampler.offsets,
            count: sampler.count,
        }))
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        match &self.0 {
            Kept::Whole { table, offsets } => {
                table.memory_bytes() + offsets.as_ref().map_or(0, |o| 8 * o.len() as u64)
            }
            Kept::Sampled { offsets, .. } => 4 * offsets.len() as u64,
        }
    }

    /// What a label refers to, as an ordinal; `None` if there is no such symbol.
    #[inline]
    pub fn ordinal(&self, reference: u32) -> Option<u32> {
        match &self.0 {
            Kept::Whole {
                offsets: Some(offsets),
                ..
            } => {
                let found = offsets.binary_search(&u64::from(reference));
                found.ok().map(|i| i as u32)
            }
            Kept::Whole { table, .. } => (reference < table.len() as u32).then_some(reference),
            Kept::Sampled { count, .. } => (reference < *count).then_some(reference),
        }
    }

    /// The symbols at ascending `ordinals`, joined into few reads where the table is not kept.
    ///
    /// # Errors
    /// `InvalidInput` when the ordinals do not ascend; `Corrupt` for one outside the table; what [`ReadAt::read_many`] returns.
    pub async fn lookup(
        &self,
        file: &dyn ReadAt,
        ordinals: &[u32],
        reads: &ReadPlan,
    ) -> Result<Vec<String>> {
        if !ordinals.is_sorted() {
            return Err(Error::InvalidInput("symbol ordinals do not ascend".into()));
        }
        let unknown = |ordinal: u32| {
            let error = DecodeError::new(WHAT, 0, format!("no symbol {ordinal}"));
            corrupt_at(file, 0, error)
        };
        match &self.0 {
            Kept::Whole { table, .. } => ordinals
                .iter()
                .map(|&o| table.get(o).map(str::to_owned).ok_or_else(|| unknown(o)))
                .collect(),
            Kept::Sampled {
                section,
                offsets,
                count,
            } => {
                if let Some(&bad) = ordinals.last().filter(|&o| o >= count) {
                    return Err(unknown(bad));
                }
                let group = |i: usize| -> Range<u64> {
                    let end = section.size() - 4;
                    let end = offsets.get(i + 1).map_or(end, |&o| u64::from(o));
                    section.range.start + u64::from(offsets[i])..section.range.start + end
                };
                // Those of a group are read, and walked to, together.
                let of_group = |a: &u32, b: &u32| a / SAMPLE_EVERY == b / SAMPLE_EVERY;
                let wishes = ordinals.chunk_by(of_group);
                let wishes: Vec<_> = wishes
                    .map(|of| group((of[0] / SAMPLE_EVERY) as usize))
                    .collect();
                let groups = file.read_many(&wishes, reads).await?;
                let mut out = Vec::with_capacity(ordinals.len());
                let wanted = ordinals.chunk_by(of_group);
                for ((wanted, wish), group) in wanted.zip(&wishes).zip(groups) {
                    pick(&group, wanted, &mut out).map_err(|e| corrupt_at(file, wish.start, e))?;
                }
                Ok(out)
            }
        }
    }

    /// Gets those that `wanted` names, in any order and as often as it likes, to hand. No read where the table is kept.
    ///
    /// # Errors
    /// As [`SymbolsReader::lookup`].
    pub async fn texts(
        &self,
        file: &dyn ReadAt,
        wanted: impl Iterator<Item = u32> + Send,
        reads: &ReadPlan,
    ) -> Result<SymbolTexts<'_>> {
        if let Kept::Whole { table, .. } = &self.0 {
            return Ok(SymbolTexts::Table(table));
        }
        let mut ordinals: Vec<u32> = wanted.collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        let texts = self.lookup(file, &ordinals, reads).await?;
        Ok(SymbolTexts::Some(ordinals.into_iter().zip(texts).collect()))
    }

    /// How many symbols there are.
    pub fn len(&self) -> u32 {
        match &self.0 {
            Kept::Whole { table, .. } => table.len() as u32,
            Kept::Sampled { count, .. } => *count,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them in order, some at a time.
    pub fn stream(&self) -> SymbolStream {
        match &self.0 {
            Kept::Whole { table, .. } => SymbolStream::of_table(table.clone()),
            Kept::Sampled { section, .. } => SymbolStream::of_section(section.range()),
        }
    }

    /// The whole table.
    ///
    /// # Errors
    /// `LimitExceeded` past `max_item_bytes`; `Corrupt`; what [`ReadAt::read`] returns.
    pub async fn whole(&self, file: &dyn ReadAt, reads: &ReadPlan) -> Result<SymbolTable> {
        match &self.0 {
            Kept::Whole { table, .. } => Ok(table.clone()),
            Kept::Sampled { section, .. } => {
                reads.check_item(file, "the symbol table", section.size())?;
                let bytes = file.read(section.range.clone()).await?;
                SymbolTable::decode(&bytes).map_err(|e| corrupt_at(file, section.range.start, e))
            }
        }
    }
}

/// Puts the symbols of a group at ascending ordinals behind `out`.
fn pick(group: &Bytes, ordinals: &[u32], out: &mut Vec<String>) -> Result<(), DecodeError> {
    let mut r = Reader::new(WHAT, group);
    let mut next = 0;
    for (i, ordinal) in ordinals.iter().enumerate() {
        if i > 0 && ordinals[i - 1] == *ordinal {
            out.extend(out.last().cloned());
            continue;
        }
        let place = ordinal % SAMPLE_EVERY;
        for _ in next..place {
            r.bytes()?;
        }
        out.push(r.str()?.to_owned());
        next = place + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any ascending ordinals of a group, also one after the other and twice.
    #[test]
    fn symbols_of_a_group_are_picked() {
        let symbols: Vec<String> = (0..SAMPLE_EVERY).map(|n| format!("s{n:02}é")).collect();
        let mut group = Vec::new();
        for symbol in &symbols {
            crate::codec::put_uvarint(&mut group, symbol.len() as u64);
            group.extend_from_slice(symbol.as_bytes());
        }
        let group = Bytes::from(group);
        for wanted in [
            &[0u32, 1, 2, 31][..],
            &[31],
            &[5, 5, 5, 6, 30],
            &[64, 65, 80, 95, 95],
            &[],
        ] {
            let mut out = vec!["before".to_owned()];
            pick(&group, wanted, &mut out).unwrap();
            let picked = wanted
                .iter()
                .map(|&o| symbols[(o % SAMPLE_EVERY) as usize].clone());
            assert_eq!(out[1..], picked.collect::<Vec<_>>(), "{wanted:?}");
        }
        let mut out = Vec::new();
        let error = pick(&group.slice(..20), &[31], &mut out).unwrap_err();
        assert_eq!(error.what, WHAT);
    }
}
