//! What was acknowledged, and whether an answer agrees with it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;

use parking_lot::Mutex;

use super::store::{Answer, Entry};
use crate::error::{ErrorKind, Result};
use crate::model::TimeRange;
use crate::timestamp::TimestampMs;

/// Events that a violation tells.
const REMEMBERED: usize = 60;

/// A promise that a store did not keep.
#[derive(Debug, Clone, thiserror::Error)]
#[error("seed {seed}: {what}\nwhat went before, newest last:\n{history}")]
pub struct Violation {
    /// Repeats it, as far as the store's own threads allow.
    pub seed: u64,
    /// Which promise, and what was found instead.
    pub what: String,
    /// The last events.
    pub history: String,
}

/// How many answers there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerCounts {
    /// With everything that was to be in them, and no warning.
    pub whole: u64,
    /// With a warning.
    pub warned: u64,
    /// None, since the store was not available.
    pub unavailable: u64,
}

impl std::ops::AddAssign for AnswerCounts {
    fn add_assign(&mut self, other: Self) {
        self.whole += other.whole;
        self.warned += other.warned;
        self.unavailable += other.unavailable;
    }
}

/// Names an entry: tenant, time, stream.
type Key = (usize, TimestampMs, u32);

#[derive(Debug, Clone, Copy)]
struct Known {
    value: u64,
    /// The event at which it was acknowledged.
    acknowledged: Option<u64>,
    /// Whether it is in the object store.
    stored: bool,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.acknowledged.unwrap_or_default();
        let stored = if self.stored { ", flushed" } else { "" };
        write!(
            f,
            "value {}, acknowledged at event {at}{stored}",
            self.value
        )
    }
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<Key, Known>,
    events: u64,
    history: VecDeque<String>,
    answers: AnswerCounts,
    /// Whether a power loss may have taken something: the store may say so from then on, whatever it is asked.
    has_forgiven: bool,
    violation: Option<Violation>,
}

/// Knows every entry that was pushed. Tenants are numbers here.
pub(super) struct Ledger {
    seed: u64,
    state: Mutex<State>,
}

/// A question that is being asked: what was acknowledged before it must be in the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) tenant: usize,
    pub(super) range: TimeRange,
    asked: u64,
}

/// How strict a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// Whole, or saying that it is not.
    Honest,
    /// The same while the object store refuses: that is for an operator to mend and may be an error that no client tries again.
    HonestIfRefused,
    /// Whole.
    Whole,
}

impl Ledger {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            state: Mutex::default(),
        }
    }

    /// Tells the history what happens.
    pub(super) fn note(&self, event: impl fmt::Display) {
        self.state.lock().note(&event);
    }

    /// Registers entries that are about to be pushed. Those whose stream has one for their time already are taken out of the list.
    pub(super) fn propose(&self, tenant: usize, entries: &mut Vec<Entry>) {
        let mut state = self.state.lock();
        entries.retain(|e| {
            let key = (tenant, e.time_ms, e.stream);
            let new = !state.known.contains_key(&key);
            if new {
                let known = Known {
                    value: e.value,
                    acknowledged: None,
                    stored: false,
                };
                state.known.insert(key, known);
            }
            new
        });
    }

    /// How a push of entries that were proposed ended.
    pub(super) fn pushed(&self, tenant: usize, entries: &[Entry], result: &Result<()>) {
        let mut state = self.state.lock();
        let mut what = format!("push to tenant {tenant} of (stream, time)");
        for e in entries {
            what += &format!(" ({}, {})", e.stream, e.time_ms);
        }
        if let Err(e) = result {
            state.note(&format!("{what}: {e}"));
            return;
        }
        state.note(&format!("{what}: acknowledged"));
        let now = state.events;
        for e in entries {
            if let Some(known) = state.known.get_mut(&(tenant, e.time_ms, e.stream)) {
                known.acknowledged.get_or_insert(now);
            }
        }
    }

    /// The event that is now: what was acknowledged until then is what a flush that begins now must bring to the object store.
    pub(super) fn now(&self) -> u64 {
        self.state.lock().events
    }

    /// A flush that began at an event has succeeded.
    pub(super) fn flushed(&self, began: u64) {
        let mut state = self.state.lock();
        for known in state.known.values_mut() {
            known.stored |= known.acknowledged.is_some_and(|at| at <= began);
        }
    }

    /// The power went, and the store promises to keep only what it has stored.
    pub(super) fn forgive_unstored(&self) {
        let mut state = self.state.lock();
        state.has_forgiven = true;
        for known in state.known.values_mut() {
            if !known.stored {
                known.acknowledged = None;
            }
        }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        let state = self.state.lock();
        let known = state.known.values();
        known.filter(|k| k.acknowledged.is_some()).count() as u64
    }

    pub(super) fn answers(&self) -> AnswerCounts {
        self.state.lock().answers
    }

    /// Begins a question.
    pub(super) fn question(&self, tenant: usize, range: TimeRange) -> Question {
        let asked = self.state.lock().events;
        Question {
            tenant,
            range,
            asked,
        }
    }

    /// Holds an answer against what is known.
    pub(super) fn check(&self, question: &Question, answer: &Result<Answer>, demand: Demand) {
        let mut state = self.state.lock();
        let told = match answer {
            Ok(a) => format!("{} entries, warnings {:?}", a.entries.len(), a.warnings),
            Err(e) => format!("{:?}: {e}", e.kind()),
        };
        state.note(&format!(
            "answer to tenant {} for {}..{}, asked at event {}: {told}",
            question.tenant, question.range.min_ms, question.range.max_ms, question.asked
        ));
        match state.judge(question, answer, demand) {
            Ok(kind) => *kind += 1,
            Err(what) => state.fail(self.seed, what),
        }
    }

    /// A promise was broken; the first such counts.
    pub(super) fn fail(&self, what: String) {
        self.state.lock().fail(self.seed, what);
    }

    /// The first violation, if there was one.
    ///
    /// # Errors
    /// The violation.
    pub(super) fn verdict(&self) -> Result<(), Violation> {
        self.state.lock().violation.clone().map_or(Ok(()), Err)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().violation.is_some()
    }
}

impl Drop for Ledger {
    /// A panic inside of the store has no other way to say which seed it was.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("a panic".into());
            if let Err(violation) = self.verdict() {
                eprintln!("{violation}");
            }
        }
    }
}

impl State {
    fn note(&mut self, event: &impl fmt::Display) {
        self.events += 1;
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back(format!("{:6} {event}", self.events));
    }

    fn fail(&mut self, seed: u64, what: String) {
        let lines: Vec<&str> = self.history.iter().map(String::as_str).collect();
        let history = lines.join("\n");
        self.violation.get_or_insert(Violation {
            seed,
            what,
            history,
        });
    }

    /// Where an answer counts, or what is wrong with it.
    fn judge(
        &mut self,
        question: &Question,
        answer: &Result<Answer>,
        demand: Demand,
    ) -> Result<&mut u64, String> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) if demand == Demand::Whole => {
                return Err(format!("no answer where nothing is in the way: {e}"));
            }
            Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                return Ok(&mut self.answers.unavailable);
            }
            Err(e) if e.kind() == ErrorKind::Internal && demand == Demand::HonestIfRefused => {
                return Ok(&mut self.answers.unavailable);
            }
            Err(e) => return Err(format!("a question failed with {:?}: {e}", e.kind())),
        };
        let mut found = BTreeMap::new();
        for e in &answer.entries {
            let key = (question.tenant, e.time_ms, e.stream);
            match self.known.get(&key) {
                None => return Err(format!("{e:?} was never pushed to tenant {}", key.0)),
                Some(known) if known.value != e.value => {
                    return Err(format!("{e:?} was pushed with value {}", known.value));
                }
                Some(_) if !question.range.contains(e.time_ms) => {
                    return Err(format!("{e:?} is outside of {:?}", question.range));
                }
                Some(_) if found.insert(key, ()).is_some() => {
                    return Err(format!("{e:?} stands in the answer twice"));
                }
                Some(_) => {}
            }
        }
        if !answer.warnings.is_empty() {
            if demand == Demand::Whole && !self.has_forgiven {
                let warnings = &answer.warnings;
                return Err(format!(
                    "warnings where nothing is in the way: {warnings:?}"
                ));
            }
            return Ok(&mut self.answers.warned);
        }
        let from = Bound::Included((question.tenant, question.range.min_ms, 0));
        let to = Bound::Excluded((question.tenant, question.range.max_ms, 0));
        let due = |known: &Known| known.acknowledged.is_some_and(|at| at <= question.asked);
        let mut missing = self.known.range((from, to));
        let missing: Vec<_> = missing
            .by_ref()
            .filter(|(key, known)| due(known) && !found.contains_key(key))
            .collect();
        if let Some(((_, time_ms, stream), known)) = missing.first() {
            return Err(format!(
                "{} acknowledged entries are missing from an answer of {} without a warning; the first: stream {stream}, time {time_ms}, {known}",
                missing.len(),
                found.len()
            ));
        }
        Ok(&mut self.answers.whole)
    }
}
