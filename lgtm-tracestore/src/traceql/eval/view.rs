//! A batch as expressions look at it.

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::number::Number;
use super::datum::{Datum, Meaning};
use crate::select::{AttributeScope, Column, Field, Intrinsic, Level, SpanBatch, TraceRow};

/// A batch whose columns are found by their field.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) batch: &'a SpanBatch,
    columns: HashMap<&'a Field, &'a Column>,
}

/// Of which span something is computed, and, where that matters, of which of its events and links.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) row: usize,
    pub(crate) event: Option<usize>,
    pub(crate) link: Option<usize>,
}

impl Place {
    pub(crate) fn span(row: usize) -> Self {
        Self {
            row,
            event: None,
            link: None,
        }
    }

    /// The same, at one of the span's events or links.
    pub(crate) fn at(self, level: Level, row: usize) -> Self {
        match level {
            Level::Event => Self {
                event: Some(row),
                ..self
            },
            Level::Link => Self {
                link: Some(row),
                ..self
            },
            Level::Span | Level::Trace => self,
        }
    }
}

impl<'a> View<'a> {
    pub(crate) fn new(batch: &'a SpanBatch) -> Self {
        let columns = batch.columns.iter().map(|(field, column)| (field, column));
        Self {
            batch,
            columns: columns.collect(),
        }
    }

    pub(crate) fn column(&self, field: &Field) -> Option<&'a Column> {
        self.columns.get(field).copied()
    }

    /// The columns that answer a field, the one that counts first.
    pub(crate) fn columns(&self, field: &Field) -> [Option<&'a Column>; 2] {
        match field {
            Field::Attribute(AttributeScope::Any, name) => {
                let of = |scope| self.column(&Field::attribute(scope, name));
                [of(AttributeScope::Span), of(AttributeScope::Resource)]
            }
            field => [self.column(field), None],
        }
    }

    /// The value of a field as it is told of a span: of events and links the last that has one.
    pub(crate) fn told(&self, field: &Field, row: usize) -> Datum<'a> {
        let place = Place::span(row);
        match field.level() {
            level @ (Level::Event | Level::Link) => {
                let mut values = self.batch.below(level, row).rev();
                let value = values.find_map(|at| {
                    let value = self.value(field, place.at(level, at));
                    (!value.is_missing()).then_some(value)
                });
                value.unwrap_or(Datum::Missing)
            }
            Level::Span | Level::Trace => self.value(field, place),
        }
    }

    /// The value of a field. Of events and links that are not said which, the first that has one.
    pub(crate) fn value(&self, field: &Field, place: Place) -> Datum<'a> {
        let meaning = Meaning::of(field);
        let level = field.level();
        if level == Level::Trace {
            return of_trace(field, self.batch.trace_of(place.row));
        }
        let rows = match level {
            Level::Event | Level::Link => {
                let said = if level == Level::Event {
                    place.event
                } else {
                    place.link
                };
                said.map_or_else(|| self.batch.below(level, place.row), |row| row..row + 1)
            }
            Level::Span | Level::Trace => place.row..place.row + 1,
        };
        for column in self.columns(field).into_iter().flatten() {
            for row in rows.clone() {
                let value = Datum::of_row(column, row, meaning);
                if !value.is_missing() {
                    return value;
                }
            }
        }
        Datum::Missing
    }
}

/// The value of a field of a trace.
pub(crate) fn of_trace<'a>(field: &Field, trace: &'a TraceRow) -> Datum<'a> {
    let Field::Intrinsic(intrinsic) = field else {
        return Datum::Missing;
    };
    match intrinsic {
        Intrinsic::TraceDuration => {
            let ns = i64::try_from(trace.duration_ns).unwrap_or(i64::MAX);
            Datum::Number(Number::Duration(ns))
        }
        Intrinsic::RootName => Datum::Text(Cow::Borrowed(&trace.root_name)),
        Intrinsic::RootService => Datum::Text(Cow::Borrowed(&trace.root_service)),
        Intrinsic::TraceId => Datum::Text(trace.id.short_hex().into_bytes().into()),
        _ => Datum::Missing,
    }
}
