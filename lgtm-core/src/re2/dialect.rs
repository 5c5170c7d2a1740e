//! From the syntax of RE2 (Go's `regexp`) to that of `regex-syntax`.
//!
//! Both parse the same core. They differ in `\Q..\E`, octal escapes, `\p{^..}`, braces that are no repetition, and in what stands inside
//! brackets; and where both parse, they may mean different things: `\d \s \w \b` are ASCII in RE2, `\<` is a plain character,
//! `[a&&b]` is no intersection. What RE2 refuses (flags, escapes) is refused here by name.
//! Source: <https://github.com/google/re2/wiki/Syntax> and the documentation of Go's `regexp/syntax`.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

/// The most that a repetition may count, as in RE2.
pub(super) const MAX_REPEAT: u32 = 1000;

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// What is wrong with a pattern.
pub(super) type Reason = String;

/// An expression in the words of `regex-syntax`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Translation {
    /// To be parsed in Unicode mode. Its groups have no names, as RE2 takes names that `regex-syntax` does not.
    pub(super) text: String,
    /// The name of each group from 1, empty if it has none.
    pub(super) group_names: Vec<String>,
}

/// The same expression for `regex-syntax`.
pub(super) fn translate(pattern: &str) -> Result<Translation, Reason> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 8),
        group_names: Vec::new(),
        unicode_classes: HashMap::new(),
        before: Before::Other,
    };
    translator.run()?;
    Ok(Translation {
        text: translator.out,
        group_names: translator.group_names,
    })
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    group_names: Vec<String>,
    /// What each `\p` became, as parsing one builds its table.
    unicode_classes: HashMap<String, String>,
    before: Before,
}

/// What stands before the place that is looked at, as far as a repetition asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A repetition, which may not be repeated.
    Repetition,
    /// Flags, which what is repeated stands before; with where they begin in what was written.
    Flags(usize),
    Other,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), Reason> {
        while let Some(c) = self.rest.next() {
            let before = std::mem::replace(&mut self.before, Before::Other);
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group(before)?,
                '{' => match self.counts()? {
                    Some(counts) => self.repeat(&counts, before)?,
                    None => self.literal('{'),
                },
                '*' | '+' | '?' => self.repeat(c.encode_utf8(&mut [0; 4]), before)?,
                '.' | '|' | ')' | '^' | '$' => self.out.push(c),
                _ => self.literal(c),
            }
        }
        Ok(())
    }

    /// Writes a repetition, with the `?` that makes it lazy.
    fn repeat(&mut self, operator: &str, before: Before) -> Result<(), Reason> {
        let lazy = if self.rest.next_if_eq(&'?').is_some() {
            "?"
        } else {
            ""
        };
        let at = match before {
            Before::Repetition => {
                return Err(format!(
                    "invalid nested repetition operator {operator}{lazy}"
                ));
            }
            Before::Flags(at) => at,
            Before::Other => self.out.len(),
        };
        self.out.insert_str(at, lazy);
        self.out.insert_str(at, operator);
        self.before = Before::Repetition;
        Ok(())
    }

    fn literal(&mut self, c: char) {
        if regex_syntax::is_meta_character(c) {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    fn starts_with(&self, text: &str) -> bool {
        let mut rest = self.rest.clone();
        text.chars().all(|c| rest.next() == Some(c))
    }

    fn skip(&mut self, chars: usize) {
        self.rest.by_ref().take(chars).for_each(drop);
    }

    /// After a backslash outside of brackets.
    fn escape(&mut self) -> Result<(), Reason> {
        match self.rest.peek() {
            Some('Q') => {
                self.skip(1);
                while !self.starts_with("\\E") {
                    match self.rest.next() {
                        Some(c) => self.literal(c),
                        None => return Ok(()),
                    }
                }
                self.skip(2);
            }
            Some('A') => self.replace("\\A"),
            Some('z') => self.replace("\\z"),
            Some('b') => self.replace(r"(?-u:\b)"),
            Some('B') => self.replace(r"(?-u:\B)"),
            Some('d' | 'D' | 's' | 'S' | 'w' | 'W' | 'p' | 'P') => self.class_escape()?,
            _ => {
                let c = self.char_escape()?;
                self.literal(c);
            }
        }
        Ok(())
    }

    fn replace(&mut self, by: &str) {
        self.skip(1);
        self.out.push_str(by);
    }

    /// `\d` and its like and `\p`, inside brackets or outside: always a bracket class of its own.
    fn class_escape(&mut self) -> Result<(), Reason> {
        match self.rest.next() {
            Some('d') => self.out.push_str("[0-9]"),
            Some('D') => self.out.push_str("[^0-9]"),
            Some('s') => self.out.push_str(r"[\t\n\f\r ]"),
            Some('S') => self.out.push_str(r"[^\t\n\f\r ]"),
            Some('w') => self.out.push_str("[0-9A-Za-z_]"),
            Some('W') => self.out.push_str("[^0-9A-Za-z_]"),
            Some(p) => return self.unicode_class(p == 'P'),
            None => return Err("trailing backslash".into()),
        }
        Ok(())
    }

    fn unicode_class(&mut self, mut negated: bool) -> Result<(), Reason> {
        let mut name = String::new();
        match self.rest.next() {
            Some('{') => loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some('^') if name.is_empty() => negated = !negated,
                    Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                    _ => return Err(format!("invalid character class range \\p{{{name}")),
                }
            },
            Some(c) if c.is_ascii_alphabetic() => name.push(c),
            _ => return Err("invalid character class range \\p".into()),
        }
        if !self.unicode_classes.contains_key(&name) {
            // Go knows general categories and scripts, `regex-syntax` also properties of other kinds.
            let class = ["gc", "sc"]
                .map(|kind| format!("{{{kind}={name}}}"))
                .into_iter()
                .find(|class| regex_syntax::parse(&format!("\\p{class}")).is_ok())
                .ok_or_else(|| format!("invalid character class range \\p{{{name}}}"))?;
            self.unicode_classes.insert(name.clone(), class);
        }
        self.out.push_str(if negated { "\\P" } else { "\\p" });
        self.out.push_str(&self.unicode_classes[&name]);
        Ok(())
    }

    /// After a backslash: an escape that stands for one character.
    fn char_escape(&mut self) -> Result<char, Reason> {
        let c = self.rest.next().ok_or("trailing backslash")?;
        let octal = |c: Option<&char>| c.and_then(|c| c.to_digit(8));
        match c {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            'x' => self.hex_escape(),
            '1'..='7' if octal(self.rest.peek()).is_none() => {
                Err(format!("backreference \\{c} is not supported"))
            }
            '0'..='7' => {
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = octal(self.rest.peek()) else {
                        break;
                    };
                    self.skip(1);
                    value = value * 8 + digit;
                }
                char::from_u32(value).ok_or_else(|| format!("invalid octal escape {value:o}"))
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            c => Err(format!("invalid escape sequence \\{c}")),
        }
    }

    fn hex_escape(&mut self) -> Result<char, Reason> {
        let mut digits = String::new();
        let braced = self.rest.peek() == Some(&'{');
        if braced {
            self.skip(1);
            loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(c) if digits.len() < 8 => digits.push(c),
                    _ => return Err(format!("invalid escape sequence \\x{{{digits}")),
                }
            }
        } else {
            digits.extend(self.rest.by_ref().take(2));
        }
        let complete = braced || digits.len() == 2;
        let hex = complete && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let value = u32::from_str_radix(&digits, 16).ok().filter(|_| hex);
        value
            .and_then(char::from_u32)
            .ok_or_else(|| format!("invalid escape sequence \\x{digits}"))
    }

    /// After `(`.
    fn group(&mut self, before: Before) -> Result<(), Reason> {
        if self.rest.next_if_eq(&'?').is_none() {
            self.group_names.push(String::new());
            self.out.push('(');
            return Ok(());
        }
        let named = ["P<", "<"].into_iter().find(|name| self.starts_with(name));
        if let Some(opening) = named {
            self.skip(opening.len());
            let name = self.group_name()?;
            self.group_names.push(name);
            self.out.push('(');
            return Ok(());
        }
        self.flags(before)
    }

    /// After `(?`. What is switched twice has its last state, which `regex-syntax` would refuse.
    fn flags(&mut self, before: Before) -> Result<(), Reason> {
        const FLAGS: [char; 4] = ['i', 'm', 's', 'U'];
        let mut states: [Option<bool>; 4] = [None; 4];
        let (mut is_on, mut is_complete) = (true, true);
        let end = loop {
            let c = self.rest.next().ok_or("missing closing )")?;
            if let Some(flag) = FLAGS.iter().position(|f| *f == c) {
                states[flag] = Some(is_on);
                is_complete = true;
            } else if c == '-' && is_on {
                (is_on, is_complete) = (false, false);
            } else if matches!(c, ':' | ')') && is_complete {
                break c;
            } else {
                return Err(format!("invalid or unsupported Perl syntax (?{c}"));
            }
        };
        let of_state = |state: bool| {
            let flags = FLAGS.iter().zip(states);
            flags
                .filter(move |(_, s)| *s == Some(state))
                .map(|(f, _)| f)
        };
        let at = self.out.len();
        let mut text: String = of_state(true).collect();
        if states.contains(&Some(false)) {
            text.push('-');
            text.extend(of_state(false));
        }
        if end == ':' {
            self.out.push_str(&format!("(?{text}:"));
            return Ok(());
        }
        if !text.is_empty() {
            self.out.push_str(&format!("(?{text})"));
        }
        self.before = match before {
            Before::Flags(first) => Before::Flags(first),
            Before::Repetition | Before::Other => Before::Flags(at),
        };
        Ok(())
    }

    fn group_name(&mut self) -> Result<String, Reason> {
        let mut name = String::new();
        loop {
            match self.rest.next() {
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                Some('>') if !name.is_empty() => return Ok(name),
                _ => return Err("invalid named capture".into()),
            }
        }
    }

    /// After `{`: the counts of a repetition, or `None` if it is a plain brace.
    fn counts(&mut self) -> Result<Option<String>, Reason> {
        let mut ahead = self.rest.clone();
        let mut text = String::from("{");
        // Digits without a leading zero.
        let mut number = |text: &mut String| {
            let from = text.len();
            while let Some(digit) = ahead.next_if(char::is_ascii_digit) {
                text.push(digit);
            }
            let digits = &text[from..];
            let is_number = digits.len() < 2 || !digits.starts_with('0');
            let comma = ahead.next_if_eq(&',').is_some();
            (is_number.then(|| digits.to_owned()), comma)
        };
        let (min, comma) = number(&mut text);
        let Some(min) = min.filter(|min| !min.is_empty()) else {
            return Ok(None);
        };
        let max = if comma {
            text.push(',');
            match number(&mut text) {
                (Some(max), false) => max,
                _ => return Ok(None),
            }
        } else {
            min.clone()
        };
        if ahead.next() != Some('}') {
            return Ok(None);
        }
        for count in [min, max] {
            // Too long for u32 is too large as well.
            let value = count.parse().unwrap_or(u32::MAX);
            if !count.is_empty() && value > MAX_REPEAT {
                let shown = &count[..count.len().min(32)];
                return Err(format!("repeat count {shown} exceeds {MAX_REPEAT}"));
            }
        }
        self.skip(text.len());
        text.push('}');
        Ok(Some(text))
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), Reason> {
        self.out.push('[');
        if self.rest.peek() == Some(&'^') {
            self.skip(1);
            self.out.push('^');
        }
        let mut first = true;
        loop {
            match self.rest.peek().copied() {
                None => return Err("missing closing ]".into()),
                Some(']') if !first => {
                    self.skip(1);
                    self.out.push(']');
                    return Ok(());
                }
                Some('[') if self.posix_class()? => {}
                Some('\\') if self.is_class_escape() => {
                    self.skip(1);
                    self.class_escape()?;
                }
                Some(_) => self.class_range()?,
            }
            first = false;
        }
    }

    fn is_class_escape(&self) -> bool {
        let escaped = self.rest.clone().nth(1);
        escaped.is_some_and(|c| "dDsSwWpP".contains(c))
    }

    /// `[:name:]`; false if it is none but a plain bracket.
    fn posix_class(&mut self) -> Result<bool, Reason> {
        if !self.starts_with("[:") {
            return Ok(false);
        }
        // The longest is `^xdigit`; what has no end near is a plain bracket.
        let mut name = String::new();
        let mut rest = self.rest.clone().skip(2).peekable();
        loop {
            match rest.next() {
                Some(':') if rest.peek() == Some(&']') => break,
                Some(c) if name.len() < 16 => name.push(c),
                _ => return Ok(false),
            }
        }
        if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(&name)) {
            return Err(format!("invalid character class range [:{name}:]"));
        }
        self.skip(name.chars().count() + 4);
        self.out.push_str(&format!("[:{name}:]"));
        Ok(true)
    }

    fn class_range(&mut self) -> Result<(), Reason> {
        let low = self.class_char()?;
        let mut ahead = self.rest.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
        self.literal(low);
        if is_range {
            self.skip(1);
            let high = self.class_char()?;
            if high < low {
                return Err(format!("invalid character class range {low}-{high}"));
            }
            self.out.push('-');
            self.literal(high);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, Reason> {
        match self.rest.next() {
            Some('\\') => self.char_escape(),
            Some(c) => Ok(c),
            None => Err("missing closing ]".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(re2: &str) -> Result<String, Reason> {
        translate(re2).map(|t| t.text)
    }

    #[test]
    fn what_only_re2_has_is_rewritten() {
        for (re2, ours) in [
            (r"\Qa.b\E+", r"a\.b+"),
            (r"\Qa.b", r"a\.b"),
            (r"\012\0", "\n\0"),
            (r"\<\_\/", r"<_/"),
            (r"a{,2}{x}b{2}", r"a\{,2\}\{x\}b{2}"),
            (
                r"a{02}b{1,02}c{1,2,3}d{1",
                r"a\{02\}b\{1,02\}c\{1,2,3\}d\{1",
            ),
            (r"/items/{(.+)}", r"/items/\{(.+)\}"),
            (r"\d\pN\p{^Greek}", r"[0-9]\p{gc=N}\P{sc=Greek}"),
            (r"[[a&&b]", r"[\[a\&\&b]"),
            (r"[]a-]", r"[\]a\-]"),
            (r"[^\d[:^alpha:]\x41-\x{5a}]", r"[^[0-9][:^alpha:]A-Z]"),
            (r"(?<n>a)(?P<m>b)(?i-s:c)", r"(a)(b)(?i-s:c)"),
            (r"\bx\z", r"(?-u:\b)x\z"),
            // Flags twice, or none; what is repeated stands before them.
            ("(?ii)a(?i-i)b(?)c(?:d)", "(?i)a(?-i)bc(?:d)"),
            ("a(?i)*b+(?s)(?m){2}?c", "a*(?i)b+{2}?(?s)(?m)c"),
            ("a*?b{2}?c??", "a*?b{2}?c??"),
            (r"a+\Q\E*", "a+*"),
        ] {
            assert_eq!(text(re2).as_deref(), Ok(ours), "{re2}");
        }
    }

    #[test]
    fn groups_keep_their_names() {
        let names = translate("(a)(?P<b>c(?:d)(?<01>e))(?<b>)")
            .unwrap()
            .group_names;
        assert_eq!(names, ["", "b", "01", "b"]);
    }

    #[test]
    fn what_re2_refuses_is_refused_by_name() {
        for (pattern, wanted) in [
            (r"\C", r"\C"),
            (r"\1", "backreference"),
            ("(?x)a", "(?x"),
            ("(?=a)", "(?="),
            ("(?-)a", "(?)"),
            ("(?i-:a)", "(?:"),
            ("(?--i)a", "(?-"),
            ("a{1001}", "1001 exceeds 1000"),
            ("a{1,1001}", "1001 exceeds 1000"),
            (
                "a{99999999999999999999999999999999999999999}",
                "exceeds 1000",
            ),
            ("a**", "nested repetition operator *"),
            ("a+?+", "nested repetition operator +"),
            ("a{2}{3}", "nested repetition operator {3}"),
            ("a???", "nested repetition operator ?"),
            ("[z-a]", "z-a"),
            ("[a", "]"),
            ("[[:foo:]]", "foo"),
            (r"\", "backslash"),
            (r"\xZZ", r"\xZZ"),
            (r"\x4", r"\x4"),
            (r"\x+4", r"\x+4"),
            (r"\x{110000}", "110000"),
            ("(?P<a b>x)", "named"),
            ("(?P<>x)", "named"),
            (r"\p{Gr-eek}", "Gr"),
            (r"\p{Alphabetic}", "Alphabetic"),
            (r"[\b]", r"\b"),
        ] {
            let reason = translate(pattern).expect_err(pattern);
            assert!(reason.contains(wanted), "{pattern}: {reason}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_translated_without_panic(pattern in "\\PC*") {
            if let Ok(translated) = translate(&pattern) {
                let _ = regex_syntax::parse(&translated.text);
            }
        }
    }
}
