//! Attributes out of their columns: from a key to the values that resources, spans or others have for it.
//!
//! Attributes of a row group are numbered in order, as their keys lie in the file. Keys are compared as numbers of the dictionary.

use std::ops::Range;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::{Column, ColumnValues};

/// Entries of levels that are passed at a time where none of them is wanted; few enough to be counted in bytes.
const BLOCK: usize = 128;

/// The attributes of a list that have one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyedAttributes {
    /// By number, ascending.
    attributes: Vec<u32>,
    /// Of each: the number of the resource, scope, span, event or link.
    owners: Vec<u32>,
}

fn checked(column: &Column, what: &'static str) -> Result<(), DecodeError> {
    let has_levels = column.rep.len() == column.def.len() && column.def.len() == column.entries;
    if column.max_rep == 0 || !has_levels || column.entries > u32::MAX as usize {
        return Err(DecodeError::new(what, 0, "a column without levels"));
    }
    Ok(())
}

/// The blocks of a column's levels: repetition, definition.
fn blocks(column: &Column) -> impl Iterator<Item = (&[u8], &[u8])> {
    column.rep.chunks(BLOCK).zip(column.def.chunks(BLOCK))
}

/// How many entries of a block are so.
#[inline]
fn count(rep: &[u8], def: &[u8], is_so: impl Fn(u8, u8) -> bool) -> u32 {
    let entries = rep.iter().zip(def);
    let count = entries.fold(0u8, |n, (rep, def)| n + u8::from(is_so(*rep, *def)));
    count.into()
}

impl KeyedAttributes {
    /// Out of the column of keys, with levels.
    ///
    /// # Errors
    /// For a column without levels; what `allowance` refuses.
    pub fn find(
        keys: &Column,
        key: &[u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        checked(keys, "attribute keys")?;
        let attributes = with_key(keys, key, allowance)?;
        let mut out = Self::default();
        allowance.reserve(&mut out.owners, attributes.len())?;
        // Whom the attributes belong to is one level above them. What is not the first of its list has the same owner as the one before; who has
        // none has an entry all the same.
        let (owner_level, is_there) = (keys.max_rep - 1, keys.max_def);
        let begins = |rep: u8, def: u8| {
            (def == is_there) & (rep <= owner_level) | (def != is_there) & (def >= owner_level)
        };
        let (mut attribute, mut owner) = (0u32, 0u32);
        let mut wanted = attributes.iter().copied().peekable();
        for (rep, def) in blocks(keys) {
            let Some(next) = wanted.peek().copied() else {
                break;
            };
            let behind = attribute + count(rep, def, |_, def| def == is_there);
            if next >= behind {
                attribute = behind;
                owner += count(rep, def, begins);
                continue;
            }
            for (rep, def) in rep.iter().zip(def) {
                owner += u32::from(begins(*rep, *def));
                if *def == is_there {
                    if wanted.next_if_eq(&attribute).is_some() {
                        let Some(owner) = owner.checked_sub(1) else {
                            let reason = "the first attribute is in no list";
                            return Err(DecodeError::new("attribute keys", 0, reason).into());
                        };
                        out.owners.push(owner);
                    }
                    attribute += 1;
                }
            }
        }
        out.attributes = attributes;
        Ok(out)
    }

    /// Bytes of memory that they hold.
    pub(crate) fn size_bytes(&self) -> usize {
        (self.attributes.capacity() + self.owners.capacity()) * size_of::<u32>()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.attributes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// Each by its number in the list, and whom it belongs to. Both ascend.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        let pairs = self.attributes.iter().zip(&self.owners);
        pairs.map(|(attribute, owner)| (*attribute as usize, *owner as usize))
    }

    /// Where the values of each lie in one of the columns of values: nowhere when it is of another type. `keys` is the column that they were found in.
    ///
    /// # Errors
    /// For a column that does not belong to these keys; what `allowance` refuses.
    pub fn places(
        &self,
        values: &Column,
        keys: &Column,
        allowance: &mut Allowance<'_>,
    ) -> Result<Vec<Range<u32>>, DecodeFail> {
        checked(values, "attribute values")?;
        let (list, attribute_level) = (keys.max_rep, keys.max_def);
        let begins = |rep: u8, def: u8| (rep <= list) & (def >= attribute_level);
        let mut out: Vec<Range<u32>> = Vec::new();
        allowance.reserve(&mut out, self.len())?;
        let (mut attribute, mut value) = (0u32, 0u32);
        // Whether the values of the last one that was wanted still come.
        let mut is_open = false;
        let mut wanted = self.attributes.iter().copied().peekable();
        for (rep, def) in blocks(values) {
            let behind = attribute + count(rep, def, begins);
            if !is_open && wanted.peek().is_none_or(|next| *next >= behind) {
                attribute = behind;
                value += count(rep, def, |_, def| def == values.max_def);
                continue;
            }
            for (rep, def) in rep.iter().zip(def) {
                if begins(*rep, *def) {
                    if is_open && let Some(last) = out.last_mut() {
                        last.end = value;
                    }
                    is_open = wanted.next_if_eq(&attribute).is_some();
                    if is_open {
                        out.push(value..value);
                    }
                    attribute += 1;
                }
                value += u32::from(*def == values.max_def);
            }
        }
        if is_open && let Some(last) = out.last_mut() {
            last.end = value;
        }
        if attribute as usize != keys.values.len() {
            let reason = format!("{attribute} values for {} keys", keys.values.len());
            return Err(DecodeError::new("attribute values", 0, reason).into());
        }
        Ok(out)
    }
}

/// The attributes with a key, by number, ascending.
fn with_key(
    keys: &Column,
    key: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<Vec<u32>, DecodeFail> {
    match &keys.values {
        ColumnValues::Indices {
            dictionary,
            indices,
        } => {
            let mut entries = dictionary
                .iter()
                .enumerate()
                .filter(|(_, entry)| *entry == key);
            let Some((only, _)) = entries.next() else {
                return Ok(Vec::new());
            };
            let only = only as u32;
            let others: Vec<_> = entries.map(|(n, _)| n as u32).collect();
            if others.is_empty() {
                numbers_of(indices, |index| index == only, allowance)
            } else {
                let is_it = |index: u32| index == only || others.contains(&index);
                numbers_of(indices, is_it, allowance)
            }
        }
        values => {
            let mut out = Vec::new();
            for n in (0..values.len()).filter(|n| values.text(*n) == key) {
                allowance.push(&mut out, n as u32)?;
            }
            Ok(out)
        }
    }
}

/// The places of the indices that pass.
fn numbers_of(
    indices: &[u32],
    is_it: impl Fn(u32) -> bool,
    allowance: &mut Allowance<'_>,
) -> Result<Vec<u32>, DecodeFail> {
    let mut out = Vec::new();
    let count = indices.iter().filter(|index| is_it(**index)).count();
    allowance.reserve(&mut out, count)?;
    for (start, block) in (0u32..).step_by(BLOCK).zip(indices.chunks(BLOCK)) {
        let hits = block
            .iter()
            .fold(0u8, |n, index| n + u8::from(is_it(*index)));
        if hits > 0 {
            let numbered = (start..).zip(block);
            out.extend(numbered.filter(|(_, i)| is_it(**i)).map(|(n, _)| n));
        }
    }
    Ok(out)
}
