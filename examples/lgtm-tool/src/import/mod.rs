//! `import`: texts of other programs, or of `export`, become blocks and chunks.

mod import;
mod logs;
mod metrics;
mod text;
mod traces;

pub(crate) use import::import;
