//! Tests of values by owner: a dictionary's texts once each, numbers one by one.

use std::borrow::Cow;

use lgtm_core::re2::Re2;

use super::field_plan::Need;
use super::values::{Element, NumberValues, OwnerValues};
use crate::select::{CompareOp, Condition, Field, Intrinsic, Literal, Patterns, Test};
use crate::trace::{SpanKind, StatusCode};

/// A test, made ready.
#[derive(Debug)]
pub(super) struct Probe<'t> {
    test: &'t Test,
    patterns: Vec<&'t Re2>,
    texts: TextMeaning,
}

/// What the texts of a column stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextMeaning {
    Plain,
    /// Bytes that print as hexadecimal digits.
    Id,
    /// The same without leading zeros.
    ShortId,
}

impl<'t> Probe<'t> {
    pub(super) fn new(condition: &'t Condition, patterns: &'t Patterns) -> Self {
        let texts = match &condition.field {
            Field::Intrinsic(Intrinsic::TraceId | Intrinsic::LinkTraceId) => TextMeaning::ShortId,
            Field::Intrinsic(i) if i.is_id() => TextMeaning::Id,
            _ => TextMeaning::Plain,
        };
        Self {
            test: &condition.test,
            patterns: patterns.of_test(&condition.test),
            texts,
        }
    }

    /// The values that it looks at.
    pub(super) fn need(&self) -> Need {
        need_of(self.test)
    }

    /// Whether a text passes.
    pub(super) fn passes_text(&self, text: &[u8]) -> bool {
        let text = match self.texts {
            TextMeaning::Plain => Cow::Borrowed(text),
            TextMeaning::Id => Cow::Owned(hex(text)),
            TextMeaning::ShortId => {
                let digits = hex(text);
                let zeros = digits.iter().take_while(|d| **d == b'0').count();
                Cow::Owned(digits[zeros..].to_vec())
            }
        };
        let literal = |literal: &'t str| match self.texts {
            TextMeaning::ShortId => literal.trim_start_matches('0'),
            _ => literal,
        };
        match self.test {
            Test::Exists => true,
            Test::Compare(op, Literal::Text(l)) => op.holds(&*text, literal(l).as_bytes()),
            Test::Compare(..) => false,
            Test::In(all) => all
                .iter()
                .any(|l| matches!(l, Literal::Text(l) if *literal(l).as_bytes() == *text)),
            Test::Matches(_) => {
                let text = String::from_utf8_lossy(&text);
                self.patterns.iter().any(|p| p.is_match(&text))
            }
        }
    }

    /// Whether a number passes; integers come exactly, too.
    pub(super) fn passes_number(&self, v: f64, int: Option<i64>) -> bool {
        let stands = |op: CompareOp, literal: &Literal| match (literal, int) {
            (Literal::Int(l) | Literal::Duration(l), Some(v)) => op.holds(v, *l),
            (Literal::Int(l) | Literal::Duration(l), None) => op.holds(v, *l as f64),
            (Literal::Float(l), _) => op.holds(v, *l),
            (Literal::Status(code), Some(v)) => op.holds(v, status_number(*code)),
            (Literal::Kind(kind), Some(v)) => op.holds(v, kind_number(*kind)),
            _ => false,
        };
        match self.test {
            Test::Exists => true,
            Test::Compare(op, literal) => stands(*op, literal),
            Test::In(all) => all.iter().any(|l| stands(CompareOp::Equal, l)),
            Test::Matches(_) => false,
        }
    }

    /// Whether `true` or `false` passes.
    pub(super) fn passes_bool(&self, v: bool) -> bool {
        let stands = |op: CompareOp, l: &Literal| matches!(l, Literal::Bool(l) if op.holds(v, *l));
        match self.test {
            Test::Exists => true,
            Test::Compare(op, literal) => stands(*op, literal),
            Test::In(all) => all.iter().any(|l| stands(CompareOp::Equal, l)),
            Test::Matches(_) => false,
        }
    }

    fn passes_element(&self, element: &Element<'_>) -> bool {
        match element {
            Element::Text(text) => self.passes_text(text),
            Element::Int(v) => self.passes_number(*v as f64, Some(*v)),
            Element::Float(v) => self.passes_number(*v, None),
            Element::Bool(v) => self.passes_bool(*v),
        }
    }

    /// For each owner whether one of its values passes.
    pub(super) fn mask(&self, values: &OwnerValues<'_>) -> Vec<bool> {
        let mut mask = vec![false; values.owners];
        if let Some(texts) = &values.texts {
            let table: Vec<bool> = texts.entries().map(|text| self.passes_text(text)).collect();
            if table.contains(&true) {
                for (hit, code) in mask.iter_mut().zip(texts.codes.iter()) {
                    *hit |= table.get(*code as usize).copied().unwrap_or(false);
                }
            }
        }
        if let Some(ints) = &values.ints {
            self.over_ints(ints, &mut mask);
        }
        if let Some(floats) = &values.floats {
            set_where(floats, &mut mask, |v| self.passes_number(v, None));
        }
        if let Some(bools) = &values.bools {
            set_where(bools, &mut mask, |v| self.passes_bool(v));
        }
        for (owner, elements) in &values.arrays {
            if let Some(hit) = mask.get_mut(*owner as usize) {
                *hit |= elements.iter().any(|e| self.passes_element(e));
            }
        }
        mask
    }

    fn over_ints(&self, ints: &NumberValues<'_, i64>, mask: &mut [bool]) {
        let compared = match self.test {
            Test::Compare(op, Literal::Int(l) | Literal::Duration(l)) => Some((*op, *l)),
            Test::Compare(op, Literal::Status(code)) => Some((*op, status_number(*code))),
            Test::Compare(op, Literal::Kind(kind)) => Some((*op, kind_number(*kind))),
            _ => None,
        };
        let Some((op, literal)) = compared else {
            return set_where(ints, mask, |v| self.passes_number(v as f64, Some(v)));
        };
        // One loop an operator, so that each is a run of vector instructions.
        match op {
            CompareOp::Equal => set_where(ints, mask, |v| v == literal),
            CompareOp::NotEqual => set_where(ints, mask, |v| v != literal),
            CompareOp::Less => set_where(ints, mask, |v| v < literal),
            CompareOp::LessOrEqual => set_where(ints, mask, |v| v <= literal),
            CompareOp::Greater => set_where(ints, mask, |v| v > literal),
            CompareOp::GreaterOrEqual => set_where(ints, mask, |v| v >= literal),
        }
    }
}

/// The values that a test looks at.
pub(super) fn need_of(test: &Test) -> Need {
    let of = |literal: &Literal| Need {
        texts: matches!(literal, Literal::Text(_)),
        numbers: matches!(
            literal,
            Literal::Int(_)
                | Literal::Float(_)
                | Literal::Duration(_)
                | Literal::Status(_)
                | Literal::Kind(_)
        ),
        bools: matches!(literal, Literal::Bool(_)),
        arrays: false,
    };
    match test {
        Test::Exists => Need::PRESENCE,
        Test::Compare(_, literal) => of(literal),
        Test::In(literals) => literals.iter().map(of).fold(Need::PRESENCE, |a, b| Need {
            texts: a.texts | b.texts,
            numbers: a.numbers | b.numbers,
            bools: a.bools | b.bools,
            arrays: false,
        }),
        Test::Matches(_) => of(&Literal::Text(String::new())),
    }
}

fn status_number(code: StatusCode) -> i64 {
    code as i64
}

fn kind_number(kind: SpanKind) -> i64 {
    kind as i64
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
    let pairs = bytes.iter().map(|b| [digit(b >> 4), digit(b & 15)]);
    pairs.flatten().collect()
}

fn set_where<T: Copy>(column: &NumberValues<'_, T>, mask: &mut [bool], passes: impl Fn(T) -> bool) {
    let values = mask.iter_mut().zip(column.values.iter());
    match &column.present {
        None => values.for_each(|(hit, v)| *hit |= passes(*v)),
        Some(present) => {
            for ((hit, v), present) in values.zip(present) {
                *hit |= passes(*v) & present;
            }
        }
    }
}
