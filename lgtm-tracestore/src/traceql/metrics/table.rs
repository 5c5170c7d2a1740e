//! Series while spans are gathered.

use hashbrown::HashMap;
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
///
/// Rows of equal labels are a group, which has a number: a series is a group, or, of a distribution, a bucket of one.
#[derive(Debug)]
pub(super) struct SeriesTable {
    kind: CellKind,
    intervals: usize,
    groups: Vec<[u32; MAX_LABELS]>,
    by_labels: HashMap<[u32; MAX_LABELS], u32>,
    /// By the number of the first label's value, where series have one label: its group, which is found without a hash.
    by_first: Vec<u32>,
    /// By group: its series that is of no bucket.
    plain: Vec<u32>,
    by_bucket: HashMap<(u32, Bucket), u32>,
    pub(super) series: Vec<(RowKey, Cells)>,
}

/// Stands for no series.
const NONE: u32 = u32::MAX;

impl SeriesTable {
    pub(super) fn new(kind: CellKind, intervals: usize) -> Self {
        Self {
            kind,
            intervals,
            groups: Vec::new(),
            by_labels: HashMap::new(),
            by_first: Vec::new(),
            plain: Vec::new(),
            by_bucket: HashMap::new(),
            series: Vec::new(),
        }
    }

    /// The group of each of some rows. `labels` has the numbers of their values, label by label.
    pub(super) fn groups(&mut self, labels: &[Vec<u32>], rows: usize) -> Vec<u32> {
        if let [numbers] = labels {
            let groups = numbers.iter().map(|number| {
                let known = self.by_first.get(*number as usize).copied();
                let known = known.filter(|group| *group != NONE);
                known.unwrap_or_else(|| self.group_of_first(*number))
            });
            return groups.collect();
        }
        let key = |row: usize| {
            let mut key = [NIL; MAX_LABELS];
            for (key, numbers) in key.iter_mut().zip(labels) {
                *key = numbers[row];
            }
            key
        };
        // Rows beside each other are often of one group.
        let mut last: Option<([u32; MAX_LABELS], u32)> = None;
        let groups = (0..rows).map(|row| {
            let key = key(row);
            let known = last.filter(|(known, _)| *known == key);
            let group = known.map_or_else(|| self.group(key), |(_, group)| group);
            last = Some((key, group));
            group
        });
        groups.collect()
    }

    #[cold]
    fn group_of_first(&mut self, number: u32) -> u32 {
        let mut key = [NIL; MAX_LABELS];
        key[0] = number;
        let group = self.group(key);
        let at = number as usize;
        if self.by_first.len() <= at {
            self.by_first.resize(at + 1, NONE);
        }
        self.by_first[at] = group;
        group
    }

    fn group(&mut self, key: [u32; MAX_LABELS]) -> u32 {
        if let Some(group) = self.by_labels.get(&key) {
            return *group;
        }
        let group = self.groups.len() as u32;
        self.groups.push(key);
        self.plain.push(NONE);
        self.by_labels.insert(key, group);
        group
    }

    /// The labels of a group.
    pub(super) fn labels(&self, group: u32) -> [u32; MAX_LABELS] {
        self.groups[group as usize]
    }

    /// The cells of a series, which is made if it is new.
    #[inline]
    pub(super) fn cells(&mut self, group: u32, bucket: Option<Bucket>) -> &mut Cells {
        let known = match bucket {
            None => self.plain[group as usize],
            Some(bucket) => *self.by_bucket.get(&(group, bucket)).unwrap_or(&NONE),
        };
        let at = match known {
            NONE => self.push(group, bucket),
            at => at,
        };
        &mut self.series[at as usize].1
    }

    #[cold]
    fn push(&mut self, group: u32, bucket: Option<Bucket>) -> u32 {
        let at = self.series.len() as u32;
        let cells = self.kind.cells(self.intervals);
        self.series.push(((self.labels(group), bucket), cells));
        match bucket {
            None => self.plain[group as usize] = at,
            Some(bucket) => {
                self.by_bucket.insert((group, bucket), at);
            }
        }
        at
    }

    /// Bytes that it takes, about.
    pub(super) fn size_bytes(&self) -> usize {
        let series = 128 + self.intervals * self.kind.size_bytes();
        self.series.len() * series + self.groups.len() * 64 + self.by_first.len() * 4
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

/// Tells the number that a field has in a row.
pub(super) fn number_at<'v>(
    view: &'v View<'_>,
    field: &'v Field,
) -> impl Fn(u32) -> Option<Number> + use<'v> {
    let meaning = Meaning::of(field);
    let alone = match (field.level(), view.columns(field)) {
        (Level::Span, [Some(column), None]) => Some(column),
        _ => None,
    };
    move |row| match alone {
        Some(column) => Datum::of_row(column, row as usize, meaning).number(),
        None => view.value(field, Place::span(row as usize)).number(),
    }
}
