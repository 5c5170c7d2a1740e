//! Where the pages of a chunk lie (offset index), and what they hold (column index).

use std::ops::Range;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::thrift::{BINARY, STRUCT, Thrift};

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageLocation {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes, header included.
    pub bytes: u64,
    /// Its first row, counted from the row group's first.
    pub first_row: u64,
}

/// The data pages of a chunk, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OffsetIndex {
    /// Pages.
    pub pages: Vec<PageLocation>,
}

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageBounds {
    /// No value at all.
    pub is_null: bool,
    /// A bound below all values, as the bytes that they would be written as; a text may be cut.
    pub min: Vec<u8>,
    /// A bound above all values; a text may be cut, and is then greater.
    pub max: Vec<u8>,
    /// Entries without a value, where that is said.
    pub nulls: Option<u64>,
}

impl OffsetIndex {
    /// Reads one; it must be in order.
    ///
    /// # Errors
    /// For bytes that are none; what `allowance` refuses.
    pub fn decode(bytes: &[u8], allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Thrift::new("offset index", bytes);
        r.structure::<DecodeFail>(|r, field| {
            if field.id != 1 {
                return Ok(false);
            }
            let len = r.list(field, STRUCT)?;
            for _ in 0..len {
                let mut page = PageLocation::default();
                r.structure::<DecodeError>(|r, field| {
                    match field.id {
                        1 => page.offset = r.count(field)?,
                        2 => page.bytes = r.count(field)?,
                        3 => page.first_row = r.count(field)?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                let is_behind = |last: &PageLocation| {
                    page.first_row > last.first_row
                        && Some(page.offset) >= last.offset.checked_add(last.bytes)
                };
                if !out.pages.last().is_none_or(is_behind) {
                    return Err(r.error("pages are not in order").into());
                }
                allowance.push(&mut out.pages, page)?;
            }
            Ok(true)
        })?;
        if out.pages.first().is_some_and(|page| page.first_row > 0) {
            return Err(r
                .error("the first page does not begin with the first row")
                .into());
        }
        Ok(out)
    }

    /// The pages that hold some of these rows.
    pub fn pages_of(&self, rows: &Range<u64>) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let end = self.pages.partition_point(|page| page.first_row < rows.end);
        let start = self
            .pages
            .partition_point(|page| page.first_row <= rows.start);
        start.saturating_sub(1)..end
    }

    /// Where these pages lie.
    pub fn range(&self, pages: &Range<usize>) -> Range<u64> {
        match self.pages.get(pages.clone()) {
            Some([first, .., last]) => first.offset..last.offset.saturating_add(last.bytes),
            Some([only]) => only.offset..only.offset.saturating_add(only.bytes),
            _ => 0..0,
        }
    }
}

/// Reads a column index: what each page of a chunk holds.
///
/// # Errors
/// For bytes that are none, and lists of different lengths; what `allowance` refuses.
pub fn decode_column_index(
    bytes: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<Vec<PageBounds>, DecodeFail> {
    let mut out: Vec<PageBounds> = Vec::new();
    let mut lists = 0;
    let mut r = Thrift::new("column index", bytes);
    r.structure::<DecodeFail>(|r, field| {
        let len = match field.id {
            1 => r.list_of_booleans(field)?,
            2 | 3 => r.list(field, BINARY)?,
            5 => r.list_of_ints(field)?,
            _ => return Ok(false),
        };
        if lists == 0 {
            allowance.reserve(&mut out, len)?;
            out.resize_with(len, PageBounds::default);
        }
        lists += 1;
        if len != out.len() {
            return Err(r
                .error(format!("{len} entries, {} pages", out.len()))
                .into());
        }
        for page in &mut out {
            match field.id {
                1 => page.is_null = r.element_boolean()?,
                2 => page.min = owned(r.binary()?, allowance)?,
                3 => page.max = owned(r.binary()?, allowance)?,
                _ => page.nulls = u64::try_from(r.element_int()?).ok(),
            }
        }
        Ok(true)
    })?;
    Ok(out)
}

fn owned(bytes: &[u8], allowance: &mut Allowance<'_>) -> Result<Vec<u8>, DecodeFail> {
    allowance.take(bytes.len())?;
    Ok(bytes.to_vec())
}
