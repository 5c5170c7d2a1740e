//! Values of attributes.

use std::collections::BTreeSet;

use super::super::error::QueryError;
use super::super::eval::{Datum, Node, Place, View, of_trace};
use super::super::lexer::{Token, tokens};
use super::super::number::Number;
use super::super::value::AnswerValue;
use super::lenient::filter_of;
use super::names::{needs_whole_traces, request_of, without_traces};
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
    needs_whole_traces: bool,
    limit: usize,
    max_bytes: usize,
    bytes: usize,
    is_cut: bool,
    values: BTreeSet<TagValue>,
    /// Those since the last [`take_news`](Self::take_news), where that is asked for.
    news: Option<BTreeSet<TagValue>>,
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
            needs_whole_traces: needs_whole_traces(filter.as_ref()),
            filter: filter.map(|expr| Node::filter(&expr)),
            limit,
            max_bytes: usize::MAX,
            bytes: 0,
            is_cut: false,
            values: BTreeSet::new(),
            news: None,
        })
    }

    /// What to ask holders for.
    pub fn request(&self) -> &SpanRequest {
        &self.request
    }

    /// Whether so many are known that no more are wanted.
    pub fn is_full(&self) -> bool {
        self.is_cut || self.limit > 0 && self.values.len() >= self.limit
    }

    /// Ends with what would make the values take more bytes.
    #[must_use]
    pub fn bounded(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Whether parts of a trace cannot be looked at one by one.
    pub fn needs_whole_traces(&self) -> bool {
        self.needs_whole_traces
    }

    /// Remembers what is [new](Self::take_news), if it is asked for.
    #[must_use]
    pub fn telling_news(mut self, is_asked: bool) -> Self {
        self.news = is_asked.then(Default::default);
        self
    }

    /// The values that were found since this was last asked; none unless they are [remembered](Self::telling_news).
    pub fn take_news(&mut self) -> BTreeSet<TagValue> {
        self.news.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether values were left out for that.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Adds a value.
    pub fn add(&mut self, value: TagValue) {
        if self.is_full() || self.values.contains(&value) {
            return;
        }
        if self.bytes + value.text.len() > self.max_bytes {
            self.is_cut = true;
            return;
        }
        self.bytes += value.text.len();
        if let Some(news) = &mut self.news {
            news.insert(value.clone());
        }
        self.values.insert(value);
    }

    /// Adds the values that spans of a batch have.
    pub fn fold(&mut self, batch: &SpanBatch) {
        self.fold_without(batch, &[]);
    }

    /// The same without the traces of these numbers, which ascend: they are looked at whole.
    pub fn fold_without(&mut self, batch: &SpanBatch, traces: &[usize]) {
        let view = View::new(batch);
        let mut mask = match &self.filter {
            Some(filter) => filter.mask(&view, Level::Span),
            None => vec![true; batch.len()],
        };
        without_traces(batch, &mut mask, traces);
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
