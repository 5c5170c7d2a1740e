//! Arguments of a call.

use super::execute::Execution;
use super::template::{Fields, TemplateScratch};
use super::value::Value;

/// Marks what is wrong with the call rather than what the function found.
const MISUSE: &str = "wrong ";

/// The arguments of one call, taken from left to right.
pub(super) struct Arguments<'e, 'a> {
    execution: &'e Execution<'a>,
    name: &'static str,
    values: std::vec::IntoIter<Value>,
    given: usize,
}

impl<'e, 'a> Arguments<'e, 'a> {
    pub(super) fn new(
        execution: &'e Execution<'a>,
        name: &'static str,
        values: Vec<Value>,
    ) -> Self {
        Self {
            execution,
            name,
            given: values.len(),
            values: values.into_iter(),
        }
    }

    /// Whether an error tells of the call and not of what came of it.
    pub(super) fn is_misuse(&self, error: &str) -> bool {
        error.starts_with(MISUSE)
    }

    pub(super) fn fields(&self) -> &'a dyn Fields {
        self.execution.fields
    }

    pub(super) fn scratch(&self) -> &'a TemplateScratch {
        self.execution.scratch
    }

    /// That a text of so many bytes may be made.
    pub(super) fn room_for(&self, bytes: usize) -> Result<(), String> {
        match bytes <= self.execution.max_bytes {
            true => Ok(()),
            false => Err(format!(
                "result has {bytes} bytes, must have {} at most",
                self.execution.max_bytes
            )),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// That so many were given.
    pub(super) fn exactly(&self, wanted: usize) -> Result<(), String> {
        match self.given == wanted {
            true => Ok(()),
            false => Err(format!(
                "{MISUSE}number of args for {}: want {wanted} got {}",
                self.name, self.given
            )),
        }
    }

    pub(super) fn at_least(&self, wanted: usize) -> Result<(), String> {
        match self.given >= wanted {
            true => Ok(()),
            false => Err(format!(
                "{MISUSE}number of args for {}: want at least {wanted} got {}",
                self.name, self.given
            )),
        }
    }

    pub(super) fn none(&self) -> Result<(), String> {
        self.exactly(0)
    }

    pub(super) fn any(&mut self) -> Value {
        self.values.next().unwrap_or(Value::Nil)
    }

    pub(super) fn text(&mut self) -> Result<std::rc::Rc<str>, String> {
        match self.any() {
            Value::Text(t) => Ok(t),
            other => Err(wrong_type("string", &other)),
        }
    }

    pub(super) fn int(&mut self) -> Result<i64, String> {
        match self.any() {
            Value::Int(n) => Ok(n),
            other => Err(wrong_type("int", &other)),
        }
    }

    pub(super) fn rest(&mut self) -> Vec<Value> {
        self.values.by_ref().collect()
    }
}

fn wrong_type(wanted: &str, got: &Value) -> String {
    format!(
        "{MISUSE}type for value; expected {wanted}; got {}",
        got.kind()
    )
}
