//! Pipelines: from a batch to sets of spans, trace by trace.

use std::ops::Range;

use super::super::ast::*;
use super::super::number::Number;
use super::super::value::AnswerValue;
use super::aggregate::AggregateStep;
use super::node::Node;
use super::structural::{Tree, merged};
use super::view::{Place, View};
use crate::select::{Level, SpanBatch};

/// A pipeline made ready.
#[derive(Debug)]
pub(crate) struct Program {
    steps: Steps,
    filters: Vec<Node>,
}

/// Some spans of one trace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpanSet {
    /// Ascending.
    pub(crate) rows: Vec<u32>,
    /// What was computed of it, in order.
    pub(crate) attributes: Vec<(String, AnswerValue)>,
}

/// The sets of a trace; there is at least one.
#[derive(Debug)]
pub(crate) struct TraceSets {
    /// Its number in the batch.
    pub(crate) trace: usize,
    pub(crate) sets: Vec<SpanSet>,
}

type Steps = Vec<Step>;

#[derive(Debug)]
enum Step {
    Spanset(SetNode),
    By(Node, String),
    Coalesce,
    Aggregate(AggregateStep),
}

#[derive(Debug)]
enum SetNode {
    /// The number of the filter.
    Filter(usize),
    Operation(Box<SetNode>, SpansetOp, Box<SetNode>),
    Pipeline(Steps),
}

/// What filters say of the rows of a batch, and how they stand to each other.
struct Masks<'a> {
    view: &'a View<'a>,
    masks: Vec<Vec<bool>>,
    tree: Option<Tree<'a>>,
}

impl Program {
    /// Of a pipeline that was checked.
    pub(crate) fn new(pipeline: &Pipeline) -> Self {
        let mut filters = Vec::new();
        let steps = steps(pipeline, &mut filters);
        Self { steps, filters }
    }

    /// The sets of each trace that has any.
    pub(crate) fn sets(&self, batch: &SpanBatch) -> Vec<TraceSets> {
        let view = View::new(batch);
        let masks = self.masks(&view);
        let mut out = Vec::new();
        for trace in 0..batch.traces.len() {
            if lgtm_core::exec::is_abandoned() {
                break;
            }
            let rows = batch.rows_of(trace);
            let sets = masks.run(&self.steps, Candidates::All(rows));
            if !sets.is_empty() {
                out.push(TraceSets { trace, sets });
            }
        }
        out
    }

    /// For each row whether it is in a set.
    pub(crate) fn mask(&self, batch: &SpanBatch) -> Vec<bool> {
        let view = View::new(batch);
        if self.is_plain() {
            let mut masks = self.filters.iter().map(|f| f.mask(&view, Level::Span));
            let mut out = masks.next().unwrap_or_default();
            for mask in masks {
                out.iter_mut().zip(&mask).for_each(|(a, b)| *a &= b);
            }
            return out;
        }
        let mut out = vec![false; batch.len()];
        let masks = self.masks(&view);
        for trace in 0..batch.traces.len() {
            let sets = masks.run(&self.steps, Candidates::All(batch.rows_of(trace)));
            for row in sets.iter().flat_map(|set| &set.rows) {
                out[*row as usize] = true;
            }
        }
        out
    }

    /// Whether it is nothing but filters one after the other.
    fn is_plain(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.all(|step| matches!(step, Step::Spanset(SetNode::Filter(_))))
    }

    fn masks<'a>(&self, view: &'a View<'a>) -> Masks<'a> {
        Masks {
            view,
            masks: (self.filters.iter())
                .map(|filter| filter.mask(view, Level::Span))
                .collect(),
            tree: Tree::of(view.batch),
        }
    }
}

fn steps(pipeline: &Pipeline, filters: &mut Vec<Node>) -> Steps {
    let stages = pipeline.stages.iter();
    stages
        .filter_map(|stage| {
            Some(match stage {
                Stage::Spanset(spanset) => Step::Spanset(set_node(spanset, filters)),
                Stage::By(expr) => Step::By(Node::of(expr), format!("by({expr})")),
                Stage::Coalesce => Step::Coalesce,
                Stage::Aggregate(filter) => Step::Aggregate(AggregateStep::new(filter)),
                // Only changes what is told of the spans.
                Stage::Select(_) => return None,
            })
        })
        .collect()
}

fn set_node(spanset: &SpansetExpr, filters: &mut Vec<Node>) -> SetNode {
    lgtm_core::exec::with_room(|| match spanset {
        SpansetExpr::Filter(expr) => {
            filters.push(Node::filter(expr));
            SetNode::Filter(filters.len() - 1)
        }
        SpansetExpr::Operation(a, op, b) => {
            let a = Box::new(set_node(a, filters));
            let b = Box::new(set_node(b, filters));
            SetNode::Operation(a, *op, b)
        }
        SpansetExpr::Pipeline(pipeline) => SetNode::Pipeline(steps(pipeline, filters)),
    })
}

/// The spans that a step chooses from.
#[derive(Debug, Clone)]
enum Candidates<'c> {
    All(Range<usize>),
    Rows(&'c [u32]),
}

impl Masks<'_> {
    fn run(&self, steps: &Steps, candidates: Candidates<'_>) -> Vec<SpanSet> {
        let mut steps = steps.iter();
        let mut sets = match steps.next() {
            Some(Step::Spanset(node)) => self.sets(node, candidates),
            _ => Vec::new(),
        };
        for step in steps {
            if sets.is_empty() || lgtm_core::exec::is_abandoned() {
                return sets;
            }
            sets = match step {
                Step::Spanset(node) => sets
                    .into_iter()
                    .filter_map(|set| {
                        let rows = self.rows(node, Candidates::Rows(&set.rows));
                        (!rows.is_empty()).then_some(SpanSet { rows, ..set })
                    })
                    .collect(),
                Step::By(node, text) => {
                    let sets = sets.into_iter();
                    sets.flat_map(|set| self.grouped(set, node, text)).collect()
                }
                Step::Coalesce => vec![SpanSet {
                    rows: union(&sets),
                    attributes: Vec::new(),
                }],
                Step::Aggregate(step) => sets
                    .into_iter()
                    .filter_map(|mut set| {
                        let value = step.passing(self.view, &set.rows)?;
                        set_attribute(&mut set.attributes, step.text(), value);
                        Some(set)
                    })
                    .collect(),
            };
        }
        sets
    }

    fn sets(&self, node: &SetNode, candidates: Candidates<'_>) -> Vec<SpanSet> {
        if let SetNode::Pipeline(steps) = node {
            return self.run(steps, candidates);
        }
        let rows = self.rows(node, candidates);
        if rows.is_empty() {
            return Vec::new();
        }
        vec![SpanSet {
            rows,
            attributes: Vec::new(),
        }]
    }

    fn rows(&self, node: &SetNode, candidates: Candidates<'_>) -> Vec<u32> {
        lgtm_core::exec::with_room(|| match node {
            SetNode::Filter(filter) => {
                let mask = &self.masks[*filter];
                match candidates {
                    Candidates::All(range) => {
                        let first = range.start as u32;
                        let hits = (first..).zip(&mask[range]);
                        hits.filter_map(|(row, hit)| hit.then_some(row)).collect()
                    }
                    Candidates::Rows(rows) => {
                        let hits = rows.iter().filter(|row| mask[**row as usize]);
                        hits.copied().collect()
                    }
                }
            }
            SetNode::Pipeline(steps) => union(&self.run(steps, candidates)),
            SetNode::Operation(a, op, b) => {
                let a = self.rows(a, candidates.clone());
                if a.is_empty() && gives_nothing_without_left(*op) {
                    return a;
                }
                let b = self.rows(b, candidates);
                match op {
                    SpansetOp::And if b.is_empty() => b,
                    SpansetOp::And | SpansetOp::Or => merged(&a, &b),
                    SpansetOp::Structural(relation, form) => {
                        if b.is_empty() {
                            return b;
                        }
                        match &self.tree {
                            Some(tree) => tree.related(&a, *relation, *form, &b),
                            // Nothing stands in relation to anything.
                            None if *form == RelationForm::Negated => b,
                            None => Vec::new(),
                        }
                    }
                }
            }
        })
    }

    fn grouped(&self, set: SpanSet, by: &Node, text: &str) -> Vec<SpanSet> {
        let mut groups: Vec<(AnswerValue, Vec<u32>)> = Vec::new();
        let mut numbers = std::collections::HashMap::new();
        for row in set.rows {
            let value = by.value(self.view, Place::span(row as usize)).answer();
            let value = value.unwrap_or_else(AnswerValue::nil);
            let group = *numbers.entry(value).or_insert_with_key(|value| {
                groups.push((value.clone(), Vec::new()));
                groups.len() - 1
            });
            groups[group].1.push(row);
        }
        let groups = groups.into_iter().map(|(value, rows)| {
            let mut attributes = set.attributes.clone();
            set_attribute(&mut attributes, text, value);
            SpanSet { rows, attributes }
        });
        groups.collect()
    }
}

fn gives_nothing_without_left(op: SpansetOp) -> bool {
    match op {
        SpansetOp::And => true,
        SpansetOp::Or => false,
        SpansetOp::Structural(_, form) => form != RelationForm::Negated,
    }
}

fn union(sets: &[SpanSet]) -> Vec<u32> {
    match sets {
        [one] => one.rows.clone(),
        sets => {
            let mut rows: Vec<u32> = sets.iter().flat_map(|set| &set.rows).copied().collect();
            rows.sort_unstable();
            rows.dedup();
            rows
        }
    }
}

fn set_attribute(attributes: &mut Vec<(String, AnswerValue)>, name: &str, value: AnswerValue) {
    match attributes.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => attributes.push((name.to_owned(), value)),
    }
}

impl Number {
    /// As answers tell it.
    pub(crate) fn answer(self) -> AnswerValue {
        match self {
            Self::Int(v) => AnswerValue::Int(v),
            Self::Float(v) => AnswerValue::Float(v),
            Self::Duration(ns) => AnswerValue::Text(super::super::duration::format_ns(ns)),
        }
    }
}
