//! `export`: what is stored, as texts that other programs take.

mod export;
mod logs;
mod metrics;
mod traces;

pub(crate) use export::export;
