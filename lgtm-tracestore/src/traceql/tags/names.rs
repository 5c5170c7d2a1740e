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
    needs_whole_traces: bool,
    limit: usize,
    max_bytes: usize,
    bytes: usize,
    is_cut: bool,
    names: BTreeMap<AttributeScope, BTreeSet<String>>,
    /// Those since the last [`take_news`](Self::take_news), where that is asked for.
    news: Option<BTreeMap<AttributeScope, BTreeSet<String>>>,
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
            needs_whole_traces: needs_whole_traces(filter.as_ref()),
            filter: filter.map(|expr| Node::filter(&expr)),
            limit,
            max_bytes: usize::MAX,
            bytes: 0,
            is_cut: false,
            names: BTreeMap::new(),
            news: None,
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

    /// Leaves out what would make the names take more bytes.
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

    /// The names that were found since this was last asked; none unless they are [remembered](Self::telling_news).
    pub fn take_news(&mut self) -> BTreeMap<AttributeScope, BTreeSet<String>> {
        self.news.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether names were left out for that.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Adds a name.
    pub fn add(&mut self, scope: AttributeScope, name: &str) {
        let names = self.names.entry(scope).or_default();
        if self.scope.takes(scope)
            && (self.limit == 0 || names.len() < self.limit)
            && !names.contains(name)
        {
            if self.bytes + name.len() > self.max_bytes {
                self.is_cut = true;
                return;
            }
            self.bytes += name.len();
            names.insert(name.to_owned());
            if let Some(news) = &mut self.news {
                news.entry(scope).or_default().insert(name.to_owned());
            }
        }
    }

    /// Adds the names that spans of a batch have.
    pub fn fold(&mut self, batch: &SpanBatch) {
        self.fold_without(batch, &[]);
    }

    /// The same without the traces of these numbers, which ascend: they are looked at whole. Without a filter all are taken.
    pub fn fold_without(&mut self, batch: &SpanBatch, traces: &[usize]) {
        let view = View::new(batch);
        let mut mask = (self.filter.as_ref()).map(|filter| filter.mask(&view, Level::Span));
        if let Some(mask) = &mut mask {
            without_traces(batch, mask, traces);
        }
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

/// Whether what passes depends on other spans of its trace, or on what the whole trace is.
pub(super) fn needs_whole_traces(filter: Option<&Expr>) -> bool {
    filter.is_some_and(|expr| !plan::is_of_span(expr))
}

/// A mask without the spans of some traces, by their numbers in the batch, which ascend.
pub(super) fn without_traces(batch: &SpanBatch, mask: &mut [bool], traces: &[usize]) {
    if traces.is_empty() {
        return;
    }
    for (number, (_, rows)) in batch.traces_and_rows().enumerate() {
        if traces.binary_search(&number).is_ok() {
            mask[rows].fill(false);
        }
    }
}

/// What a filter of tags asks holders for.
pub(super) fn request_of(filter: Option<&Expr>, mut columns: WantedColumns) -> SpanRequest {
    if let Some(expr) = filter {
        expr.each_field(&mut |field| columns.add(field));
    }
    SpanRequest {
        is_distinct: filter.is_none(),
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
