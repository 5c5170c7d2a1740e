//! From the syntax of RE2 (Go's `regexp`) to that of `regex-syntax`.
//!
//! Both parse the same core. They differ in `\Q..\E`, octal escapes, `\p{^..}`, braces that are no repetition, and in what stands inside
//! brackets; and where both parse, they may mean different things: `\d \s \w \b` are ASCII in RE2, `\<` is a plain character,
//! `[a&&b]` is no intersection. What RE2 refuses (flags, escapes) is refused here by name.
//! Source: <https://github.com/google/re2/wiki/Syntax> and the documentation of Go's `regexp/syntax`.

use std::iter::Peekable;
use std::str::Chars;

/// The most that a repetition may count, as in RE2.
const MAX_REPEAT: u32 = 1000;

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// What is wrong with a pattern.
pub(super) type Reason = String;

/// The same expression for `regex-syntax`, to be parsed in Unicode mode.
pub(super) fn translate(pattern: &str) -> Result<String, Reason> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 8),
    };
    translator.run()?;
    Ok(translator.out)
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), Reason> {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '{' => self.brace()?,
                '.' | '|' | ')' | '*' | '+' | '?' | '^' | '$' => self.out.push(c),
                _ => self.literal(c),
            }
        }
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
        let p = if negated { 'P' } else { 'p' };
        self.out.push_str(&format!("\\{p}{{{name}}}"));
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
    fn group(&mut self) -> Result<(), Reason> {
        self.out.push('(');
        if self.rest.peek() != Some(&'?') {
            return Ok(());
        }
        self.skip(1);
        let named = ["P<", "<"].into_iter().find(|name| self.starts_with(name));
        if let Some(opening) = named {
            self.skip(opening.len());
            self.out.push_str("?P<");
            return self.group_name();
        }
        self.out.push('?');
        loop {
            match self.rest.next() {
                Some(c @ ('i' | 'm' | 's' | 'U' | '-')) => self.out.push(c),
                Some(c @ (':' | ')')) => {
                    self.out.push(c);
                    return Ok(());
                }
                Some(c) => return Err(format!("invalid or unsupported Perl syntax (?{c}")),
                None => return Err("missing closing )".into()),
            }
        }
    }

    fn group_name(&mut self) -> Result<(), Reason> {
        loop {
            match self.rest.next() {
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => self.out.push(c),
                Some('>') => {
                    self.out.push('>');
                    return Ok(());
                }
                _ => return Err("invalid named capture".into()),
            }
        }
    }

    /// After `{`: a repetition, or a plain brace.
    fn brace(&mut self) -> Result<(), Reason> {
        let text: String = self
            .rest
            .clone()
            .take_while(|&c| c != '}')
            .take(32)
            .collect();
        let closed = self.rest.clone().nth(text.chars().count()) == Some('}');
        let (min, max) = text.split_once(',').unwrap_or((&text, &text));
        let counts = |s: &str| {
            !s.is_empty()
                && s.bytes().all(|b| b.is_ascii_digit())
                && (s.len() == 1 || !s.starts_with('0'))
        };
        if !closed || !counts(min) || !(max.is_empty() || counts(max)) {
            self.out.push_str("\\{");
            return Ok(());
        }
        for count in [min, max] {
            // Too long for u32 is too large as well.
            let value = count.parse().unwrap_or(u32::MAX);
            if !count.is_empty() && value > MAX_REPEAT {
                return Err(format!("repeat count {count} exceeds {MAX_REPEAT}"));
            }
        }
        self.skip(text.len() + 1);
        self.out.push_str(&format!("{{{text}}}"));
        Ok(())
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

    #[test]
    fn what_only_re2_has_is_rewritten() {
        for (re2, ours) in [
            (r"\Qa.b\E+", r"a\.b+"),
            (r"\Qa.b", r"a\.b"),
            (r"\012\0", "\n\0"),
            (r"\<\_\/", r"<_/"),
            (r"a{,2}{x}b{2}", r"a\{,2\}\{x\}b{2}"),
            (r"a{02}", r"a\{02\}"),
            (r"\d\pN\p{^Greek}", r"[0-9]\p{N}\P{Greek}"),
            (r"[[a&&b]", r"[\[a\&\&b]"),
            (r"[]a-]", r"[\]a\-]"),
            (r"[^\d[:^alpha:]\x41-\x{5a}]", r"[^[0-9][:^alpha:]A-Z]"),
            (r"(?<n>a)(?P<m>b)(?i-s:c)", r"(?P<n>a)(?P<m>b)(?i-s:c)"),
            (r"\bx\z", r"(?-u:\b)x\z"),
        ] {
            assert_eq!(translate(re2).as_deref(), Ok(ours), "{re2}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused_by_name() {
        for (pattern, wanted) in [
            (r"\C", r"\C"),
            (r"\1", "backreference"),
            ("(?x)a", "(?x"),
            ("(?=a)", "(?="),
            ("a{1001}", "1001 exceeds 1000"),
            ("[z-a]", "z-a"),
            ("[a", "]"),
            ("[[:foo:]]", "foo"),
            (r"\", "backslash"),
            (r"\xZZ", r"\xZZ"),
            (r"\x4", r"\x4"),
            (r"\x+4", r"\x+4"),
            (r"\x{110000}", "110000"),
            ("(?P<a b>x)", "named"),
            (r"\p{Gr-eek}", "Gr"),
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
                let _ = regex_syntax::parse(&translated);
            }
        }
    }
}
