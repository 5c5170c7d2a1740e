//! A search: batches in, the newest traces out.

use std::collections::{BTreeMap, HashMap, HashSet};

use lgtm_core::exec::{check_wanted, is_abandoned};
use lgtm_core::{Error, Result};

use super::anchor::anchor_of;
use super::ast::*;
use super::dropped::Dropped;
use super::eval::{Datum, Place, Program, SpanSet, View};
use super::hits::{SetHit, SpanHit, TraceHit};
use super::plan;
use super::value::AnswerValue;
use crate::select::{
    AttributeScope, CompareOp, Field, Intrinsic, Level, Literal, SpanBatch, SpanRequest,
    TraceRange, WantedColumns, WantedOfTraces,
};
use crate::trace::{SpanId, TraceId};

/// What a search may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchSettings {
    /// Traces; at least 1.
    pub limit: usize,
    /// Spans of each set that are told, not counted; at least 1.
    pub spans_per_set: usize,
    /// Traces that have to do with this time; all if there is none.
    pub range: Option<TraceRange>,
    /// Bytes that the answer may take, about.
    pub max_bytes: usize,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            limit: 20,
            spans_per_set: 3,
            range: None,
            max_bytes: 64 << 20,
        }
    }
}

/// A search under way. Of all traces that pass it keeps the newest ones, the same whatever the order of the batches.
///
/// Holders are asked in two passes where that pays: [`request`](Self::request) for what decides, then, for the few rows that
/// [`matches`](Self::matches) lists, [`details`](Self::details). [`fold`](Self::fold) does both for a batch that has all columns.
#[derive(Debug)]
pub struct Search {
    program: Program,
    settings: SearchSettings,
    request: SpanRequest,
    details: WantedColumns,
    needs_whole_traces: bool,
    named: Vec<Field>,
    /// Fields that are asked to be missing, which is told.
    nil: HashSet<Field>,
    /// The columns of the first pass.
    decisive: HashSet<Field>,
    hits: BTreeMap<Newest, TraceHit>,
    starts: HashMap<TraceId, u64>,
    dropped: Dropped,
    bytes: usize,
}

/// The order of answers: the newest start first, then by identifier.
type Newest = (std::cmp::Reverse<u64>, TraceId);

/// What of a batch passed.
#[derive(Debug, Default)]
pub struct Matches {
    traces: Vec<(usize, Vec<MatchedSet>)>,
}

#[derive(Debug)]
struct MatchedSet {
    matched: u64,
    /// Those that are told, in order.
    rows: Vec<u32>,
    attributes: Vec<(String, AnswerValue)>,
}

impl Matches {
    /// Rows of the batch of which details are needed, in the order in which [`Search::add`] wants them.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        let sets = self.traces.iter().flat_map(|(_, sets)| sets);
        sets.flat_map(|set| &set.rows).map(|row| *row as usize)
    }

    /// Whether nothing passed.
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    /// The traces that passed, by their numbers in the batch.
    pub fn traces(&self) -> impl Iterator<Item = usize> {
        self.traces.iter().map(|(trace, _)| *trace)
    }

    /// Keeps those traces of which `keep` says so, by their numbers in the batch.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        self.traces.retain(|(trace, _)| keep(*trace));
    }

    /// Keeps the newest traces only: more of them cannot enter an answer.
    pub fn keep_newest(&mut self, batch: &SpanBatch, limit: usize) {
        if self.traces.len() <= limit {
            return;
        }
        let key = |(trace, _): &(usize, _)| {
            let trace = &batch.traces[*trace];
            (std::cmp::Reverse(trace.start_ns), trace.id)
        };
        self.traces.sort_by_key(key);
        self.traces.truncate(limit);
        self.traces.sort_by_key(|(trace, _)| *trace);
    }
}

impl Search {
    /// Of a query that [`parse`](super::parse) gave. Of one that makes series the spans of its first part are searched.
    pub fn new(query: &Query, settings: SearchSettings) -> Self {
        let nothing = Pipeline::of(SpansetExpr::Filter(Expr::Literal(Literal::Bool(false))));
        let metrics = query.metrics_queries();
        let pipeline = match (&query.body, metrics.first()) {
            (QueryBody::Search(pipeline), _) => pipeline,
            (_, Some(metrics)) => &metrics.pipeline,
            _ => &nothing,
        };
        let mut request = SpanRequest {
            traces: settings.range,
            starts: None,
            is_distinct: false,
            is_read_once: false,
            max_blocks: None,
            filter: plan::filter_of(pipeline),
            anchor: anchor_of(pipeline),
            columns: WantedColumns::default(),
        };
        plan::add_columns(pipeline, &mut request.columns);
        request.columns.add(&Intrinsic::StartTime.into());
        let named = plan::named_fields(pipeline);
        let mut details = WantedColumns {
            traces: WantedOfTraces {
                root: true,
                services: true,
            },
            ..WantedColumns::default()
        };
        // What decides is there already.
        let of_answer = [Intrinsic::SpanId, Intrinsic::StartTime, Intrinsic::Duration];
        let told = of_answer.map(Field::from);
        let decisive: HashSet<Field> = request.columns.fields.iter().cloned().collect();
        let told = told.iter().chain(&named);
        details.add_all(told.filter(|field| !has_all(&decisive, field)));
        Self {
            program: Program::new(pipeline),
            settings,
            request,
            details,
            needs_whole_traces: !plan::is_of_spans(pipeline),
            nil: nil_fields(pipeline),
            decisive,
            named,
            hits: BTreeMap::new(),
            starts: HashMap::new(),
            dropped: Dropped::default(),
            bytes: 0,
        }
    }

    /// What to ask holders for in the first pass.
    pub fn request(&self) -> &SpanRequest {
        &self.request
    }

    /// What to ask them for in the second, of the rows that passed.
    pub fn details(&self) -> &WantedColumns {
        &self.details
    }

    /// Whether parts of a trace cannot be looked at one by one: what passes depends on other spans, or on what the whole trace is.
    pub fn needs_whole_traces(&self) -> bool {
        self.needs_whole_traces
    }

    /// How many traces it gives at most.
    pub fn limit(&self) -> usize {
        self.settings.limit
    }

    /// The traces found so far that nothing which starts at `newest_start_ns` or before can precede any more: they stand, newest first.
    pub fn settled(&self, newest_start_ns: u64) -> impl Iterator<Item = &TraceHit> {
        let hits = self.hits.iter();
        let settled = hits.take_while(move |((start, _), _)| start.0 > newest_start_ns);
        settled.map(|(_, hit)| hit)
    }

    /// Bytes that it holds, about.
    pub fn size_bytes(&self) -> usize {
        self.bytes + self.dropped.size_bytes()
    }

    /// Both passes in one.
    pub fn whole_request(&self) -> SpanRequest {
        let mut request = self.request.clone();
        request.columns.add_all(&self.details.fields);
        request.columns.traces = self.details.traces;
        request
    }

    /// What of a batch passes, and would be among the newest as things stand.
    pub fn matches(&self, batch: &SpanBatch) -> Matches {
        let starts = batch.column(&Intrinsic::StartTime.into());
        let starts = starts.and_then(|c| c.ints.as_ref());
        let mut out = Matches::default();
        for found in self.program.sets(batch) {
            let trace = &batch.traces[found.trace];
            let in_range = self.settings.range.is_none_or(|range| {
                let end_ns = trace.start_ns.saturating_add(trace.duration_ns);
                trace.start_ns <= range.end_ns && end_ns >= range.start_ns
            });
            if !in_range || !self.may_enter(trace.id, trace.start_ns) {
                continue;
            }
            let sets = found.sets.into_iter().map(|set| {
                self.told(set, |row| {
                    starts.and_then(|s| s.get(row as usize)).unwrap_or(0)
                })
            });
            out.traces.push((found.trace, sets.collect()));
        }
        out
    }

    /// A set with the spans that are told of it: the first ones by start.
    fn told(&self, set: SpanSet, start: impl Fn(u32) -> i64) -> MatchedSet {
        let matched = set.rows.len() as u64;
        let mut rows = set.rows;
        rows.sort_by_key(|row| start(*row));
        rows.truncate(self.settings.spans_per_set);
        MatchedSet {
            matched,
            rows,
            attributes: set.attributes,
        }
    }

    /// Takes up what passed. `details` has a row for each of [`Matches::rows`], in that order.
    ///
    /// # Errors
    /// `LimitExceeded` when the answer would take more than the settings allow.
    pub fn add(&mut self, batch: &SpanBatch, matches: Matches, details: &SpanBatch) -> Result<()> {
        let rows: Vec<usize> = (0..details.len()).collect();
        self.take_up(batch, matches, details, &rows)
    }

    /// Takes up what passes of a batch that has all columns.
    ///
    /// # Errors
    /// As [`Search::add`].
    pub fn fold(&mut self, batch: &SpanBatch) -> Result<()> {
        let matches = self.matches(batch);
        let rows: Vec<usize> = matches.rows().collect();
        self.take_up(batch, matches, batch, &rows)
    }

    fn take_up(
        &mut self,
        batch: &SpanBatch,
        matches: Matches,
        details: &SpanBatch,
        rows: &[usize],
    ) -> Result<()> {
        let views = (View::new(batch), View::new(details));
        let mut rows = rows.iter().copied().peekable();
        for (trace, sets) in matches.traces {
            check_wanted("the search")?;
            // A set has a span at least.
            let told = rows.peek().map(|row| details.trace_of(*row));
            let told = told.unwrap_or(&batch.traces[trace]);
            let sets = sets.into_iter().map(|set| SetHit {
                matched: set.matched,
                spans: (set.rows.iter().zip(rows.by_ref()))
                    .map(|(row, detail)| self.span_hit(&views, (*row as usize, detail)))
                    .collect(),
                attributes: set.attributes,
            });
            let sets = sets.collect();
            let trace = &batch.traces[trace];
            self.enter(TraceHit {
                id: trace.id,
                root_service: String::from_utf8_lossy(&told.root_service).into_owned(),
                root_name: String::from_utf8_lossy(&told.root_name).into_owned(),
                start_ns: trace.start_ns,
                duration_ns: trace.duration_ns,
                services: told.services.clone(),
                sets,
            });
            if self.bytes > self.settings.max_bytes {
                return Err(Error::LimitExceeded(format!(
                    "the answer to the search takes more than {} bytes: ask for fewer traces, or for fewer spans of each",
                    self.settings.max_bytes
                )));
            }
        }
        Ok(())
    }

    /// Takes up traces that another part of the search found.
    pub fn merge(&mut self, hits: Vec<TraceHit>) {
        for hit in hits {
            if self.may_enter(hit.id, hit.start_ns) {
                self.enter(hit);
            }
        }
    }

    /// Whether nothing that starts at `newest_start_ns` or before can be among the newest any more.
    pub fn is_settled(&self, newest_start_ns: u64) -> bool {
        self.hits.len() >= self.settings.limit
            && (self.hits.last_key_value()).is_some_and(|((start, _), _)| start.0 > newest_start_ns)
    }

    /// When the oldest of so many traces as it gives at most began, nanoseconds since the epoch: one that began before can enter no more. `None` while
    /// there are fewer.
    pub fn oldest_start_ns(&self) -> Option<u64> {
        let (oldest, _) = self.hits.last_key_value()?;
        (self.hits.len() >= self.settings.limit).then_some(oldest.0.0)
    }

    /// The traces, newest first.
    pub fn finish(self) -> Vec<TraceHit> {
        self.hits.into_values().collect()
    }

    fn may_enter(&self, id: TraceId, start_ns: u64) -> bool {
        if self.starts.contains_key(&id) {
            return true;
        }
        let last = self.hits.last_key_value().map(|(key, _)| *key);
        !self.dropped.contains(id)
            && (self.hits.len() < self.settings.limit
                || last.is_some_and(|last| (std::cmp::Reverse(start_ns), id) < last))
    }

    fn enter(&mut self, hit: TraceHit) {
        let id = hit.id;
        let hit = match self.starts.remove(&id) {
            Some(start_ns) => match self.hits.remove(&(std::cmp::Reverse(start_ns), id)) {
                Some(mut known) => {
                    self.bytes = self.bytes.saturating_sub(known.size_bytes());
                    known.merge(hit);
                    known
                }
                None => hit,
            },
            None => hit,
        };
        self.bytes += hit.size_bytes();
        self.starts.insert(id, hit.start_ns);
        self.hits.insert((std::cmp::Reverse(hit.start_ns), id), hit);
        while self.hits.len() > self.settings.limit {
            if let Some(((_, id), hit)) = self.hits.pop_last() {
                self.bytes = self.bytes.saturating_sub(hit.size_bytes());
                self.starts.remove(&id);
                self.dropped.insert(id, hit.start_ns);
            }
        }
    }

    /// A span by its row in the batch of the first pass, and that in the batch of the second.
    fn span_hit(&self, views: &(View<'_>, View<'_>), rows: (usize, usize)) -> SpanHit {
        let of = |field: &Field| self.place_of(field, views, rows);
        let number = |intrinsic: Intrinsic| {
            let (view, row) = of(&intrinsic.into());
            let column = view.column(&intrinsic.into())?;
            column.ints.as_ref()?.get(row)
        };
        let (view, row) = of(&Intrinsic::SpanId.into());
        let id = view.column(&Intrinsic::SpanId.into()).and_then(|column| {
            let texts = column.texts.as_ref()?;
            texts.dictionary.get(*texts.codes.get(row)?)
        });
        let mut hit = SpanHit {
            id: SpanId::from_any(id.unwrap_or_default()),
            name: None,
            start_ns: number(Intrinsic::StartTime).unwrap_or(0) as u64,
            duration_ns: number(Intrinsic::Duration).unwrap_or(0),
            attributes: Vec::new(),
        };
        let is_wanted = !is_abandoned();
        for field in self.named.iter().filter(|_| is_wanted) {
            let key = match field {
                Field::Intrinsic(Intrinsic::Name) => {
                    let (view, row) = of(field);
                    if let Datum::Text(name) = view.value(field, Place::span(row)) {
                        hit.name = Some(String::from_utf8_lossy(&name).into_owned());
                    }
                    continue;
                }
                Field::Intrinsic(Intrinsic::Duration | Intrinsic::SpanId) => continue,
                field if field.level() == Level::Trace => continue,
                Field::Attribute(_, name) => name.clone(),
                field => field.to_string(),
            };
            let (view, row) = of(field);
            if let Some(value) = self.told_value(view, field, row) {
                hit.attributes.push((key, value));
            }
        }
        hit
    }

    /// In which batch a field is, and in which row.
    fn place_of<'v, 'a>(
        &self,
        field: &Field,
        (first, second): &'v (View<'a>, View<'a>),
        rows: (usize, usize),
    ) -> (&'v View<'a>, usize) {
        if has_all(&self.decisive, field) {
            (first, rows.0)
        } else {
            (second, rows.1)
        }
    }

    fn told_value(&self, view: &View<'_>, field: &Field, row: usize) -> Option<AnswerValue> {
        if let Some(value) = view.told(field, row).answer() {
            return Some(value);
        }
        match field {
            // As Tempo has them.
            Field::Intrinsic(Intrinsic::ParentId | Intrinsic::LinkSpanId) => {
                Some(AnswerValue::Text("0".repeat(16)))
            }
            field => self.nil.contains(field).then(AnswerValue::nil),
        }
    }
}

/// Whether all columns are there that answer a field.
fn has_all(columns: &HashSet<Field>, field: &Field) -> bool {
    match field {
        Field::Attribute(AttributeScope::Any, _) => {
            field.columns().iter().all(|f| columns.contains(f))
        }
        field => columns.contains(field),
    }
}

/// Fields that a pipeline asks to be missing.
fn nil_fields(pipeline: &Pipeline) -> HashSet<Field> {
    fn of(expr: &Expr, out: &mut HashSet<Field>) {
        match expr {
            Expr::And(all) | Expr::Or(all) => all.iter().for_each(|e| of(e, out)),
            Expr::Not(inner) => of(inner, out),
            Expr::Binary(a, BinaryOp::Compare(CompareOp::Equal), b) => match (&**a, &**b) {
                (Expr::Field(field), Expr::Literal(Literal::Nil))
                | (Expr::Literal(Literal::Nil), Expr::Field(field)) => {
                    out.insert(field.clone());
                }
                _ => {}
            },
            _ => {}
        }
    }
    let mut out = HashSet::new();
    for stage in &pipeline.stages {
        if let Stage::Spanset(spanset) = stage {
            spanset.each_filter(&mut |expr| of(expr, &mut out));
        }
    }
    out
}
