//! From the text of an expression to what is compiled, within bounds.

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;
use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Hir, Look};

use crate::re2::dialect::{MAX_REPEAT, Translation, translate};

/// Bytes of a pattern as written. A dashboard variable that lists 10 000 hosts has about 300 KiB.
pub(super) const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Nested groups, classes and repetitions. People write five; parsing and compiling recurse by it.
const MAX_NESTING: u32 = 100;

/// Bytes of the compiled program. 10 000 host names whose dots are not escaped have more than 8 MiB; `(\pL{30}){30}` has no end.
const MAX_COMPILED_BYTES: usize = 32 << 20;

/// Where in a text an expression must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchoring {
    /// All of it: label matchers.
    Whole,
    /// Any part of it: searches in lines.
    Anywhere,
}

/// What `.` stands for, where the expression's own flags do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dot {
    /// Every character: label matchers.
    Any,
    /// Every character but the newline, Go's default.
    NotNewline,
}

/// An expression that Go would refuse, or that is larger than is allowed here; tells which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub(super) String);

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// A parsed expression.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) hir: Hir,
    /// The name of each group from 1, empty if it has none.
    pub(super) group_names: Vec<String>,
}

pub(super) fn parse(text: &str, dot: Dot) -> Result<Parsed, Refused> {
    if text.len() > MAX_PATTERN_BYTES {
        return Err(Refused(format!(
            "{} bytes long, at most {MAX_PATTERN_BYTES} are allowed",
            text.len()
        )));
    }
    let Translation { text, group_names } = translate(text)?;
    // Of errors the kinds alone: spans would point into the translated text.
    let ast = ParserBuilder::new()
        .nest_limit(MAX_NESTING)
        .build()
        .parse(&text)
        .map_err(|e| Refused(e.kind().to_string()))?;
    repeats(&ast)?;
    let hir = TranslatorBuilder::new()
        .dot_matches_new_line(dot == Dot::Any)
        .build()
        .translate(&text, &ast)
        .map_err(|e| Refused(e.kind().to_string()))?;
    Ok(Parsed { hir, group_names })
}

/// How often the innermost part of an expression is repeated by counts, at most. RE2 bounds what counts within counts come to.
fn repeats(ast: &Ast) -> Result<u32, Refused> {
    let most = |parts: &[Ast]| {
        let mut all = parts.iter().map(repeats);
        all.try_fold(1, |most, part| Ok(part?.max(most)))
    };
    match ast {
        Ast::Repetition(repetition) => {
            let inner = repeats(&repetition.ast)?;
            let count = match &repetition.op.kind {
                RepetitionKind::Range(RepetitionRange::Exactly(n)) => *n,
                RepetitionKind::Range(RepetitionRange::AtLeast(n)) => *n,
                RepetitionKind::Range(RepetitionRange::Bounded(_, n)) => *n,
                _ => return Ok(inner),
            };
            let all = count.saturating_mul(inner);
            if all > MAX_REPEAT {
                return Err(Refused(format!(
                    "repeat counts within each other come to {all}, which exceeds {MAX_REPEAT}"
                )));
            }
            Ok(all.max(1))
        }
        Ast::Group(group) => repeats(&group.ast),
        Ast::Alternation(alternation) => most(&alternation.asts),
        Ast::Concat(concat) => most(&concat.asts),
        _ => Ok(1),
    }
}

/// The same, of the whole text.
pub(super) fn whole(hir: Hir) -> Hir {
    Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)])
}

pub(super) fn compile(hir: &Hir, captures: WhichCaptures) -> Result<Regex, Refused> {
    Regex::builder()
        .configure(
            Regex::config()
                .nfa_size_limit(Some(MAX_COMPILED_BYTES))
                .which_captures(captures),
        )
        .syntax(syntax::Config::new())
        .build_from_hir(hir)
        .map_err(|e| {
            Refused(match e.size_limit() {
                Some(limit) => format!("compiled program exceeds {limit} bytes"),
                None => e.to_string(),
            })
        })
}
