//! The functions: what they compute of floats, dates, windows of samples and classic buckets. No series, no labels, no I/O.

mod classic;
mod date;
mod extended;
mod kahan;
mod map;
mod over_time;
mod rate;
mod sliding;
mod statistics;
mod window;

pub(crate) use classic::{ClassicBucket, bucket_fraction, bucket_quantile};
pub(crate) use date::{Date, date_function};
pub(crate) use extended::{between, between_histograms, cut_to_range};
pub(crate) use kahan::kahan_add;
pub(crate) use map::{FloatMap, float_map, maximum, minimum};
pub(crate) use over_time::{Cell, Look, RangeFunction, evaluate};
pub(crate) use statistics::quantile;
pub(crate) use window::{HintsSeen, RangeNotes, Samples, WindowGrid};
