//! `compare`: which values are more frequent among some spans than among the others.

use std::collections::{BTreeMap, HashMap};

use lgtm_core::exec::{check_wanted, is_abandoned};
use lgtm_core::{Error, Result};

use super::super::ast::{CompareFunction, Pipeline};
use super::super::eval::{Node, View};
use super::super::plan;
use super::super::value::AnswerValue;
use super::cells::{CellKind, Cells};
use super::grid::IntervalGrid;
use super::partial::{LegPartial, SeriesKey};
use super::table::{LabelReading, NIL, Values};
use crate::select::{AttributeScope, Field, Intrinsic, Level};

/// Intrinsics whose values are counted: few, and neither times nor identifiers.
pub(super) const COUNTED: [Intrinsic; 8] = [
    Intrinsic::Name,
    Intrinsic::Kind,
    Intrinsic::Status,
    Intrinsic::StatusMessage,
    Intrinsic::RootName,
    Intrinsic::RootService,
    Intrinsic::ScopeName,
    Intrinsic::ScopeVersion,
];

/// Name of the label that tells what a series counts.
const META_TYPE: &str = "__meta_type";

/// Name of the label of series that stand for what was left out.
const META_ERROR: &str = "__meta_error";

#[derive(Debug)]
pub(super) struct CompareTable {
    selection: Node,
    /// Intrinsics that the pipeline names. As in Tempo, whose recorded answers have it so, each of their values counts twice.
    twice: Vec<Field>,
    between_ns: Option<(i64, i64)>,
    grid: IntervalGrid,
    values: Values,
    fields: Vec<Field>,
    field_numbers: HashMap<Field, u32>,
    counts: HashMap<CountKey, Vec<u64>>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct CountKey {
    is_selected: bool,
    field: u32,
    /// Number of the value; that of none: all values.
    value: u32,
}

impl CompareTable {
    pub(super) fn new(compare: &CompareFunction, pipeline: &Pipeline, grid: IntervalGrid) -> Self {
        let named = plan::named_fields(pipeline).into_iter();
        Self {
            twice: named
                .filter(|f| matches!(f, Field::Intrinsic(_)) && f.level() == Level::Span)
                .collect(),
            selection: Node::filter(&compare.selection),
            between_ns: compare.between_ns,
            grid,
            values: Values::default(),
            fields: Vec::new(),
            field_numbers: HashMap::new(),
            counts: HashMap::new(),
        }
    }

    pub(super) fn fold(
        &mut self,
        view: &View<'_>,
        starts: &[i64],
        (rows, intervals): (&[u32], &[u32]),
        max_bytes: usize,
    ) -> Result<()> {
        let selected = self.selection.mask(view, Level::Span);
        let is_selected = |row: u32| {
            let start_ns = starts[row as usize];
            let in_time = self
                .between_ns
                .is_none_or(|(after, until)| after < start_ns && start_ns <= until);
            selected[row as usize] && in_time
        };
        let selected: Vec<bool> = rows.iter().map(|row| is_selected(*row)).collect();
        let attributes = view.batch.columns.iter().map(|(field, _)| field);
        let attributes = attributes.filter(|field| {
            matches!(
                field,
                Field::Attribute(
                    AttributeScope::Span
                        | AttributeScope::Resource
                        | AttributeScope::Instrumentation,
                    _
                )
            )
        });
        let intrinsics = COUNTED.into_iter().map(Field::Intrinsic);
        let mut values = Vec::new();
        for field in attributes.cloned().chain(intrinsics) {
            check_wanted("the counting of values")?;
            let number = self.number_of(&field);
            let mut reading = LabelReading::new(view, &field);
            (self.values).of_rows(view, &mut reading, rows, &mut values);
            let weight = 1 + u64::from(self.twice.contains(&field));
            for ((value, is_selected), interval) in values.iter().zip(&selected).zip(intervals) {
                if *value == NIL {
                    continue;
                }
                for value in [*value, NIL] {
                    let key = CountKey {
                        is_selected: *is_selected,
                        field: number,
                        value,
                    };
                    let cells = self.counts.entry(key);
                    let cells = cells.or_insert_with(|| vec![0; self.grid.len]);
                    cells[*interval as usize] += weight;
                }
            }
            if self.counts.len() * (64 + self.grid.len * 8) > max_bytes {
                return Err(Error::LimitExceeded(format!(
                    "the values that compare() counts take more than {max_bytes} bytes: use a shorter time range or a larger step"
                )));
            }
        }
        Ok(())
    }

    fn number_of(&mut self, field: &Field) -> u32 {
        if let Some(number) = self.field_numbers.get(field) {
            return *number;
        }
        let number = self.fields.len() as u32;
        self.fields.push(field.clone());
        self.field_numbers.insert(field.clone(), number);
        number
    }

    pub(super) fn finish(self) -> LegPartial {
        let counts: BTreeMap<CountKey, Vec<u64>> = self.counts.into_iter().collect();
        let wanted = counts.into_iter().take_while(|_| !is_abandoned());
        let series = wanted.map(|(key, cells)| {
            let name = self.fields[key.field as usize].to_string();
            let value = self.values.get(key.value).cloned();
            let total = if value.is_none() { "_total" } else { "" };
            let meta = if key.is_selected {
                "selection"
            } else {
                "baseline"
            };
            let labels = vec![
                (
                    META_TYPE.to_owned(),
                    AnswerValue::Text(format!("{meta}{total}")),
                ),
                (name, value.unwrap_or_else(AnswerValue::nil)),
            ];
            (
                SeriesKey {
                    labels,
                    bucket: None,
                },
                Cells::Counts(cells),
            )
        });
        LegPartial {
            series: series.collect(),
            exemplars: Vec::new(),
        }
    }
}

/// Of each attribute and kind only the most frequent values, and a series that says so where there are more.
pub(super) fn cut_to_top(
    series: BTreeMap<SeriesKey, Cells>,
    compare: &CompareFunction,
) -> Vec<(Vec<(String, AnswerValue)>, Cells)> {
    let top = usize::try_from(compare.top).unwrap_or(usize::MAX);
    let mut groups: BTreeMap<(AnswerValue, String), Vec<_>> = BTreeMap::new();
    let mut out = Vec::new();
    for (key, cells) in series {
        let [(_, meta), (name, _)] = key.labels.as_slice() else {
            continue;
        };
        if matches!(meta, AnswerValue::Text(text) if text.ends_with("_total")) {
            out.push((key.labels, cells));
        } else {
            let group = (meta.clone(), name.clone());
            groups.entry(group).or_default().push((key.labels, cells));
        }
    }
    for ((meta, name), mut values) in groups {
        let total = |cells: &Cells| match cells {
            Cells::Counts(cells) => cells.iter().sum::<u64>(),
            _ => 0,
        };
        values.sort_by_key(|(_, cells)| std::cmp::Reverse(total(cells)));
        if values.len() > top {
            values.truncate(top);
            let len = values.first().map_or(0, |(_, cells)| match cells {
                Cells::Counts(cells) => cells.len(),
                _ => 0,
            });
            let error = AnswerValue::Text("__too_many_values__".to_owned());
            let labels = vec![
                (META_TYPE.to_owned(), meta),
                (META_ERROR.to_owned(), error),
                (name, AnswerValue::nil()),
            ];
            out.push((labels, CellKind::Counts.cells(len)));
        }
        out.extend(values);
    }
    out
}
