//! What a search tells of traces, and how what several places know of one trace becomes one.

use super::value::AnswerValue;
use crate::select::ServiceCount;
use crate::trace::{SpanId, TraceId};

/// A trace that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceHit {
    /// Which.
    pub id: TraceId,
    /// Service of its root; empty when not known.
    pub root_service: String,
    /// Name of its root; empty when not known.
    pub root_name: String,
    /// Its first start, nanoseconds since the epoch.
    pub start_ns: u64,
    /// From there to its last end.
    pub duration_ns: u64,
    /// Its services, by name.
    pub services: Vec<ServiceCount>,
    /// The sets that passed, at least one.
    pub sets: Vec<SetHit>,
}

/// A set of spans that passed.
#[derive(Debug, Clone, PartialEq)]
pub struct SetHit {
    /// Spans of it.
    pub matched: u64,
    /// The first of them, by start.
    pub spans: Vec<SpanHit>,
    /// What was computed of it: `by(…)`, `count()`.
    pub attributes: Vec<(String, AnswerValue)>,
}

/// A span of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanHit {
    /// Which.
    pub id: SpanId,
    /// Its name, where the query names names.
    pub name: Option<String>,
    /// When it began, nanoseconds since the epoch.
    pub start_ns: u64,
    /// From start to end; below zero when it was sent so.
    pub duration_ns: i64,
    /// What the query names, where the span has it.
    pub attributes: Vec<(String, AnswerValue)>,
}

impl TraceHit {
    /// Adds what another place knows of the same trace: the earliest start, the longest duration, root names where there are none yet, the
    /// greatest counts of each service. Of two sets with the same `by(…)` the one of more spans stays.
    pub fn merge(&mut self, other: Self) {
        self.start_ns = self.start_ns.min(other.start_ns);
        self.duration_ns = self.duration_ns.max(other.duration_ns);
        if self.root_service.is_empty() {
            self.root_service = other.root_service;
        }
        if self.root_name.is_empty() {
            self.root_name = other.root_name;
        }
        for count in other.services {
            match self.services.binary_search_by(|s| s.name.cmp(&count.name)) {
                Ok(at) => {
                    let known = &mut self.services[at];
                    known.spans = known.spans.max(count.spans);
                    known.errors = known.errors.max(count.errors);
                }
                Err(at) => self.services.insert(at, count),
            }
        }
        for set in other.sets {
            let same = self.sets.iter_mut().find(|s| s.groups().eq(set.groups()));
            match same {
                Some(known) if known.matched >= set.matched => {}
                Some(known) => *known = set,
                None => self.sets.push(set),
            }
        }
    }

    /// Bytes that it takes, about.
    pub(super) fn size_bytes(&self) -> usize {
        let values = |attributes: &[(String, AnswerValue)]| {
            let sizes = attributes.iter().map(|(name, value)| {
                64 + name.len()
                    + match value {
                        AnswerValue::Text(text) => text.len(),
                        AnswerValue::Array(all) => all.len() * 48,
                        _ => 0,
                    }
            });
            sizes.sum::<usize>()
        };
        let sets = self.sets.iter().map(|set| {
            let spans = set.spans.iter().map(|s| 96 + values(&s.attributes));
            64 + values(&set.attributes) + spans.sum::<usize>()
        });
        256 + self.root_name.len()
            + self.root_service.len()
            + self.services.len() * 64
            + sets.sum::<usize>()
    }
}

impl SetHit {
    fn groups(&self) -> impl Iterator<Item = &(String, AnswerValue)> {
        self.attributes
            .iter()
            .filter(|(name, _)| name.starts_with("by("))
    }
}
