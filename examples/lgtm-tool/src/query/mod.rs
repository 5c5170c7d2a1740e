//! `query`: a query in the signal's language, straight on the bucket.

mod logs;
mod metrics;
mod query;
mod traces;

pub(crate) use logs::deletes;
pub(crate) use query::query;
