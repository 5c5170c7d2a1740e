//! Names of attributes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ast::Expr;
use super::super::error::QueryError;
use super::super::eval::{Node, View};
use super::super::plan;
use super::lenient::filter_of;
use super::scope::TagScope;
use crate::select::{AttributeScope, Column, Field, Level, SpanBatch, SpanRequest, WantedColumns};

/// Names of attributes under way.
#[derive(Debug)]
pub struct TagNames {
    scope: TagScope,
    filter: Option<Node>,
    request: SpanRequest,
    limit: usize,
    names: BTreeMap<AttributeScope, BTreeSet<String>>,
}

impl TagNames {
    /// Names of a scope, of the spans that pass `query` if there is one, at most `limit` a scope (0: all).
    ///
    /// # Errors
    /// For a filter of too many alternatives.
    pub fn new(scope: TagScope, query: Option<&str>, limit: usize) -> Result<Self, QueryError> {
        let filter = query.map(filter_of).transpose()?.flatten();
        Ok(Self {
            request: request_of(
                filter.as_ref(),
                WantedColumns {
                    all_attributes: true,
                    ..WantedColumns::default()
                },
            ),
            scope,
            filter: filter.map(|expr| Node::filter(&expr)),
            limit,
            names: BTreeMap::new(),
        })
    }

    /// What to ask holders for.
    pub fn request(&self) -> &SpanRequest {
        &self.request
    }

    /// Whether spans are looked at. Without a filter a holder may tell [names](Self::add) that it knows in another way.
    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Adds a name.
    pub fn add(&mut self, scope: AttributeScope, name: &str) {
        let names = self.names.entry(scope).or_default();
        if self.scope.takes(scope)
            && (self.limit == 0 || names.len() < self.limit)
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    }

    /// Adds the names that spans of a batch have.
    pub fn fold(&mut self, batch: &SpanBatch) {
        let view = View::new(batch);
        let mask = (self.filter.as_ref()).map(|filter| filter.mask(&view, Level::Span));
        for (field, column) in &batch.columns {
            let Field::Attribute(scope, name) = field else {
                continue;
            };
            if self.scope.takes(*scope) && is_in(batch, field.level(), column, mask.as_deref()) {
                self.add(*scope, name);
            }
        }
    }

    /// The names by scope, sorted; scopes without names are left out.
    pub fn finish(self) -> BTreeMap<AttributeScope, BTreeSet<String>> {
        let mut names = self.names;
        names.retain(|_, names| !names.is_empty());
        names
    }
}

/// What a filter of tags asks holders for.
pub(super) fn request_of(filter: Option<&Expr>, mut columns: WantedColumns) -> SpanRequest {
    if let Some(expr) = filter {
        expr.each_field(&mut |field| columns.add(field));
    }
    SpanRequest {
        filter: filter.map(plan::filter_of_expr).unwrap_or_default(),
        columns,
        ..SpanRequest::default()
    }
}

/// Whether a column has a value in a row that passes.
fn is_in(batch: &SpanBatch, level: Level, column: &Column, mask: Option<&[bool]>) -> bool {
    let Some(mask) = mask else {
        return !column.is_absent();
    };
    let mut present = vec![false; batch.rows_at(level)];
    column.mark_present(&mut present);
    for row in &column.unseen {
        if let Some(present) = present.get_mut(*row as usize) {
            *present = true;
        }
    }
    let mut hits = mask.iter().enumerate().filter(|(_, hit)| **hit);
    hits.any(|(row, _)| match level {
        Level::Event | Level::Link => present[batch.below(level, row)].contains(&true),
        Level::Span | Level::Trace => present.get(row) == Some(&true),
    })
}
