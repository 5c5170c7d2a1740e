//! An expression computed for all rows of a batch at once.
//!
//! A test of a field against a literal looks at the column: a dictionary's texts are tested once each, rows then only look up their number. What is
//! no such test is computed [row by row](super::row). Both give the same.

use lgtm_core::exec::{is_abandoned, with_room};

use super::super::number::Number;
use super::datum::{Datum, Meaning, folded, is_equality};
use super::node::Node;
use super::row::any_matches;
use super::view::{Place, View, of_trace};
use crate::select::{Column, CompareOp, Field, Level, Literal, NumberColumn, TextColumn};

/// A test of one value, which holds for every type of value.
enum ValueTest<'t> {
    Compare(CompareOp, &'t Literal),
    AnyDiffers(&'t Literal),
    In(&'t [String], bool),
    Matches(&'t [lgtm_core::re2::Re2], bool),
    /// It is `true`.
    Is(bool),
}

impl Node {
    /// For each row of a level whether the expression is true.
    pub(crate) fn mask(&self, view: &View<'_>, level: Level) -> Vec<bool> {
        let rows = view.batch.rows_at(level);
        if is_abandoned() {
            return vec![false; rows];
        }
        with_room(|| match self {
            Self::Literal(literal) => vec![*literal == Literal::Bool(true); rows],
            Self::And(all) => {
                let mut mask = vec![true; rows];
                for node in all {
                    let other = node.mask(view, level);
                    mask.iter_mut().zip(&other).for_each(|(a, b)| *a &= b);
                    if !mask.contains(&true) {
                        break;
                    }
                }
                mask
            }
            Self::Or(all) => {
                let mut mask = vec![false; rows];
                for node in all {
                    let other = node.mask(view, level);
                    mask.iter_mut().zip(&other).for_each(|(a, b)| *a |= b);
                }
                mask
            }
            Self::Each(below, inner) if level == Level::Span => {
                let hits = inner.mask(view, *below);
                let mut start = 0;
                let ends = view.batch.ends(*below).iter();
                let mut mask: Vec<bool> = ends
                    .map(|end| {
                        let end = *end as usize;
                        let any = hits[start..end].contains(&true);
                        start = end;
                        any
                    })
                    .collect();
                mask.resize(rows, false);
                mask
            }
            Self::Not(inner) => match &**inner {
                Self::Field(field) => self.of_field(view, level, field, &ValueTest::Is(false)),
                Self::Literal(_) | Self::Negate(_) | Self::Arithmetic(..) => {
                    self.row_by_row(view, level)
                }
                inner => {
                    let mut mask = inner.mask(view, level);
                    mask.iter_mut().for_each(|hit| *hit = !*hit);
                    mask
                }
            },
            Self::Field(field) => self.of_field(view, level, field, &ValueTest::Is(true)),
            Self::In {
                field,
                texts,
                negated,
            } => self.of_field(view, level, field, &ValueTest::In(texts, *negated)),
            Self::AnyDiffers(field, literal) => {
                self.of_field(view, level, field, &ValueTest::AnyDiffers(literal))
            }
            Self::Compare(a, op, b) => match (&**a, &**b) {
                (Self::Field(field), Self::Literal(literal)) => {
                    self.of_field(view, level, field, &ValueTest::Compare(*op, literal))
                }
                _ => self.row_by_row(view, level),
            },
            Self::Matches {
                value,
                patterns,
                negated,
            } => match &**value {
                Self::Field(field) => {
                    self.of_field(view, level, field, &ValueTest::Matches(patterns, *negated))
                }
                _ => self.row_by_row(view, level),
            },
            Self::IsNil(inner) | Self::NotNil(inner) => match &**inner {
                Self::Field(field) if field.level() == level => {
                    let mut mask = vec![false; rows];
                    for column in view.columns(field).into_iter().flatten() {
                        column.mark_present(&mut mask);
                    }
                    if matches!(self, Self::IsNil(_)) {
                        mask.iter_mut().for_each(|hit| *hit = !*hit);
                    }
                    mask
                }
                _ => self.row_by_row(view, level),
            },
            Self::Negate(_) | Self::Arithmetic(..) | Self::Each(..) => self.row_by_row(view, level),
        })
    }

    /// A test of one field.
    fn of_field(
        &self,
        view: &View<'_>,
        level: Level,
        field: &Field,
        test: &ValueTest<'_>,
    ) -> Vec<bool> {
        let rows = view.batch.rows_at(level);
        if field.level() == Level::Trace && level == Level::Span {
            let mut mask = Vec::with_capacity(rows);
            for trace in &view.batch.traces {
                let hit = test.passes(&of_trace(field, trace), Meaning::of(field));
                mask.resize(trace.end_row as usize, hit);
            }
            return mask;
        }
        if field.level() != level {
            return self.row_by_row(view, level);
        }
        let meaning = Meaning::of(field);
        let [first, second] = view.columns(field);
        let mut mask = vec![false; rows];
        if let Some(column) = first {
            test.over(column, meaning, &mut mask);
        }
        if let Some(second) = second {
            // The resource is asked only where the span says nothing.
            let mut other = vec![false; rows];
            test.over(second, meaning, &mut other);
            let mut hidden = vec![false; rows];
            if let Some(first) = first {
                first.mark_present(&mut hidden);
            }
            for ((hit, other), hidden) in mask.iter_mut().zip(&other).zip(&hidden) {
                *hit |= *other && !hidden;
            }
        }
        mask
    }

    fn row_by_row(&self, view: &View<'_>, level: Level) -> Vec<bool> {
        let spans = 0..view.batch.len();
        match level {
            Level::Event | Level::Link => spans
                .flat_map(|row| {
                    let below = view.batch.below(level, row);
                    below.map(move |at| Place::span(row).at(level, at))
                })
                .map(|place| !is_abandoned() && self.passes(view, place))
                .collect(),
            Level::Span | Level::Trace => spans
                .map(|row| !is_abandoned() && self.passes(view, Place::span(row)))
                .collect(),
        }
    }
}

impl ValueTest<'_> {
    /// Whether all elements of an array must pass.
    fn wants_all(&self) -> bool {
        match self {
            Self::Compare(op, _) => *op == CompareOp::NotEqual,
            Self::In(_, negated) | Self::Matches(_, negated) => *negated,
            Self::AnyDiffers(_) | Self::Is(_) => false,
        }
    }

    /// Sets the rows of a column that pass. No row is set before.
    fn over(&self, column: &Column, meaning: Meaning, mask: &mut [bool]) {
        if let Some(texts) = &column.texts {
            self.over_texts(texts, meaning, mask);
        }
        if let Some(ints) = &column.ints {
            self.over_ints(ints, meaning, mask);
        }
        if let (Some(floats), Some((op, literal))) = (&column.floats, self.comparison())
            && let Some(literal) = Number::of(literal)
        {
            set_where(floats, mask, op, literal.as_f64());
        }
        if let Some(bools) = &column.bools {
            match (self, self.comparison()) {
                (Self::Is(wanted), _) => set_where(bools, mask, CompareOp::Equal, *wanted),
                (_, Some((op, Literal::Bool(literal)))) if is_equality(op) => {
                    set_where(bools, mask, op, *literal);
                }
                _ => {}
            }
        }
        if let Some(arrays) = &column.arrays
            && !matches!(self, Self::Is(_))
        {
            let mut hits = vec![false; arrays.ends.last().map_or(0, |end| *end as usize)];
            self.over(&arrays.elements, Meaning::Plain, &mut hits);
            for (n, row) in arrays.rows.iter().enumerate() {
                let passes = folded(self.wants_all(), arrays.elements_of(n), |at| hits[at]);
                if let Some(hit) = mask.get_mut(*row as usize) {
                    *hit |= passes;
                }
            }
        }
    }

    fn comparison(&self) -> Option<(CompareOp, &Literal)> {
        match self {
            Self::Compare(op, literal) => Some((*op, literal)),
            Self::AnyDiffers(literal) => Some((CompareOp::NotEqual, literal)),
            _ => None,
        }
    }

    fn over_texts(&self, texts: &TextColumn, meaning: Meaning, mask: &mut [bool]) {
        if matches!(self, Self::Is(_)) {
            return;
        }
        let dictionary = texts.dictionary.iter();
        let mut table: Vec<bool> = dictionary
            .map(|text| !is_abandoned() && self.passes_text(&meaning.text(text), meaning))
            .collect();
        if !table.contains(&true) {
            return;
        }
        // The number that means none.
        table.push(false);
        for (hit, code) in mask.iter_mut().zip(&texts.codes) {
            *hit |= table.get(*code as usize).copied().unwrap_or(false);
        }
    }

    fn passes_text(&self, text: &[u8], meaning: Meaning) -> bool {
        match self {
            Self::Compare(op, Literal::Text(literal)) => op.holds(text, literal.as_bytes()),
            Self::AnyDiffers(Literal::Text(literal)) => text != literal.as_bytes(),
            Self::In(texts, negated) => {
                let mut texts = texts.iter().map(|t| meaning.literal(t).as_bytes());
                texts.any(|t| t == text) != *negated
            }
            Self::Matches(patterns, negated) => any_matches(patterns, text) != *negated,
            _ => false,
        }
    }

    fn over_ints(&self, ints: &NumberColumn<i64>, meaning: Meaning, mask: &mut [bool]) {
        let Some((op, literal)) = self.comparison() else {
            return;
        };
        match (meaning, literal) {
            (Meaning::Status, Literal::Status(code)) if is_equality(op) => {
                set_where(ints, mask, op, *code as i64);
            }
            (Meaning::Kind, Literal::Kind(kind)) if is_equality(op) => {
                set_where(ints, mask, op, *kind as i64);
            }
            (Meaning::Status | Meaning::Kind, _) => {}
            (_, Literal::Int(v) | Literal::Duration(v)) => set_where(ints, mask, op, *v),
            (_, Literal::Float(literal)) => {
                let values = ints.values.iter().enumerate().zip(mask);
                for ((row, v), hit) in values {
                    let is_there = ints.present.as_ref().is_none_or(|p| p[row]);
                    *hit |= is_there && op.holds(*v as f64, *literal);
                }
            }
            _ => {}
        }
    }

    /// Whether one value passes that is no array.
    fn passes(&self, value: &Datum<'_>, meaning: Meaning) -> bool {
        match (self, value) {
            (Self::Is(wanted), value) => matches!(value, Datum::Bool(v) if v == wanted),
            (_, Datum::Text(text)) => self.passes_text(text, meaning),
            (test, value) => test
                .comparison()
                .is_some_and(|(op, literal)| value.stands(op, &Datum::of_literal(literal))),
        }
    }
}

/// Sets the rows whose value stands so to a literal.
fn set_where<T: PartialOrd + Copy>(
    column: &NumberColumn<T>,
    mask: &mut [bool],
    op: CompareOp,
    literal: T,
) {
    // One loop an operator, so that each is a run of vector instructions.
    match op {
        CompareOp::Equal => set_each(column, mask, |v| v == literal),
        CompareOp::NotEqual => set_each(column, mask, |v| v != literal),
        CompareOp::Less => set_each(column, mask, |v| v < literal),
        CompareOp::LessOrEqual => set_each(column, mask, |v| v <= literal),
        CompareOp::Greater => set_each(column, mask, |v| v > literal),
        CompareOp::GreaterOrEqual => set_each(column, mask, |v| v >= literal),
    }
}

fn set_each<T: Copy>(column: &NumberColumn<T>, mask: &mut [bool], passes: impl Fn(T) -> bool) {
    match &column.present {
        None => {
            for (hit, v) in mask.iter_mut().zip(&column.values) {
                *hit |= passes(*v);
            }
        }
        Some(present) => {
            for ((hit, v), present) in mask.iter_mut().zip(&column.values).zip(present) {
                *hit |= passes(*v) & present;
            }
        }
    }
}
