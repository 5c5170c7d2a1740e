//! Go's `text/template` with Loki's functions, for `line_format` and `label_format`.
//!
//! ```text
//! text -> scan (pieces between {{ and }}) -> parse (tree, with known functions) -> Template
//! labels of an entry -> execute (value, call, functions, printf, dates) -> text
//! ```
//!
//! What one execution may do is bounded: bytes printed, nodes walked, depth of templates that call each other.

mod ast;
mod builtins;
mod call;
mod compare;
mod dates;
mod execute;
mod functions;
mod numbers;
mod parse;
mod printf;
mod scan;
mod template;
mod text;
mod value;

pub(crate) use template::{Fields, Template, TemplateScratch};

#[cfg(test)]
mod tests;
