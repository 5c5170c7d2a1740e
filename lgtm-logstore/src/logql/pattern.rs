//! Patterns of literals and captures: `<ip> - <_> "<method> <_>"`.

use memchr::memmem::Finder;

/// A part of a pattern.
#[derive(Debug, Clone)]
enum PatternPart {
    Literal(Box<Finder<'static>>),
    /// A capture; without a name what it catches is of no interest.
    Capture(Option<String>),
}

/// A pattern, for the parser of that name and for line filters.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    parts: Vec<PatternPart>,
}

impl Pattern {
    /// A pattern that takes lines apart: at least one named capture, no name twice, none beside another.
    ///
    /// # Errors
    /// In the words of Loki.
    pub(crate) fn parser(text: &str) -> Result<Self, String> {
        let pattern = Self::read(text)?;
        let names: Vec<&str> = pattern.names().collect();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        for (n, name) in names.iter().enumerate() {
            if names[..n].contains(name) {
                return Err(format!(
                    "duplicate capture name ({name}): invalid expression"
                ));
            }
        }
        Ok(pattern)
    }

    /// A pattern that lines are compared with: captures have no names.
    ///
    /// # Errors
    /// In the words of Loki.
    pub(crate) fn filter(text: &str) -> Result<Self, String> {
        let pattern = Self::read(text)?;
        let named = pattern.names().next().map(str::to_owned);
        match named {
            Some(name) => Err(format!("named captures are not allowed: found '<{name}>'")),
            None => Ok(pattern),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let mut parts: Vec<PatternPart> = Vec::new();
        let mut literal = String::new();
        let mut last_capture: Option<&str> = None;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some((name, whole)) = capture(rest) {
                if literal.is_empty()
                    && let Some(before) = last_capture
                {
                    return Err(format!(
                        "found consecutive capture '{before}{whole}': invalid expression"
                    ));
                }
                push_literal(&mut parts, &mut literal);
                parts.push(PatternPart::Capture((name != "_").then(|| name.to_owned())));
                last_capture = Some(whole);
                rest = &rest[whole.len()..];
            } else {
                literal.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        push_literal(&mut parts, &mut literal);
        Ok(Self { parts })
    }

    /// The names of its captures, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| match p {
            PatternPart::Capture(name) => name.as_deref(),
            PatternPart::Literal(_) => None,
        })
    }

    /// Literals that every line holds which the pattern matches as a filter.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter_map(|p| match p {
            PatternPart::Literal(l) => Some(l.needle()),
            PatternPart::Capture(_) => None,
        })
    }

    /// Takes a line apart: calls `sink` with the number of each named capture and what it caught, until that says `false`.
    ///
    /// A literal at the start must stand at the start. Where a later literal is missing, the capture before it takes the rest, and the
    /// others nothing.
    pub(crate) fn captures<'l>(
        &self,
        line: &'l [u8],
        mut sink: impl FnMut(usize, &'l [u8]) -> bool,
    ) {
        if line.is_empty() {
            return;
        }
        let mut rest = line;
        let mut parts = self.parts.iter().peekable();
        if let Some(PatternPart::Literal(literal)) = parts.peek() {
            match rest.strip_prefix(literal.needle()) {
                Some(after) => rest = after,
                None => return,
            }
            parts.next();
        }
        let mut number = 0;
        while let Some(part) = parts.next() {
            let PatternPart::Capture(name) = part else {
                continue;
            };
            let found = match parts.next() {
                Some(PatternPart::Literal(l)) => l.find(rest).map(|at| (at, at + l.needle().len())),
                _ => None,
            };
            let (caught, after) = match found {
                Some((end, next)) => (&rest[..end], Some(&rest[next..])),
                None => (rest, None),
            };
            if name.is_some() {
                if !sink(number, caught) {
                    return;
                }
                number += 1;
            }
            match after {
                Some(after) => rest = after,
                None => return,
            }
        }
    }

    /// Whether a line matches it as a filter. The start is not anchored, the end is; a capture is at least one byte.
    pub(crate) fn is_match(&self, line: &[u8]) -> bool {
        let Some((last, parts)) = self.parts.split_last() else {
            return line.is_empty();
        };
        let mut rest = line;
        let mut after_capture = false;
        for part in parts {
            match part {
                PatternPart::Capture(_) => after_capture = true,
                PatternPart::Literal(literal) => {
                    match literal.find(rest) {
                        Some(0) if after_capture => return false,
                        Some(at) => rest = &rest[at + literal.needle().len()..],
                        None => return false,
                    }
                    after_capture = false;
                }
            }
        }
        match last {
            PatternPart::Capture(_) => !rest.is_empty(),
            PatternPart::Literal(literal) => match literal.find(rest) {
                Some(0) if after_capture => false,
                Some(at) => at + literal.needle().len() == rest.len(),
                None => false,
            },
        }
    }
}

fn push_literal(parts: &mut Vec<PatternPart>, literal: &mut String) {
    if !literal.is_empty() {
        let finder = Finder::new(literal.as_bytes()).into_owned();
        parts.push(PatternPart::Literal(Box::new(finder)));
        literal.clear();
    }
}

/// `<name>` at the start of a text: the name, and all of it.
fn capture(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('<')?;
    let end = inside.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric()))?;
    let name = &inside[..end];
    let named = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
    (named && inside[end..].starts_with('>')).then(|| (name, &text[..end + 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(pattern: &str, line: &str) -> Vec<(usize, String)> {
        let mut out = Vec::new();
        Pattern::parser(pattern)
            .unwrap()
            .captures(line.as_bytes(), |n, text| {
                out.push((n, String::from_utf8(text.to_vec()).unwrap()));
                true
            });
        out
    }

    #[test]
    fn a_capture_ends_at_the_next_literal_or_with_the_line() {
        let texts = |p, l| caught(p, l).into_iter().map(|c| c.1).collect::<Vec<_>>();
        assert_eq!(texts("[<a>] <b>", "[x] y z"), ["x", "y z"]);
        assert_eq!(texts("<a> <_> <b>", "1 2 3"), ["1", "3"]);
        assert_eq!(texts("<a>|<b>", "all"), ["all"]);
        assert!(texts("no <a>", "yes").is_empty());
    }

    #[test]
    fn filters_are_anchored_at_the_end_only() {
        let m = |p: &str, l: &str| Pattern::filter(p).unwrap().is_match(l.as_bytes());
        assert!(m("b<_>d", "abcd") && !m("b<_>d", "abd") && !m("b<_>d", "abcde"));
        assert!(m("<_>x<_>", "axb") && !m("<_>x<_>", "ax") && m("", "") && !m("", "a"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_pattern_or_an_error(text in "[<>_a-c ]{0,12}", line: Vec<u8>) {
            if let Ok(p) = Pattern::filter(&text) {
                p.is_match(&line);
            }
            if let Ok(p) = Pattern::parser(&text) {
                p.captures(&line, |_, _| true);
            }
        }
    }
}
