//! A compiled pipeline, and the walk of a block through it.

use lgtm_core::exec::CancelToken;
use lgtm_core::model::TimestampNs;
use memchr::memmem::Finder;

use super::candidates::lines_with;
use super::json::ParseScratch;
use super::labels::{EntryLabels, StreamLabels};
use super::line_filter::LineTest;
use super::parse_target::Needed;
use super::step::{EntryOnWay, Step};
use crate::entry::EntryBlock;
use crate::logql::query_error::Result;
use crate::logql::template::TemplateScratch;
use crate::select::SelectHints;
use crate::wire::DETECTED_LEVEL;

/// A pipeline that can be run, by many threads at once.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Filters on the lines as they are stored; all come first.
    pub(super) line_tests: Vec<LineTest>,
    pub(super) steps: Vec<Step>,
    pub(super) needed: Needed,
    /// Texts that a line must hold for a label filter to pass.
    pub(super) implied: Vec<ImpliedText>,
    /// Whether structured metadata play any part.
    pub(super) reads_metadata: bool,
}

/// A text that follows from `| json | user="abc"`: without escapes in the line, the value stands there as it is.
#[derive(Debug)]
pub(super) struct ImpliedText {
    pub(super) label: String,
    pub(super) test: LineTest,
}

/// The buffers of a walk, which live as long as the worker.
#[derive(Debug, Default)]
pub(crate) struct PipelineScratch {
    /// The present time, nanoseconds.
    now_ns: TimestampNs,
    pub(super) labels: EntryLabels,
    /// The line, where a stage has changed it.
    pub(super) line: Vec<u8>,
    pub(super) is_changed: bool,
    /// The next line, while a stage makes it.
    pub(super) spare: Vec<u8>,
    pub(super) formatted: String,
    pub(super) parse: ParseScratch,
    pub(super) name: String,
    pub(super) names: Vec<String>,
    pub(super) templates: TemplateScratch,
    candidates: Vec<u32>,
}

impl PipelineScratch {
    /// Buffers of a walk that takes place at a time.
    pub(crate) fn at(now_ns: TimestampNs) -> Self {
        Self {
            now_ns,
            ..Self::default()
        }
    }

    pub(super) fn line<'a>(&'a self, raw: &'a [u8]) -> &'a [u8] {
        if self.is_changed { &self.line } else { raw }
    }

    /// Makes the line that stands in `spare` the line.
    pub(super) fn take_spare(&mut self) {
        std::mem::swap(&mut self.line, &mut self.spare);
        self.is_changed = true;
    }
}

/// An entry that passed.
pub(crate) struct Passed<'a> {
    /// Its place in the block.
    pub(crate) entry: usize,
    pub(crate) t_ns: TimestampNs,
    pub(crate) line: &'a [u8],
    pub(crate) stream: &'a StreamLabels,
    pub(crate) labels: &'a mut EntryLabels,
}

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    Stop,
}

impl Pipeline {
    /// Whether every entry passes with the labels of its stream and its metadata.
    pub(crate) fn is_plain(&self) -> bool {
        self.line_tests.is_empty() && self.steps.is_empty()
    }

    /// Whether it looks at structured metadata.
    pub(crate) fn reads_metadata(&self) -> bool {
        self.reads_metadata
    }

    /// Whether entries keep the labels of their stream, if they have no metadata.
    pub(crate) fn keeps_labels(&self) -> bool {
        self.steps.iter().all(|s| matches!(s, Step::Line(_)))
    }

    /// What every entry has that passes.
    pub(crate) fn hints(&self) -> SelectHints {
        let lines = self.line_tests.iter().flat_map(LineTest::needles);
        let choices = self.line_tests.iter().flat_map(LineTest::choices);
        let fields = self.implied.iter().filter_map(|i| {
            let value = i.test.finder()?.needle();
            Some((i.label.clone(), String::from_utf8(value.to_vec()).ok()?))
        });
        SelectHints {
            line_needles: lines.map(<[u8]>::to_vec).collect(),
            line_choices: choices.collect(),
            metadata_needles: self.stored_labels(),
            field_needles: fields.collect(),
            ..SelectHints::default()
        }
    }

    /// Labels, with their values, that every entry that passes has of its stream or as metadata: those of filters before anything makes labels.
    fn stored_labels(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for step in &self.steps {
            match step {
                Step::Filter(condition) => {
                    let exact = condition
                        .conjuncts()
                        .into_iter()
                        .filter_map(|c| c.exact_value());
                    let stored = exact.filter(|(label, _)| !label.starts_with("__error"));
                    out.extend(stored.map(|(l, v)| (l.to_owned(), v.to_owned())));
                }
                Step::Line(_) | Step::LineFormat(_) | Step::Decolorize => {}
                Step::Drop(_) | Step::Keep(_) => {}
                Step::Extract(..) | Step::LabelFormat(_) => break,
            }
        }
        out
    }

    /// Labels that it and whoever reads from it look at beside those of the stream, `Some(None)` for all of them; `None` if it looks at lines.
    pub(crate) fn labels_alone(&self) -> Option<Option<Vec<String>>> {
        let is_of_labels = |s: &Step| matches!(s, Step::Filter(_) | Step::Drop(_) | Step::Keep(_));
        if !self.line_tests.is_empty() || !self.steps.iter().all(is_of_labels) {
            return None;
        }
        Some(match &self.needed {
            Needed::All => None,
            Needed::Names(names) => Some(names.clone()),
        })
    }

    /// Sends what stands for many entries with the same labels through, if it looks at [labels alone](Pipeline::labels_alone); `level` is their
    /// `detected_level`.
    ///
    /// # Errors
    /// Those of `sink`.
    pub(crate) fn run_labels(
        &self,
        stream: &StreamLabels,
        level: Option<&str>,
        scratch: &mut PipelineScratch,
        sink: &mut dyn FnMut(Passed<'_>) -> Result<()>,
    ) -> Result<()> {
        scratch.is_changed = false;
        scratch.labels.reset(stream);
        if let Some(level) = level.filter(|_| self.reads_metadata) {
            scratch.labels.add_metadata(stream, DETECTED_LEVEL, level);
        }
        let entry = EntryOnWay {
            stream,
            raw: b"",
            t_ns: TimestampNs::EPOCH,
            now_ns: scratch.now_ns,
            needed: &self.needed,
        };
        if !self.steps.iter().all(|step| step.run(&entry, scratch)) {
            return Ok(());
        }
        sink(Passed {
            entry: 0,
            t_ns: TimestampNs::EPOCH,
            line: b"",
            stream,
            labels: &mut scratch.labels,
        })
    }

    /// Sends the entries of a block through, in the order of time or against it, and hands what passes to `sink`.
    ///
    /// # Errors
    /// Those of `sink`; `Cancelled`.
    pub(crate) fn run(
        &self,
        stream: &StreamLabels,
        block: &EntryBlock,
        newest_first: bool,
        scratch: &mut PipelineScratch,
        cancel: &CancelToken,
        sink: &mut dyn FnMut(Passed<'_>) -> Result<Flow>,
    ) -> Result<()> {
        let mut candidates = std::mem::take(&mut scratch.candidates);
        let tests = self.tests(stream, block, &mut candidates);
        let count = if tests.has_candidates {
            candidates.len()
        } else {
            block.len()
        };
        let mut walked = Ok(());
        for n in 0..count {
            // Costs one look at a flag; an entry may take milliseconds in a query of thousands of fields.
            if let Err(e) = cancel.check("query") {
                walked = Err(e.into());
                break;
            }
            let n = if newest_first { count - 1 - n } else { n };
            let at = if tests.has_candidates {
                candidates[n] as usize
            } else {
                n
            };
            match self.entry(stream, block, at, &tests, scratch, sink) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Stop) => break,
                Err(e) => {
                    walked = Err(e);
                    break;
                }
            }
        }
        scratch.candidates = candidates;
        walked
    }

    /// What must be asked of each line of a block, once the candidates were found that stand in `candidates`.
    fn tests<'p>(
        &'p self,
        stream: &StreamLabels,
        block: &EntryBlock,
        candidates: &mut Vec<u32>,
    ) -> BlockTests<'p> {
        let is_stored = |name: &str| block.has_metadata() && block.symbols().find(name).is_some();
        let is_parsed = |label: &str| {
            // Metadata that have the name of a label of the stream go by another.
            let stem = label.strip_suffix("_extracted");
            !(stream.has(label) || is_stored(label) || stem.is_some_and(is_stored))
        };
        let implied = self.implied.iter().filter(|i| is_parsed(&i.label));
        let mut tests = BlockTests {
            lines: self.line_tests.iter().collect(),
            implied: implied.map(|i| &i.test).collect(),
            has_candidates: false,
        };
        if let Some((n, finder)) = longest(&tests.lines) {
            tests.has_candidates = lines_with(block, finder, candidates);
            if tests.has_candidates && tests.lines[n].finder().is_some() {
                tests.lines.remove(n);
            }
        } else if let Some((n, finder)) = longest(&tests.implied)
            && !block.has_byte(b'\\')
        {
            tests.has_candidates = lines_with(block, finder, candidates);
            if tests.has_candidates {
                tests.implied.remove(n);
            }
        }
        tests
    }

    fn entry(
        &self,
        stream: &StreamLabels,
        block: &EntryBlock,
        at: usize,
        tests: &BlockTests<'_>,
        scratch: &mut PipelineScratch,
        sink: &mut dyn FnMut(Passed<'_>) -> Result<Flow>,
    ) -> Result<Flow> {
        let raw = block.line(at);
        if !tests.lines.iter().all(|t| t.passes(raw)) {
            return Ok(Flow::Continue);
        }
        let may_pass = |t: &&LineTest| t.passes(raw) || memchr::memchr(b'\\', raw).is_some();
        if !tests.implied.iter().all(may_pass) {
            return Ok(Flow::Continue);
        }
        let t_ns = block.times()[at];
        scratch.is_changed = false;
        scratch.labels.reset(stream);
        if self.reads_metadata && block.has_metadata() {
            for (name, value) in block.get(at).metadata() {
                scratch.labels.add_metadata(stream, name, value);
            }
        }
        let entry = EntryOnWay {
            stream,
            raw,
            t_ns,
            now_ns: scratch.now_ns,
            needed: &self.needed,
        };
        if !self.steps.iter().all(|step| step.run(&entry, scratch)) {
            return Ok(Flow::Continue);
        }
        sink(Passed {
            entry: at,
            t_ns,
            line: if scratch.is_changed {
                &scratch.line
            } else {
                raw
            },
            stream,
            labels: &mut scratch.labels,
        })
    }
}

/// The test that looks for the longest text: the rarest, as far as one can know.
fn longest<'p>(tests: &[&'p LineTest]) -> Option<(usize, &'p Finder<'static>)> {
    let finders = tests.iter().enumerate();
    let finders = finders.filter_map(|(n, t)| Some((n, t.scout()?)));
    finders.max_by_key(|(_, f)| f.needle().len())
}

/// What is asked of the lines of one block.
struct BlockTests<'p> {
    lines: Vec<&'p LineTest>,
    /// A line with escapes passes them.
    implied: Vec<&'p LineTest>,
    has_candidates: bool,
}
