//! Answers to who only asks which names and values there are: rows that no span has, each with a value.

use super::index::SkipIndex;
use super::value::SkipValue;
use crate::select::{
    Column, Field, Intrinsic, Level, NumberColumn, SpanBatch, SpanRequest, TextColumn,
    TextDictionary, TraceRow,
};

impl SkipIndex {
    /// Batches that have every name or value that a [distinct](SpanRequest::is_distinct) request asks for; `None` when the file does not have all
    /// of them. Times are not looked at.
    pub fn batches(&self, request: &SpanRequest) -> Option<Vec<SpanBatch>> {
        let columns = &request.columns;
        let mut out = Vec::new();
        if columns.all_attributes {
            out.push(names_batch(self)?);
        }
        if columns.traces.root {
            for intrinsic in [Intrinsic::RootName, Intrinsic::RootService] {
                out.push(batch_of(self, &intrinsic.into())?);
            }
        }
        for field in &columns.fields {
            out.push(batch_of(self, field)?);
        }
        out.retain(|batch| !batch.is_empty());
        Some(out)
    }
}

/// A span that has an attribute of each name, with a value that nobody sees.
fn names_batch(index: &SkipIndex) -> Option<SpanBatch> {
    let columns = index.names()?.map(|(scope, name)| {
        let column = Column {
            unseen: vec![0],
            ..Column::default()
        };
        let name = String::from_utf8_lossy(name).into_owned();
        (Field::Attribute(scope, name), column)
    });
    Some(SpanBatch {
        traces: vec![TraceRow {
            end_row: 1,
            ..TraceRow::default()
        }],
        row_ids: vec![0],
        event_ends: vec![1],
        link_ends: vec![1],
        columns: columns.collect(),
    })
}

fn batch_of(index: &SkipIndex, field: &Field) -> Option<SpanBatch> {
    let values: Vec<SkipValue> = match field {
        Field::Intrinsic(intrinsic @ (Intrinsic::Kind | Intrinsic::Status)) => {
            let numbers = index.numbers(*intrinsic)?;
            numbers.into_iter().map(SkipValue::Int).collect()
        }
        field => index.values(field)?.cloned().collect(),
    };
    let rows = u32::try_from(values.len()).ok()?;
    let of_trace = |text: &SkipValue, wanted: Intrinsic| match text {
        SkipValue::Text(text) if *field == Field::Intrinsic(wanted) => text.clone(),
        _ => Vec::new(),
    };
    if field.level() == Level::Trace {
        let traces = values.iter().enumerate().map(|(n, value)| TraceRow {
            end_row: n as u32 + 1,
            root_name: of_trace(value, Intrinsic::RootName),
            root_service: of_trace(value, Intrinsic::RootService),
            ..TraceRow::default()
        });
        return Some(SpanBatch {
            traces: traces.collect(),
            row_ids: vec![0; values.len()],
            ..SpanBatch::default()
        });
    }
    let spans = match field.level() {
        Level::Event | Level::Link => rows.min(1),
        _ => rows,
    };
    let mut out = SpanBatch {
        row_ids: vec![0; spans as usize],
        columns: vec![(field.clone(), column_of(&values)?)],
        ..SpanBatch::default()
    };
    if spans > 0 {
        out.traces.push(TraceRow {
            end_row: spans,
            ..TraceRow::default()
        });
    }
    match field.level() {
        Level::Event => out.event_ends = vec![rows],
        Level::Link => out.link_ends = vec![rows],
        _ => {}
    }
    Some(out)
}

fn column_of(values: &[SkipValue]) -> Option<Column> {
    let mut out = Column::default();
    let mut dictionary = TextDictionary::default();
    let mut codes = Vec::with_capacity(values.len());
    let mut ints = NumberColumn::default();
    let mut floats = NumberColumn::default();
    let mut bools = NumberColumn::default();
    let (mut has_int, mut has_float, mut has_bool) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        let code = match value {
            SkipValue::Text(text) => dictionary.push(text)?,
            _ => u32::MAX,
        };
        codes.push(code);
        let int = match value {
            SkipValue::Int(v) => Some(*v),
            _ => None,
        };
        let float = match value {
            SkipValue::Float(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        };
        let bool = match value {
            SkipValue::Bool(v) => Some(*v),
            _ => None,
        };
        ints.values.push(int.unwrap_or_default());
        floats.values.push(float.unwrap_or_default());
        bools.values.push(bool.unwrap_or_default());
        has_int.push(int.is_some());
        has_float.push(float.is_some());
        has_bool.push(bool.is_some());
    }
    let none = dictionary.len() as u32;
    codes.iter_mut().for_each(|code| *code = (*code).min(none));
    out.texts = (none > 0).then_some(TextColumn { dictionary, codes });
    if has_int.contains(&true) {
        ints.present = Some(has_int);
        out.ints = Some(ints);
    }
    if has_float.contains(&true) {
        floats.present = Some(has_float);
        out.floats = Some(floats);
    }
    if has_bool.contains(&true) {
        bools.present = Some(has_bool);
        out.bools = Some(bools);
    }
    Some(out)
}
