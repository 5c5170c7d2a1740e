//! Batches out of decoded traces.

use std::collections::HashMap;

use lgtm_core::Result;
use lgtm_core::exec::check_wanted;

use super::batch::{ServiceCount, SpanBatch, TraceRow};
use super::field::{AttributeScope, Field, Intrinsic, Level};
use super::fill_column::ColumnBuilder;
use super::request::WantedColumns;
use crate::trace::{
    Attribute, Event, Link, NestedSet, NestedSets, ResourceSpans, ScopeSpans, Span, Trace, TraceId,
    TraceSummary, Value,
};

/// Makes batches of decoded traces: all their spans, none left out.
#[derive(Debug)]
pub struct BatchFiller {
    wanted: WantedColumns,
    batch: SpanBatch,
    columns: Vec<(Field, ColumnBuilder)>,
    by_name: HashMap<(AttributeScope, Vec<u8>), usize>,
    intrinsics: Vec<(Intrinsic, usize)>,
    numbers: NestedSets,
    rows: u32,
    event_rows: u32,
    link_rows: u32,
}

/// Spans after which it is asked whether anybody waits for the batch.
const SPANS_A_LOOK: usize = 256;

/// What was not there, so that the column has a value all the same.
const NO_TEXT: Value<'static> = Value::Text(b"");

impl BatchFiller {
    /// For these columns.
    pub fn new(wanted: WantedColumns) -> Self {
        let mut filler = Self {
            wanted: WantedColumns::default(),
            batch: SpanBatch::default(),
            columns: Vec::new(),
            by_name: HashMap::new(),
            intrinsics: Vec::new(),
            numbers: NestedSets::default(),
            rows: 0,
            event_rows: 0,
            link_rows: 0,
        };
        for field in &wanted.fields {
            filler.add_column(field.clone());
        }
        filler.wanted = wanted;
        filler
    }

    fn add_column(&mut self, field: Field) -> usize {
        let at = self.columns.len();
        match &field {
            Field::Intrinsic(intrinsic) => self.intrinsics.push((*intrinsic, at)),
            Field::Attribute(scope, name) => {
                let key = (*scope, name.as_bytes().to_vec());
                self.by_name.insert(key, at);
            }
        }
        self.columns.push((field, ColumnBuilder::default()));
        at
    }

    /// Number of spans so far.
    pub fn len(&self) -> usize {
        self.rows as usize
    }

    /// Whether there is no span yet.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds all spans of a trace, in order. The holder finds them again by `first_row_id` and the numbers after it. Numbers of nested sets are those
    /// that the trace has as it is: [`rebatch`](Trace::rebatch) it before, if it came in parts.
    ///
    /// # Errors
    /// `LimitExceeded` when a batch would have more than 4 Gi rows or bytes of text in one column.
    pub fn push(&mut self, id: TraceId, trace: &Trace<'_>, first_row_id: u64) -> Result<()> {
        let summary = TraceSummary::of(trace);
        let mut row = TraceRow {
            id,
            start_ns: summary.start_ns,
            duration_ns: summary.duration_ns(),
            ..TraceRow::default()
        };
        if self.wanted.traces.root {
            row.root_name = summary.root_span_name.to_vec();
            row.root_service = summary.root_service_name.to_vec();
        }
        if self.wanted.traces.services {
            let stats = trace.service_stats().into_iter();
            row.services = stats
                .map(|(name, stats)| ServiceCount {
                    name: name.to_vec(),
                    spans: stats.span_count,
                    errors: stats.error_count,
                })
                .collect();
        }
        let mut numbers = std::mem::take(&mut self.numbers);
        let wants_numbers = self.intrinsics.iter().any(|(i, _)| {
            matches!(
                i,
                Intrinsic::NestedSetLeft
                    | Intrinsic::NestedSetRight
                    | Intrinsic::NestedSetParent
                    | Intrinsic::ChildCount
            )
        });
        let sets = if wants_numbers {
            numbers.number(trace)
        } else {
            &[]
        };
        for (n, (resource, scope, span)) in trace.spans().enumerate() {
            if n.is_multiple_of(SPANS_A_LOOK) {
                check_wanted("the reading of a trace")?;
            }
            let set = sets.get(n).copied().unwrap_or_default();
            self.push_span(resource, scope, span, set)?;
            self.batch.row_ids.push(first_row_id + n as u64);
        }
        self.numbers = numbers;
        row.end_row = self.rows;
        self.batch.traces.push(row);
        Ok(())
    }

    fn push_span(
        &mut self,
        resource: &ResourceSpans<'_>,
        scope: &ScopeSpans<'_>,
        span: &Span<'_>,
        set: NestedSet,
    ) -> Result<()> {
        let row = self.rows;
        self.attributes(AttributeScope::Resource, &resource.attributes, row)?;
        self.attributes(AttributeScope::Instrumentation, &scope.attributes, row)?;
        self.attributes(AttributeScope::Span, &span.attributes, row)?;
        for n in 0..self.intrinsics.len() {
            let (intrinsic, column) = self.intrinsics[n];
            if let Some(value) = of_span(intrinsic, scope, span, set) {
                self.columns[column].1.set(row, value)?;
            }
        }
        for event in &span.events {
            self.push_event(span, event)?;
        }
        for link in &span.links {
            self.push_link(link)?;
        }
        self.batch.event_ends.push(self.event_rows);
        self.batch.link_ends.push(self.link_rows);
        self.rows = row
            .checked_add(1)
            .ok_or_else(super::fill_column::too_much)?;
        Ok(())
    }

    fn push_event(&mut self, span: &Span<'_>, event: &Event<'_>) -> Result<()> {
        let row = self.event_rows;
        self.attributes(AttributeScope::Event, &event.attributes, row)?;
        for n in 0..self.intrinsics.len() {
            let (intrinsic, column) = self.intrinsics[n];
            let value = match intrinsic {
                Intrinsic::EventName => Value::Text(event.name),
                Intrinsic::EventTimeSinceStart => {
                    Value::Int(event.time_ns.wrapping_sub(span.start_ns) as i64)
                }
                _ => continue,
            };
            self.columns[column].1.set(row, value)?;
        }
        self.event_rows += 1;
        Ok(())
    }

    fn push_link(&mut self, link: &Link<'_>) -> Result<()> {
        let row = self.link_rows;
        self.attributes(AttributeScope::Link, &link.attributes, row)?;
        for n in 0..self.intrinsics.len() {
            let (intrinsic, column) = self.intrinsics[n];
            let value = match intrinsic {
                Intrinsic::LinkTraceId => Value::Text(link.trace_id),
                Intrinsic::LinkSpanId => Value::Text(link.span_id),
                _ => continue,
            };
            self.columns[column].1.set(row, value)?;
        }
        self.link_rows += 1;
        Ok(())
    }

    fn attributes(
        &mut self,
        scope: AttributeScope,
        attributes: &[Attribute<'_>],
        row: u32,
    ) -> Result<()> {
        if self.by_name.is_empty() && !self.wanted.all_attributes {
            return Ok(());
        }
        for attribute in attributes {
            let key = (scope, attribute.key.to_vec());
            let column = match self.by_name.get(&key) {
                Some(column) => *column,
                None if self.wanted.all_attributes => {
                    let name = String::from_utf8_lossy(attribute.key).into_owned();
                    let column = self.add_column(Field::attribute(scope, name));
                    self.by_name.insert(key, column);
                    column
                }
                None => continue,
            };
            // The service is always a text.
            let is_service = scope == AttributeScope::Resource && attribute.key == b"service.name";
            let value = match attribute.value {
                value @ Value::Text(_) => value,
                _ if is_service => NO_TEXT,
                value => value,
            };
            self.columns[column].1.set(row, value)?;
        }
        if scope == AttributeScope::Resource
            && let Some(column) = self.by_name.get(&(scope, b"service.name".to_vec()))
        {
            self.columns[*column].1.set(row, NO_TEXT)?;
        }
        Ok(())
    }

    /// The batch.
    pub fn finish(self) -> SpanBatch {
        let mut batch = self.batch;
        for (field, builder) in self.columns {
            let rows = match field.level() {
                Level::Event => self.event_rows,
                Level::Link => self.link_rows,
                Level::Span | Level::Trace => self.rows,
            };
            let column = builder.finish(rows);
            if !column.is_absent() {
                batch.columns.push((field, column));
            }
        }
        batch
    }
}

/// What a span has by nature; `None` of what it has not, or what is not a span's.
fn of_span<'a>(
    intrinsic: Intrinsic,
    scope: &ScopeSpans<'a>,
    span: &Span<'a>,
    set: NestedSet,
) -> Option<Value<'a>> {
    Some(match intrinsic {
        Intrinsic::Duration => Value::Int(span.end_ns.wrapping_sub(span.start_ns) as i64),
        Intrinsic::Name => Value::Text(span.name),
        Intrinsic::Status => Value::Int(span.status_code.into()),
        Intrinsic::StatusMessage => Value::Text(span.status_message),
        Intrinsic::Kind => Value::Int(span.kind.into()),
        Intrinsic::SpanId => Value::Text(span.span_id),
        Intrinsic::ParentId if span.parent_span_id.is_empty() => return None,
        Intrinsic::ParentId => Value::Text(span.parent_span_id),
        Intrinsic::ChildCount => Value::Int(set.child_count.into()),
        Intrinsic::StartTime => Value::Int(span.start_ns as i64),
        Intrinsic::NestedSetLeft => Value::Int(set.left.into()),
        Intrinsic::NestedSetRight => Value::Int(set.right.into()),
        Intrinsic::NestedSetParent => Value::Int(set.parent.into()),
        Intrinsic::ScopeName => Value::Text(scope.name),
        Intrinsic::ScopeVersion => Value::Text(scope.version),
        _ => return None,
    })
}
