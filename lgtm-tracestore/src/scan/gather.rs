//! Columns of a batch out of values by owner.

use std::borrow::Cow;

use lgtm_core::codec::{Allowance, DecodeFail};

use super::decoded::bad;
use super::values::{Element, NO_TEXT, NumberValues, OwnerValues, TextValues};
use crate::select::{ArrayColumn, Column, NumberColumn, TextColumn, TextDictionary};

impl OwnerValues<'_> {
    /// A column that has a row for each of these owners, which ascend.
    pub(super) fn gather(
        &self,
        owners: &[u32],
        allowance: &mut Allowance<'_>,
    ) -> Result<Column, DecodeFail> {
        let mut out = Column::default();
        if let Some(texts) = &self.texts {
            out.texts = texts.gather(owners, allowance)?;
        }
        if let Some(ints) = &self.ints {
            out.ints = ints.gather(owners, allowance)?;
        }
        if let Some(floats) = &self.floats {
            out.floats = floats.gather(owners, allowance)?;
        }
        if let Some(bools) = &self.bools {
            out.bools = bools.gather(owners, allowance)?;
        }
        if !self.arrays.is_empty() {
            out.arrays = self.arrays_of(owners)?.map(Box::new);
        }
        if !self.unseen.is_empty() {
            let mut unseen = self.unseen.clone();
            unseen.sort_unstable();
            let is_unseen = |owner: &u32| unseen.binary_search(owner).is_ok();
            let numbered = owners.iter().enumerate();
            let rows = numbered.filter(|(_, owner)| is_unseen(owner));
            out.unseen = rows.map(|(row, _)| row as u32).collect();
        }
        Ok(out)
    }

    fn arrays_of(&self, owners: &[u32]) -> Result<Option<ArrayColumn>, DecodeFail> {
        let mut arrays: Vec<&(u32, Vec<Element<'_>>)> = self.arrays.iter().collect();
        arrays.sort_by_key(|(owner, _)| *owner);
        let mut out = ArrayColumn::default();
        let mut elements: Vec<&Element<'_>> = Vec::new();
        for (row, owner) in owners.iter().enumerate() {
            if let Ok(at) = arrays.binary_search_by_key(owner, |(owner, _)| *owner) {
                elements.extend(&arrays[at].1);
                out.rows.push(row as u32);
                out.ends.push(elements.len() as u32);
            }
        }
        out.elements = column_of(&elements)?;
        Ok((!out.rows.is_empty()).then_some(out))
    }
}

fn too_many_bytes() -> DecodeFail {
    bad("texts of more than 4 GiB in a column").into()
}

/// Elements of arrays as a column.
fn column_of(elements: &[&Element<'_>]) -> Result<Column, DecodeFail> {
    let rows = elements.len();
    let mut out = Column::default();
    let mut codes = Vec::new();
    let mut dictionary = TextDictionary::default();
    for (row, element) in elements.iter().enumerate() {
        match element {
            Element::Text(text) => {
                codes.resize(row, NO_TEXT);
                codes.push(dictionary.push(text).ok_or_else(too_many_bytes)?);
            }
            Element::Int(v) => set(&mut out.ints, rows, row, *v),
            Element::Float(v) => set(&mut out.floats, rows, row, *v),
            Element::Bool(v) => set(&mut out.bools, rows, row, *v),
        }
    }
    if !codes.is_empty() {
        codes.resize(rows, NO_TEXT);
        let none = dictionary.len() as u32;
        codes.iter_mut().for_each(|code| *code = (*code).min(none));
        out.texts = Some(TextColumn { dictionary, codes });
    }
    Ok(out)
}

fn set<T: Clone + Default>(to: &mut Option<NumberColumn<T>>, rows: usize, row: usize, value: T) {
    let column = to.get_or_insert_with(|| NumberColumn {
        values: vec![T::default(); rows],
        present: Some(vec![false; rows]),
    });
    column.values[row] = value;
    if let Some(present) = &mut column.present {
        present[row] = true;
        if !present.contains(&false) {
            column.present = None;
        }
    }
}

impl TextValues<'_> {
    fn gather(
        &self,
        owners: &[u32],
        allowance: &mut Allowance<'_>,
    ) -> Result<Option<TextColumn>, DecodeFail> {
        let mut codes: Vec<u32> = Vec::new();
        allowance.reserve(&mut codes, owners.len())?;
        allowance.take(self.len() * 4)?;
        let mut new_codes = vec![NO_TEXT; self.len()];
        let mut dictionary = TextDictionary::default();
        for owner in owners {
            let code = self.codes.get(*owner as usize).copied().unwrap_or(NO_TEXT);
            let Some(new) = new_codes.get_mut(code as usize) else {
                codes.push(NO_TEXT);
                continue;
            };
            if *new == NO_TEXT {
                let text = self.entry(code).unwrap_or_default();
                allowance.take(text.len() + 4)?;
                *new = dictionary.push(text).ok_or_else(too_many_bytes)?;
            }
            codes.push(*new);
        }
        if dictionary.is_empty() {
            return Ok(None);
        }
        let none = dictionary.len() as u32;
        codes.iter_mut().for_each(|code| *code = (*code).min(none));
        Ok(Some(TextColumn { dictionary, codes }))
    }
}

impl<T: Copy + Default> NumberValues<'_, T> {
    fn gather(
        &self,
        owners: &[u32],
        allowance: &mut Allowance<'_>,
    ) -> Result<Option<NumberColumn<T>>, DecodeFail> {
        let mut values = Vec::new();
        allowance.reserve(&mut values, owners.len())?;
        if owners.len() == self.values.len() {
            // All are looked at: several at a time, which is faster than to stop at the first.
            let numbered = (0u32..).zip(owners);
            let is_all = numbered.fold(true, |all, (n, owner)| all & (n == *owner));
            if is_all {
                let values = Cow::clone(&self.values).into_owned();
                return Ok(Some(NumberColumn {
                    values,
                    present: self.present.clone(),
                }));
            }
        }
        let all = self.values.as_ref();
        values.extend(
            owners
                .iter()
                .map(|owner| all.get(*owner as usize).copied().unwrap_or_default()),
        );
        let Some(present) = &self.present else {
            return Ok(Some(NumberColumn {
                values,
                present: None,
            }));
        };
        allowance.take(owners.len())?;
        let of = |owner: &u32| present.get(*owner as usize).copied().unwrap_or(false);
        let present: Vec<bool> = owners.iter().map(of).collect();
        if !present.contains(&true) {
            return Ok(None);
        }
        let has_gaps = present.contains(&false);
        Ok(Some(NumberColumn {
            values,
            present: has_gaps.then_some(present),
        }))
    }
}
