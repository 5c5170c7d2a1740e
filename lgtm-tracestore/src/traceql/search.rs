//! A search: batches in, the newest traces out.

use std::collections::{BTreeMap, HashMap, HashSet};

use lgtm_core::{Error, Result};

use super::ast::*;
use super::eval::{Datum, Place, Program, SpanSet, View};
use super::hits::{SetHit, SpanHit, TraceHit};
use super::plan;
use super::value::AnswerValue;
use crate::select::{
    CompareOp, Field, Intrinsic, Level, Literal, SpanBatch, SpanRequest, TraceRange, WantedColumns,
    WantedOfTraces,
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
    named: Vec<Field>,
    /// Fields that are asked to be missing, which is told.
    nil: Vec<Field>,
    hits: BTreeMap<Newest, TraceHit>,
    starts: HashMap<TraceId, u64>,
    /// What was pushed out by newer ones. A part of it that comes later does not bring it back.
    dropped: HashSet<TraceId>,
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
            filter: plan::filter_of(pipeline),
            columns: WantedColumns {
                traces: WantedOfTraces {
                    root: true,
                    services: true,
                },
                ..WantedColumns::default()
            },
        };
        plan::add_columns(pipeline, &mut request.columns);
        request.columns.add(&Intrinsic::StartTime.into());
        let named = plan::named_fields(pipeline);
        let mut details = WantedColumns::default();
        for intrinsic in [Intrinsic::SpanId, Intrinsic::StartTime, Intrinsic::Duration] {
            details.add(&intrinsic.into());
        }
        named.iter().for_each(|field| details.add(field));
        Self {
            program: Program::new(pipeline),
            settings,
            request,
            details,
            nil: nil_fields(pipeline),
            named,
            hits: BTreeMap::new(),
            starts: HashMap::new(),
            dropped: HashSet::new(),
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

    /// Both passes in one.
    pub fn whole_request(&self) -> SpanRequest {
        let mut request = self.request.clone();
        self.details
            .fields
            .iter()
            .for_each(|field| request.columns.add(field));
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
        let view = View::new(details);
        let mut rows = rows.iter().copied();
        for (trace, sets) in matches.traces {
            let sets = sets.into_iter().map(|set| SetHit {
                matched: set.matched,
                spans: (rows.by_ref().take(set.rows.len()))
                    .map(|row| self.span_hit(&view, row))
                    .collect(),
                attributes: set.attributes,
            });
            let sets = sets.collect();
            let trace = &batch.traces[trace];
            self.enter(TraceHit {
                id: trace.id,
                root_service: String::from_utf8_lossy(&trace.root_service).into_owned(),
                root_name: String::from_utf8_lossy(&trace.root_name).into_owned(),
                start_ns: trace.start_ns,
                duration_ns: trace.duration_ns,
                services: trace.services.clone(),
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

    /// The traces, newest first.
    pub fn finish(self) -> Vec<TraceHit> {
        self.hits.into_values().collect()
    }

    fn may_enter(&self, id: TraceId, start_ns: u64) -> bool {
        if self.starts.contains_key(&id) {
            return true;
        }
        let last = self.hits.last_key_value().map(|(key, _)| *key);
        !self.dropped.contains(&id)
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
                self.dropped.insert(id);
            }
        }
    }

    fn span_hit(&self, view: &View<'_>, row: usize) -> SpanHit {
        let place = Place::span(row);
        let number = |intrinsic: Intrinsic| {
            let column = view.column(&intrinsic.into())?;
            column.ints.as_ref()?.get(row)
        };
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
        for field in &self.named {
            let key = match field {
                Field::Intrinsic(Intrinsic::Name) => {
                    if let Datum::Text(name) = view.value(field, place) {
                        hit.name = Some(String::from_utf8_lossy(&name).into_owned());
                    }
                    continue;
                }
                Field::Intrinsic(Intrinsic::Duration | Intrinsic::SpanId) => continue,
                field if field.level() == Level::Trace => continue,
                Field::Attribute(_, name) => name.clone(),
                field => field.to_string(),
            };
            if let Some(value) = self.told_value(view, field, row) {
                hit.attributes.push((key, value));
            }
        }
        hit
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

/// Fields that a pipeline asks to be missing.
fn nil_fields(pipeline: &Pipeline) -> Vec<Field> {
    fn of(expr: &Expr, out: &mut Vec<Field>) {
        match expr {
            Expr::And(all) | Expr::Or(all) => all.iter().for_each(|e| of(e, out)),
            Expr::Not(inner) => of(inner, out),
            Expr::Binary(a, BinaryOp::Compare(CompareOp::Equal), b) => match (&**a, &**b) {
                (Expr::Field(field), Expr::Literal(Literal::Nil))
                | (Expr::Literal(Literal::Nil), Expr::Field(field)) => out.push(field.clone()),
                _ => {}
            },
            _ => {}
        }
    }
    let mut out = Vec::new();
    for stage in &pipeline.stages {
        if let Stage::Spanset(spanset) = stage {
            spanset.each_filter(&mut |expr| of(expr, &mut out));
        }
    }
    out
}
