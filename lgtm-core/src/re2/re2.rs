//! A compiled regular expression, in the cheapest form that answers whether a text matches.

use std::collections::HashSet;

use memchr::memmem::Finder;
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{self, Hir, Repetition};

use crate::re2::alternatives::alternatives;
use crate::re2::expand::{Piece, Sequence, expand};
use crate::re2::expression::{Anchoring, Dot, MAX_PATTERN_BYTES, Refused, compile, parse, whole};

/// Sets up to this many literals are compared one by one.
const SMALL_SET: usize = 8;

/// Globs past this many go to the engine, which looks at the text once and not once for each.
const MAX_GLOBS: usize = 16;

/// A regular expression that tells whether a text matches.
///
/// Is immutable and may be asked by many threads at once.
#[derive(Debug)]
pub struct Re2 {
    form: Form,
    prefix: String,
    required: Vec<String>,
    required_any: Vec<Vec<String>>,
}

#[derive(Debug)]
enum Form {
    /// Every text.
    All,
    /// Every text but the empty one.
    NotEmpty,
    /// One of these; sorted.
    Few(Vec<String>),
    /// One of these; the list is sorted.
    Many(Vec<String>, HashSet<String>),
    /// One of the literals, or one of the globs.
    Globs(Vec<String>, Vec<Glob>),
    /// The engine, anchored at the start of the text or not.
    Engine(Box<Regex>, Anchored),
}

impl Re2 {
    /// Compiles an expression. Costs microseconds for what people write; a list of names, `a|b|c`, is not parsed at all.
    ///
    /// # Errors
    /// When `text` is not an expression of RE2, is longer than 1 MiB, nests deeper than 100, or compiles to more than 32 MiB.
    pub fn new(text: &str, anchoring: Anchoring, dot: Dot) -> Result<Self, Refused> {
        if anchoring == Anchoring::Whole
            && let Some(sequences) = plain_alternatives(text)
        {
            let prefix = prefix_of(&sequences);
            if let Some(form) = fast_form(sequences) {
                return Ok(Self {
                    form,
                    prefix,
                    required: Vec::new(),
                    required_any: Vec::new(),
                });
            }
        }
        Self::parsed(text, anchoring, dot)
    }

    /// The same by way of the parser.
    fn parsed(text: &str, anchoring: Anchoring, dot: Dot) -> Result<Self, Refused> {
        let hir = parse(text, dot)?.hir;
        let sequences = match anchoring {
            Anchoring::Whole => expand(&hir),
            Anchoring::Anywhere => expand(&amid_any_text(hir.clone())),
        };
        let prefix = match (&sequences, anchoring) {
            (Some(sequences), _) => prefix_of(sequences),
            (None, Anchoring::Whole) => extract_prefix(&hir),
            (None, Anchoring::Anywhere) => String::new(),
        };
        let mut required = Vec::new();
        required_literals(&hir, &mut required);
        let required_any = match anchoring {
            // Only searches in longer texts ask for it, and matchers of hostile length are many.
            Anchoring::Whole => Vec::new(),
            Anchoring::Anywhere => alternatives(&hir),
        };
        let form = match sequences.and_then(fast_form) {
            Some(form) => form,
            None => engine(hir, anchoring)?,
        };
        Ok(Self {
            form,
            prefix,
            required,
            required_any,
        })
    }

    /// The plain engine, whatever the expression: what the fast forms are tested against.
    #[cfg(test)]
    pub(super) fn engine_only(text: &str, anchoring: Anchoring, dot: Dot) -> Result<Self, Refused> {
        Ok(Self {
            form: engine(parse(text, dot)?.hir, anchoring)?,
            prefix: String::new(),
            required: Vec::new(),
            required_any: Vec::new(),
        })
    }

    /// Whether a text matches. Linear in its length.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.form {
            Form::All => true,
            Form::NotEmpty => !text.is_empty(),
            Form::Few(literals) => literals.iter().any(|literal| literal == text),
            Form::Many(_, literals) => literals.contains(text),
            Form::Globs(literals, globs) => {
                literals.iter().any(|literal| literal == text)
                    || globs.iter().any(|glob| glob.is_match(text.as_bytes()))
            }
            Form::Engine(regex, anchored) => regex.is_match(Input::new(text).anchored(*anchored)),
        }
    }

    /// The texts that match, sorted, if they are finitely many and known.
    pub fn literals(&self) -> Option<&[String]> {
        match &self.form {
            Form::Few(literals) | Form::Many(literals, _) => Some(literals),
            _ => None,
        }
    }

    /// A prefix of every text that matches; empty if nothing is known.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Texts that stand in every text that matches, as far as the expression shows them.
    pub fn required(&self) -> &[String] {
        &self.required
    }

    /// Lists of texts: of each list, one stands in every text that matches. As far as the expression shows them;
    /// none of an expression that matches whole texts.
    pub fn required_any(&self) -> &[Vec<String>] {
        &self.required_any
    }

    #[cfg(test)]
    pub(super) fn needs_engine(&self) -> bool {
        matches!(self.form, Form::Engine(..))
    }
}

/// Literals that a match cannot do without.
fn required_literals(hir: &Hir, out: &mut Vec<String>) {
    match hir.kind() {
        hir::HirKind::Literal(literal) => {
            out.extend(String::from_utf8(literal.0.to_vec()));
        }
        hir::HirKind::Concat(parts) => {
            for part in parts {
                required_literals(part, out);
            }
        }
        hir::HirKind::Capture(capture) => required_literals(&capture.sub, out),
        hir::HirKind::Repetition(Repetition { min: 1.., sub, .. }) => required_literals(sub, out),
        _ => {}
    }
}

/// What most matchers are, `a|b|c`: nothing in it has a meaning but the bars, so that parsing would cost more than all the rest.
fn plain_alternatives(text: &str) -> Option<Vec<Sequence>> {
    const MEANINGFUL: &[char] = &[
        '\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$',
    ];
    if text.len() > MAX_PATTERN_BYTES || text.contains(MEANINGFUL) {
        return None;
    }
    let mut literals: Vec<&str> = text.split('|').collect();
    literals.sort_unstable();
    literals.dedup();
    let sequence = |literal: &str| match literal {
        "" => Vec::new(),
        literal => vec![Piece::Literal(literal.into())],
    };
    Some(literals.into_iter().map(sequence).collect())
}

fn engine(hir: Hir, anchoring: Anchoring) -> Result<Form, Refused> {
    let (hir, anchored) = match anchoring {
        Anchoring::Whole => (whole(hir), Anchored::Yes),
        Anchoring::Anywhere => (hir, Anchored::No),
    };
    let regex = compile(&hir, WhichCaptures::None)?;
    Ok(Form::Engine(Box::new(regex), anchored))
}

/// The same between any texts: what is found anywhere in a text, asked of the whole.
fn amid_any_text(hir: Hir) -> Hir {
    let any = || {
        Hir::repetition(Repetition {
            min: 0,
            max: None,
            greedy: true,
            sub: Box::new(Hir::dot(hir::Dot::AnyChar)),
        })
    };
    Hir::concat(vec![any(), hir, any()])
}

fn fast_form(sequences: Vec<Sequence>) -> Option<Form> {
    let (finite, open): (Vec<_>, Vec<_>) = sequences
        .into_iter()
        .partition(|sequence| matches!(sequence[..], [] | [Piece::Literal(_)]));
    let mut literals = Vec::with_capacity(finite.len());
    for mut sequence in finite {
        let bytes = match sequence.pop() {
            Some(Piece::Literal(bytes)) => bytes,
            _ => Vec::new(),
        };
        literals.push(String::from_utf8(bytes).ok()?);
    }
    literals.sort_unstable();
    if open.is_empty() {
        return Some(if literals.len() <= SMALL_SET {
            Form::Few(literals)
        } else {
            let set = literals.iter().cloned().collect();
            Form::Many(literals, set)
        });
    }
    if open.iter().any(|sequence| sequence[..] == [Piece::Any]) {
        return Some(Form::All);
    }
    if open.iter().any(|sequence| sequence[..] == [Piece::Some]) {
        let empty_too = literals.first().is_some_and(String::is_empty);
        let nullable = open.iter().any(|s| !s.iter().any(|p| *p != Piece::Any));
        return Some(if empty_too || nullable {
            Form::All
        } else {
            Form::NotEmpty
        });
    }
    if open.len() + literals.len() > MAX_GLOBS {
        return None;
    }
    Some(Form::Globs(
        literals,
        open.into_iter().map(Glob::new).collect(),
    ))
}

fn prefix_of(sequences: &[Sequence]) -> String {
    let first = |sequence: &'_ Sequence| match sequence.first() {
        Some(Piece::Literal(literal)) => literal.clone(),
        _ => Vec::new(),
    };
    let prefixes = sequences.iter().map(first);
    let common = prefixes.reduce(|mut common, next| {
        let same = common.iter().zip(&next).take_while(|(a, b)| a == b).count();
        common.truncate(same);
        common
    });
    whole_chars(common.unwrap_or_default())
}

fn extract_prefix(hir: &Hir) -> String {
    let literals = Extractor::new().extract(hir);
    let common = literals.longest_common_prefix().unwrap_or_default();
    whole_chars(common.to_vec())
}

/// The longest start of `bytes` that ends with a character.
fn whole_chars(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let whole = e.utf8_error().valid_up_to();
            let mut bytes = e.into_bytes();
            bytes.truncate(whole);
            String::from_utf8(bytes).expect("cut where UTF-8 is valid")
        }
    }
}

/// Literals between gaps: `prefix.*middle.+suffix`.
#[derive(Debug)]
struct Glob {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    /// Each with the gap before it.
    middles: Vec<(Gap, Finder<'static>)>,
    /// The gap before the suffix.
    last: Gap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    Any,
    Some,
}

impl Gap {
    /// Bytes to leave out at least. A gap starts where a character does and ends where one does, so a byte stands for a character.
    fn min(self) -> usize {
        match self {
            Self::Any => 0,
            Self::Some => 1,
        }
    }
}

impl Glob {
    /// `sequence` has a gap.
    fn new(mut sequence: Sequence) -> Self {
        let suffix = match sequence.pop() {
            Some(Piece::Literal(literal)) => literal,
            gap => {
                sequence.extend(gap);
                Vec::new()
            }
        };
        let mut glob = Self {
            prefix: Vec::new(),
            suffix,
            middles: Vec::new(),
            last: Gap::Any,
        };
        for (i, piece) in sequence.into_iter().enumerate() {
            match piece {
                Piece::Literal(literal) if i == 0 => glob.prefix = literal,
                Piece::Literal(literal) => {
                    let finder = Finder::new(&literal).into_owned();
                    glob.middles.push((glob.last, finder));
                }
                Piece::Any => glob.last = Gap::Any,
                Piece::Some => glob.last = Gap::Some,
            }
        }
        glob
    }

    fn is_match(&self, value: &[u8]) -> bool {
        let Some(rest) = value.strip_prefix(&self.prefix[..]) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&self.suffix[..]) else {
            return false;
        };
        // The leftmost place of each literal leaves the most for those after it.
        for (gap, finder) in &self.middles {
            let Some(found) = rest.get(gap.min()..).and_then(|r| finder.find(r)) else {
                return false;
            };
            rest = &rest[gap.min() + found + finder.needle().len()..];
        }
        rest.len() >= self.last.min()
    }
}

#[cfg(test)]
mod tests;
