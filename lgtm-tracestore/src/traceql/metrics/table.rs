//! Series while spans are gathered.

use std::collections::HashMap;

use lgtm_core::{Error, Result};

use super::super::eval::{Datum, Meaning, Place, View};
use super::super::number::Number;
use super::super::value::AnswerValue;
use super::cells::{CellKind, Cells};
use super::partial::{Bucket, SeriesKey};
use crate::select::{AttributeScope, Column, Field, Level, TextColumn};

/// The value that means none.
pub(super) const NIL: u32 = 0;

/// Attributes of spans that have a column of their own in blocks by default. As in Tempo, series are made by the integers of these and by no other
/// value.
const GROUPED_BY_INTEGERS: [&str; 3] = [
    "http.response.status_code",
    "http.status_code",
    "server.port",
];

/// Labels that series may be made by.
pub(super) const MAX_LABELS: usize = 5;

/// Numbers of values, and a bucket.
pub(super) type RowKey = ([u32; MAX_LABELS], Option<Bucket>);

/// Values by number.
#[derive(Debug, Default)]
pub(super) struct Values {
    numbers: HashMap<AnswerValue, u32>,
    values: Vec<AnswerValue>,
    bytes: usize,
}

impl Values {
    fn number(&mut self, value: Option<AnswerValue>) -> u32 {
        let value = match value {
            // Several values at once are no label.
            None | Some(AnswerValue::Array(_)) => return NIL,
            Some(value) => value,
        };
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        self.bytes += 128;
        if let AnswerValue::Text(text) = &value {
            self.bytes += 2 * text.len();
        }
        self.values.push(value.clone());
        let number = self.values.len() as u32;
        self.numbers.insert(value, number);
        number
    }

    /// Makes values of a type that the field has no series for those of none.
    pub(super) fn keep_typed(&self, field: &Field, numbers: &mut [u32]) {
        let is_typed = matches!(
            field,
            Field::Attribute(AttributeScope::Span | AttributeScope::Any, name)
                if GROUPED_BY_INTEGERS.contains(&name.as_str())
        );
        if is_typed {
            for number in numbers {
                if !matches!(self.get(*number), Some(AnswerValue::Int(_))) {
                    *number = NIL;
                }
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&AnswerValue> {
        self.values.get(number.checked_sub(1)? as usize)
    }

    /// The numbers of a field's values in these rows.
    pub(super) fn of_rows(&mut self, view: &View<'_>, field: &Field, rows: &[u32]) -> Vec<u32> {
        let columns = view.columns(field);
        if let (Level::Span, [Some(column), None]) = (field.level(), columns) {
            if let Some(texts) = only_texts(column)
                && !matches!(field, Field::Intrinsic(i) if i.is_id())
            {
                return self.of_texts(texts, rows);
            }
            if let Some(numbers) = self.of_ints(view, field, column, rows) {
                return numbers;
            }
        }
        let mut last = None;
        rows.iter()
            .map(|row| {
                if field.level() == Level::Trace {
                    let trace = view.batch.trace_of(*row as usize).end_row;
                    let number = last.filter(|(t, _)| *t == trace).map(|(_, number)| number);
                    let number = number.unwrap_or_else(|| self.of_row(view, field, *row));
                    last = Some((trace, number));
                    return number;
                }
                self.of_row(view, field, *row)
            })
            .collect()
    }

    fn of_row(&mut self, view: &View<'_>, field: &Field, row: u32) -> u32 {
        self.number(view.value(field, Place::span(row as usize)).answer())
    }

    fn of_texts(&mut self, texts: &TextColumn, rows: &[u32]) -> Vec<u32> {
        const UNKNOWN: u32 = u32::MAX;
        let mut numbers = vec![UNKNOWN; texts.dictionary.len() + 1];
        let of_row = |row: &u32| {
            let code = texts.codes[*row as usize];
            let known = &mut numbers[code as usize];
            if *known == UNKNOWN {
                let text = texts.dictionary.get(code);
                let text = text.map(|t| String::from_utf8_lossy(t).into_owned());
                *known = self.number(text.map(AnswerValue::Text));
            }
            *known
        };
        rows.iter().map(of_row).collect()
    }

    /// Of a column of integers: each value is looked at once.
    fn of_ints(
        &mut self,
        view: &View<'_>,
        field: &Field,
        column: &Column,
        rows: &[u32],
    ) -> Option<Vec<u32>> {
        let ints = column.ints.as_ref()?;
        let is_alone = column.texts.is_none() && column.floats.is_none();
        if !is_alone || column.bools.is_some() || column.arrays.is_some() {
            return None;
        }
        let mut numbers = HashMap::new();
        let of_row = |row: &u32| match ints.get(*row as usize) {
            None => NIL,
            Some(v) => *numbers
                .entry(v)
                .or_insert_with(|| self.of_row(view, field, *row)),
        };
        Some(rows.iter().map(of_row).collect())
    }
}

fn only_texts(column: &Column) -> Option<&TextColumn> {
    let is_alone = column.ints.is_none() && column.floats.is_none();
    let texts = column.texts.as_ref()?;
    (is_alone && column.bools.is_none() && column.arrays.is_none()).then_some(texts)
}

/// Series by the numbers of their labels' values.
#[derive(Debug)]
pub(super) struct SeriesTable {
    kind: CellKind,
    intervals: usize,
    index: HashMap<RowKey, usize>,
    /// The same for keys of which only the first number is not 0, and that have no bucket.
    plain: Vec<u32>,
    pub(super) series: Vec<(RowKey, Cells)>,
}

impl SeriesTable {
    pub(super) fn new(kind: CellKind, intervals: usize) -> Self {
        Self {
            kind,
            intervals,
            index: HashMap::new(),
            plain: Vec::new(),
            series: Vec::new(),
        }
    }

    /// The cells of a series, which is made if it is new.
    #[inline]
    pub(super) fn cells(&mut self, key: RowKey) -> &mut Cells {
        const UNKNOWN: u32 = u32::MAX;
        let ([first, rest @ ..], bucket) = key;
        let is_plain = rest == [NIL; MAX_LABELS - 1] && bucket.is_none();
        if is_plain {
            let at = first as usize;
            if at >= self.plain.len() {
                self.plain.resize(at + 1, UNKNOWN);
            }
            if self.plain[at] == UNKNOWN {
                self.plain[at] = self.push(key) as u32;
            }
            let at = self.plain[at] as usize;
            return &mut self.series[at].1;
        }
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None => {
                let at = self.push(key);
                self.index.insert(key, at);
                at
            }
        };
        &mut self.series[at].1
    }

    fn push(&mut self, key: RowKey) -> usize {
        self.series.push((key, self.kind.cells(self.intervals)));
        self.series.len() - 1
    }

    /// Bytes that it takes, about.
    pub(super) fn size_bytes(&self) -> usize {
        self.series.len() * (128 + self.intervals * self.kind.size_bytes())
    }
}

/// Whether so much may be held.
pub(super) fn check_bytes(values: &Values, table: &SeriesTable, max_bytes: usize) -> Result<()> {
    let bytes = values.bytes + table.size_bytes();
    if bytes > max_bytes {
        return Err(Error::LimitExceeded(format!(
            "the series of the query take more than {max_bytes} bytes: use fewer labels, a shorter time range or a larger step"
        )));
    }
    Ok(())
}

/// The key of a series in a part.
pub(super) fn series_key(
    values: &Values,
    names: &[String],
    (numbers, bucket): RowKey,
) -> SeriesKey {
    let labels = names.iter().zip(numbers).filter_map(|(name, number)| {
        let value = values.get(number)?;
        Some((name.clone(), value.clone()))
    });
    SeriesKey {
        labels: labels.collect(),
        bucket,
    }
}

/// The numbers that a field has in these rows.
pub(super) fn numbers_of(view: &View<'_>, field: &Field, rows: &[u32]) -> Vec<Option<Number>> {
    let columns = view.columns(field);
    if let (Level::Span, [Some(column), None]) = (field.level(), columns) {
        let meaning = Meaning::of(field);
        let number = |row: &u32| Datum::of_row(column, *row as usize, meaning).number();
        return rows.iter().map(number).collect();
    }
    let value = |row: &u32| view.value(field, Place::span(*row as usize));
    rows.iter().map(|row| value(row).number()).collect()
}
