//! What lines have in common: templates found as the lines come (the tree of *Drain: An Online Log Parsing Approach with Fixed Depth Tree*,
//! He and others, 2017), and how often each came.
//!
//! [`LineWords`] cuts a line, [`LineTemplates`] finds or makes its template, [`StepCounts`] counts it by time. All of it is bounded
//! ([`DrainSettings`]), and nothing is allocated for a line whose template is known.

mod counts;
mod settings;
mod templates;
mod words;

pub use counts::{STEP_NS, StepCounts};
pub use settings::DrainSettings;
pub use templates::{LineTemplates, TemplateCounts};
pub use words::LineWords;
