//! What the groups of an expression matched.

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::captures::Captures;
use regex_automata::{Anchored, Input};

use crate::re2::expression::{Anchoring, Dot, Parsed, Refused, compile, parse, whole};

/// A regular expression that tells what its groups matched.
///
/// Is immutable and may be asked by many threads at once.
#[derive(Debug)]
pub struct Re2Groups {
    regex: Regex,
    anchored: Anchored,
    names: Vec<String>,
}

impl Re2Groups {
    /// Compiles an expression.
    ///
    /// # Errors
    /// As [`Re2::new`](crate::re2::Re2::new).
    pub fn new(text: &str, anchoring: Anchoring, dot: Dot) -> Result<Self, Refused> {
        let Parsed { hir, group_names } = parse(text, dot)?;
        let (hir, anchored) = match anchoring {
            Anchoring::Whole => (whole(hir), Anchored::Yes),
            Anchoring::Anywhere => (hir, Anchored::No),
        };
        Ok(Self {
            regex: compile(&hir, WhichCaptures::All)?,
            anchored,
            names: group_names,
        })
    }

    /// The names of the groups from 1 on; empty for one without a name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// What the groups are at the leftmost place that matches; `None` if no place does. Linear in the length of the text.
    pub fn find<'t>(&self, text: &'t str) -> Option<FoundGroups<'t>> {
        let mut captures = self.regex.create_captures();
        let input = Input::new(text).anchored(self.anchored);
        self.regex.search_captures(&input, &mut captures);
        captures
            .is_match()
            .then_some(FoundGroups { text, captures })
    }

    /// The places that match, from left to right, none overlapping the one before; as Go's `FindAll`, an empty match right behind the one
    /// before is left out.
    pub fn find_all<'t>(&self, text: &'t str) -> impl Iterator<Item = FoundGroups<'t>> {
        let input = Input::new(text).anchored(self.anchored);
        let mut last_end = None;
        let all = self.regex.captures_iter(input);
        let all = all.filter(move |captures| {
            let Some(span) = captures.get_match().map(|m| m.range()) else {
                return false;
            };
            let repeats = span.is_empty() && last_end == Some(span.start);
            last_end = Some(span.end);
            !repeats
        });
        all.map(move |captures| FoundGroups { text, captures })
    }
}

/// The groups at one place of a text.
#[derive(Debug)]
pub struct FoundGroups<'t> {
    text: &'t str,
    captures: Captures,
}

impl<'t> FoundGroups<'t> {
    /// Where a group stands, the whole match for 0.
    pub fn range(&self, group: usize) -> Option<std::ops::Range<usize>> {
        self.captures.get_group(group).map(|span| span.range())
    }

    /// The text of a group, the whole match for 0. `None` if the expression has no such group, or the match goes without it.
    pub fn get(&self, group: usize) -> Option<&'t str> {
        let span = self.captures.get_group(group)?;
        Some(&self.text[span.range()])
    }
}
