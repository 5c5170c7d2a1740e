//! Attributes out of their columns: from a key to the values that resources, spans or others have for it.
//!
//! Attributes of a row group are numbered in order, as their keys lie in the file. Keys are compared as numbers of the dictionary.

use std::ops::Range;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::{Column, ColumnValues};

/// Which attribute belongs to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributeOwners {
    /// By attribute: the number of the resource, scope, span, event or link.
    owners: Vec<u32>,
}

/// Where the values of attributes lie in one of the columns of values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttributeValues {
    /// By attribute: its first value. One more entry ends the last.
    starts: Vec<u32>,
}

fn checked(column: &Column, what: &'static str) -> Result<(), DecodeError> {
    let has_levels = column.rep.len() == column.def.len() && column.def.len() == column.entries;
    if column.max_rep == 0 || !has_levels || column.entries > u32::MAX as usize {
        return Err(DecodeError::new(what, 0, "a column without levels"));
    }
    Ok(())
}

impl AttributeOwners {
    /// Out of the column of keys, with levels.
    ///
    /// # Errors
    /// For a column without levels; what `allowance` refuses.
    pub fn new(keys: &Column, allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        checked(keys, "attribute keys")?;
        // Whom the attributes belong to is one level above them.
        let owner_level = keys.max_rep - 1;
        let is_there = keys.max_def;
        let mut out = Self::default();
        allowance.reserve(&mut out.owners, keys.values.len())?;
        let mut owner = 0u32;
        for (rep, def) in keys.rep.iter().zip(&keys.def) {
            if *def == is_there {
                // What is not the first of its list has the same owner as the one before.
                if *rep <= owner_level {
                    owner += 1;
                }
                let Some(owner) = owner.checked_sub(1) else {
                    let reason = "the first attribute is in no list";
                    return Err(DecodeError::new("attribute keys", 0, reason).into());
                };
                out.owners.push(owner);
            } else if *def >= owner_level {
                owner += 1;
            }
        }
        Ok(out)
    }

    /// How many attributes there are.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Whom an attribute belongs to.
    pub fn owner(&self, attribute: usize) -> Option<usize> {
        self.owners.get(attribute).map(|owner| *owner as usize)
    }

    /// By attribute: whom it belongs to. Owners are in order.
    pub fn as_slice(&self) -> &[u32] {
        &self.owners
    }

    /// The attributes with a key, in order. `keys` is the column that `self` was made of.
    ///
    /// # Errors
    /// What `allowance` refuses.
    pub fn with_key(
        &self,
        keys: &Column,
        key: &[u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<Vec<u32>, DecodeFail> {
        let mut out = Vec::new();
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
                    return Ok(out);
                };
                let only = only as u32;
                let others: Vec<_> = entries.map(|(n, _)| n as u32).collect();
                let is_it = |index: &u32| *index == only || others.contains(index);
                let count = indices.iter().filter(|index| is_it(index)).count();
                allowance.reserve(&mut out, count)?;
                let numbered = indices.iter().enumerate();
                out.extend(
                    numbered
                        .filter(|(_, index)| is_it(index))
                        .map(|(n, _)| n as u32),
                );
            }
            values => {
                for n in (0..values.len()).filter(|n| values.text(*n) == key) {
                    allowance.push(&mut out, n as u32)?;
                }
            }
        }
        Ok(out)
    }
}

impl AttributeValues {
    /// Out of a column of values, with levels; `keys` is the column of their keys.
    ///
    /// # Errors
    /// For a column that does not belong to these keys; what `allowance` refuses.
    pub fn new(
        values: &Column,
        keys: &Column,
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        checked(values, "attribute values")?;
        let (list, attribute_level) = (keys.max_rep, keys.max_def);
        let mut out = Self::default();
        allowance.reserve(&mut out.starts, keys.values.len() + 1)?;
        let mut value = 0u32;
        for (rep, def) in values.rep.iter().zip(&values.def) {
            if *rep <= list && *def >= attribute_level {
                if out.starts.len() == keys.values.len() {
                    return Err(DecodeError::new("attribute values", 0, "more than keys").into());
                }
                out.starts.push(value);
            }
            value += u32::from(*def == values.max_def);
        }
        if out.starts.len() != keys.values.len() {
            return Err(DecodeError::new("attribute values", 0, "fewer than keys").into());
        }
        out.starts.push(value);
        Ok(out)
    }

    /// The places of an attribute's values in the column; none when it is of another type.
    #[inline]
    pub fn of(&self, attribute: usize) -> Range<usize> {
        match self.starts.get(attribute..attribute.saturating_add(2)) {
            Some([start, end]) => *start as usize..*end as usize,
            _ => 0..0,
        }
    }
}
