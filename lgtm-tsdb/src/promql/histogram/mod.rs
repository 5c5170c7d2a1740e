//! Arithmetic on native histograms: what PromQL adds to the samples that the store keeps.
//!
//! The rules are those of Prometheus 3.14 (`model/histogram`): schemas are brought to the coarser one, zero buckets to the wider
//! one, differing custom bounds to those that both sides have.

mod arithmetic;
mod bounds;
mod buckets;
mod compensated;
mod fraction;
mod quantile;
mod reset;
mod text;
mod trim;

#[cfg(test)]
mod tests;

pub(crate) use arithmetic::copy_to_schema;
pub use arithmetic::{
    IncompatibleBuckets, Merged, add, compact, divide, equals, multiply, subtract,
};
pub(super) use bounds::upper as upper_bound;
pub(crate) use compensated::{Average, Sum};
pub(crate) use fraction::fraction;
pub(crate) use quantile::{NanEffect, quantile, variance};
pub(crate) use reset::is_reset;
pub(crate) use text::describe;
pub(crate) use trim::{Keep, trim};
