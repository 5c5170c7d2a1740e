//! Text with references to groups: `$1`, `${name}`.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicodeRange, HirKind};

use crate::re2::groups::{FoundGroups, Re2Groups};

/// Text with references to the groups of one expression, as Go's `Regexp.Expand` reads it.
///
/// `$name` is as long as it can be, so that `$1x` is the group `1x`; `${1}x` is the group 1. `$$` is a dollar, and so is one that
/// nothing follows which could be a name. A number begins with no zero and is below 10^9. A group that does not exist is empty; of several
/// with one name the first counts that takes part in the match.
#[derive(Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The first of these groups that takes part.
    Groups(Vec<usize>),
}

impl Template {
    /// Reads a template. Every text is one.
    pub fn new(text: &str, groups: &Re2Groups) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            push_text(&mut parts, before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                push_text(&mut parts, "$");
                rest = after;
            } else if let Some((name, after)) = reference(rest) {
                parts.push(Part::Groups(groups_of(name, groups)));
                rest = after;
            } else {
                push_text(&mut parts, "$");
            }
        }
        push_text(&mut parts, rest);
        Self { parts }
    }

    /// What it becomes, in pieces.
    pub fn expand<'a>(
        &'a self,
        found: &'a FoundGroups<'_>,
    ) -> impl Iterator<Item = &'a str> + Clone {
        self.parts.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Groups(groups) => {
                let mut taking_part = groups.iter().filter_map(|group| found.get(*group));
                taking_part.next().unwrap_or("")
            }
        })
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// The name after a `$`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (braced, text) = match text.strip_prefix('{') {
        Some(inside) => (true, inside),
        None => (false, text),
    };
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let after = if braced {
        after.strip_prefix('}')?
    } else {
        after
    };
    (!name.is_empty()).then_some((name, after))
}

/// Whether a character is a letter or a digit to Go: the categories L and Nd, which Rust's own tests go beyond.
fn is_word(c: char) -> bool {
    static LETTERS_AND_DIGITS: LazyLock<Vec<ClassUnicodeRange>> = LazyLock::new(|| {
        let class = regex_syntax::parse(r"[\p{L}\p{Nd}]").map(|hir| hir.into_kind());
        match class {
            Ok(HirKind::Class(Class::Unicode(class))) => class.ranges().to_vec(),
            _ => Vec::new(),
        }
    });
    if c.is_ascii() {
        return c == '_' || c.is_ascii_alphanumeric();
    }
    let ranges = &**LETTERS_AND_DIGITS;
    let at = ranges.partition_point(|range| range.end() < c);
    ranges.get(at).is_some_and(|range| range.start() <= c)
}

fn groups_of(name: &str, groups: &Re2Groups) -> Vec<usize> {
    const MAX_DIGITS: usize = 9;
    let is_number = name.bytes().all(|b| b.is_ascii_digit())
        && name.len() <= MAX_DIGITS
        && (name == "0" || !name.starts_with('0'));
    if is_number {
        return name.parse().into_iter().collect();
    }
    let named = groups.names().enumerate().filter(|(_, n)| *n == name);
    named.map(|(at, _)| at + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::re2::{Anchoring, Dot};

    fn expand(pattern: &str, template: &str, text: &str) -> Option<String> {
        let groups = Re2Groups::new(pattern, Anchoring::Whole, Dot::Any).unwrap();
        let template = Template::new(template, &groups);
        let found = groups.find(text)?;
        Some(template.expand(&found).collect())
    }

    #[test]
    fn templates_are_expanded_as_go_does() {
        for (pattern, template, text, wanted) in [
            ("(.*)-(.*)", "$2_$1", "a-b", "a"),
            ("(.*)-(.*)", "${2}_$1", "a-b", "b_a"),
            ("(?P<x>.*)", "$x$$", "a", "a$"),
            ("a", "$9b", "a", ""),
            ("a.b", "$", "a\nb", "$"),
            ("(x)", "<$0$1$2>", "x", "<xx>"),
            // No number begins with a zero; as a name there may be one.
            ("(x)", "<$01>", "x", "<>"),
            ("(?P<01>x)", "<$01>", "x", "<x>"),
            ("(x)", "<$1000000001>", "x", "<>"),
            // Names are letters and digits of any script, but no other numbers and no marks.
            ("(x)", "$1\u{b2}", "x", "x\u{b2}"),
            ("(x)", "$1\u{903}", "x", "x\u{903}"),
            ("(x)", "$1\u{e4}", "x", ""),
            ("(x)", "$1\u{663}", "x", ""),
            ("(x)", "${1", "x", "${1"),
            ("(x)", "${}$-${1-}", "x", "${}$-${1-}"),
            ("(x)", "${1}$$1$", "x", "x$1$"),
            ("(a)|(b)", "$1.$2", "b", ".b"),
            ("(?P<n>a)|(?P<n>b)", "<$n>", "b", "<b>"),
        ] {
            let found = expand(pattern, template, text);
            assert_eq!(found.as_deref(), Some(wanted), "{pattern} {template}");
        }
        assert_eq!(expand("a", "b", "ab"), None);
    }
}
