//! Evaluating a plan: series by series, all steps of a series at once, as they stream in from the store.
//!
//! ```text
//! select -> batch of series -> decode (decode) -> window or instant (source) -> maps (pipeline) -> fold (aggregate, collect)
//! ```
//!
//! What stands in a chain from a selector to an aggregation never exists as a whole: a batch runs through the chain on the compute
//! pool and leaves nothing but what the fold keeps. Everything else works on whole vectors (`vector`).

mod absent;
mod aggregate;
mod binary;
mod cells;
mod collect;
mod context;
mod count_values;
mod decode;
mod distinct;
mod elements;
mod evaluator;
mod info;
mod labels;
mod maps;
mod matching;
mod moments;
mod natural;
mod pipeline;
mod quantiles;
mod range_call;
mod ranked;
mod raw;
mod replacement;
mod selector;
mod statistics;
mod subquery;
mod vector;

pub(crate) use cells::{Series, histogram_points};
pub(crate) use context::{Context, EvalBounds, Growing, Switches, Usage};
pub(crate) use evaluator::{Value, evaluate};
pub(crate) use labels::drop_marked_names;
pub(crate) use raw::raw_range;
