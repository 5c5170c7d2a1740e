//! The series of a tenant split into shards: which symbols each of them uses.

use lgtm_core::Result;
use lgtm_core::index::{SymbolTable, SymbolTableBuilder};
use lgtm_core::model::stable_hash;

use super::series_merge::{LabelSymbols, SeriesWindow};

/// The shard of a series, from 0: the hash of its labels modulo the count, as in Mimir.
pub(super) fn shard_of(labels: &[LabelSymbols], symbols: &SymbolTable, count: u32) -> usize {
    let text = |symbol| symbols.get(symbol).unwrap_or_default();
    let hash = stable_hash(
        labels
            .iter()
            .map(|&(name, value)| (text(name), text(value))),
    );
    (hash % u64::from(count.max(1))) as usize
}

/// The symbols that the series of each shard use: a bit for each symbol and shard.
#[derive(Debug)]
pub(super) struct ShardSymbols {
    used: Vec<Vec<u64>>,
}

/// The symbols of one shard.
#[derive(Debug)]
pub(super) struct ShardTable {
    pub(super) symbols: SymbolTable,
    /// Where the symbols of all shards are among them; of those that it does not use it says nothing.
    pub(super) map: Vec<u32>,
}

impl ShardSymbols {
    pub(super) fn new(count: u32, symbols: &SymbolTable) -> Self {
        Self {
            used: vec![vec![0; symbols.len().div_ceil(64)]; count as usize],
        }
    }

    /// Notes the labels of a window.
    pub(super) fn note(&mut self, window: &SeriesWindow, symbols: &SymbolTable) {
        let mut start = 0;
        for series in &window.series {
            let labels = &window.labels[start..series.labels_end];
            start = series.labels_end;
            let shard = shard_of(labels, symbols, self.used.len() as u32);
            for symbol in labels.iter().flat_map(|&(name, value)| [name, value]) {
                self.used[shard][symbol as usize / 64] |= 1 << (symbol % 64);
            }
        }
    }

    /// The table of each shard that has series.
    ///
    /// # Errors
    /// `Internal` only.
    pub(super) fn tables(self, symbols: &SymbolTable) -> Result<Vec<Option<ShardTable>>> {
        let table = |used: Vec<u64>| {
            if used.iter().all(|&bits| bits == 0) {
                return Ok(None);
            }
            let mut builder = SymbolTableBuilder::default();
            let mut map = vec![0; symbols.len()];
            for (n, symbol) in symbols.iter().enumerate() {
                if n == 0 || used[n / 64] >> (n % 64) & 1 == 1 {
                    map[n] = builder.push(symbol)?;
                }
            }
            let symbols = builder.finish();
            Ok(Some(ShardTable { symbols, map }))
        };
        self.used.into_iter().map(table).collect()
    }
}
