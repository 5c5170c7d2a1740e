//! The symbols of an open index: kept whole when small, else every 32nd offset and ranged reads.

use std::ops::Range;

use bytes::Bytes;
use lgtm_core::codec::Reader;
use lgtm_core::storage::{ReadAt, ReadPlan, corrupt_at};
use lgtm_core::{DecodeError, Error, Result};

use crate::index::section::{EntryVisitor, Section, Windowed};
use crate::index::symbols::SymbolTable;

const WHAT: &str = "index symbol table";
const SAMPLE_EVERY: u32 = 32;

/// The symbols that some series refer to, at hand.
#[derive(Debug)]
pub(super) enum SymbolTexts<'a> {
    /// All there are.
    Table(&'a SymbolTable),
    /// Those that were looked up, by ascending ordinal.
    Some(Vec<(u32, String)>),
}

impl SymbolTexts<'_> {
    /// The symbol at an ordinal, if it is at hand.
    #[inline]
    pub(super) fn get(&self, ordinal: u32) -> Option<&str> {
        match self {
            Self::Table(table) => table.get(ordinal),
            Self::Some(some) => {
                let found = some.binary_search_by_key(&ordinal, |(o, _)| *o).ok()?;
                some.get(found).map(|(_, text)| text.as_str())
            }
        }
    }
}

/// How an open index finds its symbols.
#[derive(Debug)]
pub(super) enum Symbols {
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

impl Symbols {
    pub(super) async fn open(
        file: &Windowed<'_>,
        mut section: Section,
        version: u8,
        keep: bool,
        max_bytes: u64,
    ) -> Result<Self> {
        let start = section.range.start;
        if keep {
            let bytes = file.read(section.range).await?;
            let mut offsets = Vec::new();
            let begins = |at: u32| {
                if version == 1 {
                    offsets.push(start + u64::from(at));
                }
            };
            let table = SymbolTable::decode_noting(&bytes, begins)
                .map_err(|e| corrupt_at(file.file, start, e))?;
            let offsets = (version == 1).then_some(offsets);
            return Ok(Self::Whole { table, offsets });
        }
        let mut sampler = Sampler::default();
        section
            .scan(file, WHAT, false, max_bytes, &mut sampler)
            .await?;
        Ok(Self::Sampled {
            section,
            offsets: sampler.offsets,
            count: sampler.count,
        })
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Whole { table, offsets } => {
                table.memory_bytes() + offsets.as_ref().map_or(0, |o| 8 * o.len() as u64)
            }
            Self::Sampled { offsets, .. } => 4 * offsets.len() as u64,
        }
    }

    /// What a label refers to, as an ordinal.
    pub(super) fn ordinal(&self, reference: u32) -> Option<u32> {
        match self {
            Self::Whole {
                offsets: Some(offsets),
                ..
            } => {
                let found = offsets.binary_search(&u64::from(reference));
                found.ok().map(|i| i as u32)
            }
            Self::Whole { table, .. } => (reference < table.len() as u32).then_some(reference),
            Self::Sampled { count, .. } => (reference < *count).then_some(reference),
        }
    }

    /// The symbols at ascending `ordinals`.
    pub(super) async fn lookup(
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
        match self {
            Self::Whole { table, .. } => ordinals
                .iter()
                .map(|&o| table.get(o).map(str::to_owned).ok_or_else(|| unknown(o)))
                .collect(),
            Self::Sampled {
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
                let wishes: Vec<_> = ordinals
                    .iter()
                    .map(|&o| group((o / SAMPLE_EVERY) as usize))
                    .collect();
                let groups = file.read_many(&wishes, reads).await?;
                let mut out = Vec::with_capacity(ordinals.len());
                for ((&ordinal, wish), group) in ordinals.iter().zip(&wishes).zip(groups) {
                    let symbol = nth(&group, ordinal % SAMPLE_EVERY)
                        .map_err(|e| corrupt_at(file, wish.start, e))?;
                    out.push(symbol);
                }
                Ok(out)
            }
        }
    }

    /// The whole table.
    /// Gets those that `wanted` names, in any order and as often as it likes, to hand.
    pub(super) async fn texts(
        &self,
        file: &dyn ReadAt,
        wanted: impl Iterator<Item = u32> + Send,
        reads: &ReadPlan,
    ) -> Result<SymbolTexts<'_>> {
        if let Self::Whole { table, .. } = self {
            return Ok(SymbolTexts::Table(table));
        }
        let mut ordinals: Vec<u32> = wanted.collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        let texts = self.lookup(file, &ordinals, reads).await?;
        Ok(SymbolTexts::Some(ordinals.into_iter().zip(texts).collect()))
    }

    pub(super) async fn whole(&self, file: &dyn ReadAt, reads: &ReadPlan) -> Result<SymbolTable> {
        match self {
            Self::Whole { table, .. } => Ok(table.clone()),
            Self::Sampled { section, .. } => {
                reads.check_item(file, "the symbol table", section.size())?;
                let bytes = file.read(section.range.clone()).await?;
                SymbolTable::decode(&bytes).map_err(|e| corrupt_at(file, section.range.start, e))
            }
        }
    }
}

/// The symbol `n` places after the first in `group`.
fn nth(group: &Bytes, n: u32) -> Result<String, DecodeError> {
    let mut r = Reader::new(WHAT, group);
    for _ in 0..n {
        r.bytes()?;
    }
    Ok(r.str()?.to_owned())
}
