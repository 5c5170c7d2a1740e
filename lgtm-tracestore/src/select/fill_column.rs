//! A column while it grows.

use std::collections::HashMap;

use lgtm_core::{Error, Result};

use super::column::{ArrayColumn, Column, NumberColumn, TextColumn, TextDictionary};
use crate::trace::{Value, Values};

/// Stands for no text until the dictionary is whole.
const NO_TEXT: u32 = u32::MAX;

/// Rows ascend; what is not set has no value.
#[derive(Debug, Default)]
pub(super) struct ColumnBuilder {
    /// Rows before this are settled.
    rows: u32,
    texts: Option<TextBuilder>,
    ints: Option<NumberBuilder<i64>>,
    floats: Option<NumberBuilder<f64>>,
    bools: Option<NumberBuilder<bool>>,
    arrays: Option<ArrayBuilder>,
    unseen: Vec<u32>,
}

#[derive(Debug, Default)]
struct TextBuilder {
    numbers: HashMap<Vec<u8>, u32>,
    dictionary: TextDictionary,
    codes: Vec<u32>,
}

#[derive(Debug, Default)]
struct NumberBuilder<T> {
    values: Vec<T>,
    present: Vec<bool>,
}

#[derive(Debug, Default)]
struct ArrayBuilder {
    rows: Vec<u32>,
    ends: Vec<u32>,
    elements: Box<ColumnBuilder>,
    element_rows: u32,
}

pub(super) fn too_much() -> Error {
    Error::LimitExceeded("a batch of spans has more than 4 Gi rows, or bytes in a column".into())
}

impl<T: Copy + Default> NumberBuilder<T> {
    fn set(&mut self, row: u32, value: T) {
        self.values.resize(row as usize, T::default());
        self.present.resize(row as usize, false);
        self.values.push(value);
        self.present.push(true);
    }

    fn finish(mut self, rows: u32) -> NumberColumn<T> {
        self.values.resize(rows as usize, T::default());
        self.present.resize(rows as usize, false);
        let has_gaps = self.present.contains(&false);
        NumberColumn {
            values: self.values,
            present: has_gaps.then_some(self.present),
        }
    }
}

impl TextBuilder {
    fn set(&mut self, row: u32, text: &[u8]) -> Result<()> {
        let code = match self.numbers.get(text) {
            Some(code) => *code,
            None => {
                let code = self.dictionary.push(text).ok_or_else(too_much)?;
                self.numbers.insert(text.to_vec(), code);
                code
            }
        };
        self.codes.resize(row as usize, NO_TEXT);
        self.codes.push(code);
        Ok(())
    }

    fn finish(mut self, rows: u32) -> TextColumn {
        self.codes.resize(rows as usize, NO_TEXT);
        let none = self.dictionary.len() as u32;
        for code in &mut self.codes {
            *code = (*code).min(none);
        }
        TextColumn {
            dictionary: self.dictionary,
            codes: self.codes,
        }
    }
}

impl ColumnBuilder {
    /// Sets the value of a row, which is not before any that was set. Of two values of a row the first one stays; values that queries do not see are
    /// none.
    pub(super) fn set(&mut self, row: u32, value: Value<'_>) -> Result<()> {
        if row < self.rows {
            return Ok(());
        }
        match value {
            Value::Text(text) => self.texts.get_or_insert_default().set(row, text)?,
            Value::Int(v) => self.ints.get_or_insert_default().set(row, v),
            Value::Double(v) => self.floats.get_or_insert_default().set(row, v),
            Value::Bool(v) => self.bools.get_or_insert_default().set(row, v),
            Value::List(list) => {
                let Some(items) = alike(list) else {
                    self.unseen.push(row);
                    self.rows = row + 1;
                    return Ok(());
                };
                let arrays = self.arrays.get_or_insert_default();
                for item in items {
                    arrays.elements.set(arrays.element_rows, item)?;
                    arrays.element_rows =
                        arrays.element_rows.checked_add(1).ok_or_else(too_much)?;
                }
                arrays.rows.push(row);
                arrays.ends.push(arrays.element_rows);
            }
            Value::Empty | Value::Map(_) | Value::Bytes(_) => self.unseen.push(row),
        }
        self.rows = row + 1;
        Ok(())
    }

    /// The column, of so many rows.
    pub(super) fn finish(self, rows: u32) -> Column {
        Column {
            texts: self.texts.map(|b| b.finish(rows)),
            ints: self.ints.map(|b| b.finish(rows)),
            floats: self.floats.map(|b| b.finish(rows)),
            bools: self.bools.map(|b| b.finish(rows)),
            arrays: self.arrays.map(|b| {
                Box::new(ArrayColumn {
                    rows: b.rows,
                    ends: b.ends,
                    elements: b.elements.finish(b.element_rows),
                })
            }),
            unseen: self.unseen,
        }
    }
}

/// The items of a list when all are texts, integers, floats or bools; `None` for other lists, and for empty ones, which blocks forget.
pub(crate) fn alike(list: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut items: Vec<Value<'_>> = Vec::new();
    for item in Values::new(list) {
        let item = item.ok()?;
        let fits = match item {
            Value::Text(_) | Value::Int(_) | Value::Double(_) | Value::Bool(_) => {
                let first = items.first().unwrap_or(&item);
                std::mem::discriminant(first) == std::mem::discriminant(&item)
            }
            _ => false,
        };
        if !fits {
            return None;
        }
        items.push(item);
    }
    (!items.is_empty()).then_some(items)
}
