//! The values of a page, as their encodings have them.

use std::ops::Range;
use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::error::DecodeError;

use crate::schema::column::ColumnValues;
use crate::schema::delta::decode_deltas;
use crate::schema::hybrid::{decode_indices, decode_levels};
use crate::schema::page::PageEncoding;
use crate::schema::row_entries::PickedValues;
use crate::schema::texts::Texts;

/// Appends values of a page, all or those that are kept.
pub(super) fn add_kept(
    encoding: PageEncoding,
    body: &[u8],
    count: usize,
    kept: Option<PickedValues>,
    values: &mut ColumnValues,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let Some(PickedValues { mut wanted, .. }) = kept else {
        return add_values(encoding, body, count, values, allowance);
    };
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
        return Ok(());
    };
    let some = first.start..last.end;
    let from = values.len();
    let first = add_some(encoding, body, (count, some), values, allowance)?;
    for range in &mut wanted {
        *range = range.start - first..range.end - first;
    }
    values.keep(from, &wanted);
    Ok(())
}

/// Appends at least `some` of a page's values, and leaves out what costs less to be passed over; the number of the first one that it appends.
fn add_some(
    encoding: PageEncoding,
    body: &[u8],
    (count, some): (usize, Range<usize>),
    values: &mut ColumnValues,
    allowance: &mut Allowance<'_>,
) -> Result<usize, DecodeFail> {
    let width = match (&*values, encoding) {
        (ColumnValues::Int64(_) | ColumnValues::Double(_), PageEncoding::Plain) => 8,
        (ColumnValues::Int32(_), PageEncoding::Plain) => 4,
        _ => 0,
    };
    match (&mut *values, encoding) {
        _ if width > 0 => {
            let behind = body.get(some.start.saturating_mul(width)..);
            let behind = behind.unwrap_or_default();
            add_values(encoding, behind, some.len(), values, allowance)?;
            return Ok(some.start);
        }
        (
            ColumnValues::Indices {
                dictionary,
                indices,
            },
            PageEncoding::Dictionary,
        ) => {
            allowance.reserve(indices, some.len())?;
            decode_indices(body, dictionary.len(), some.clone(), indices)?;
            return Ok(some.start);
        }
        (ColumnValues::Int64(out), PageEncoding::Delta) => {
            allowance.reserve(out, some.end)?;
            decode_deltas(&mut Reader::new("deltas", body), count, some.end, out)?;
        }
        (ColumnValues::Int32(out), PageEncoding::Delta) => {
            allowance.reserve(out, some.end)?;
            decode_deltas(&mut Reader::new("deltas", body), count, some.end, out)?;
        }
        (ColumnValues::Texts(_), PageEncoding::Plain) => {
            add_values(encoding, body, some.end, values, allowance)?;
        }
        _ => add_values(encoding, body, count, values, allowance)?,
    }
    Ok(0)
}

/// Appends `count` values of a page.
fn add_values(
    encoding: PageEncoding,
    body: &[u8],
    count: usize,
    values: &mut ColumnValues,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    if count == 0 {
        return Ok(());
    }
    match (values, encoding) {
        (
            ColumnValues::Indices {
                dictionary,
                indices,
            },
            PageEncoding::Dictionary,
        ) => {
            allowance.reserve(indices, count)?;
            decode_indices(body, dictionary.len(), 0..count, indices)?;
        }
        (ColumnValues::Int64(out), PageEncoding::Delta) => {
            allowance.reserve(out, count)?;
            decode_deltas(&mut Reader::new("deltas", body), count, count, out)?;
        }
        (ColumnValues::Int32(out), PageEncoding::Delta) => {
            allowance.reserve(out, count)?;
            decode_deltas(&mut Reader::new("deltas", body), count, count, out)?;
        }
        (ColumnValues::Int64(out), PageEncoding::Plain) => {
            let bytes = fixed::<8>(body, count)?;
            allowance.reserve(out, count)?;
            out.extend(bytes.iter().map(|b| i64::from_le_bytes(*b)));
        }
        (ColumnValues::Int32(out), PageEncoding::Plain) => {
            let bytes = fixed::<4>(body, count)?;
            allowance.reserve(out, count)?;
            out.extend(bytes.iter().map(|b| i32::from_le_bytes(*b)));
        }
        (ColumnValues::Double(out), PageEncoding::Plain) => {
            let bytes = fixed::<8>(body, count)?;
            allowance.reserve(out, count)?;
            out.extend(bytes.iter().map(|b| f64::from_le_bytes(*b)));
        }
        (ColumnValues::Bool(out), PageEncoding::Plain) => {
            let packed = Reader::new("booleans", body).take(count.div_ceil(8))?;
            allowance.reserve(out, count)?;
            out.extend((0..count).map(|n| packed[n / 8] >> (n % 8) & 1 == 1));
        }
        (ColumnValues::Bool(out), PageEncoding::Rle) => {
            let mut r = Reader::new("booleans", body);
            let len = r.u32_le()? as usize;
            let mut bits = Vec::new();
            allowance.reserve(&mut bits, count)?;
            decode_levels(r.take(len)?, 1, count, &mut bits)?;
            allowance.reserve(out, count)?;
            out.extend(bits.iter().map(|bit| *bit == 1));
        }
        (ColumnValues::Texts(texts), PageEncoding::Plain) => {
            plain_texts(body, count, texts, allowance)?;
        }
        (ColumnValues::Texts(texts), PageEncoding::DeltaLength) => {
            delta_texts(body, count, texts, allowance)?;
        }
        (
            ColumnValues::Indices {
                dictionary,
                indices,
            },
            PageEncoding::Plain | PageEncoding::DeltaLength,
        ) => {
            // Texts behind those with a dictionary are appended to it.
            let from = dictionary.len();
            if Arc::strong_count(dictionary) > 1 {
                // Others hold it: this column gets a copy.
                allowance.take(dictionary.capacity_bytes())?;
            }
            let dictionary = Arc::make_mut(dictionary);
            if encoding == PageEncoding::Plain {
                plain_texts(body, count, dictionary, allowance)?;
            } else {
                delta_texts(body, count, dictionary, allowance)?;
            }
            allowance.reserve(indices, count)?;
            indices.extend((from..dictionary.len()).map(|n| n as u32));
        }
        _ => {
            return Err(broken(format!("{encoding:?} is no encoding of the column's type")).into());
        }
    }
    Ok(())
}

/// Makes texts numbers of entries of the dictionary: there must be one, and no text before it.
pub(super) fn become_indices(
    values: &mut ColumnValues,
    dictionary: &mut Option<Arc<Texts>>,
    indices: &mut Vec<u32>,
) -> Result<(), DecodeError> {
    let ColumnValues::Texts(texts) = values else {
        return Ok(());
    };
    match dictionary.take() {
        Some(dictionary) if texts.is_empty() => {
            *values = ColumnValues::Indices {
                dictionary,
                indices: std::mem::take(indices),
            };
            Ok(())
        }
        _ => Err(broken("indices without a dictionary")),
    }
}

fn fixed<const N: usize>(body: &[u8], count: usize) -> Result<&[[u8; N]], DecodeError> {
    let bytes = Reader::new("values", body).take(count.saturating_mul(N))?;
    Ok(bytes.as_chunks().0)
}

/// Texts with their lengths before them.
pub(super) fn plain_texts(
    body: &[u8],
    count: usize,
    out: &mut Texts,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("texts", body);
    if count > body.len() / 4 {
        return Err(r
            .error(format!("{count} texts in {} bytes", body.len()))
            .into());
    }
    check_room(out, body.len())?;
    allowance.reserve(&mut out.ends, count)?;
    allowance.reserve(&mut out.bytes, body.len() - 4 * count)?;
    for _ in 0..count {
        let len = r.u32_le()? as usize;
        out.bytes.extend_from_slice(r.take(len)?);
        out.ends.push(out.bytes.len() as u32);
    }
    Ok(())
}

/// Texts with all lengths before them.
fn delta_texts(
    body: &[u8],
    count: usize,
    out: &mut Texts,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("texts", body);
    check_room(out, body.len())?;
    let from = out.ends.len();
    allowance.reserve(&mut out.ends, count)?;
    decode_deltas(&mut r, count, count, &mut out.ends)?;
    let start = out.bytes.len() as u64;
    let mut end = start;
    let most = start + r.remaining() as u64;
    for length in &mut out.ends[from..] {
        end += u64::from(*length);
        if end > most {
            return Err(broken(format!("texts of more than {} bytes", most - start)).into());
        }
        *length = end as u32;
    }
    let bytes = r.take((end - start) as usize)?;
    allowance.reserve(&mut out.bytes, bytes.len())?;
    out.bytes.extend_from_slice(bytes);
    Ok(())
}

/// Ends are 32 bits.
fn check_room(out: &Texts, more: usize) -> Result<(), DecodeError> {
    if out.bytes.len() as u64 + more as u64 > u64::from(u32::MAX) {
        return Err(broken("texts of more than 4 GiB"));
    }
    Ok(())
}

pub(super) fn broken(reason: impl Into<String>) -> DecodeError {
    DecodeError::new("column page", 0, reason)
}
