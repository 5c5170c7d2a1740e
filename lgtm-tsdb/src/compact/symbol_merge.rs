//! The symbol tables of several blocks as one, a piece of each in memory.

use lgtm_core::index::{SymbolTable, SymbolTableBuilder};
use lgtm_core::{Error, Result};

/// Merges tables that are fed piece by piece. What it holds is the new table, and of each input where its symbols went: four bytes each.
#[derive(Debug)]
pub(super) struct SymbolMerge {
    inputs: Vec<TableInput>,
    merged: SymbolTableBuilder,
    max_bytes: u64,
    mapped: u64,
}

#[derive(Debug, Default)]
struct TableInput {
    piece: Option<SymbolTable>,
    /// The symbol of the piece that comes next.
    next: u32,
    /// Nothing comes behind the piece.
    is_last: bool,
    /// By ordinal in the input, the ordinal in the new table.
    map: Vec<u32>,
}

impl TableInput {
    fn head(&self) -> Option<&str> {
        self.piece.as_ref()?.get(self.next)
    }

    fn is_starved(&self) -> bool {
        self.head().is_none() && !self.is_last
    }
}

impl SymbolMerge {
    /// Of so many tables. New table and maps may take `max_bytes`.
    pub(super) fn new(count: usize, max_bytes: u64) -> Result<Self> {
        let mut merged = SymbolTableBuilder::default();
        // All indexes begin with it; one that does not is made to.
        merged.push("")?;
        Ok(Self {
            inputs: std::iter::repeat_with(TableInput::default)
                .take(count)
                .collect(),
            merged,
            max_bytes,
            mapped: 0,
        })
    }

    /// A table of which the next piece is wanted.
    pub(super) fn starved(&self) -> Option<usize> {
        self.inputs.iter().position(TableInput::is_starved)
    }

    /// What comes next of a table; `None`: nothing more.
    pub(super) fn feed(&mut self, number: usize, piece: Option<SymbolTable>) {
        let input = &mut self.inputs[number];
        input.is_last = piece.is_none();
        input.piece = piece;
        input.next = 0;
    }

    /// Merges until a table is starved or all are at their end.
    ///
    /// # Errors
    /// `LimitExceeded` naming `max_symbols_memory`.
    pub(super) fn advance(&mut self) -> Result<()> {
        while !self.inputs.iter().any(TableInput::is_starved) {
            let Some(least) = self.inputs.iter().filter_map(TableInput::head).min() else {
                return Ok(());
            };
            let ordinal = if least.is_empty() {
                0
            } else {
                self.merged.push(least)?
            };
            let least = least.to_owned();
            for input in &mut self.inputs {
                if input.head() == Some(least.as_str()) {
                    input.map.push(ordinal);
                    input.next += 1;
                    self.mapped += 1;
                }
            }
            if self.merged.memory_bytes() + 4 * self.mapped > self.max_bytes {
                return Err(Error::LimitExceeded(format!(
                    "the symbols of {} blocks take more memory than max_symbols_memory = {} bytes",
                    self.inputs.len(),
                    self.max_bytes
                )));
            }
        }
        Ok(())
    }

    /// The new table, and by input where its symbols are in it.
    pub(super) fn finish(self) -> (SymbolTable, Vec<Vec<u32>>) {
        let maps = self.inputs.into_iter().map(|i| i.map).collect();
        (self.merged.finish(), maps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(tables: &[Vec<Vec<&str>>], max_bytes: u64) -> Result<(Vec<String>, Vec<Vec<u32>>)> {
        let mut pieces: Vec<_> = tables.iter().map(|t| t.iter()).collect();
        let mut merge = SymbolMerge::new(tables.len(), max_bytes)?;
        while let Some(n) = merge.starved() {
            let piece = pieces[n].next().map(SymbolTable::from_sorted);
            merge.feed(n, piece.transpose()?);
            merge.advance()?;
        }
        let (table, maps) = merge.finish();
        Ok((table.iter().map(str::to_owned).collect(), maps))
    }

    #[test]
    fn each_symbol_stands_once_and_is_found() {
        let tables = [
            vec![vec!["", "a"], vec!["c", "d"]],
            vec![vec!["", "b", "c"]],
            vec![vec!["d"], vec!["e"]],
        ];
        let (merged, maps) = merge(&tables, 1000).unwrap();
        assert_eq!(merged, ["", "a", "b", "c", "d", "e"]);
        assert_eq!(maps, [vec![0, 1, 3, 4], vec![0, 2, 3], vec![4, 5]]);
        let error = merge(&tables, 40).unwrap_err().to_string();
        assert!(error.contains("max_symbols_memory = 40"), "{error}");
        assert_eq!(merge(&[], 1000).unwrap().0, [""]);
    }
}
