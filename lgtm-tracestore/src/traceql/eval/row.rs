//! An expression computed for one span: complete and plain. What is asked often is computed by whole columns ([`mask`](super::mask)).

use std::borrow::Cow;

use lgtm_core::exec::with_room;
use lgtm_core::re2::Re2;

use super::datum::{Datum, Meaning, folded};
use super::node::Node;
use super::view::{Place, View};
use crate::select::{CompareOp, Field};

impl Node {
    /// The value at a place.
    pub(crate) fn value<'a>(&'a self, view: &View<'a>, place: Place) -> Datum<'a> {
        with_room(|| match self {
            Self::Literal(literal) => Datum::of_literal(literal),
            Self::Field(field) => view.value(field, place),
            Self::Negate(inner) => match inner.value(view, place).number() {
                Some(number) => Datum::Number(number.negated()),
                None => Datum::Missing,
            },
            Self::Arithmetic(a, op, b) => {
                let numbers = a.value(view, place).number();
                let numbers = numbers.zip(b.value(view, place).number());
                let result = numbers.and_then(|(a, b)| a.computed(*op, b));
                result.map_or(Datum::Missing, Datum::Number)
            }
            test => Datum::Bool(test.passes(view, place)),
        })
    }

    /// Whether it is true at a place.
    pub(crate) fn passes(&self, view: &View<'_>, place: Place) -> bool {
        with_room(|| match self {
            Self::Literal(_) | Self::Field(_) | Self::Negate(_) | Self::Arithmetic(..) => {
                self.value(view, place).is_true()
            }
            Self::Not(inner) => match &**inner {
                Self::Field(field) => matches!(view.value(field, place), Datum::Bool(false)),
                Self::Literal(_) | Self::Negate(_) | Self::Arithmetic(..) => {
                    matches!(inner.value(view, place), Datum::Bool(false))
                }
                inner => !inner.passes(view, place),
            },
            Self::And(all) => all.iter().all(|n| n.passes(view, place)),
            Self::Or(all) => all.iter().any(|n| n.passes(view, place)),
            Self::Compare(a, op, b) => a.value(view, place).stands(*op, &b.value(view, place)),
            Self::AnyDiffers(field, literal) => {
                let (value, literal) = (view.value(field, place), Datum::of_literal(literal));
                match value {
                    Datum::Array(column, rows) => folded(false, rows, |row| {
                        let element = Datum::of_row(column, row, Meaning::Plain);
                        element.stands(CompareOp::NotEqual, &literal)
                    }),
                    value => value.stands(CompareOp::NotEqual, &literal),
                }
            }
            Self::In {
                field,
                texts,
                negated,
            } => in_texts(view, field, place, texts, *negated),
            Self::Matches {
                value,
                patterns,
                negated,
            } => each_text(value.value(view, place), *negated, |text| {
                any_matches(patterns, text)
            }),
            Self::IsNil(inner) => inner.value(view, place).is_missing(),
            Self::NotNil(inner) => !inner.value(view, place).is_missing(),
            Self::Each(level, inner) => {
                let mut rows = view.batch.below(*level, place.row);
                rows.any(|row| inner.passes(view, place.at(*level, row)))
            }
        })
    }
}

fn in_texts(view: &View<'_>, field: &Field, place: Place, texts: &[String], negated: bool) -> bool {
    let meaning = Meaning::of(field);
    each_text(view.value(field, place), negated, |text| {
        let mut texts = texts.iter().map(|t| meaning.literal(t).as_bytes());
        texts.any(|t| t == text)
    })
}

/// Whether a text, or an element of an array, passes; `negated`: whether none does of those that there are.
fn each_text(value: Datum<'_>, negated: bool, passes: impl Fn(&[u8]) -> bool) -> bool {
    match value {
        Datum::Text(text) => passes(&text) != negated,
        Datum::Array(column, rows) => folded(negated, rows, |row| {
            match Datum::of_row(column, row, Meaning::Plain) {
                Datum::Text(text) => passes(&text) != negated,
                _ => false,
            }
        }),
        _ => false,
    }
}

/// Whether one of the expressions matches a text. Bytes that are no UTF-8 are looked at as replacement characters.
pub(crate) fn any_matches(patterns: &[Re2], text: &[u8]) -> bool {
    let text: Cow<'_, str> = String::from_utf8_lossy(text);
    patterns.iter().any(|p| p.is_match(&text))
}
