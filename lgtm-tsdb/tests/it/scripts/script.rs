//! A script as a list of commands.

use super::load::{Load, SeriesLine, parse_series_line};

/// One command, with the line where it begins.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) line: usize,
    pub(crate) kind: CommandKind,
}

#[derive(Debug)]
pub(crate) enum CommandKind {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// What is asked and what must come.
#[derive(Debug)]
pub(crate) struct Eval {
    pub(crate) query: String,
    pub(crate) when: When,
    pub(crate) expected: Expected,
    pub(crate) fail: Option<Text>,
    pub(crate) warn: Notes,
    pub(crate) info: Notes,
    pub(crate) ordered: bool,
    pub(crate) range_vector: Option<(i64, i64, i64)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

#[derive(Debug)]
pub(crate) enum Expected {
    Series(Vec<SeriesLine>),
    Scalar(f64),
    Text(String),
}

/// How annotations of a kind must be.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) none: bool,
    pub(crate) some: Vec<Text>,
}

/// What a message must be like.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    Any,
    Exactly(String),
    Matching(String),
}

impl Text {
    pub(crate) fn fits(&self, message: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(text) => message == text,
            Self::Matching(pattern) => {
                lgtm_core::model::Matcher::regex("x", &format!("(?s:.*(?:{pattern}).*)"))
                    .unwrap()
                    .matches(message)
            }
        }
    }
}

/// The commands of a script.
pub(crate) fn parse(text: &str) -> Result<Vec<Command>, String> {
    let lines: Vec<&str> = text.split('\n').map(trimmed).collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if line.is_empty() {
            at += 1;
            continue;
        }
        let word = line.split([' ', '\t']).next().unwrap().to_lowercase();
        let begin = at;
        let fail = |why: String| format!("line {}: {why}", begin + 1);
        let kind = if word == "clear" {
            at += 1;
            CommandKind::Clear
        } else if word.starts_with("load") {
            let mut load = Load::begin(line).map_err(fail)?;
            at += 1;
            while at < lines.len() && !lines[at].is_empty() {
                load.line(lines[at])
                    .map_err(|e| format!("line {}: {e}", at + 1))?;
                at += 1;
            }
            CommandKind::Load(load)
        } else if word.starts_with("eval") {
            let (eval, next) = parse_eval(&lines, at).map_err(fail)?;
            at = next;
            CommandKind::Eval(Box::new(eval))
        } else {
            return Err(fail(format!("unknown command {line:?}")));
        };
        out.push(Command {
            line: begin + 1,
            kind,
        });
    }
    Ok(out)
}

fn trimmed(line: &str) -> &str {
    let line = line.trim_matches([' ', '\t', '\r']);
    if line.starts_with('#') { "" } else { line }
}

/// The next word and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start_matches([' ', '\t']))
}

pub(crate) fn duration(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    lgtm_tsdb::promql::parse_duration_ms(text).ok_or_else(|| format!("duration {text:?}"))
}

fn expect_word<'a>(text: &'a str, wanted: &str) -> Result<&'a str, String> {
    match word(text) {
        (w, rest) if w == wanted => Ok(rest),
        (w, _) => Err(format!("{w:?} where {wanted:?} should be")),
    }
}

fn duration_word(text: &str) -> Result<(i64, &str), String> {
    let (w, rest) = word(text);
    Ok((duration(w)?, rest))
}

fn parse_eval(lines: &[&str], begin: usize) -> Result<(Eval, usize), String> {
    let (command, rest) = word(lines[begin]);
    let (kind, rest) = word(rest);
    let (when, query) = match kind {
        "instant" => {
            let (t, query) = duration_word(expect_word(rest, "at")?)?;
            (When::Instant(t), query)
        }
        "range" => {
            let (start, rest) = duration_word(expect_word(rest, "from")?)?;
            let (end, rest) = duration_word(expect_word(rest, "to")?)?;
            let (step, query) = duration_word(expect_word(rest, "step")?)?;
            (When::Range { start, end, step }, query)
        }
        other => return Err(format!("eval {other:?}")),
    };
    let mut eval = Eval {
        query: query.to_owned(),
        when,
        expected: Expected::Series(Vec::new()),
        fail: None,
        warn: Notes::default(),
        info: Notes::default(),
        ordered: false,
        range_vector: None,
    };
    match command.to_lowercase().as_str() {
        "eval_ordered" => eval.ordered = true,
        "eval_fail" => eval.fail = Some(Text::Any),
        "eval_warn" => eval.warn.some.push(Text::Any),
        "eval_info" => eval.info.some.push(Text::Any),
        _ => {}
    }
    let mut at = begin + 1;
    let mut series: Vec<SeriesLine> = Vec::new();
    while at < lines.len() && !lines[at].is_empty() {
        let line = lines[at];
        at += 1;
        if let Some(number) = plain_number(line) {
            eval.expected = Expected::Scalar(number);
            return Ok((eval, at));
        }
        let (first, rest) = word(line);
        match first {
            "expect" => expectation(&mut eval, rest)?,
            "expected_fail_message" => {
                eval.fail = Some(Text::Exactly(rest.to_owned()));
                return Ok((eval, at));
            }
            "expected_fail_regexp" => {
                eval.fail = Some(Text::Matching(rest.to_owned()));
                return Ok((eval, at));
            }
            _ => series.push(parse_series_line(line)?),
        }
    }
    if !matches!(eval.expected, Expected::Text(_)) {
        eval.expected = Expected::Series(series);
    }
    Ok((eval, at))
}

fn plain_number(line: &str) -> Option<f64> {
    let is_number = line
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b));
    if !is_number {
        return None;
    }
    let (sign, digits) = match line.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, line.strip_prefix('+').unwrap_or(line)),
    };
    match lgtm_tsdb::promql::parse(digits) {
        Ok(lgtm_tsdb::promql::Expr::Number(n)) => Some(sign * n.value),
        _ => None,
    }
}

fn expectation(eval: &mut Eval, text: &str) -> Result<(), String> {
    let (what, rest) = word(text);
    let message = || match rest.split_once(':') {
        Some(("msg", text)) => Ok(Text::Exactly(text.trim().to_owned())),
        Some(("regex", text)) => Ok(Text::Matching(text.trim().to_owned())),
        _ if rest.is_empty() => Ok(Text::Any),
        _ => Err(format!("expect {text:?}")),
    };
    match what {
        "fail" => eval.fail = Some(message()?),
        "warn" => eval.warn.some.push(message()?),
        "info" => eval.info.some.push(message()?),
        "no_warn" => eval.warn.none = true,
        "no_info" => eval.info.none = true,
        "ordered" => eval.ordered = true,
        "range" => {
            let rest = expect_word(expect_word(rest, "vector")?, "from")?;
            let (start, rest) = duration_word(rest)?;
            let (end, rest) = duration_word(expect_word(rest, "to")?)?;
            let (step, _) = duration_word(expect_word(rest, "step")?)?;
            eval.range_vector = Some((start, end, step));
        }
        "string" => {
            let expr = lgtm_tsdb::promql::parse(rest).map_err(|e| e.to_string())?;
            let lgtm_tsdb::promql::Expr::Text(t) = expr else {
                return Err(format!("expect string {rest:?}"));
            };
            eval.expected = Expected::Text(t.value);
        }
        other => return Err(format!("expect {other:?}")),
    }
    Ok(())
}
