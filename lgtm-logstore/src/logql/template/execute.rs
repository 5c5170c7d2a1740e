//! Walking the tree.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use super::ast::{Body, Command, Node, Operand, Pipe, Place};
use super::functions::FunctionId;
use super::template::{Fields, TemplateScratch};
use super::value::Value;

/// Nodes and elements that one filling may walk. A `range` over a large JSON array takes some thousands.
const MAX_STEPS: usize = 100_000;
/// How deep templates may call each other.
const MAX_CALLS: usize = 50;

/// Why a filling failed, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) place: Option<Place>,
}

impl Fault {
    fn at(place: &Place, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: Some(place.clone()),
        }
    }

    fn plain(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
        }
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// One filling of a template.
pub(super) struct Execution<'a> {
    defined: &'a HashMap<Arc<str>, Body>,
    pub(super) fields: &'a dyn Fields,
    pub(super) scratch: &'a TemplateScratch,
    out: &'a mut String,
    /// Bytes that `out` may have.
    max_len: usize,
    /// Bytes that one value may have.
    pub(super) max_bytes: usize,
    variables: Vec<(Arc<str>, Value)>,
    steps: usize,
    calls: usize,
}

impl<'a> Execution<'a> {
    pub(super) fn new(
        defined: &'a HashMap<Arc<str>, Body>,
        fields: &'a dyn Fields,
        scratch: &'a TemplateScratch,
        out: &'a mut String,
        max_bytes: usize,
    ) -> Self {
        Self {
            defined,
            fields,
            scratch,
            max_len: out.len().saturating_add(max_bytes),
            out,
            max_bytes,
            variables: Vec::new(),
            steps: 0,
            calls: 0,
        }
    }

    pub(super) fn run(&mut self, body: &[Node]) -> Result<()> {
        self.body(body, &Value::Labels).map(|_| ())
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        match self.steps > MAX_STEPS {
            true => Err(Fault::plain(format!(
                "template takes more than {MAX_STEPS} steps"
            ))),
            false => Ok(()),
        }
    }

    fn print(&mut self, text: &str) -> Result<()> {
        if self.out.len() + text.len() > self.max_len {
            return Err(Fault::plain(format!(
                "template prints more than {} bytes",
                self.max_bytes
            )));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn body(&mut self, body: &[Node], dot: &Value) -> Result<Flow> {
        let known = self.variables.len();
        let mut flow = Flow::On;
        for node in body {
            self.step()?;
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow> {
        match node {
            Node::Text(text) => self.print(text)?,
            Node::Action(pipe) => self.action(pipe, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::If {
                pipe,
                then,
                otherwise,
            } => {
                let known = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let chosen = if value.is_true(true) { then } else { otherwise };
                let flow = self.body(chosen, dot)?;
                self.variables.truncate(known);
                return Ok(flow);
            }
            Node::With {
                pipe,
                then,
                otherwise,
            } => {
                let known = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = if value.is_true(true) {
                    self.body(then, &value)?
                } else {
                    self.body(otherwise, dot)?
                };
                self.variables.truncate(known);
                return Ok(flow);
            }
            Node::Range {
                pipe,
                body,
                otherwise,
            } => return self.range(pipe, body, otherwise, dot),
            Node::Call { name, pipe, place } => {
                let data = match pipe {
                    Some(pipe) => self.pipe(pipe, dot)?,
                    None => Value::Nil,
                };
                self.call_template(name, place, &data)?;
            }
        }
        Ok(Flow::On)
    }

    /// Prints what a pipeline gives. A label alone is printed without a detour.
    fn action(&mut self, pipe: &Pipe, dot: &Value) -> Result<()> {
        if let [command] = &pipe.commands[..]
            && let [Operand::Field(path)] = &command.operands[..]
            && let [name] = &path[..]
            && *dot == Value::Labels
            && pipe.variables.is_empty()
        {
            let fields = self.fields;
            return self.print(fields.get(name).unwrap_or(""));
        }
        let value = self.pipe(pipe, dot)?;
        if !pipe.variables.is_empty() {
            return Ok(());
        }
        match &value {
            Value::Labels => {
                let all = Value::Map(Rc::new(self.label_map()));
                self.print(&all.shown())
            }
            value => self.print(&value.shown()),
        }
    }

    fn label_map(&self) -> std::collections::BTreeMap<String, Value> {
        let labels = self.fields.sorted().into_iter();
        labels.map(|(k, v)| (k, Value::text(v))).collect()
    }

    fn call_template(&mut self, name: &str, place: &Place, data: &Value) -> Result<()> {
        let Some(body) = self.defined.get(name) else {
            return Err(Fault::at(place, format!("template {name:?} not defined")));
        };
        if self.calls >= MAX_CALLS {
            return Err(Fault::at(
                place,
                format!("templates call each other deeper than {MAX_CALLS}"),
            ));
        }
        self.calls += 1;
        let outer = std::mem::take(&mut self.variables);
        self.variables.push((Arc::from("$"), data.clone()));
        let body = Arc::clone(body);
        lgtm_core::exec::with_room(|| self.body(&body, data))?;
        self.variables = outer;
        self.calls -= 1;
        Ok(())
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow> {
        let known = self.variables.len();
        // The variables are set for each element, not to the whole.
        let value = self.commands(pipe, dot)?;
        let elements: Vec<(Value, Value)> = match &value {
            Value::List(list) => {
                let list = list.iter().enumerate();
                list.map(|(n, v)| (Value::Int(n as i64), v.clone()))
                    .collect()
            }
            Value::Map(map) => {
                let map = map.iter();
                map.map(|(k, v)| (Value::text(k.as_str()), v.clone()))
                    .collect()
            }
            Value::Labels => {
                let labels = self.fields.sorted().into_iter();
                labels
                    .map(|(k, v)| (Value::text(k), Value::text(v)))
                    .collect()
            }
            Value::Int(n) => {
                let count = (*n).clamp(0, MAX_STEPS as i64);
                (0..count).map(|n| (Value::Int(n), Value::Int(n))).collect()
            }
            Value::Nil => Vec::new(),
            other => {
                return Err(Fault::at(
                    &pipe.commands[0].place,
                    format!("range can't iterate over {}", other.shown()),
                ));
            }
        };
        if elements.is_empty() {
            return self.body(otherwise, dot);
        }
        for (key, element) in elements {
            self.step()?;
            match &pipe.variables[..] {
                [one] => self.set(pipe.assigns, one, element.clone()),
                [first, second] => {
                    self.set(pipe.assigns, first, key);
                    self.set(pipe.assigns, second, element.clone());
                }
                _ => {}
            }
            let flow = self.body(body, &element)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, assigns: bool, name: &Arc<str>, value: Value) {
        match self.variables.iter_mut().rev().find(|v| v.0 == *name) {
            Some(known) if assigns => known.1 = value,
            _ => self.variables.push((Arc::clone(name), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(pipe.assigns, name, value.clone());
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipe.commands {
            self.step()?;
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &Command, dot: &Value, last: Option<Value>) -> Result<Value> {
        let Some((first, rest)) = command.operands.split_first() else {
            return Ok(Value::Nil);
        };
        if let Operand::Function(function) = first {
            return self.call(*function, rest, dot, last, &command.place);
        }
        if !rest.is_empty() || last.is_some() {
            return Err(Fault::at(
                &command.place,
                format!("can't give argument to non-function {}", command.place.text),
            ));
        }
        self.operand(first, dot, &command.place)
    }

    fn call(
        &mut self,
        function: FunctionId,
        operands: &[Operand],
        dot: &Value,
        last: Option<Value>,
        place: &Place,
    ) -> Result<Value> {
        // `and` and `or` look at no more than they need.
        if let Some(stops_at) = function.stops_at() {
            let mut value = Value::Nil;
            for operand in operands {
                value = self.operand(operand, dot, place)?;
                if value.is_true(true) == stops_at {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            arguments.push(self.operand(operand, dot, place)?);
        }
        arguments.extend(last);
        function
            .call(self, arguments)
            .map_err(|e| Fault::at(place, e))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value, place: &Place) -> Result<Value> {
        Ok(match operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => Value::Nil,
            Operand::Bool(b) => Value::Bool(*b),
            Operand::Int(n) => Value::Int(*n),
            Operand::Float(v) => Value::Float(*v),
            Operand::Text(t) => Value::text(&**t),
            Operand::Field(path) => self.path(dot.clone(), path, place)?,
            Operand::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|v| v.0 == *name);
                let value = known.map_or(Value::Labels, |v| v.1.clone());
                self.path(value, path, place)?
            }
            Operand::Function(function) => {
                return self.call(*function, &[], dot, None, place);
            }
            Operand::Pipe(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                self.path(value, path, place)?
            }
        })
    }

    fn path(&self, mut value: Value, path: &[Arc<str>], place: &Place) -> Result<Value> {
        for name in path {
            value = match &value {
                Value::Labels => Value::text(self.fields.get(name).unwrap_or("")),
                Value::Map(map) => map.get(&**name).cloned().unwrap_or(Value::Nil),
                Value::Nil => {
                    return Err(Fault::at(
                        place,
                        format!("nil pointer evaluating interface {{}}.{name}"),
                    ));
                }
                other => {
                    return Err(Fault::at(
                        place,
                        format!("can't evaluate field {name} in type {}", other.kind()),
                    ));
                }
            };
        }
        Ok(value)
    }
}
