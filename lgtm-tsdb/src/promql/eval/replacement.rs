//! What `label_replace` does to a value: a pattern that must match all of it, and a template with the pattern's groups.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

/// A pattern and a template.
#[derive(Debug)]
pub(super) struct Replacement {
    pattern: Regex,
    template: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A group by number.
    Group(usize),
}

/// The pattern is not one.
#[derive(Debug)]
pub(super) struct BadPattern;

/// A pattern may compile to this many bytes: a bound on what `a{1000}{1000}` costs.
const MAX_COMPILED_BYTES: usize = 2 << 20;

impl Replacement {
    pub(super) fn new(pattern: &str, template: &str) -> Result<Self, BadPattern> {
        let syntax = syntax::Config::new().dot_matches_new_line(true);
        let config = Regex::config().nfa_size_limit(Some(MAX_COMPILED_BYTES));
        let pattern = Regex::builder()
            .syntax(syntax)
            .configure(config)
            .build(&format!("^(?:{pattern})$"))
            .map_err(|_| BadPattern)?;
        let template = parse(template, &pattern);
        Ok(Self { pattern, template })
    }

    /// The new value; `None` when the pattern does not match. `room` is asked before a value of so many bytes is made.
    pub(super) fn of<E>(
        &self,
        value: &str,
        room: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<Option<String>, E> {
        let mut groups = self.pattern.create_captures();
        self.pattern.captures(value, &mut groups);
        if !groups.is_match() {
            return Ok(None);
        }
        let parts = self.template.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Group(n) => groups.get_group(*n).map_or("", |s| &value[s.range()]),
        });
        room(parts.clone().map(str::len).sum())?;
        Ok(Some(parts.collect()))
    }
}

/// `$1`, `$name`, `${1}`, `${name}` and `$$`, as Go's `Regexp.Expand` reads them.
fn parse(template: &str, pattern: &Regex) -> Vec<Part> {
    let names: Vec<Option<&str>> = pattern
        .group_info()
        .pattern_names(Default::default())
        .collect();
    let mut out = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push(Part::Text(rest[..at].to_owned()));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push(Part::Text("$".to_owned()));
            rest = after;
            continue;
        }
        let Some((name, after)) = reference(rest) else {
            out.push(Part::Text("$".to_owned()));
            continue;
        };
        rest = after;
        let place = match name.bytes().all(|b| b.is_ascii_digit()) {
            true => name.parse().ok(),
            false => names.iter().position(|n| *n == Some(name)),
        };
        // A group that is not there is empty.
        out.extend(place.map(Part::Group));
    }
    out.push(Part::Text(rest.to_owned()));
    out.retain(|p| *p != Part::Text(String::new()));
    out
}

/// The name after a `$`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    if let Some(inside) = text.strip_prefix('{') {
        let (name, after) = inside.split_once('}')?;
        return (!name.is_empty() && name.chars().all(is_word)).then_some((name, after));
    }
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_expanded_as_go_does() {
        let of = |pattern: &str, template: &str, value: &str| {
            let replacement = Replacement::new(pattern, template).unwrap();
            replacement.of(value, |_| Ok::<_, ()>(())).unwrap()
        };
        let some = |s: &str| Some(s.to_owned());
        // The name goes as far as it can: there is no group `2_`.
        assert_eq!(of("(.*)-(.*)", "$2_$1", "a-b"), some("a"));
        assert_eq!(of("(.*)-(.*)", "${2}_$1", "a-b"), some("b_a"));
        assert_eq!(of("(?P<x>.*)", "$x$$", "a"), some("a$"));
        assert_eq!(of("a", "$9b", "a"), some(""));
        assert_eq!(of("a", "b", "ab"), None);
        assert_eq!(of("a.b", "$", "a\nb"), some("$"));
        let doubled = Replacement::new("(.*)", "$1$1").unwrap();
        assert_eq!(doubled.of("abc", Err), Err(6), "asked before it is made");
        assert!(Replacement::new("(", "").is_err());
        assert!(Replacement::new("((a{1000}){1000}){1000}", "").is_err());
    }
}
