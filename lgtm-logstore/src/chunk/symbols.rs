//! The symbol section of a version 4 chunk: names and values of structured metadata, each once.

use lgtm_core::DecodeError;
use lgtm_core::codec::{
    Compressor, DecodeFail, Decompressor, OutputSize, Reader, crc32c, put_bytes, put_uvarint,
};

use crate::chunk::encoding::ChunkEncoding;
use crate::chunk::layout::checked_section;
use crate::entry::SymbolList;

const WHAT: &str = "chunk symbols";

/// Reads the symbols out of `section`, its bytes with the checksum behind them. It needs no other part of the chunk.
///
/// # Errors
/// [`DecodeFail::Broken`] for a checksum that does not fit, bytes that do not decompress, a count that does not fit;
/// [`DecodeFail::Refused`] when more than `max_bytes` come out.
pub fn decode_symbols(
    encoding: ChunkEncoding,
    section: &[u8],
    max_bytes: usize,
    decompressor: &mut Decompressor,
) -> Result<SymbolList, DecodeFail> {
    let body = checked_section(WHAT, section)?;
    let mut r = Reader::new(WHAT, body);
    let count = r.uvarint()?;
    let mut texts = Vec::new();
    let size = OutputSize {
        expected_bytes: r.remaining().saturating_mul(4),
        max_bytes,
    };
    decompressor.decompress(encoding.compression(), r.rest(), size, &mut texts)?;
    let mut texts = Reader::new(WHAT, &texts);
    if count > texts.remaining() as u64 {
        let reason = format!("{count} symbols in {} bytes", texts.remaining());
        return Err(texts.error(reason).into());
    }
    let mut fault = None;
    let list = SymbolList::from_texts((0..count).map_while(|_| match texts.bytes() {
        Ok(text) => Some(text),
        Err(e) => {
            fault = Some(e);
            None
        }
    }));
    if let Some(e) = fault {
        return Err(e.into());
    }
    if (list.len() as u64) < count || !texts.is_empty() {
        let reason = format!("{count} symbols, {} bytes behind them", texts.remaining());
        return Err(DecodeError::new(WHAT, 0, reason).into());
    }
    Ok(list)
}

/// Appends the section and its checksum; returns how many bytes the section has without it.
pub(super) fn encode_symbols(
    encoding: ChunkEncoding,
    symbols: &SymbolList,
    compressor: &mut Compressor,
    out: &mut Vec<u8>,
) -> lgtm_core::Result<usize> {
    let start = out.len();
    put_uvarint(out, symbols.len() as u64);
    let mut texts = Vec::with_capacity(symbols.text_bytes() + 2 * symbols.len());
    for text in symbols.iter() {
        put_bytes(&mut texts, text.as_bytes());
    }
    compressor.compress(encoding.compression(), &texts, out)?;
    let len = out.len() - start;
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
    Ok(len)
}
