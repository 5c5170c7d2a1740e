//! The pieces of a template, and the tokens inside of its actions.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TemplatePiece<'a> {
    Text(&'a str),
    /// What stands between `{{` and `}}`, and where it begins.
    Action(&'a str, usize),
}

/// Cuts a template at its actions; `-` beside a brace takes the white space beyond it away.
///
/// # Errors
/// For an action or comment without an end.
pub(super) fn pieces(text: &str) -> Result<Vec<TemplatePiece<'_>>, (usize, String)> {
    const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
    let mut out = Vec::new();
    let mut at = 0;
    let mut trims_next = false;
    while let Some(open) = text[at..].find("{{") {
        let mut before = &text[at..at + open];
        if trims_next {
            before = before.trim_start_matches(SPACE);
        }
        let mut begin = at + open + 2;
        let trims_before = text[begin..].starts_with('-') && text[begin + 1..].starts_with(SPACE);
        if trims_before {
            before = before.trim_end_matches(SPACE);
            begin += 1;
        }
        if !before.is_empty() {
            out.push(TemplatePiece::Text(before));
        }
        let (end, after) = match comment_end(&text[begin..]) {
            Some(found) => found.map_err(|why| (begin, why))?,
            None => action_end(&text[begin..]).map_err(|why| (begin, why))?,
        };
        let mut inside = &text[begin..begin + end];
        trims_next = inside.ends_with('-') && inside[..inside.len() - 1].ends_with(SPACE);
        if trims_next {
            inside = &inside[..inside.len() - 1];
        }
        if !inside.trim_matches(SPACE).starts_with("/*") {
            out.push(TemplatePiece::Action(inside, begin));
        }
        at = begin + after;
    }
    let mut rest = &text[at..];
    if trims_next {
        rest = rest.trim_start_matches(SPACE);
    }
    if !rest.is_empty() {
        out.push(TemplatePiece::Text(rest));
    }
    Ok(out)
}

/// Where a comment ends, if the action is one: its length, and that with the braces.
#[allow(clippy::type_complexity, reason = "two lengths or why there are none")]
fn comment_end(text: &str) -> Option<Result<(usize, usize), String>> {
    let start = text.len() - text.trim_start().len();
    if !text[start..].starts_with("/*") {
        return None;
    }
    let Some(end) = text.find("*/") else {
        return Some(Err("unclosed comment".to_owned()));
    };
    let close = text[end..].find("}}").map(|n| end + n);
    Some(match close {
        Some(close)
            if text[end + 2..close]
                .trim_matches([' ', '-', '\t', '\n', '\r'])
                .is_empty() =>
        {
            Ok((close, close + 2))
        }
        _ => Err("comment ends before closing delimiter".to_owned()),
    })
}

/// Where the braces close, looking past quoted texts.
fn action_end(text: &str) -> Result<(usize, usize), String> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some('"'), '\n') => return Err("unterminated quoted string".to_owned()),
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`' | '\'') => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => return Ok((at, at + 2)),
            _ => {}
        }
    }
    Err(match quote {
        Some('`') => "unterminated raw quoted string",
        Some(_) => "unterminated quoted string",
        None => "unclosed action",
    }
    .to_owned())
}

/// A token of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ActionToken<'a> {
    /// A word: keyword, function, `true`, `nil`.
    Word(&'a str),
    /// `.name`
    Field(&'a str),
    Dot,
    /// `$` or `$name`
    Variable(&'a str),
    Number(&'a str),
    /// With its quotes.
    Quoted(&'a str),
    Pipe,
    Open,
    Close,
    Comma,
    Declare,
    Assign,
    /// White space, which separates arguments.
    Space,
}

/// Cuts an action; each token with its place in it.
///
/// # Errors
/// For a character that begins no token, with its place.
pub(super) fn tokens(action: &str) -> Result<Vec<(usize, ActionToken<'_>)>, (usize, String)> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < action.len() {
        let rest = &action[at..];
        let upto = |is_part: fn(char) -> bool, from: usize| {
            from + rest[from..]
                .find(|c| !is_part(c))
                .unwrap_or(rest.len() - from)
        };
        let is_word = |c: char| c == '_' || c.is_alphanumeric();
        let first = rest.chars().next().unwrap_or(' ');
        let (len, token) = match first {
            ' ' | '\t' | '\r' | '\n' => (upto(|c| " \t\r\n".contains(c), 0), ActionToken::Space),
            '|' => (1, ActionToken::Pipe),
            '(' => (1, ActionToken::Open),
            ')' => (1, ActionToken::Close),
            ',' => (1, ActionToken::Comma),
            '=' => (1, ActionToken::Assign),
            ':' if rest.starts_with(":=") => (2, ActionToken::Declare),
            '"' | '`' | '\'' => {
                let len = quoted_len(rest).ok_or((at, "unterminated quoted string".to_owned()))?;
                (len, ActionToken::Quoted(&rest[..len]))
            }
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let len = number_len(rest);
                (len, ActionToken::Number(&rest[..len]))
            }
            '.' => match upto(is_word, 1) {
                1 => (1, ActionToken::Dot),
                len => (len, ActionToken::Field(&rest[1..len])),
            },
            '$' => {
                let len = upto(is_word, 1);
                (len, ActionToken::Variable(&rest[..len]))
            }
            '0'..='9' => {
                let len = number_len(rest);
                (len, ActionToken::Number(&rest[..len]))
            }
            '+' | '-' if rest[1..].starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                let len = 1 + number_len(&rest[1..]);
                (len, ActionToken::Number(&rest[..len]))
            }
            c if is_word(c) => {
                let len = upto(is_word, 0);
                (len, ActionToken::Word(&rest[..len]))
            }
            c => {
                return Err((
                    at,
                    format!(
                        "unexpected bad character U+{:04X} {c:?} in command",
                        u32::from(c)
                    ),
                ));
            }
        };
        out.push((at, token));
        at += len;
    }
    Ok(out)
}

fn quoted_len(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_hex = text.starts_with("0x") || text.starts_with("0X");
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        let sign_of_exponent = at > 0
            && matches!(b, b'+' | b'-')
            && matches!(
                (bytes[at - 1], is_hex),
                (b'e' | b'E', false) | (b'p' | b'P', true)
            );
        if !(b.is_ascii_alphanumeric() || b == b'.' || b == b'_' || sign_of_exponent) {
            break;
        }
        at += 1;
    }
    at
}
