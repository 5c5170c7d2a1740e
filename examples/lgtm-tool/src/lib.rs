//! A tool to look inside a bucket of metric blocks, logs or trace blocks: ours, and those of the programs whose formats these are.
//!
//! ```text
//! command line -> Arguments -> Place (which signals are where) -> one function a command -> Report -> tables or JSON
//! ```
//!
//! It reads, and writes only with `-write`. What it knows of formats is in the crates of the stores.

mod arguments;
mod backfill;
mod cardinality;
mod compact;
mod delete;
mod export;
mod import;
mod inspect;
mod ls;
mod output;
mod place;
mod progress;
mod query;
mod report;
mod run;
mod times;
mod verify;

pub use run::{Outcome, run};
