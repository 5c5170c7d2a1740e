//! Spans by number, and what each lies in.
//!
//! Spans of a row group are numbered in order. A column with one value for each span has the value of span `n` at place `n`, whatever its levels
//! say: only one column's levels are ever looked at, and these tell which spans a trace, a resource or a scope has.

use std::ops::Range;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::Column;

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
        let is_of_spans = column.max_rep == SPAN && column.max_def == SPAN;
        let has_levels = column.rep.len() == column.def.len() && column.def.len() == column.entries;
        if !is_of_spans || !has_levels || column.entries > u32::MAX as usize {
            let reason = "no column with levels and one value for each span";
            return Err(DecodeError::new("span levels", 0, reason).into());
        }
        let count = |highest: u8| column.rep.iter().filter(|rep| **rep <= highest).count();
        let mut out = Self::default();
        allowance.reserve(&mut out.rows, count(0))?;
        allowance.reserve(&mut out.resources, count(1))?;
        allowance.reserve(&mut out.scopes, count(2))?;
        for (rep, def) in column.rep.iter().zip(&column.def) {
            if *rep < SPAN {
                if *rep == 0 {
                    out.rows.push(out.spans);
                }
                if *rep <= 1 && *def >= 1 {
                    out.resources.push(out.spans);
                }
                if *def >= 2 {
                    out.scopes.push(out.spans);
                }
            }
            out.spans += u32::from(*def == SPAN);
        }
        Ok(out)
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
