//! Spans by number, and what each lies in.
//!
//! Spans of a row group are numbered in order. A column with one value for each span has the value of span `n` at place `n`, whatever its levels
//! say: only one column's levels are ever looked at, and these tell which spans a trace, a resource or a scope has.

use std::ops::Range;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::column::count_of;
use crate::schema::{Column, ColumnMemory};

/// Level at which a span is there; also the depth of its list.
const SPAN: u8 = 3;

/// Which spans lie where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpanRows {
    /// First span of each row.
    rows: Vec<u32>,
    /// First span of each resource.
    resources: Vec<u32>,
    /// First span of each scope.
    scopes: Vec<u32>,
    spans: u32,
}

impl SpanRows {
    /// Out of the levels of any column with one value for each span, as names and ids are.
    ///
    /// # Errors
    /// For a column that is no such one or has no levels; what `allowance` refuses.
    pub fn new(column: &Column, allowance: &mut Allowance<'_>) -> Result<Self, DecodeFail> {
        Self::new_in(column, &ColumnMemory::default(), allowance)
    }

    /// The same in memory that other columns left.
    ///
    /// # Errors
    /// As [`SpanRows::new`].
    pub(crate) fn new_in(
        column: &Column,
        memory: &ColumnMemory,
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let is_of_spans = column.max_rep == SPAN && column.max_def == SPAN;
        let has_levels = column.rep.len() == column.def.len() && column.def.len() == column.entries;
        if !is_of_spans || !has_levels || column.entries > u32::MAX as usize {
            let reason = "no column with levels and one value for each span";
            return Err(DecodeError::new("span levels", 0, reason).into());
        }
        let mut counts = [0, 1, 2].map(|level| count_of(&column.rep, level));
        counts[1] += counts[0];
        counts[2] += counts[1];
        let [mut rows, mut resources, mut scopes] = counts.map(|n| memory.take(n + 1));
        for (starts, count) in [&mut rows, &mut resources, &mut scopes]
            .into_iter()
            .zip(counts)
        {
            // One more, which every entry writes that begins nothing behind the last.
            allowance.reserve(starts, count + 1)?;
            starts.resize(count + 1, 0);
        }
        let every = count_of(&column.def, SPAN) == column.entries;
        let (row, resource, scope, spans) = if every {
            starts_of_spans(&column.rep, &mut rows, &mut resources, &mut scopes)
        } else {
            starts_of_entries(column, &mut rows, &mut resources, &mut scopes)
        };
        rows.truncate(row);
        resources.truncate(resource);
        scopes.truncate(scope);
        Ok(Self {
            rows,
            resources,
            scopes,
            spans,
        })
    }

    /// Bytes of memory that it holds.
    pub(crate) fn size_bytes(&self) -> usize {
        let starts = [&self.rows, &self.resources, &self.scopes];
        starts.iter().map(|s| s.capacity()).sum::<usize>() * size_of::<u32>()
    }

    /// Leaves its memory to others.
    pub(crate) fn give(self, memory: &ColumnMemory) {
        for starts in [self.rows, self.resources, self.scopes] {
            memory.give(starts);
        }
    }

    /// How many spans there are.
    pub fn len(&self) -> usize {
        self.spans as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans == 0
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// How many resources there are.
    pub fn resources(&self) -> usize {
        self.resources.len()
    }

    /// How many scopes there are.
    pub fn scopes(&self) -> usize {
        self.scopes.len()
    }

    /// The spans of a row.
    pub fn spans_of_row(&self, row: usize) -> Range<usize> {
        self.range(&self.rows, row)
    }

    /// The spans of a resource.
    pub fn spans_of_resource(&self, resource: usize) -> Range<usize> {
        self.range(&self.resources, resource)
    }

    /// The spans of a scope.
    pub fn spans_of_scope(&self, scope: usize) -> Range<usize> {
        self.range(&self.scopes, scope)
    }

    /// The row of a span. Costs a binary search; a walk over rows does not.
    pub fn row_of_span(&self, span: usize) -> usize {
        Self::of(&self.rows, span)
    }

    /// The resource of a span.
    pub fn resource_of_span(&self, span: usize) -> usize {
        Self::of(&self.resources, span)
    }

    /// The scope of a span.
    pub fn scope_of_span(&self, span: usize) -> usize {
        Self::of(&self.scopes, span)
    }

    fn of(starts: &[u32], span: usize) -> usize {
        let before = starts.partition_point(|start| *start as usize <= span);
        before.saturating_sub(1)
    }

    fn range(&self, starts: &[u32], n: usize) -> Range<usize> {
        let at = |n: usize| starts.get(n).copied().unwrap_or(self.spans) as usize;
        at(n)..at(n + 1)
    }
}

/// Writes where rows, resources and scopes begin in a column of which every entry is a span; how many of each there are, and of spans.
fn starts_of_spans(
    rep: &[u8],
    rows: &mut [u32],
    resources: &mut [u32],
    scopes: &mut [u32],
) -> (usize, usize, usize, u32) {
    // What begins something is one span of four or so. Writing always and counting what stays is faster than to ask.
    let mut scope = 0;
    for (span, rep) in (0u32..).zip(rep) {
        if let Some(start) = scopes.get_mut(scope) {
            *start = span;
        }
        scope += usize::from(*rep < SPAN);
    }
    // A row or a resource begins where a scope does.
    let (mut row, mut resource) = (0, 0);
    for start in &scopes[..scope] {
        let rep = rep[*start as usize];
        (rows[row], resources[resource]) = (*start, *start);
        row += usize::from(rep == 0);
        resource += usize::from(rep <= 1);
    }
    (row, resource, scope, rep.len() as u32)
}

/// The same where some entries are rows, resources or scopes without spans.
fn starts_of_entries(
    column: &Column,
    rows: &mut [u32],
    resources: &mut [u32],
    scopes: &mut [u32],
) -> (usize, usize, usize, u32) {
    let (mut row, mut resource, mut scope, mut spans) = (0, 0, 0, 0u32);
    for (rep, def) in column.rep.iter().zip(&column.def) {
        (rows[row], resources[resource], scopes[scope]) = (spans, spans, spans);
        // No jumps: which way they go cannot be foreseen.
        row += usize::from(*rep == 0);
        resource += usize::from((*rep <= 1) & (*def >= 1));
        scope += usize::from((*rep < SPAN) & (*def >= 2));
        spans += u32::from(*def == SPAN);
    }
    (row, resource, scope, spans)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::ColumnValues;

    proptest! {
        #[test]
        fn columns_without_gaps_begin_where_the_general_way_says(
            mut rep in proptest::collection::vec(0u8..=SPAN, 1..400),
        ) {
            rep[0] = 0;
            let entries = rep.len();
            let column = Column {
                max_def: SPAN,
                max_rep: SPAN,
                def: vec![SPAN; entries],
                rep,
                entries,
                values: ColumnValues::Int64(vec![0; entries]),
            };
            let mut grow = |_| Ok(());
            let found = SpanRows::new(&column, &mut Allowance::new(0, &mut grow)).unwrap();
            let [mut rows, mut resources, mut scopes] = [0; 3].map(|n: u32| vec![n; entries + 1]);
            let (row, resource, scope, spans) =
                starts_of_entries(&column, &mut rows, &mut resources, &mut scopes);
            prop_assert_eq!(&found.rows, &rows[..row]);
            prop_assert_eq!(&found.resources, &resources[..resource]);
            prop_assert_eq!(&found.scopes, &scopes[..scope]);
            prop_assert_eq!(found.spans, spans);
        }
    }
}
