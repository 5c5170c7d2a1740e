//! From text to tokens, one at a time.
//!
//! What a character means depends on where it stands: inside braces every word is a label's name, inside brackets a duration is
//! computed. The lexer keeps the counts of what is open, since Prometheus reports what was not closed before anything else.

use lgtm_core::go::{code_point, quote, quote_char};

use super::ast::{BinaryOp, Span};
use super::token::{Keyword, Token, TokenKind, duration_word, reserved};

/// Cuts a query into tokens.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    open_parens: usize,
    in_braces: bool,
    in_brackets: bool,
    /// Inside brackets, before the first number: only what may begin a duration is read.
    in_duration: bool,
    colon_seen: bool,
    duration_seen: bool,
    fault: Option<Fault>,
}

/// What the lexer cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) span: Span,
    pub(super) message: String,
}

type Step = Result<Option<TokenKind>, String>;

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            open_parens: 0,
            in_braces: false,
            in_brackets: false,
            in_duration: false,
            colon_seen: false,
            duration_seen: false,
            fault: None,
        }
    }

    /// The next token. Comments and blanks are passed over; after the end and after a fault the same comes again.
    pub(super) fn next_token(&mut self) -> Token {
        loop {
            if let Some(fault) = &self.fault {
                return Token {
                    kind: TokenKind::Fault,
                    span: fault.span,
                };
            }
            let start = self.at;
            let step = if self.in_duration {
                self.duration_step()
            } else if self.in_braces {
                self.brace_step()
            } else {
                self.statement_step()
            };
            match step {
                Ok(None) => {}
                Ok(Some(kind)) => {
                    return Token {
                        kind,
                        span: Span::new(start, self.at),
                    };
                }
                Err(message) => {
                    self.fault = Some(Fault {
                        span: Span::new(start, self.text.len()),
                        message,
                    });
                }
            }
        }
    }

    /// What it could not read, after a token of kind `Fault`.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take_while(&mut self, mut pass: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !pass(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn accept(&mut self, one_of: &str) -> bool {
        let hit = self.peek().is_some_and(|c| one_of.contains(c));
        if hit {
            self.take();
        }
        hit
    }

    /// Passes over blanks and a comment; false if there were none.
    fn skip(&mut self) -> bool {
        let start = self.at;
        self.take_while(is_blank);
        if self.peek() == Some('#') {
            self.take_while(|c| c != '\n' && c != '\r');
        }
        self.at > start
    }

    /// One that is reported behind the character it is about, as Prometheus does.
    fn fault_behind(&mut self, start: usize, message: String) -> Step {
        self.fault = Some(Fault {
            span: Span::new(start, self.text.len()),
            message,
        });
        Ok(None)
    }

    fn statement_step(&mut self) -> Step {
        if self.skip() {
            return Ok(None);
        }
        let Some(c) = self.peek() else {
            return self.end();
        };
        if is_word_start(c) && !self.in_brackets {
            return Ok(Some(self.word()));
        }
        if self.at_number() {
            return self.number();
        }
        if matches!(c, '"' | '\'' | '`') {
            return self.string(c);
        }
        if self.in_brackets && is_word_start(c) {
            return self.word_in_brackets(c);
        }
        self.take();
        match c {
            '(' | ')' => return self.paren(c),
            '[' => return self.open_bracket(),
            ']' if !self.in_brackets => {
                return Err(format!("unexpected right bracket {}", quote_char(Some(c))));
            }
            ']' => self.in_brackets = false,
            '{' => self.in_braces = true,
            _ => {}
        }
        let kind = match c {
            ',' => TokenKind::Comma,
            '{' => TokenKind::LeftBrace,
            ']' => TokenKind::RightBracket,
            '@' => TokenKind::At,
            '=' if self.accept("=") => TokenKind::Binary(BinaryOp::Equal),
            '=' if self.peek() == Some('~') => {
                return Err(format!(
                    "unexpected character after '=': {}",
                    quote_char(Some('~'))
                ));
            }
            '=' => TokenKind::Assign,
            '!' if self.accept("=") => TokenKind::Binary(BinaryOp::NotEqual),
            '!' => {
                let next = quote_char(self.peek());
                return Err(format!("unexpected character after '!': {next}"));
            }
            '<' if self.accept("=") => TokenKind::Binary(BinaryOp::LessEqual),
            '<' if self.accept("/") => TokenKind::Binary(BinaryOp::TrimUpper),
            '<' => TokenKind::Binary(BinaryOp::Less),
            '>' if self.accept("=") => TokenKind::Binary(BinaryOp::GreaterEqual),
            '>' if self.accept("/") => TokenKind::Binary(BinaryOp::TrimLower),
            '>' => TokenKind::Binary(BinaryOp::Greater),
            c => match arithmetic(c) {
                Some(op) => TokenKind::Binary(op),
                None => return Err(format!("unexpected character: {}", quote_char(Some(c)))),
            },
        };
        Ok(Some(kind))
    }

    fn end(&mut self) -> Step {
        if self.open_parens > 0 {
            return Err("unclosed left parenthesis".into());
        }
        if self.in_brackets {
            return Err("unclosed left bracket".into());
        }
        Ok(Some(TokenKind::End))
    }

    fn paren(&mut self, c: char) -> Step {
        if c == '(' {
            self.open_parens += 1;
            return Ok(Some(TokenKind::LeftParen));
        }
        if self.open_parens == 0 {
            let message = format!("unexpected right parenthesis {}", quote_char(Some(c)));
            return self.fault_behind(self.at, message);
        }
        self.open_parens -= 1;
        Ok(Some(TokenKind::RightParen))
    }

    fn open_bracket(&mut self) -> Step {
        if self.in_brackets {
            return Err(format!("unexpected left bracket {}", quote_char(Some('['))));
        }
        (self.in_brackets, self.in_duration, self.colon_seen) = (true, true, false);
        Ok(Some(TokenKind::LeftBracket))
    }

    /// A word behind a number in brackets.
    fn word_in_brackets(&mut self, c: char) -> Step {
        if c == ':' {
            if self.colon_seen {
                return Err(format!("unexpected colon {}", quote_char(Some(c))));
            }
            self.take();
            self.colon_seen = true;
            return Ok(Some(TokenKind::Colon));
        }
        match duration_word(self.take_while(is_letter)) {
            Some(word) => Ok(Some(TokenKind::Word(word))),
            None => Err(format!(
                "unexpected character: {}, expected {}",
                quote_char(Some(c)),
                quote_char(Some(':'))
            )),
        }
    }

    /// Behind a left bracket, up to the first number.
    fn duration_step(&mut self) -> Step {
        if !self.take_while(is_blank).is_empty() {
            return Ok(None);
        }
        let Some(c) = self.peek() else {
            return Err("unexpected end of input in duration expression".into());
        };
        if self.at_number() {
            (self.in_duration, self.duration_seen) = (false, true);
            return self.number();
        }
        let start = self.at;
        if is_letter(c)
            && let Some(word) = duration_word(self.take_while(is_letter))
        {
            self.duration_seen = true;
            return Ok(Some(TokenKind::Word(word)));
        }
        self.at = start + c.len_utf8();
        match c {
            '(' | ')' => self.paren(c),
            ']' => {
                (self.in_brackets, self.in_duration, self.colon_seen) = (false, false, false);
                Ok(Some(TokenKind::RightBracket))
            }
            ':' if !self.duration_seen => {
                let message = "unexpected colon before duration in duration expression";
                self.fault_behind(self.at, message.into())
            }
            ':' if self.colon_seen => {
                let message = "unexpected repeated colon in duration expression";
                self.fault_behind(self.at, message.into())
            }
            ':' => {
                self.colon_seen = true;
                Ok(Some(TokenKind::Colon))
            }
            ',' => Ok(Some(TokenKind::Comma)),
            c => match arithmetic(c) {
                Some(op) => Ok(Some(TokenKind::Binary(op))),
                None => Err(format!(
                    "unexpected character in duration expression: {}",
                    quote_char(Some(c))
                )),
            },
        }
    }

    fn brace_step(&mut self) -> Step {
        if self.skip() {
            return Ok(None);
        }
        let Some(c) = self.peek() else {
            return Err("unexpected end of input inside braces".into());
        };
        if is_letter(c) {
            self.take_while(is_alphanumeric);
            return Ok(Some(TokenKind::Identifier));
        }
        if matches!(c, '"' | '\'' | '`') {
            return self.string(c);
        }
        self.take();
        let kind = match c {
            ',' => TokenKind::Comma,
            '=' if self.accept("~") => TokenKind::MatchRegex,
            '=' => TokenKind::Assign,
            '!' if self.accept("~") => TokenKind::MatchNotRegex,
            '!' if self.accept("=") => TokenKind::Binary(BinaryOp::NotEqual),
            '!' => {
                let next = quote_char(self.peek());
                return Err(format!(
                    "unexpected character after '!' inside braces: {next}"
                ));
            }
            '{' => return Err(format!("unexpected left brace {}", quote_char(Some(c)))),
            '}' => {
                self.in_braces = false;
                TokenKind::RightBrace
            }
            c => {
                let shown = quote_char(Some(c));
                return Err(format!("unexpected character inside braces: {shown}"));
            }
        };
        Ok(Some(kind))
    }

    fn word(&mut self) -> TokenKind {
        let word = self.take_while(|c| is_alphanumeric(c) || c == ':');
        match reserved(word) {
            // They were valid names before they became words of the language, so they are such only before a parenthesis.
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.rest().trim_start_matches(is_blank).starts_with('(') =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        }
    }

    fn at_number(&self) -> bool {
        let rest = self.rest().as_bytes();
        matches!(rest, [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..])
    }

    fn number(&mut self) -> Step {
        let start = self.at;
        if self.scan_number() {
            return Ok(Some(TokenKind::Number));
        }
        if self.scan_duration_units() {
            return Ok(Some(TokenKind::Duration));
        }
        let shown = quote(&self.text[start..self.at]);
        Err(format!("bad number or duration syntax: {shown}"))
    }

    /// Whether what comes is a number and nothing else; else it stops where a unit may begin. Whether it is a valid number is left
    /// to who reads it.
    fn scan_number(&mut self) -> bool {
        let mut digits = "0123456789";
        let hex = self.accept("0") && self.accept("xX");
        if hex {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        self.accept(".");
        self.accept(digits);
        let (mut dot_seen, mut exponent_seen) = (false, false);
        loop {
            match self.peek() {
                Some('.') => {
                    self.take();
                    // A second one, one before a separator, and one in a hexadecimal number end in a fault.
                    if std::mem::replace(&mut dot_seen, true) || self.accept("_.") || hex {
                        return false;
                    }
                }
                Some('e' | 'E') => {
                    self.take();
                    if std::mem::replace(&mut exponent_seen, true) {
                        return false;
                    }
                    self.accept("+-");
                    if self.accept("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                Some('_') => {
                    self.take();
                    if self.accept("._eE") || self.peek().is_none() {
                        return false;
                    }
                }
                Some(c) if digits.contains(c) => {
                    self.take_while(|c| digits.contains(c));
                }
                next => return !next.is_some_and(is_alphanumeric),
            }
        }
    }

    /// Behind the digits of a duration: its unit, and more numbers with units.
    fn scan_duration_units(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while !self.take_while(|c| c.is_ascii_digit()).is_empty() {
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            self.take();
            return false;
        }
        true
    }

    fn string(&mut self, quote: char) -> Step {
        self.take();
        loop {
            match self.take() {
                None if quote == '`' => return Err("unterminated raw string".into()),
                None => return Err("unterminated quoted string".into()),
                Some(c) if c == quote => return Ok(Some(TokenKind::Text)),
                Some('\n') if quote != '`' => return Err("unterminated quoted string".into()),
                Some('\\') if quote != '`' => self.escape(quote)?,
                Some(char::REPLACEMENT_CHARACTER) => return Err("invalid UTF-8 rune".into()),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), String> {
        const UNTERMINATED: &str = "escape sequence not terminated";
        let c = self.take().ok_or(UNTERMINATED)?;
        let (digits, radix, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => (2, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, u32::from(char::MAX)),
            'U' => (8, 16, u32::from(char::MAX)),
            c => return Err(format!("unknown escape sequence {}", code_point(c))),
        };
        let mut value = if radix == 8 {
            c.to_digit(8).unwrap_or(0)
        } else {
            0
        };
        for _ in 0..digits {
            let c = self.take().ok_or(UNTERMINATED)?;
            let digit = c
                .to_digit(radix)
                .ok_or_else(|| format!("illegal character {} in escape sequence", code_point(c)))?;
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".into());
        }
        Ok(())
    }
}

fn arithmetic(c: char) -> Option<BinaryOp> {
    Some(match c {
        '+' => BinaryOp::Add,
        '-' => BinaryOp::Sub,
        '*' => BinaryOp::Mul,
        '/' => BinaryOp::Div,
        '%' => BinaryOp::Mod,
        '^' => BinaryOp::Pow,
        _ => return None,
    })
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_alphanumeric(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_word_start(c: char) -> bool {
    is_letter(c) || c == ':'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text);
        let mut out = Vec::new();
        loop {
            let token = lexer.next_token();
            match token.kind {
                TokenKind::End => return out,
                TokenKind::Fault => {
                    let fault = lexer.fault().unwrap();
                    out.push(format!("{}: {}", fault.span.start, fault.message));
                    return out;
                }
                kind => out.push(kind.described(&text[token.span.start..token.span.end])),
            }
        }
    }

    #[test]
    fn words_are_told_apart() {
        let words = lex("SUM foo a:b by start and fill fill (1) inf");
        let wanted = [
            "<aggr:SUM>",
            "identifier \"foo\"",
            "metric identifier \"a:b\"",
            "<by>",
            "\"start\"",
            "<op:and>",
            "identifier \"fill\"",
            "<fill>",
            "\"(\"",
            "number \"1\"",
            "\")\"",
            "number \"inf\"",
        ];
        assert_eq!(words, wanted);
        assert_eq!(lex("{by, sum=~'x'}")[1], "identifier \"by\"");
    }

    #[test]
    fn numbers_and_durations_end_where_they_should() {
        for (text, wanted) in [
            ("1_000.5e-3", "number \"1_000.5e-3\""),
            ("0x1F", "number \"0x1F\""),
            ("1h30m", "duration \"1h30m\""),
            ("5ms", "duration \"5ms\""),
            ("2.5.", "0: bad number or duration syntax: \"2.5.\""),
            // A number as far as the lexer looks; its reader refuses it.
            ("0.0.1", "number \"0.0.1\""),
            ("1x", "0: bad number or duration syntax: \"1\""),
            ("5mm", "0: bad number or duration syntax: \"5mm\""),
            ("1__0", "0: bad number or duration syntax: \"1__\""),
            ("0x1p-2", "0: bad number or duration syntax: \"0x1\""),
        ] {
            assert_eq!(lex(text), [wanted], "{text}");
        }
    }

    #[test]
    fn what_was_not_closed_is_said_first() {
        for (text, wanted) in [
            ("(1", "2: unclosed left parenthesis"),
            ("1)", "2: unexpected right parenthesis ')'"),
            ("x[5m", "4: unclosed left bracket"),
            ("x[", "2: unexpected end of input in duration expression"),
            (
                "x[:",
                "3: unexpected colon before duration in duration expression",
            ),
            ("x[5m:1m:", "7: unexpected colon ':'"),
            ("x[5m a", "5: unexpected character: 'a', expected ':'"),
            ("x[a", "2: unexpected character in duration expression: 'a'"),
            ("x]", "1: unexpected right bracket ']'"),
            ("x{", "2: unexpected end of input inside braces"),
            (
                "x{a!",
                "3: unexpected character after '!' inside braces: '\u{fffd}'",
            ),
            ("日", "0: unexpected character: '日'"),
            ("x =~", "2: unexpected character after '=': '~'"),
            ("'a\nb'", "0: unterminated quoted string"),
            (r"'\q'", "0: unknown escape sequence U+0071 'q'"),
            (
                r"'\xg'",
                "0: illegal character U+0067 'g' in escape sequence",
            ),
            (
                r"'\ud800'",
                "0: escape sequence is an invalid Unicode code point",
            ),
        ] {
            assert_eq!(lex(text).last().unwrap(), wanted, "{text}");
        }
    }
}
