//! Laws of the arithmetic, on generated histograms.

use lgtm_core::model::{BucketSpan, FloatHistogram};
use proptest::prelude::*;

use super::arithmetic::{common_bounds, raise_zero_bucket, zero_bucket_up_to};
use super::*;

fn side() -> impl Strategy<Value = (Vec<BucketSpan>, Vec<f64>)> {
    proptest::collection::vec((0i32..4, proptest::collection::vec(0u8..9, 0..4)), 0..4).prop_map(
        |runs| {
            let mut spans = Vec::new();
            let mut counts = Vec::new();
            for (place, (offset, run)) in runs.into_iter().enumerate() {
                spans.push(BucketSpan {
                    offset: if place == 0 { offset - 2 } else { offset },
                    length: run.len() as u32,
                });
                counts.extend(run.into_iter().map(f64::from));
            }
            (spans, counts)
        },
    )
}

/// Exponential histograms whose count is that of their buckets.
fn exponential() -> impl Strategy<Value = FloatHistogram> {
    let threshold = prop_oneof![Just(0.0), Just(0.001), Just(0.5), Just(1.0), Just(3.0)];
    (-2i32..4, threshold, 0u8..9, side(), side()).prop_map(
        |(schema, zero_threshold, zero, p, n)| {
            let zero_count = f64::from(zero);
            let count = zero_count + p.1.iter().sum::<f64>() + n.1.iter().sum::<f64>();
            let mut h = FloatHistogram {
                schema,
                zero_count,
                count,
                sum: count,
                positive_spans: p.0,
                positive_counts: p.1,
                negative_spans: n.0,
                negative_counts: n.1,
                ..FloatHistogram::default()
            };
            // Nothing but the zero bucket holds what is near zero.
            let reached = zero_bucket_up_to(&h, zero_threshold).1;
            raise_zero_bucket(&mut h, reached);
            h
        },
    )
}

fn custom() -> impl Strategy<Value = FloatHistogram> {
    (
        proptest::collection::btree_set(0u8..6, 0..4),
        proptest::collection::vec(0u8..9, 5),
    )
        .prop_map(|(bounds, counts)| {
            let counts: Vec<f64> = counts
                .into_iter()
                .take(bounds.len() + 1)
                .map(f64::from)
                .collect();
            FloatHistogram {
                schema: -53,
                count: counts.iter().sum(),
                positive_spans: vec![BucketSpan {
                    offset: 0,
                    length: counts.len() as u32,
                }],
                positive_counts: counts,
                custom_values: bounds.into_iter().map(f64::from).collect(),
                ..FloatHistogram::default()
            }
        })
}

fn total(h: &FloatHistogram) -> f64 {
    h.zero_count + h.positive_counts.iter().sum::<f64>() + h.negative_counts.iter().sum::<f64>()
}

proptest! {
    #[test]
    fn common_bounds_are_those_in_both(
        a in proptest::collection::btree_set(-9i8..9, 0..12),
        b in proptest::collection::btree_set(-9i8..9, 0..12),
    ) {
        let floats = |set: &std::collections::BTreeSet<i8>| set.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let both: Vec<f64> = a.intersection(&b).map(|v| f64::from(*v)).collect();
        prop_assert_eq!(common_bounds(&floats(&a), &floats(&b)), both);
    }

    #[test]
    fn adding_keeps_every_observation_and_any_order(a in exponential(), b in exponential()) {
        let (mut ab, mut ba) = (a.clone(), b.clone());
        add(&mut ab, &b).unwrap();
        add(&mut ba, &a).unwrap();
        prop_assert_eq!(total(&ab), total(&a) + total(&b));
        prop_assert!(equals(&ab, &ba), "{:?} {:?}", ab, ba);
        prop_assert!(!is_reset(&ab, &a), "{:?} {:?}", ab, a);
        let mut sum = Sum::new(&a);
        sum.add(&b).unwrap();
        let mut sum = sum.finish();
        compact(&mut sum);
        compact(&mut ab);
        prop_assert!(equals(&sum, &ab), "{:?} {:?}", sum, ab);
        subtract(&mut ab, &b).unwrap();
        prop_assert_eq!(total(&ab), total(&a));
    }

    #[test]
    fn custom_buckets_keep_every_observation(a in custom(), b in custom()) {
        let mut ab = a.clone();
        let merged = add(&mut ab, &b).unwrap();
        prop_assert_eq!(total(&ab), total(&a) + total(&b));
        prop_assert_eq!(merged.bounds_reconciled, a.custom_values != b.custom_values);
        let mut sum = Sum::new(&a);
        sum.add(&b).unwrap();
        prop_assert!(equals(&sum.finish(), &ab));
    }

    #[test]
    fn quantiles_ascend_and_fractions_add_up(h in exponential(), at in -4.0f64..4.0) {
        let values: Vec<f64> = (0..=10).map(|q| quantile(f64::from(q) / 10.0, &h).0).collect();
        if h.count > 0.0 {
            prop_assert!(values.windows(2).all(|w| w[0] <= w[1] + 1e-9), "{:?}", values);
            let (below, above) = (
                fraction(f64::NEG_INFINITY, at, &h).0,
                fraction(at, f64::INFINITY, &h).0,
            );
            prop_assert!((below + above - 1.0).abs() < 1e-9);
        } else {
            prop_assert!(values.iter().all(|v| v.is_nan()));
        }
    }

    #[test]
    fn a_cut_splits_the_observations(h in exponential(), at in -4.0f64..4.0) {
        let (below, above) = (trim(&h, at, Keep::Below), trim(&h, at, Keep::Above));
        let whole = total(&below) + total(&above);
        prop_assert!((whole - total(&h)).abs() < 1e-9 * (1.0 + whole), "{} {}", whole, total(&h));
    }
}

#[test]
fn exponential_and_custom_buckets_do_not_mix() {
    let custom = FloatHistogram {
        schema: -53,
        ..FloatHistogram::default()
    };
    let mut h = FloatHistogram::default();
    assert_eq!(add(&mut h, &custom), Err(IncompatibleBuckets));
    assert!(Sum::new(&h).add(&custom).is_err());
}

#[test]
fn bounds_are_powers_and_end_before_infinity() {
    assert_eq!(super::bounds::exponential(0, 0), 1.0);
    assert_eq!(super::bounds::exponential(3, 0), 8.0);
    assert_eq!(super::bounds::exponential(-1, -1), 0.25);
    assert_eq!(super::bounds::exponential(4, 2), 2.0);
    assert_eq!(super::bounds::exponential(1024, 0), f64::MAX);
    assert_eq!(super::bounds::exponential(1025, 0), f64::INFINITY);
}
