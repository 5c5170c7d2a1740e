//! How spans of one trace stand to each other, by the numbers of nested sets.

use super::super::ast::{Relation, RelationForm};
use crate::select::{Field, Intrinsic, SpanBatch};

/// Numbers of the spans of a batch. A span with left number 0 hangs on no root and is in no relation.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    left: &'a [i64],
    right: &'a [i64],
    parent: &'a [i64],
}

impl<'a> Tree<'a> {
    /// `None` where the numbers were not asked for.
    pub(crate) fn of(batch: &'a SpanBatch) -> Option<Self> {
        let of = |intrinsic| {
            let column = batch.column(&Field::Intrinsic(intrinsic))?;
            Some(column.ints.as_ref()?.values.as_slice())
        };
        Some(Self {
            left: of(Intrinsic::NestedSetLeft)?,
            right: of(Intrinsic::NestedSetRight)?,
            parent: of(Intrinsic::NestedSetParent)?,
        })
    }

    /// The spans that `a`, a relation and `b` give, of one trace: rows, ascending, in and out.
    pub(crate) fn related(
        &self,
        a: &[u32],
        relation: Relation,
        form: RelationForm,
        b: &[u32],
    ) -> Vec<u32> {
        let right_side = self.standing(a, relation, b);
        let keep = |wanted: bool| {
            let hits = b.iter().zip(&right_side);
            hits.filter_map(move |(row, hit)| (*hit == wanted).then_some(*row))
        };
        match form {
            RelationForm::Right => keep(true).collect(),
            RelationForm::Negated => keep(false).collect(),
            RelationForm::Union => {
                let left_side = self.standing(b, relation.reversed(), a);
                let partners = a.iter().zip(&left_side);
                let partners = partners.filter_map(|(row, hit)| hit.then_some(*row));
                merged(
                    &keep(true).collect::<Vec<_>>(),
                    &partners.collect::<Vec<_>>(),
                )
            }
        }
    }

    /// For each of `b` whether it stands so to one of `a`. Costs sorting `a`, where it is not sorted, and a search for each of `b`.
    fn standing(&self, a: &[u32], relation: Relation, b: &[u32]) -> Vec<bool> {
        let known = |row: &&u32| self.left[**row as usize] != 0;
        let numbers = |of: &[i64]| {
            let mut numbers: Vec<i64> = a.iter().filter(known).map(|r| of[*r as usize]).collect();
            if !numbers.is_sorted() {
                numbers.sort_unstable();
            }
            numbers
        };
        let of_b = |test: &dyn Fn(usize) -> bool| {
            b.iter()
                .map(|row| self.left[*row as usize] != 0 && test(*row as usize))
                .collect()
        };
        match relation {
            Relation::Child => {
                let lefts = numbers(self.left);
                of_b(&|row| lefts.binary_search(&self.parent[row]).is_ok())
            }
            Relation::Parent => {
                let parents = numbers(self.parent);
                of_b(&|row| parents.binary_search(&self.left[row]).is_ok())
            }
            Relation::Ancestor => {
                // What begins first behind it must begin before it ends.
                let lefts = numbers(self.left);
                of_b(&|row| {
                    let next = lefts.partition_point(|left| *left <= self.left[row]);
                    lefts.get(next).is_some_and(|left| *left < self.right[row])
                })
            }
            Relation::Descendant => {
                let mut spans: Vec<(i64, i64)> = a
                    .iter()
                    .filter(known)
                    .map(|r| (self.left[*r as usize], self.right[*r as usize]))
                    .collect();
                if !spans.is_sorted() {
                    spans.sort_unstable();
                }
                // Of those that begin before it, the one that ends last.
                let mut last = 0;
                for (_, right) in &mut spans {
                    last = last.max(*right);
                    *right = last;
                }
                of_b(&|row| {
                    let before = spans.partition_point(|(left, _)| *left < self.left[row]);
                    before > 0 && spans[before - 1].1 > self.right[row]
                })
            }
            Relation::Sibling => {
                let parents = numbers(self.parent);
                let is_in_a = |row: usize| a.binary_search(&(row as u32)).is_ok();
                of_b(&|row| {
                    let parent = self.parent[row];
                    let from = parents.partition_point(|p| *p < parent);
                    let count = parents[from..].partition_point(|p| *p == parent);
                    count > usize::from(is_in_a(row))
                })
            }
        }
    }
}

impl Relation {
    /// How the left side stands to the right.
    fn reversed(self) -> Self {
        match self {
            Self::Child => Self::Parent,
            Self::Parent => Self::Child,
            Self::Descendant => Self::Ancestor,
            Self::Ancestor => Self::Descendant,
            Self::Sibling => Self::Sibling,
        }
    }
}

/// Ascending rows of both.
pub(crate) fn merged(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x < y => a.next(),
            (Some(x), Some(y)) if x == y => {
                a.next();
                b.next()
            }
            (_, Some(_)) => b.next(),
            (Some(_), None) => a.next(),
            (None, None) => return out,
        };
        out.extend(next);
    }
}
