//! Series while spans are gathered.

use hashbrown::HashMap;
use lgtm_core::{Error, Result};

use super::super::eval::{Datum, Meaning, Place, View};
use super::super::number::Number;
use super::super::value::AnswerValue;
use super::cells::{CellKind, Cells};
use super::partial::{Bucket, SeriesKey};
use crate::select::{AttributeScope, Column, Field, Level, NumberColumn, TextColumn};

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

    /// The numbers of a field's values in these rows. Of a batch that is looked at piece by piece `reading` stays the same.
    pub(super) fn of_rows(
        &mut self,
        view: &View<'_>,
        reading: &mut LabelReading<'_>,
        rows: &[u32],
        out: &mut Vec<u32>,
    ) {
        out.clear();
        let field = reading.field;
        match &mut reading.way {
            LabelWay::Texts(texts, known) => {
                out.extend(rows.iter().map(|row| self.of_text(texts, known, *row)));
            }
            LabelWay::Ints(ints, known) => {
                // Each value is looked at once.
                out.extend(rows.iter().map(|row| {
                    match ints.get(*row as usize) {
                        None => NIL,
                        Some(v) => *known
                            .entry(v)
                            .or_insert_with(|| self.of_row(view, field, *row)),
                    }
                }));
            }
            LabelWay::Trace(last) => {
                out.extend(rows.iter().map(|row| {
                    let known = last.filter(|(end_row, _)| *row < *end_row);
                    let (_, number) = *last.insert(known.unwrap_or_else(|| {
                        let trace = view.batch.trace_of(*row as usize);
                        (trace.end_row, self.of_row(view, field, *row))
                    }));
                    number
                }));
            }
            LabelWay::Rows => {
                out.extend(rows.iter().map(|row| self.of_row(view, field, *row)));
            }
        }
    }

    fn of_row(&mut self, view: &View<'_>, field: &Field, row: u32) -> u32 {
        self.number(view.value(field, Place::span(row as usize)).answer())
    }

    #[inline]
    fn of_text(&mut self, texts: &TextColumn, known: &mut [u32], row: u32) -> u32 {
        let code = texts.codes[row as usize];
        let known = &mut known[code as usize];
        if *known == UNKNOWN {
            let text = texts.dictionary.get(code);
            let text = text.map(|t| String::from_utf8_lossy(t).into_owned());
            *known = self.number(text.map(AnswerValue::Text));
        }
        *known
    }
}

/// Stands for a number that was not looked up yet.
const UNKNOWN: u32 = u32::MAX;

/// How the values of a field are read out of a batch, and what is known of them. Rows ascend.
#[derive(Debug)]
pub(super) struct LabelReading<'v> {
    field: &'v Field,
    way: LabelWay<'v>,
}

#[derive(Debug)]
enum LabelWay<'v> {
    /// By the number of each text.
    Texts(&'v TextColumn, Vec<u32>),
    /// By integer.
    Ints(&'v NumberColumn<i64>, HashMap<i64, u32>),
    /// One value a trace: where the rows of the last one end.
    Trace(Option<(u32, u32)>),
    Rows,
}

impl<'v> LabelReading<'v> {
    pub(super) fn new(view: &View<'v>, field: &'v Field) -> Self {
        let way = match (field.level(), view.columns(field)) {
            (Level::Trace, _) => LabelWay::Trace(None),
            (Level::Span, [Some(column), None]) => {
                let is_id = matches!(field, Field::Intrinsic(i) if i.is_id());
                if let Some(texts) = only_texts(column).filter(|_| !is_id) {
                    LabelWay::Texts(texts, vec![UNKNOWN; texts.dictionary.len() + 1])
                } else if let Some(ints) = only_ints(column) {
                    LabelWay::Ints(ints, HashMap::new())
                } else {
                    LabelWay::Rows
                }
            }
            _ => LabelWay::Rows,
        };
        Self { field, way }
    }
}

fn only_ints(column: &Column) -> Option<&NumberColumn<i64>> {
    let is_alone = column.texts.is_none() && column.floats.is_none();
    let ints = column.ints.as_ref()?;
    (is_alone && column.bools.is_none() && column.arrays.is_none()).then_some(ints)
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
    /// By group and bucket, [`BUCKETS`] of a group: its series. Empty as long as no series is of a bucket.
    by_bucket: Vec<u32>,
    pub(super) series: Vec<(RowKey, Cells)>,
}

/// Stands for no series.
const NONE: u32 = u32::MAX;
/// Buckets that a group may have: exponents of 0 to 63, of numbers and of durations.
const BUCKETS: usize = 128;

/// The place of a group's bucket among those of all groups.
fn place_of(group: u32, bucket: Bucket) -> usize {
    let exponent = usize::from(bucket.exponent) & (BUCKETS / 2 - 1);
    group as usize * BUCKETS + exponent * 2 + usize::from(bucket.is_duration)
}

impl SeriesTable {
    pub(super) fn new(kind: CellKind, intervals: usize) -> Self {
        Self {
            kind,
            intervals,
            groups: Vec::new(),
            by_labels: HashMap::new(),
            by_first: Vec::new(),
            plain: Vec::new(),
            by_bucket: Vec::new(),
            series: Vec::new(),
        }
    }

    /// The group of each of some rows. `labels` has the numbers of their values, label by label.
    pub(super) fn groups(&mut self, labels: &[Vec<u32>], rows: usize, out: &mut Vec<u32>) {
        out.clear();
        if let [numbers] = labels {
            out.extend(numbers.iter().map(|number| {
                let known = self.by_first.get(*number as usize).copied();
                let known = known.filter(|group| *group != NONE);
                known.unwrap_or_else(|| self.group_of_first(*number))
            }));
            return;
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
        out.extend((0..rows).map(|row| {
            let key = key(row);
            let known = last.filter(|(known, _)| *known == key);
            let group = known.map_or_else(|| self.group(key), |(_, group)| group);
            last = Some((key, group));
            group
        }));
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
            Some(bucket) => {
                let at = place_of(group, bucket);
                self.by_bucket.get(at).copied().unwrap_or(NONE)
            }
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
                let place = place_of(group, bucket);
                if place >= self.by_bucket.len() {
                    let len = (group as usize + 1) * BUCKETS;
                    self.by_bucket.resize(len, NONE);
                }
                self.by_bucket[place] = at;
            }
        }
        at
    }

    /// Bytes that it takes, about.
    pub(super) fn size_bytes(&self) -> usize {
        let series = 128 + self.intervals * self.kind.size_bytes();
        self.series.len() * series
            + self.groups.len() * 64
            + (self.by_first.len() + self.by_bucket.len()) * 4
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
    let ints = alone.and_then(only_ints);
    move |row| match (ints, alone) {
        (Some(ints), _) => meaning.int(ints.get(row as usize)?).number(),
        (None, Some(column)) => Datum::of_row(column, row as usize, meaning).number(),
        (None, None) => view.value(field, Place::span(row as usize)).number(),
    }
}
