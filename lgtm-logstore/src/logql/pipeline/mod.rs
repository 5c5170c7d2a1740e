//! Pipelines: what happens to each entry, as fast as may be.
//!
//! ```text
//! block -> line filters on its bytes (candidates) -> labels of an entry -> steps -> whoever takes what passes
//! ```
//!
//! Line filters run over the bytes of a whole block before a line is looked at; parsers make only labels that somebody needs, and stop at
//! the first that refuses the entry. Nothing is allocated per entry once the buffers have their size.

mod candidates;
mod compile;
mod decolorize;
mod field_probe;
mod ip;
mod json;
mod json_path;
mod json_scan;
mod label_filter;
mod labels;
mod line_filter;
mod logfmt;
mod parse_target;
mod pipeline;
mod step;

pub(crate) use compile::{PipelineUse, compile};
pub(crate) use field_probe::{FieldProbe, LineForm, json_paths};
pub(crate) use label_filter::Condition;
pub(crate) use labels::{ERROR, EntryLabels, FieldSource, StreamLabels};
pub(crate) use pipeline::{Flow, Passed, Pipeline, PipelineScratch};

#[cfg(test)]
mod tests;
