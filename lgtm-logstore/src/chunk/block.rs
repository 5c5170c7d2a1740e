//! The entries of one block, decompressed.

use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::Reader;

use crate::chunk::format::ChunkFormat;
use crate::entry::{
    EntryBlock, EntryBlockBuilder, SymbolList, SymbolPair, is_normal_metadata_name,
    normal_metadata_name,
};

const WHAT: &str = "chunk block";

/// Names the entries of a decompressed block; their lines stay where they are. `entry_count` is what the block table says.
///
/// Names of metadata that are not in their normal form are read in it, as Loki does.
///
/// # Errors
/// Entries that are cut off, a count other than that of the table.
pub fn decode_block(
    format: ChunkFormat,
    bytes: Bytes,
    entry_count: u64,
    symbols: &Arc<SymbolList>,
) -> Result<EntryBlock, DecodeError> {
    let mut builder = EntryBlockBuilder::over(bytes.clone());
    let mut r = Reader::new(WHAT, &bytes);
    // An entry has at least a time and a length.
    builder.reserve(usize::try_from(entry_count).map_or(0, |n| n.min(bytes.len() / 2)));
    let mut names = MetadataNames::new(symbols);
    let has_metadata = format.has_metadata();
    while !r.is_empty() {
        let t_ns = r.svarint()?;
        let line = r.bytes()?;
        let end = r.position();
        builder.push(t_ns, end - line.len()..end)?;
        if !has_metadata {
            continue;
        }
        match r.rest() {
            // A section of one byte, and no pair.
            [1, 0, ..] => {
                r.take(2)?;
            }
            _ => metadata(&mut r, &mut names, &mut builder)?,
        }
    }
    if builder.len() as u64 != entry_count {
        let reason = format!("{} entries instead of {entry_count}", builder.len());
        return Err(r.error(reason));
    }
    Ok(builder.finish(names.into_list()))
}

#[inline]
fn metadata(
    r: &mut Reader<'_>,
    names: &mut MetadataNames<'_>,
    builder: &mut EntryBlockBuilder,
) -> Result<(), DecodeError> {
    let len = r.length()?;
    let end = r.position() + len;
    let count = r.uvarint()?;
    for _ in 0..count {
        if r.position() >= end {
            return Err(r.error(format!("{count} pairs in {len} bytes")));
        }
        let name = names.of(symbol(r)?);
        let value = symbol(r)?;
        builder.push_metadata(SymbolPair { name, value });
    }
    if r.position() != end {
        return Err(r.error(format!("{count} pairs do not fill {len} bytes")));
    }
    Ok(())
}

/// A number beyond the list reads as the empty text, however large it is.
#[inline]
fn symbol(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    Ok(u32::try_from(r.uvarint()?).unwrap_or(u32::MAX))
}

/// Sees to it that names are in their normal form. Entries have few different names, so that each is looked at once.
struct MetadataNames<'a> {
    symbols: &'a Arc<SymbolList>,
    /// Symbols that serve as names, and the symbol of their normal form.
    known: Vec<(u32, u32)>,
    /// Normal forms that are not in the list: symbols from its end on.
    more: Vec<String>,
}

impl<'a> MetadataNames<'a> {
    fn new(symbols: &'a Arc<SymbolList>) -> Self {
        Self {
            symbols,
            known: Vec::new(),
            more: Vec::new(),
        }
    }

    #[inline]
    fn of(&mut self, symbol: u32) -> u32 {
        match self.known.iter().find(|(s, _)| *s == symbol) {
            Some((_, normal)) => *normal,
            None => self.learn(symbol),
        }
    }

    #[cold]
    fn learn(&mut self, symbol: u32) -> u32 {
        let text = self.symbols.get(symbol);
        let normal = if is_normal_metadata_name(text) {
            symbol
        } else {
            // A name without a normal form is kept: dropping the pair would make entries equal that are not.
            normal_metadata_name(text).map_or(symbol, |normal| {
                self.more.push(normal);
                (self.symbols.len() + self.more.len() - 1) as u32
            })
        };
        // Beyond so many names looking them up costs more than learning them anew.
        const MAX_KNOWN: usize = 256;
        if self.known.len() < MAX_KNOWN {
            self.known.push((symbol, normal));
        }
        normal
    }

    fn into_list(self) -> Arc<SymbolList> {
        if self.more.is_empty() {
            return Arc::clone(self.symbols);
        }
        let texts = self
            .symbols
            .iter()
            .chain(self.more.iter().map(String::as_str));
        Arc::new(SymbolList::from_texts(texts.map(str::as_bytes)))
    }
}
