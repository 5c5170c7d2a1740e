//! From pieces to a tree.

use std::sync::Arc;

use hashbrown::HashMap;
use lgtm_core::go::{quote, unquote};

use super::ast::{Body, Command, Node, Operand, Pipe, Place};
use super::functions::FunctionId;
use super::scan::{ActionToken, TemplatePiece, pieces, tokens};
use crate::logql::units::parse_float;

/// How deep actions and parentheses may nest.
const MAX_NESTING: usize = 100;

/// A parsed template and those that it defines.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) body: Body,
    pub(super) defined: HashMap<Arc<str>, Body>,
}

type Result<T> = std::result::Result<T, String>;

/// Parses a template.
///
/// # Errors
/// In the words of Go, behind `template: NAME:LINE: `.
pub(super) fn parse(name: &str, text: &str) -> Result<Parsed> {
    let fault = |at: usize, why: &str| {
        let line = 1 + text[..at].matches('\n').count();
        format!("template: {name}:{line}: {why}")
    };
    let pieces = pieces(text).map_err(|(at, why)| fault(at, &why))?;
    let mut parser = Parser {
        text,
        pieces,
        at: 0,
        variables: vec!["$".to_owned()],
        loops: 0,
        nesting: 0,
        defined: HashMap::new(),
        here: 0,
    };
    let body = parser.body().and_then(|(body, end)| match end {
        BodyEnd::Text => Ok(body),
        other => Err(format!("unexpected {}", other.shown())),
    });
    match body {
        Ok(body) => Ok(Parsed {
            body,
            defined: parser.defined,
        }),
        Err(why) => Err(fault(parser.here, &why)),
    }
}

/// What ended a list of nodes.
#[derive(Debug, Clone, PartialEq)]
enum BodyEnd {
    Text,
    End,
    Else,
    /// `else if` and `else with`, with what follows.
    ElseIf(String, usize),
    ElseWith(String, usize),
}

impl BodyEnd {
    fn shown(&self) -> &'static str {
        match self {
            Self::Text => "EOF",
            Self::End => "{{end}}",
            _ => "{{else}}",
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    pieces: Vec<TemplatePiece<'a>>,
    at: usize,
    variables: Vec<String>,
    loops: usize,
    nesting: usize,
    defined: HashMap<Arc<str>, Body>,
    /// Where the action stands that is being read.
    here: usize,
}

impl Parser<'_> {
    fn body(&mut self) -> Result<(Body, BodyEnd)> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.at).cloned() {
            self.at += 1;
            match piece {
                TemplatePiece::Text(text) => nodes.push(Node::Text(text.into())),
                TemplatePiece::Action(action, begin) => {
                    self.here = begin;
                    if let Some(end) = self.action(action, begin, &mut nodes)? {
                        return Ok((nodes.into(), end));
                    }
                }
            }
        }
        Ok((nodes.into(), BodyEnd::Text))
    }

    /// One action; what ends the list that it stands in is given back.
    fn action(
        &mut self,
        action: &str,
        begin: usize,
        nodes: &mut Vec<Node>,
    ) -> Result<Option<BodyEnd>> {
        let trimmed = action.trim_start();
        let word_len = trimmed
            .find(|c: char| c != '_' && !c.is_alphanumeric())
            .unwrap_or(trimmed.len());
        let (word, rest) = trimmed.split_at(word_len);
        let at = begin + action.len() - rest.len();
        let alone = |kind: &str| {
            if rest.trim().is_empty() {
                Ok(())
            } else {
                Err(format!("unexpected {} in {kind}", quote(rest.trim())))
            }
        };
        match word {
            "end" => {
                alone("end")?;
                return Ok(Some(BodyEnd::End));
            }
            "else" => {
                let then = rest.trim_start();
                let from = at + rest.len() - then.len();
                if let Some(cond) = then
                    .strip_prefix("if")
                    .filter(|c| c.starts_with(char::is_whitespace))
                {
                    return Ok(Some(BodyEnd::ElseIf(cond.to_owned(), from + 2)));
                }
                if let Some(cond) = then
                    .strip_prefix("with")
                    .filter(|c| c.starts_with(char::is_whitespace))
                {
                    return Ok(Some(BodyEnd::ElseWith(cond.to_owned(), from + 4)));
                }
                alone("else")?;
                return Ok(Some(BodyEnd::Else));
            }
            "if" | "with" | "range" => nodes.push(self.control(word, rest, at)?),
            "define" => self.define(rest)?,
            "template" | "block" => {
                let node = self.template_call(word == "block", rest, at)?;
                nodes.push(node);
            }
            "break" | "continue" => {
                alone(word)?;
                if self.loops == 0 {
                    return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                nodes.push(match word {
                    "break" => Node::Break,
                    _ => Node::Continue,
                });
            }
            _ => {
                let pipe = self.pipe_of(action, begin, "command")?;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(None)
    }

    /// `if`, `with`, `range`, up to their end.
    fn control(&mut self, word: &str, rest: &str, at: usize) -> Result<Node> {
        if self.nesting >= MAX_NESTING {
            return Err(format!("actions nest deeper than {MAX_NESTING}"));
        }
        self.nesting += 1;
        let known = self.variables.len();
        let pipe = self.pipe_of(rest, at, word)?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.body()?;
        self.loops -= usize::from(word == "range");
        let empty: Body = Arc::new([]);
        let otherwise = match end {
            BodyEnd::End => empty,
            BodyEnd::Else => match self.body()? {
                (body, BodyEnd::End) => body,
                (_, other) => return Err(format!("expected end; found {}", other.shown())),
            },
            BodyEnd::ElseIf(cond, at) if word == "if" => Arc::new([self.control("if", &cond, at)?]),
            BodyEnd::ElseWith(cond, at) if word == "with" => {
                Arc::new([self.control("with", &cond, at)?])
            }
            other => return Err(format!("unexpected {}", other.shown())),
        };
        self.variables.truncate(known);
        self.nesting -= 1;
        Ok(match word {
            "if" => Node::If {
                pipe,
                then,
                otherwise,
            },
            "with" => Node::With {
                pipe,
                then,
                otherwise,
            },
            _ => Node::Range {
                pipe,
                body: then,
                otherwise,
            },
        })
    }

    fn define(&mut self, rest: &str) -> Result<()> {
        let name = template_name(rest.trim(), "define clause")?;
        let body = self.template_body()?;
        self.defined.insert(name, body);
        Ok(())
    }

    fn template_body(&mut self) -> Result<Body> {
        if self.nesting >= MAX_NESTING {
            return Err(format!("actions nest deeper than {MAX_NESTING}"));
        }
        self.nesting += 1;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (body, end) = self.body()?;
        if end != BodyEnd::End {
            return Err(format!("unexpected {} in define clause", end.shown()));
        }
        self.variables = outer;
        self.loops = loops;
        self.nesting -= 1;
        Ok(body)
    }

    fn template_call(&mut self, is_block: bool, rest: &str, at: usize) -> Result<Node> {
        let trimmed = rest.trim_start();
        let list = tokens(trimmed).map_err(|(_, why)| why)?;
        let len = match list.first() {
            Some((_, ActionToken::Quoted(q))) => q.len(),
            _ => return Err("unexpected token in template clause".to_owned()),
        };
        let name = template_name(&trimmed[..len], "template clause")?;
        let after = &trimmed[len..];
        let from = at + rest.len() - after.len();
        let pipe = if after.trim().is_empty() {
            None
        } else {
            Some(self.pipe_of(after, from, "template clause")?)
        };
        let place = self.place(at, trimmed.trim_end());
        if is_block {
            let body = self.template_body()?;
            self.defined.insert(Arc::clone(&name), body);
        }
        Ok(Node::Call { name, pipe, place })
    }

    fn place(&self, at: usize, text: &str) -> Place {
        let before = &self.text[..at.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Place {
            line: 1 + before.matches('\n').count(),
            column: at - line_start,
            text: text.into(),
        }
    }

    /// A pipeline that is all of a text.
    fn pipe_of(&mut self, text: &str, begin: usize, context: &str) -> Result<Pipe> {
        let list = tokens(text).map_err(|(_, why)| why)?;
        let mut reader = PipeReader {
            tokens: &list,
            at: 0,
            text,
            begin,
        };
        let pipe = self.pipe(&mut reader, context, 0)?;
        match reader.peek() {
            None => Ok(pipe),
            Some(_) => Err(format!("unexpected {} in {context}", quote(reader.rest()))),
        }
    }

    fn pipe(&mut self, r: &mut PipeReader<'_>, context: &str, depth: usize) -> Result<Pipe> {
        if depth > MAX_NESTING {
            return Err(format!("parentheses nest deeper than {MAX_NESTING}"));
        }
        let (variables, assigns) = self.declarations(r, context)?;
        let mut commands = Vec::new();
        loop {
            r.skip_space();
            let command = self.command(r, depth)?;
            if command.operands.is_empty() {
                return Err(if commands.is_empty() {
                    format!("missing value for {context}")
                } else {
                    format!("missing value for {context}: empty pipeline")
                });
            }
            if !commands.is_empty()
                && !matches!(
                    command.operands[0],
                    Operand::Function(_)
                        | Operand::Field(_)
                        | Operand::Variable(..)
                        | Operand::Pipe(..)
                )
            {
                return Err(format!(
                    "non executable command in pipeline stage {}",
                    commands.len() + 1
                ));
            }
            commands.push(command);
            if r.peek() != Some(&ActionToken::Pipe) {
                break;
            }
            r.at += 1;
        }
        self.variables
            .extend(variables.iter().filter(|_| !assigns).map(|v| v.to_string()));
        Ok(Pipe {
            variables,
            assigns,
            commands,
        })
    }

    /// `$a, $b :=` at the start of a pipeline.
    fn declarations(
        &mut self,
        r: &mut PipeReader<'_>,
        context: &str,
    ) -> Result<(Vec<Arc<str>>, bool)> {
        let start = r.at;
        let mut variables = Vec::new();
        loop {
            r.skip_space();
            let Some(ActionToken::Variable(name)) = r.peek().cloned() else {
                break;
            };
            r.at += 1;
            variables.push(Arc::from(name));
            r.skip_space();
            match r.peek() {
                Some(ActionToken::Comma) if context == "range" && variables.len() < 2 => r.at += 1,
                Some(sign @ (ActionToken::Declare | ActionToken::Assign)) => {
                    let assigns = *sign == ActionToken::Assign;
                    r.at += 1;
                    if assigns
                        && !variables
                            .iter()
                            .all(|v: &Arc<str>| self.variables.iter().any(|k| **k == **v))
                    {
                        return Err(format!("undefined variable {}", quote(&variables[0])));
                    }
                    return Ok((variables, assigns));
                }
                _ => break,
            }
        }
        r.at = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self, r: &mut PipeReader<'_>, depth: usize) -> Result<Command> {
        let from = r.offset();
        let mut operands = Vec::new();
        while let Some(token) = r.peek().cloned() {
            match token {
                ActionToken::Space => {
                    r.at += 1;
                    continue;
                }
                ActionToken::Pipe | ActionToken::Close => break,
                _ => operands.push(self.operand(r, depth)?),
            }
            if !matches!(
                r.peek(),
                None | Some(ActionToken::Space | ActionToken::Pipe | ActionToken::Close)
            ) {
                return Err(format!("unexpected {} in operand", quote(r.rest())));
            }
        }
        let text = r.text[from.min(r.offset())..r.offset()].trim();
        Ok(Command {
            place: self.place(r.begin + from, text),
            operands,
        })
    }

    fn operand(&mut self, r: &mut PipeReader<'_>, depth: usize) -> Result<Operand> {
        let token = r.peek().cloned();
        r.at += 1;
        let operand = match token {
            Some(ActionToken::Word("true")) => Operand::Bool(true),
            Some(ActionToken::Word("false")) => Operand::Bool(false),
            Some(ActionToken::Word("nil")) => Operand::Nil,
            Some(ActionToken::Word(name)) => Operand::Function(
                FunctionId::named(name)
                    .ok_or_else(|| format!("function {} not defined", quote(name)))?,
            ),
            Some(ActionToken::Field(name)) => {
                let mut fields = vec![Arc::from(name)];
                fields.extend(r.fields());
                Operand::Field(fields)
            }
            Some(ActionToken::Dot) => Operand::Dot,
            Some(ActionToken::Variable(name)) => {
                if !self.variables.iter().any(|v| v == name) {
                    return Err(format!("undefined variable {}", quote(name)));
                }
                Operand::Variable(name.into(), r.fields())
            }
            Some(ActionToken::Number(text)) => number(text)?,
            Some(ActionToken::Quoted(q)) if q.starts_with('\'') => {
                let text = String::from_utf8_lossy(&unquote(q)).into_owned();
                Operand::Int(text.chars().next().map_or(0, |c| i64::from(u32::from(c))))
            }
            Some(ActionToken::Quoted(q)) => {
                Operand::Text(String::from_utf8_lossy(&unquote(q)).into())
            }
            Some(ActionToken::Open) => {
                let pipe = self.pipe(r, "parenthesized pipeline", depth + 1)?;
                if r.peek() != Some(&ActionToken::Close) {
                    return Err("unclosed left paren".to_owned());
                }
                r.at += 1;
                Operand::Pipe(Box::new(pipe), r.fields())
            }
            _ => {
                r.at -= 1;
                return Err(format!("unexpected {} in operand", quote(r.rest())));
            }
        };
        Ok(operand)
    }
}

fn template_name(text: &str, context: &str) -> Result<Arc<str>> {
    let quoted = text.len() > 1 && text.starts_with(['"', '`']) && text.ends_with(['"', '`']);
    if quoted {
        Ok(String::from_utf8_lossy(&unquote(text)).into())
    } else {
        Err(format!("unexpected {} in {context}", quote(text)))
    }
}

fn number(text: &str) -> Result<Operand> {
    let bad = || format!("bad number syntax: {}", quote(text));
    let (negative, plain) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let plain = plain.replace('_', "");
    let radix = |prefixes: [&str; 2]| prefixes.iter().find_map(|p| plain.strip_prefix(p));
    let whole = if let Some(hex) = radix(["0x", "0X"]) {
        i64::from_str_radix(hex, 16).ok()
    } else if let Some(octal) = radix(["0o", "0O"]) {
        i64::from_str_radix(octal, 8).ok()
    } else if let Some(binary) = radix(["0b", "0B"]) {
        i64::from_str_radix(binary, 2).ok()
    } else if plain.len() > 1 && plain.starts_with('0') && !plain.contains(['.', 'e', 'E']) {
        i64::from_str_radix(&plain, 8).ok()
    } else {
        plain.parse().ok()
    };
    if let Some(whole) = whole {
        return Ok(Operand::Int(if negative { -whole } else { whole }));
    }
    let value = parse_float(&plain).map_err(|_| bad())?;
    Ok(Operand::Float(if negative { -value } else { value }))
}

struct PipeReader<'a> {
    tokens: &'a [(usize, ActionToken<'a>)],
    at: usize,
    text: &'a str,
    begin: usize,
}

impl<'a> PipeReader<'a> {
    fn peek(&self) -> Option<&'a ActionToken<'a>> {
        self.tokens.get(self.at).map(|(_, t)| t)
    }

    fn offset(&self) -> usize {
        self.tokens
            .get(self.at)
            .map_or(self.text.len(), |(at, _)| *at)
    }

    fn rest(&self) -> &'a str {
        self.text[self.offset()..].trim()
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&ActionToken::Space) {
            self.at += 1;
        }
    }

    /// `.a.b` right behind something.
    fn fields(&mut self) -> Vec<Arc<str>> {
        let mut fields = Vec::new();
        while let Some(ActionToken::Field(name)) = self.peek() {
            fields.push(Arc::from(*name));
            self.at += 1;
        }
        fields
    }
}
