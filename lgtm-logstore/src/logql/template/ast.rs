//! The tree of a template.

use std::sync::Arc;

use super::functions::FunctionId;

/// Nodes one after the other.
pub(super) type Body = Arc<[Node]>;

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(Arc<str>),
    /// Prints what a pipeline gives.
    Action(Pipe),
    If {
        pipe: Pipe,
        then: Body,
        otherwise: Body,
    },
    With {
        pipe: Pipe,
        then: Body,
        otherwise: Body,
    },
    Range {
        pipe: Pipe,
        body: Body,
        otherwise: Body,
    },
    Call {
        name: Arc<str>,
        pipe: Option<Pipe>,
        place: Place,
    },
    Break,
    Continue,
}

/// Where something stands, for errors: line and column, and its text.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) text: Arc<str>,
}

/// `$x := a | b c | d`
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    /// Variables that it sets.
    pub(super) variables: Vec<Arc<str>>,
    /// Whether they are there already (`=` rather than `:=`).
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A function or a value with arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
    pub(super) place: Place,
}

#[derive(Debug, Clone)]
pub(super) enum Operand {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    /// `.a.b`
    Field(Vec<Arc<str>>),
    /// `$x.a`
    Variable(Arc<str>, Vec<Arc<str>>),
    Function(FunctionId),
    /// `(a b).c`
    Pipe(Box<Pipe>, Vec<Arc<str>>),
}
