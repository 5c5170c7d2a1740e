//! A compiled template.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use lgtm_core::model::TimestampNs;
use lgtm_core::re2::{Anchoring, Dot, Re2Groups};

use super::ast::{Node, Operand};
use super::execute::Execution;
use super::parse::{Parsed, parse};

/// What a template is filled with.
pub(crate) trait Fields {
    /// The value of a label.
    fn get(&self, name: &str) -> Option<&str>;
    /// All labels, sorted by name.
    fn sorted(&self) -> Vec<(String, String)>;
    /// The line.
    fn line(&self) -> &str;
    /// The entry's time, nanoseconds.
    fn t_ns(&self) -> TimestampNs;
    /// The present time, nanoseconds.
    fn now_ns(&self) -> TimestampNs;
}

/// A template that may be filled by many threads at once.
#[derive(Debug)]
pub(crate) struct Template {
    parsed: Parsed,
    name: &'static str,
    /// Labels that it reads, if it reads no others.
    labels: Option<Vec<Arc<str>>>,
    /// Whether it reads the line.
    reads_line: bool,
    max_bytes: usize,
}

/// What fillings of templates share: compiled regular expressions.
#[derive(Debug, Default)]
pub(crate) struct TemplateScratch {
    patterns: RefCell<HashMap<String, Rc<Re2Groups>>>,
}

/// Expressions that are kept compiled; when there are more, all are forgotten.
const MAX_PATTERNS: usize = 16;

impl TemplateScratch {
    pub(super) fn pattern(&self, text: &str) -> Result<Rc<Re2Groups>, String> {
        let mut patterns = self.patterns.borrow_mut();
        if let Some(known) = patterns.get(text) {
            return Ok(Rc::clone(known));
        }
        let compiled = Re2Groups::new(text, Anchoring::Anywhere, Dot::NotNewline)
            .map_err(|e| format!("error parsing regexp: {e}"))?;
        let compiled = Rc::new(compiled);
        if patterns.len() >= MAX_PATTERNS {
            patterns.clear();
        }
        patterns.insert(text.to_owned(), Rc::clone(&compiled));
        Ok(compiled)
    }
}

impl Template {
    /// Compiles a template; what it prints for one entry has at most `max_bytes`.
    ///
    /// # Errors
    /// In the words of Go.
    pub(crate) fn new(name: &'static str, text: &str, max_bytes: usize) -> Result<Self, String> {
        let parsed = parse(name, text)?;
        let mut reads = Reads::default();
        reads.body(&parsed.body);
        for body in parsed.defined.values() {
            reads.body(body);
        }
        Ok(Self {
            parsed,
            name,
            labels: (!reads.all).then_some(reads.labels),
            reads_line: reads.line,
            max_bytes,
        })
    }

    /// Labels that it reads; `None` if it may read any.
    pub(crate) fn labels(&self) -> Option<&[Arc<str>]> {
        self.labels.as_deref()
    }

    /// Whether it reads the line.
    pub(crate) fn reads_line(&self) -> bool {
        self.reads_line
    }

    /// Fills the template and appends the text to `out`, which stays as it was when that fails.
    ///
    /// # Errors
    /// In the words of Go.
    pub(crate) fn execute(
        &self,
        fields: &dyn Fields,
        scratch: &TemplateScratch,
        out: &mut String,
    ) -> Result<(), String> {
        let start = out.len();
        let mut execution =
            Execution::new(&self.parsed.defined, fields, scratch, out, self.max_bytes);
        let done = execution.run(&self.parsed.body);
        if let Err(fault) = done {
            let mut message = format!("template: {}:", self.name);
            let _ = match &fault.place {
                Some(p) => write!(
                    message,
                    "{}:{}: executing {:?} at <{}>: {}",
                    p.line, p.column, self.name, p.text, fault.message
                ),
                None => write!(message, " {}", fault.message),
            };
            out.truncate(start);
            return Err(message);
        }
        Ok(())
    }
}

/// What a template may read.
#[derive(Default)]
struct Reads {
    labels: Vec<Arc<str>>,
    line: bool,
    all: bool,
}

impl Reads {
    fn body(&mut self, body: &[Node]) {
        for node in body {
            match node {
                Node::Text(_) | Node::Break | Node::Continue => {}
                Node::Action(pipe) => self.pipe(pipe),
                Node::If {
                    pipe,
                    then,
                    otherwise,
                } => {
                    self.pipe(pipe);
                    self.body(then);
                    self.body(otherwise);
                }
                Node::With {
                    pipe,
                    then: body,
                    otherwise,
                }
                | Node::Range {
                    pipe,
                    body,
                    otherwise,
                } => {
                    self.pipe(pipe);
                    // A dot inside of it need not be that of the labels, so fields of it may be too many; never too few.
                    self.body(body);
                    self.body(otherwise);
                }
                Node::Call { pipe, .. } => pipe.iter().for_each(|p| self.pipe(p)),
            }
        }
    }

    fn pipe(&mut self, pipe: &super::ast::Pipe) {
        for operand in pipe.commands.iter().flat_map(|c| &c.operands) {
            match operand {
                Operand::Field(path) => self.labels.push(Arc::clone(&path[0])),
                Operand::Dot => self.all = true,
                Operand::Variable(name, path) => match path.first() {
                    // Any variable may hold the labels.
                    Some(label) => self.labels.push(Arc::clone(label)),
                    None => self.all |= &**name == "$",
                },
                Operand::Function(f) => self.line |= f.reads_line(),
                Operand::Pipe(pipe, path) => {
                    self.labels.extend(path.first().cloned());
                    self.pipe(pipe);
                }
                _ => {}
            }
        }
    }
}
