//! One value of one span.

use std::borrow::Cow;
use std::ops::Range;

use super::super::number::Number;
use super::super::value::AnswerValue;
use crate::select::{Column, CompareOp, Field, Intrinsic, Literal};
use crate::trace::{SpanKind, StatusCode};

/// One value of one span, event or link.
#[derive(Debug, Clone)]
pub(crate) enum Datum<'a> {
    /// None, or none that queries see.
    Missing,
    Text(Cow<'a, [u8]>),
    Number(Number),
    Bool(bool),
    /// Number of a status code.
    Status(i64),
    /// Number of a span kind.
    Kind(i64),
    /// Elements of a column.
    Array(&'a Column, Range<usize>),
}

/// What the integers and texts of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Plain,
    Duration,
    Status,
    Kind,
    /// Bytes that print as hexadecimal digits.
    Id,
    /// The same without leading zeros: traces are named with them and without.
    ShortId,
}

impl Meaning {
    pub(crate) fn of(field: &Field) -> Self {
        match field {
            Field::Attribute(..) => Self::Plain,
            Field::Intrinsic(intrinsic) => match intrinsic {
                Intrinsic::Status => Self::Status,
                Intrinsic::Kind => Self::Kind,
                Intrinsic::TraceId | Intrinsic::LinkTraceId => Self::ShortId,
                i if i.is_id() => Self::Id,
                i if i.is_duration() => Self::Duration,
                _ => Self::Plain,
            },
        }
    }

    pub(crate) fn int<'a>(self, v: i64) -> Datum<'a> {
        match self {
            Self::Duration => Datum::Number(Number::Duration(v)),
            Self::Status => Datum::Status(v),
            Self::Kind => Datum::Kind(v),
            _ => Datum::Number(Number::Int(v)),
        }
    }

    /// A text as queries see it.
    pub(crate) fn text(self, text: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Id => hex(text).into(),
            Self::ShortId => {
                let digits = hex(text);
                let zeros = digits.iter().take_while(|d| **d == b'0').count();
                digits[zeros..].to_vec().into()
            }
            _ => text.into(),
        }
    }

    /// A literal as it is compared with such texts.
    pub(crate) fn literal(self, text: &str) -> &str {
        if self == Self::ShortId {
            text.trim_start_matches('0')
        } else {
            text
        }
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> Vec<u8> {
    let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
    let pairs = bytes.iter().map(|b| [digit(b >> 4), digit(b & 15)]);
    pairs.flatten().collect()
}

impl<'a> Datum<'a> {
    pub(crate) fn of_literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Nil => Self::Missing,
            Literal::Text(text) => Self::Text(text.as_bytes().into()),
            Literal::Bool(v) => Self::Bool(*v),
            Literal::Status(code) => Self::Status(*code as i64),
            Literal::Kind(kind) => Self::Kind(*kind as i64),
            Literal::Int(v) => Self::Number(Number::Int(*v)),
            Literal::Float(v) => Self::Number(Number::Float(*v)),
            Literal::Duration(v) => Self::Number(Number::Duration(*v)),
        }
    }

    /// The value of a row.
    pub(crate) fn of_row(column: &'a Column, row: usize, meaning: Meaning) -> Self {
        if let Some(texts) = &column.texts
            && let Some(text) = texts
                .codes
                .get(row)
                .and_then(|code| texts.dictionary.get(*code))
        {
            return Self::Text(meaning.text(text));
        }
        if let Some(v) = column.ints.as_ref().and_then(|c| c.get(row)) {
            return meaning.int(v);
        }
        if let Some(v) = column.floats.as_ref().and_then(|c| c.get(row)) {
            return Self::Number(Number::Float(v));
        }
        if let Some(v) = column.bools.as_ref().and_then(|c| c.get(row)) {
            return Self::Bool(v);
        }
        if let Some(arrays) = &column.arrays
            && let Some(elements) = arrays.of_row(row)
        {
            return Self::Array(&arrays.elements, elements);
        }
        Self::Missing
    }

    /// An element of an array.
    pub(crate) fn of_element(elements: &'a Column, at: usize) -> Self {
        Self::of_row(elements, at, Meaning::Plain)
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    pub(crate) fn number(&self) -> Option<Number> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// As answers tell it; `None` when there is none.
    pub(crate) fn answer(&self) -> Option<AnswerValue> {
        let word = |word: Option<&str>, number: i64| {
            AnswerValue::Text(word.map_or_else(|| number.to_string(), str::to_owned))
        };
        let number = |v: &i64| i32::try_from(*v).ok();
        Some(match self {
            Self::Missing => return None,
            Self::Text(text) => AnswerValue::Text(String::from_utf8_lossy(text).into_owned()),
            Self::Number(n) => n.answer(),
            Self::Bool(v) => AnswerValue::Bool(*v),
            Self::Status(v) => {
                let code = number(v).and_then(StatusCode::of_number);
                word(code.map(StatusCode::word), *v)
            }
            Self::Kind(v) => {
                let kind = number(v).and_then(SpanKind::of_number);
                word(kind.map(SpanKind::word), *v)
            }
            Self::Array(column, rows) => {
                let elements = rows.clone();
                let elements =
                    elements.filter_map(|row| Self::of_row(column, row, Meaning::Plain).answer());
                AnswerValue::Array(elements.collect())
            }
        })
    }

    pub(crate) fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    /// Whether two values stand so; of an array each element is tried, and all must differ where differing is asked for. Values of two types never do.
    pub(crate) fn stands(&self, op: CompareOp, other: &Self) -> bool {
        match (self, other) {
            (Self::Array(..), Self::Array(..)) => false,
            (Self::Array(column, range), _) => {
                folded(op == CompareOp::NotEqual, range.clone(), |row| {
                    Self::of_row(column, row, Meaning::Plain).stands(op, other)
                })
            }
            (_, Self::Array(column, range)) => {
                folded(op == CompareOp::NotEqual, range.clone(), |row| {
                    self.stands(op, &Self::of_row(column, row, Meaning::Plain))
                })
            }
            (Self::Number(a), Self::Number(b)) => a.stands(op, *b),
            (Self::Text(a), Self::Text(b)) => op.holds(&**a, &**b),
            (Self::Bool(a), Self::Bool(b)) => is_equality(op) && op.holds(a, b),
            (Self::Status(a), Self::Status(b)) | (Self::Kind(a), Self::Kind(b)) => {
                is_equality(op) && op.holds(a, b)
            }
            _ => false,
        }
    }
}

pub(crate) fn is_equality(op: CompareOp) -> bool {
    matches!(op, CompareOp::Equal | CompareOp::NotEqual)
}

/// Whether all pass, or any does.
pub(crate) fn folded(all: bool, rows: Range<usize>, mut passes: impl FnMut(usize) -> bool) -> bool {
    let mut rows = rows;
    if all {
        rows.all(&mut passes)
    } else {
        rows.any(&mut passes)
    }
}
