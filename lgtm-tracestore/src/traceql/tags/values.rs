//! Values of attributes.

use std::collections::BTreeSet;

use super::super::error::QueryError;
use super::super::eval::{Datum, Node, Place, View, of_trace};
use super::super::lexer::{Token, tokens};
use super::super::number::Number;
use super::super::value::AnswerValue;
use super::lenient::filter_of;
use super::names::request_of;
use crate::select::{
    AttributeScope, Field, Intrinsic, Level, SpanBatch, SpanRequest, WantedColumns,
};

/// A value and its type, as answers spell them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagValue {
    /// Its type.
    pub kind: TagValueType,
    /// The value.
    pub text: String,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagValueType {
    /// A text.
    Text,
    /// An integer.
    Int,
    /// A float.
    Float,
    /// `true` or `false`.
    Bool,
    /// A duration, as Go spells it.
    Duration,
    /// A kind or a status code.
    Keyword,
}

impl TagValueType {
    /// As answers spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Duration => "duration",
            Self::Keyword => "keyword",
        }
    }
}

/// The field that a tag's name means: `span.foo`, `.foo`, `status`, `span:name`, names in quotes.
///
/// # Errors
/// For anything else.
pub fn tag_field(tag: &str) -> Result<Field, QueryError> {
    let mut tokens = tokens(tag).into_iter().map(|t| t.token);
    match (tokens.next(), tokens.next()) {
        (Some(Token::Field(field)), Some(Token::End)) => Ok(field),
        _ => Err(QueryError::invalid(format!(
            "please provide a valid tagName: {tag}"
        ))),
    }
}

/// The fields that a name without a scope means in the older API.
pub fn unscoped_tag_fields(name: &str) -> Vec<Field> {
    match name {
        "name" => vec![Intrinsic::Name.into()],
        "status.code" => vec![Intrinsic::Status.into()],
        "root.name" => vec![Intrinsic::RootName.into()],
        "root.service.name" => vec![Intrinsic::RootService.into()],
        name => [
            AttributeScope::Span,
            AttributeScope::Resource,
            AttributeScope::Instrumentation,
        ]
        .map(|scope| Field::attribute(scope, name))
        .into(),
    }
}

/// Values of fields under way.
#[derive(Debug)]
pub struct TagValues {
    fields: Vec<Field>,
    filter: Option<Node>,
    request: SpanRequest,
    limit: usize,
    values: BTreeSet<TagValue>,
    spells_words: bool,
}

impl TagValues {
    /// Values of fields, of the spans that pass `query` if there is one, at most `limit` (0: all). With a query kinds, status codes and durations are
    /// spelled as in queries, without one they are numbers, as Tempo has it.
    ///
    /// # Errors
    /// For a filter of too many alternatives.
    pub fn new(fields: Vec<Field>, query: Option<&str>, limit: usize) -> Result<Self, QueryError> {
        let filter = query.map(filter_of).transpose()?.flatten();
        let fields: Vec<Field> = fields.iter().flat_map(Field::columns).collect();
        let mut columns = WantedColumns::default();
        fields.iter().for_each(|field| columns.add(field));
        Ok(Self {
            request: request_of(filter.as_ref(), columns),
            spells_words: query.is_some_and(|q| !q.trim().is_empty()),
            fields,
            filter: filter.map(|expr| Node::filter(&expr)),
            limit,
            values: BTreeSet::new(),
        })
    }

    /// What to ask holders for.
    pub fn request(&self) -> &SpanRequest {
        &self.request
    }

    /// Whether so many are known that no more are wanted.
    pub fn is_full(&self) -> bool {
        self.limit > 0 && self.values.len() >= self.limit
    }

    /// Adds a value.
    pub fn add(&mut self, value: TagValue) {
        if !self.is_full() {
            self.values.insert(value);
        }
    }

    /// Adds the values that spans of a batch have.
    pub fn fold(&mut self, batch: &SpanBatch) {
        let view = View::new(batch);
        let mask = match &self.filter {
            Some(filter) => filter.mask(&view, Level::Span),
            None => vec![true; batch.len()],
        };
        for field in self.fields.clone() {
            if field.level() == Level::Trace {
                for (trace, rows) in batch.traces_and_rows() {
                    if mask[rows].contains(&true) {
                        self.add_datum(&of_trace(&field, trace));
                    }
                }
                continue;
            }
            if self.filter.is_none() && self.add_dictionary(&view, &field) {
                continue;
            }
            let hits = mask.iter().enumerate().filter(|(_, hit)| **hit);
            for (row, _) in hits {
                let place = Place::span(row);
                match field.level() {
                    level @ (Level::Event | Level::Link) => {
                        for at in batch.below(level, row) {
                            self.add_datum(&view.value(&field, place.at(level, at)));
                        }
                    }
                    Level::Span | Level::Trace => self.add_datum(&view.value(&field, place)),
                }
                if self.is_full() {
                    return;
                }
            }
        }
    }

    /// All values of a field that has only texts: those that its dictionary has and rows use.
    fn add_dictionary(&mut self, view: &View<'_>, field: &Field) -> bool {
        if matches!(field, Field::Intrinsic(i) if i.is_id()) {
            return false;
        }
        let Some(column) = view.column(field) else {
            return true;
        };
        let is_alone = column.ints.is_none() && column.floats.is_none();
        let Some(texts) = &column.texts else {
            return false;
        };
        if !is_alone || column.bools.is_some() || column.arrays.is_some() {
            return false;
        }
        let mut used = vec![false; texts.dictionary.len() + 1];
        for code in &texts.codes {
            used[*code as usize] = true;
        }
        for (text, _) in (texts.dictionary.iter().zip(&used)).filter(|(_, used)| **used) {
            self.add_datum(&Datum::Text(text.into()));
        }
        true
    }

    fn add_datum(&mut self, datum: &Datum<'_>) {
        let of = |kind, text: String| TagValue { kind, text };
        let value = match datum {
            Datum::Number(Number::Duration(ns)) if !self.spells_words => {
                of(TagValueType::Int, ns.to_string())
            }
            Datum::Status(v) | Datum::Kind(v) if !self.spells_words => {
                of(TagValueType::Int, v.to_string())
            }
            Datum::Array(column, rows) => {
                for row in rows.clone() {
                    self.add_datum(&Datum::of_element(column, row));
                }
                return;
            }
            datum => {
                let Some(value) = datum.answer() else { return };
                let kind = match (datum, &value) {
                    (Datum::Status(_) | Datum::Kind(_), _) => TagValueType::Keyword,
                    (Datum::Number(Number::Duration(_)), _) => TagValueType::Duration,
                    (_, AnswerValue::Int(_)) => TagValueType::Int,
                    (_, AnswerValue::Float(_)) => TagValueType::Float,
                    (_, AnswerValue::Bool(_)) => TagValueType::Bool,
                    _ => TagValueType::Text,
                };
                of(kind, value.to_string())
            }
        };
        self.add(value);
    }

    /// The values, sorted by type and text.
    pub fn finish(self) -> BTreeSet<TagValue> {
        self.values
    }
}
