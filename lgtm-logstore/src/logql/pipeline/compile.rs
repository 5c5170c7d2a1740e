//! From stages to a pipeline.

use lgtm_core::re2::{Anchoring, Dot, Re2Groups};

use super::json_path::JsonPath;
use super::label_filter::Condition;
use super::labels::push_sanitized;
use super::line_filter::LineTest;
use super::logfmt::Logfmt;
use super::parse_target::Needed;
use super::pipeline::{ImpliedText, Pipeline};
use super::step::{Extraction, LabelMaker, Step};
use crate::logql::ast::{LabelFormat, Stage};
use crate::logql::error::ParseError;
use crate::logql::pattern::Pattern;
use crate::logql::template::Template;

/// What a pipeline is for.
#[derive(Debug, Clone)]
pub(crate) struct PipelineUse {
    /// Labels that are needed behind it; those that its own stages need are added. None: all.
    pub(crate) labels: Option<Vec<String>>,
    /// Whether the lines that come out of it are looked at.
    pub(crate) reads_lines: bool,
    /// What one template may print.
    pub(crate) max_template_bytes: usize,
}

/// Compiles stages.
///
/// # Errors
/// For arguments of stages that are wrong. Loki finds those when the first stream is read, so that a query which selects none has none.
pub(crate) fn compile(stages: &[Stage], usage: &PipelineUse) -> Result<Pipeline, ParseError> {
    let stages = reordered(stages, usage);
    let mut steps = Vec::new();
    for (at, stage) in stages.iter().enumerate() {
        let step = step(stage, &stages[at + 1..], usage)
            .map_err(|e| ParseError::new(format!("stage '{stage}' : {e}")))?;
        steps.push(step);
    }
    let needed = needed(&steps, usage);
    let implied = implied(&steps);
    let first = steps
        .iter()
        .take_while(|s| matches!(s, Step::Line(_)))
        .count();
    let rest = steps.split_off(first);
    let line_tests = steps.into_iter().filter_map(|s| match s {
        Step::Line(test) => Some(test).filter(|t| !t.passes_all()),
        _ => None,
    });
    let line_tests = line_tests.collect();
    Ok(Pipeline {
        line_tests,
        reads_metadata: !needed.is_none(),
        steps: rest,
        needed,
        implied,
    })
}

/// The stages with line filters as far to the left as they may be, and without formats of lines that nobody looks at.
fn reordered<'s>(stages: &'s [Stage], usage: &PipelineUse) -> Vec<&'s Stage> {
    let mut out: Vec<&Stage> = Vec::with_capacity(stages.len());
    for stage in stages {
        let mut at = out.len();
        if matches!(stage, Stage::LineFilter(_)) {
            let stays = |s: &&Stage| {
                matches!(
                    s,
                    Stage::LineFormat(_)
                        | Stage::Unpack
                        | Stage::LabelFilter(_)
                        | Stage::LineFilter(_)
                )
            };
            at = out.iter().rposition(stays).map_or(0, |n| n + 1);
        }
        out.insert(at, stage);
    }
    if !usage.reads_lines {
        let reads = |s: &&Stage| {
            matches!(
                s,
                Stage::LineFilter(_)
                    | Stage::Json(_)
                    | Stage::Logfmt(_)
                    | Stage::Pattern(_)
                    | Stage::Regexp(_)
                    | Stage::Unpack
            )
        };
        let last = out.iter().rposition(reads);
        let mut place = 0;
        out.retain(|s| {
            place += 1;
            !matches!(s, Stage::LineFormat(_)) || last.is_some_and(|l| place - 1 < l)
        });
    }
    out
}

fn step(stage: &Stage, behind: &[&Stage], usage: &PipelineUse) -> Result<Step, String> {
    let early = || {
        let filters = behind.iter().filter_map(|s| match s {
            Stage::LabelFilter(filter) => Condition::new(filter).ok(),
            _ => None,
        });
        filters.filter(|c| c.label().is_some()).collect::<Vec<_>>()
    };
    let template = |name, text: &str, what: &str| {
        Template::new(name, text, usage.max_template_bytes)
            .map_err(|e| format!("invalid {what} template: {e}"))
    };
    Ok(match stage {
        Stage::LineFilter(filter) => Step::Line(LineTest::new(filter)?),
        Stage::LabelFilter(filter) => Step::Filter(Condition::new(filter)?),
        Stage::Json(paths) if paths.is_empty() => Step::Extract(Extraction::Json, early()),
        Stage::Json(paths) => {
            let paths = paths.iter().map(JsonPath::new).collect::<Result<_, _>>()?;
            Step::Extract(Extraction::JsonPaths(paths), early())
        }
        Stage::Logfmt(stage) => Step::Extract(Extraction::Logfmt(Logfmt::new(stage)?), early()),
        Stage::Pattern(text) => {
            let pattern = Pattern::parser(text)?;
            let names = pattern.names().map(str::to_owned).collect();
            Step::Extract(Extraction::Pattern(pattern, names), early())
        }
        Stage::Regexp(text) => {
            let regex = Re2Groups::new(text, Anchoring::Anywhere, Dot::NotNewline)
                .map_err(|e| format!("error parsing regexp: {e}"))?;
            let named = regex.names().enumerate().filter(|(_, n)| !n.is_empty());
            let names = named.map(|(n, name)| {
                let mut label = String::new();
                push_sanitized(&mut label, name, true);
                (n + 1, label)
            });
            let names = names.collect();
            Step::Extract(Extraction::Regexp(regex, names), early())
        }
        Stage::Unpack => Step::Extract(Extraction::Unpack, early()),
        Stage::LineFormat(text) => Step::LineFormat(template("line", text, "line")?),
        Stage::LabelFormat(formats) => {
            let maker = |format: &LabelFormat| {
                Ok(match format {
                    LabelFormat::Rename { to, from } => LabelMaker::Rename {
                        to: to.clone(),
                        from: from.clone(),
                    },
                    LabelFormat::Template { to, template: text } => LabelMaker::Template {
                        to: to.clone(),
                        template: template("label", text, "label")?,
                    },
                })
            };
            Step::LabelFormat(formats.iter().map(maker).collect::<Result<_, String>>()?)
        }
        Stage::Decolorize => Step::Decolorize,
        Stage::Drop(picks) => Step::Drop(picks.clone()),
        Stage::Keep(picks) => Step::Keep(picks.clone()),
    })
}

/// The labels that are needed behind the pipeline or by its steps.
fn needed(steps: &[Step], usage: &PipelineUse) -> Needed {
    let Some(behind) = &usage.labels else {
        return Needed::All;
    };
    let mut names = behind.clone();
    for step in steps {
        match step {
            Step::Filter(condition) => condition.labels(&mut names),
            Step::LineFormat(template) => match template.labels() {
                Some(labels) => names.extend(labels.iter().map(|l| l.to_string())),
                None => return Needed::All,
            },
            Step::LabelFormat(makers) => {
                for maker in makers {
                    match maker {
                        LabelMaker::Rename { from, .. } => names.push(from.clone()),
                        LabelMaker::Template { template, .. } => match template.labels() {
                            Some(labels) => names.extend(labels.iter().map(|l| l.to_string())),
                            None => return Needed::All,
                        },
                    }
                }
            }
            _ => {}
        }
    }
    names.sort_unstable();
    names.dedup();
    Needed::Names(names)
}

/// Texts that lines must hold for the label filters behind the first parsers to pass.
fn implied(steps: &[Step]) -> Vec<ImpliedText> {
    let mut out: Vec<ImpliedText> = Vec::new();
    let mut is_parsed = false;
    for step in steps {
        match step {
            Step::Line(_) => {}
            Step::Extract(Extraction::Json, _) => is_parsed = true,
            Step::Extract(Extraction::Logfmt(logfmt), _) if logfmt.takes_all() => is_parsed = true,
            Step::Filter(condition) if is_parsed => {
                for (label, value) in condition.conjuncts().iter().filter_map(|c| c.exact_value()) {
                    // Spaces may stand for bytes that are no UTF-8; error labels are not parsed.
                    let is_literal = !value.contains([' ', char::REPLACEMENT_CHARACTER]);
                    if is_literal && !label.starts_with("__error") {
                        out.push(ImpliedText {
                            label: label.to_owned(),
                            test: LineTest::containing(value.as_bytes()),
                        });
                    }
                }
            }
            Step::Filter(_) => {}
            _ => break,
        }
    }
    out
}
