//! A look at one entry.

use std::hash::{Hash, Hasher};

use lgtm_core::model::TimestampNs;

use super::block::SymbolPair;
use super::symbols::SymbolList;

/// One entry of a block. Copying it copies references.
///
/// Two entries of a stream are equal, and count as one, when time, line and structured metadata are.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    /// Its time, nanoseconds.
    pub t_ns: TimestampNs,
    /// Its line; any bytes.
    pub line: &'a [u8],
    pub(super) metadata: &'a [SymbolPair],
    pub(super) symbols: &'a SymbolList,
}

impl<'a> EntryRef<'a> {
    /// Names and values of its structured metadata, in the order in which they are stored: by name.
    #[inline]
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let symbols = self.symbols;
        let pairs = self.metadata.iter();
        pairs.map(|p| (symbols.get(p.name), symbols.get(p.value)))
    }

    /// Whether it has structured metadata.
    #[inline]
    pub fn has_metadata(&self) -> bool {
        !self.metadata.is_empty()
    }
}

impl PartialEq for EntryRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.t_ns == other.t_ns
            && self.line == other.line
            && self.metadata.len() == other.metadata.len()
            && self.metadata().eq(other.metadata())
    }
}

impl Eq for EntryRef<'_> {}

impl Hash for EntryRef<'_> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.t_ns.hash(to);
        self.line.hash(to);
        for pair in self.metadata() {
            pair.hash(to);
        }
    }
}
