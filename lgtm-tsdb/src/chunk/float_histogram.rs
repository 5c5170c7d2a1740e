//! Float counts in histogram chunks (encoding 3; with start timestamps 6).

use lgtm_core::model::{BucketSpan, FloatHistogram};

use super::bits::{BitWriter, XorState};
use super::encoding::{CounterResetHeader, Encoding};
use super::histogram::{Appender, Kind, Shape};
use super::iter::SampleValue;

/// Builds a chunk of histograms with float counts.
pub type FloatHistogramAppender = Appender<Float>;

/// Float counts; every number against the same one of the sample before.
#[derive(Debug, Clone, Copy)]
pub struct Float;

/// The floats of the sample before, in the order in which they are written.
#[derive(Debug, Clone)]
pub struct FloatState(Vec<XorState>);

impl Kind for Float {
    type Histogram = FloatHistogram;
    type Count = f64;
    type State = FloatState;
    const ENCODING: Encoding = Encoding::FloatHistogram;
    const ENCODING_ST: Encoding = Encoding::FloatHistogramSt;
    const AFTER_GAUGE: CounterResetHeader = CounterResetHeader::Unknown;
    const AFTER_CUT: CounterResetHeader = CounterResetHeader::NotReset;

    fn shape(h: &FloatHistogram) -> Shape<'_> {
        Shape {
            hint: h.hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            sum: h.sum,
            positive_spans: &h.positive_spans,
            negative_spans: &h.negative_spans,
            custom_values: &h.custom_values,
        }
    }

    fn totals(h: &FloatHistogram) -> (f64, f64) {
        (h.count, h.zero_count)
    }

    fn counts(h: &FloatHistogram) -> (Vec<f64>, Vec<f64>) {
        (h.positive_counts.clone(), h.negative_counts.clone())
    }

    fn rebuild(
        h: &FloatHistogram,
        positive: (Vec<BucketSpan>, Vec<f64>),
        negative: (Vec<BucketSpan>, Vec<f64>),
    ) -> FloatHistogram {
        FloatHistogram {
            hint: h.hint,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: h.zero_count,
            count: h.count,
            sum: h.sum,
            positive_spans: positive.0,
            negative_spans: negative.0,
            positive_counts: positive.1,
            negative_counts: negative.1,
            custom_values: h.custom_values.clone(),
        }
    }

    fn stale(sum: f64) -> FloatHistogram {
        FloatHistogram {
            sum,
            ..FloatHistogram::default()
        }
    }

    fn write_first(w: &mut BitWriter, h: &FloatHistogram) -> FloatState {
        let states: Vec<XorState> = numbers(h).map(XorState::starting_at).collect();
        states.iter().for_each(|s| w.write(s.bits, 64));
        FloatState(states)
    }

    fn write_next(w: &mut BitWriter, state: &mut FloatState, h: &FloatHistogram) {
        // A stale one has counts of zero and no buckets.
        state
            .0
            .iter_mut()
            .zip(numbers(h))
            .for_each(|(s, v)| s.write(w, v));
    }

    fn from_value(value: SampleValue) -> Option<FloatHistogram> {
        match value {
            SampleValue::FloatHistogram(h) => Some(*h),
            _ => None,
        }
    }
}

fn numbers(h: &FloatHistogram) -> impl Iterator<Item = f64> {
    let buckets = h.positive_counts.iter().chain(&h.negative_counts).copied();
    [h.count, h.zero_count, h.sum].into_iter().chain(buckets)
}
