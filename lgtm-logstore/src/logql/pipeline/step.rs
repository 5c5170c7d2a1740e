//! The steps of a pipeline behind its first line filters.

use std::borrow::Cow;

use lgtm_core::model::TimestampNs;
use lgtm_core::re2::Re2Groups;

use super::decolorize::decolorize;
use super::json::{Unpacked, parse_json, unpack};
use super::json_path::{JsonPath, parse_json_paths};
use super::label_filter::Condition;
use super::labels::{ERROR, ERROR_DETAILS, EntryLabels, StreamLabels};
use super::line_filter::LineTest;
use super::logfmt::Logfmt;
use super::parse_target::{Needed, Offer, ParseTarget};
use super::pipeline::PipelineScratch;
use crate::logql::ast::LabelPick;
use crate::logql::pattern::Pattern;
use crate::logql::template::{Fields, Template};

const TEMPLATE_FORMAT_ERR: &str = "TemplateFormatErr";

/// What a parser does.
#[derive(Debug)]
pub(crate) enum Extraction {
    Json,
    JsonPaths(Vec<JsonPath>),
    Logfmt(Logfmt),
    Pattern(Pattern, Vec<String>),
    /// With the names of its groups.
    Regexp(Re2Groups, Vec<(usize, String)>),
    Unpack,
}

/// A label that `label_format` makes.
#[derive(Debug)]
pub(crate) enum LabelMaker {
    Rename { to: String, from: String },
    Template { to: String, template: Template },
}

/// One step.
#[derive(Debug)]
pub(crate) enum Step {
    Line(LineTest),
    Filter(Condition),
    /// A parser, with the filters behind it that are asked as soon as their label is found.
    Extract(Extraction, Vec<Condition>),
    LineFormat(Template),
    LabelFormat(Vec<LabelMaker>),
    Decolorize,
    Drop(Vec<LabelPick>),
    Keep(Vec<LabelPick>),
}

/// An entry on its way.
pub(super) struct EntryOnWay<'a> {
    pub(super) stream: &'a StreamLabels,
    pub(super) raw: &'a [u8],
    pub(super) t_ns: TimestampNs,
    pub(super) now_ns: TimestampNs,
    pub(super) needed: &'a Needed,
}

impl Step {
    /// Whether an entry passes; changes its labels and line in `scratch`.
    pub(super) fn run(&self, entry: &EntryOnWay<'_>, scratch: &mut PipelineScratch) -> bool {
        match self {
            Self::Line(test) => test.passes(scratch.line(entry.raw)),
            Self::Filter(condition) => condition.holds(entry.stream, &mut scratch.labels),
            Self::Extract(extraction, early) => extract(extraction, early, entry, scratch),
            Self::LineFormat(template) => {
                line_format(template, entry, scratch);
                true
            }
            Self::LabelFormat(makers) => {
                label_format(makers, entry, scratch);
                true
            }
            Self::Decolorize => {
                let mut out = std::mem::take(&mut scratch.spare);
                out.clear();
                let changed = decolorize(scratch.line(entry.raw), &mut out);
                scratch.spare = out;
                if changed {
                    scratch.take_spare();
                }
                true
            }
            Self::Drop(picks) => {
                drop_labels(picks, entry.stream, &mut scratch.labels);
                true
            }
            Self::Keep(picks) => {
                keep_labels(picks, entry.stream, scratch);
                true
            }
        }
    }
}

fn extract(
    extraction: &Extraction,
    early: &[Condition],
    entry: &EntryOnWay<'_>,
    scratch: &mut PipelineScratch,
) -> bool {
    let line = if scratch.is_changed {
        &scratch.line
    } else {
        entry.raw
    };
    let mut target = ParseTarget {
        stream: entry.stream,
        labels: &mut scratch.labels,
        needed: entry.needed,
        early,
        found: 0,
        name: &mut scratch.name,
    };
    let parse = &mut scratch.parse;
    match extraction {
        Extraction::Json => parse_json(line, &mut target, parse),
        Extraction::JsonPaths(paths) => parse_json_paths(line, paths, &mut target, parse),
        Extraction::Logfmt(logfmt) => logfmt.parse(line, &mut target, parse),
        Extraction::Pattern(pattern, names) => {
            let mut passes = true;
            if !target.needed.is_none() {
                pattern.captures(line, |n, text| {
                    if !target.wants(&names[n]) {
                        return true;
                    }
                    let offer = target.add(&String::from_utf8_lossy(text));
                    passes = offer != Offer::Refused;
                    offer == Offer::Continue
                });
            }
            passes
        }
        Extraction::Regexp(regex, names) => {
            let text = String::from_utf8_lossy(line);
            let Some(found) = regex.find(&text) else {
                return true;
            };
            for (group, name) in names {
                if target.wants(name)
                    && target.add(found.get(*group).unwrap_or("")) == Offer::Refused
                {
                    return false;
                }
            }
            true
        }
        Extraction::Unpack => match unpack(line, &mut target, parse, &mut scratch.spare) {
            Unpacked::Untouched => true,
            Unpacked::Refused => false,
            Unpacked::NewLine => {
                scratch.take_spare();
                true
            }
        },
    }
}

/// An entry as templates see it.
struct EntryFields<'a> {
    stream: &'a StreamLabels,
    labels: &'a EntryLabels,
    line: Cow<'a, str>,
    t_ns: TimestampNs,
    now_ns: TimestampNs,
}

impl Fields for EntryFields<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.labels.get(self.stream, name)
    }

    fn sorted(&self) -> Vec<(String, String)> {
        let all = self.labels.iter(self.stream);
        let mut all: Vec<_> = all.map(|(n, v, _)| (n.to_owned(), v.to_owned())).collect();
        all.sort();
        all
    }

    fn line(&self) -> &str {
        &self.line
    }

    fn t_ns(&self) -> TimestampNs {
        self.t_ns
    }

    fn now_ns(&self) -> TimestampNs {
        self.now_ns
    }
}

fn fill(
    template: &Template,
    entry: &EntryOnWay<'_>,
    scratch: &PipelineScratch,
    out: &mut String,
) -> Result<(), String> {
    let fields = EntryFields {
        stream: entry.stream,
        labels: &scratch.labels,
        line: if template.reads_line() {
            String::from_utf8_lossy(scratch.line(entry.raw))
        } else {
            Cow::Borrowed("")
        },
        t_ns: entry.t_ns,
        now_ns: entry.now_ns,
    };
    template.execute(&fields, &scratch.templates, out)
}

fn line_format(template: &Template, entry: &EntryOnWay<'_>, scratch: &mut PipelineScratch) {
    let mut out = std::mem::take(&mut scratch.formatted);
    out.clear();
    match fill(template, entry, scratch, &mut out) {
        Ok(()) => {
            scratch.spare.clear();
            scratch.spare.extend_from_slice(out.as_bytes());
            scratch.take_spare();
        }
        Err(e) => scratch.labels.set_error(TEMPLATE_FORMAT_ERR, e),
    }
    scratch.formatted = out;
}

/// Renames go one after the other; all templates see the labels as they are at the first of them.
fn label_format(makers: &[LabelMaker], entry: &EntryOnWay<'_>, scratch: &mut PipelineScratch) {
    let mut made: Option<std::vec::IntoIter<Result<String, String>>> = None;
    for (at, maker) in makers.iter().enumerate() {
        match maker {
            LabelMaker::Rename { to, from } => {
                let value = scratch.labels.get(entry.stream, from).map(str::to_owned);
                if let Some(value) = value {
                    scratch.labels.remove(entry.stream, from);
                    scratch.labels.set(entry.stream, to, &value);
                }
            }
            LabelMaker::Template { to, .. } => {
                let texts = made.get_or_insert_with(|| {
                    let rest = makers[at..].iter().filter_map(|m| match m {
                        LabelMaker::Template { template, .. } => Some(template),
                        LabelMaker::Rename { .. } => None,
                    });
                    let texts = rest.map(|template| {
                        let mut out = String::new();
                        fill(template, entry, scratch, &mut out).map(|()| out)
                    });
                    texts.collect::<Vec<_>>().into_iter()
                });
                match texts.next() {
                    Some(Ok(text)) => scratch.labels.set(entry.stream, to, &text),
                    Some(Err(e)) => scratch.labels.set_error(TEMPLATE_FORMAT_ERR, e),
                    None => {}
                }
            }
        }
    }
}

fn drop_labels(picks: &[LabelPick], stream: &StreamLabels, labels: &mut EntryLabels) {
    for pick in picks {
        let goes = match pick {
            LabelPick::Name(_) => true,
            LabelPick::Matching(m) => labels.get(stream, m.name()).is_some_and(|v| m.matches(v)),
        };
        if goes {
            labels.remove(stream, pick.name());
        }
    }
}

fn keep_labels(picks: &[LabelPick], stream: &StreamLabels, scratch: &mut PipelineScratch) {
    let is_kept = |name: &str, value: &str| {
        matches!(name, ERROR | ERROR_DETAILS)
            || picks.iter().any(|pick| match pick {
                LabelPick::Name(kept) => kept == name,
                LabelPick::Matching(m) => m.name() == name && m.matches(value),
            })
    };
    // Names go through a buffer, since removing changes what is walked.
    let going = &mut scratch.names;
    going.clear();
    let all = scratch.labels.iter(stream);
    going.extend(
        all.filter(|(n, v, _)| !is_kept(n, v))
            .map(|(n, _, _)| n.to_owned()),
    );
    for name in going.iter() {
        scratch.labels.remove(stream, name);
    }
}
