//! `inspect`: what is in one object.

mod inspect;
mod logs;
mod metrics;
mod traces;

pub(crate) use inspect::inspect;
