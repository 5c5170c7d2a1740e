use async_trait::async_trait;
use lgtm_core::cache::{MemoryCache, MemoryCacheSettings};
use lgtm_core::clock::ManualClock;
use lgtm_core::frontend::{Downstream, Frontend, FrontendLimits};
use lgtm_core::model::{TenantId, TimestampMs};
use proptest::prelude::*;

use super::*;
use crate::promql::{ParserOptions, QueryOptions};

fn splitter() -> PromqlSplitter {
    PromqlSplitter {
        long_range_ms: 86_400_000,
        max_points: 1_000_000,
        max_stored_bytes: 1 << 20,
        cuts_by_series: true,
        engine_switches: String::new(),
    }
}

fn query(text: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Query {
    let parser = ParserOptions::default();
    Query::range(text, start_ms..=end_ms, step_ms, &parser).unwrap()
}

fn series(name: &str, floats: Vec<(i64, f64)>, histograms: Vec<i64>) -> Series {
    let histogram = |t_ms: i64| {
        let value = FloatHistogram {
            count: t_ms as f64,
            sum: 2.5,
            ..FloatHistogram::default()
        };
        Point {
            t_ms: t_ms.into(),
            value,
        }
    };
    Series {
        labels: Labels::from_pairs([("a", name)]).unwrap(),
        floats: floats
            .into_iter()
            .map(|(t_ms, value)| Point {
                t_ms: t_ms.into(),
                value,
            })
            .collect(),
        histograms: histograms.into_iter().map(histogram).collect(),
    }
}

#[test]
fn keys_tell_apart_what_answers_differently() {
    let s = splitter();
    let key = |text: &str| s.key(&query(text, 0, 10, 1));
    assert_eq!(
        key("sum( x{b='1',a='2'} )by(z)"),
        key("sum by (z) (x{a=\"2\", b=\"1\"})")
    );
    assert_ne!(key("x"), key("x offset 1m"));
    let other = query("x", 0, 10, 1).options(QueryOptions {
        lookback_ms: Some(1),
        ..QueryOptions::default()
    });
    assert_ne!(s.key(&other), key("x"));
}

#[test]
fn pieces_are_of_the_whole_query() {
    let s = splitter();
    let whole = s.settled(query("x @ end() + x @ start()", 5000, 95_000, 1000));
    let piece = s.with_steps(
        &whole,
        StepRange {
            end_ms: TimestampMs::new(9000),
            ..whole.steps
        },
    );
    assert_eq!(piece.expr.to_string(), "x @ 95.000 + x @ 5.000");
    assert!(
        !s.is_cacheable(&piece, TimestampMs::new(94_999))
            && s.is_cacheable(&piece, TimestampMs::new(95_000))
    );
}

#[test]
fn joined_answers_have_a_bound() {
    let s = PromqlSplitter {
        max_points: 3,
        ..splitter()
    };
    let part = |t| {
        Arc::new(FrontendAnswer {
            series: vec![series("x", vec![(t, 1.0), (t + 1, 2.0)], vec![])],
            warnings: vec!["w".into()],
            ..FrontendAnswer::default()
        })
    };
    assert!(
        s.merge(vec![part(0), part(2)])
            .unwrap_err()
            .to_string()
            .contains("max_samples")
    );
    let joined = splitter().merge(vec![part(0), part(2)]).unwrap();
    assert_eq!(
        (
            joined.series.len(),
            joined.series[0].len(),
            joined.warnings.len()
        ),
        (1, 4, 1)
    );
    assert!(!s.is_storable(&joined));
}

#[test]
fn instant_queries_over_long_ranges_are_cut_by_time() {
    let s = splitter();
    let q = Query::instant("sum_over_time(x[3d])", 0, &ParserOptions::default()).unwrap();
    let plan = s.shard(&q, 4).unwrap();
    assert_eq!(plan.legs[0].len(), 3);
    assert_eq!(
        s.shard(&query("sum(x)", 0, 1, 1), 4).unwrap().legs[0].len(),
        4
    );
    assert!(s.steps(&q).is_none() && s.shard(&query("x", 0, 1, 1), 4).is_none());
}

/// A series that begins, ends and has gaps: its value at a step is the step.
#[derive(Debug)]
struct Data;

fn answer(steps: StepRange) -> Arc<FrontendAnswer> {
    let floats = |skip: i64| -> Vec<(i64, f64)> {
        let times = steps.iter().map(TimestampMs::get);
        let times = times.filter(|t| t / 1000 % skip != 0);
        times.map(|t| (t, t as f64)).collect()
    };
    let all = [
        series("x", floats(3), vec![]),
        series("y", floats(7), vec![]),
        series(
            "z",
            vec![],
            (steps.iter().map(TimestampMs::get))
                .filter(|t| t / 1000 % 5 == 0)
                .collect(),
        ),
    ];
    Arc::new(FrontendAnswer {
        series: all.into_iter().filter(|s| !s.is_empty()).collect(),
        ..FrontendAnswer::default()
    })
}

#[async_trait]
impl Downstream<PromqlSplitter> for Data {
    async fn run(&self, _: &TenantId, q: &Query) -> Result<Arc<FrontendAnswer>> {
        Ok(answer(q.steps))
    }

    async fn join(
        &self,
        _: &TenantId,
        _: &ShardPlan<Query>,
        _: Vec<Vec<Arc<FrontendAnswer>>>,
    ) -> Result<Arc<FrontendAnswer>> {
        unreachable!("plain selectors are not cut by series")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_frontend_answers_as_if_it_were_not_there(
        asks in prop::collection::vec((1i64..5000, 0i64..3000, 1i64..200), 1..6),
        split_s in 0u64..2000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let now_ms = 10_000_000;
            let clock = Arc::new(ManualClock::at_ms(now_ms));
            let cache = MemoryCache::new("results", &MemoryCacheSettings::default(), clock.clone()).unwrap();
            let frontend = Frontend::builder(splitter(), Arc::new(Data), clock)
                .results_cache(Arc::new(cache))
                .build()
                .unwrap();
            let limits = FrontendLimits {
                split_interval: std::time::Duration::from_secs(split_s),
                ..FrontendLimits::default()
            };
            let tenant = TenantId::new("t").unwrap();
            for (back_s, length_s, step_s) in asks {
                let start_ms = now_ms - back_s * 1000;
                let q = query("x", start_ms, start_ms + length_s * 1000, step_s * 1000);
                let got = frontend.run(&tenant, q.clone(), &limits).await.unwrap();
                assert_eq!(got, answer(q.steps), "{q:?}");
            }
        });
    }

    #[test]
    fn cached_answers_read_as_they_were_written(
        floats in prop::collection::btree_map(-1_000_000i64..1_000_000, any::<f64>(), 0..300),
        histograms in prop::collection::btree_set(0i64..1_000_000, 0..20),
    ) {
        let written = Arc::new(FrontendAnswer {
            series: vec![
                series("one", floats.into_iter().collect(), vec![]),
                series("two", vec![(5, f64::NAN)], histograms.into_iter().collect()),
            ],
            ..FrontendAnswer::default()
        });
        let bytes = splitter().encode(&written);
        let read = splitter().decode(&bytes).unwrap();
        let bits = |a: &FrontendAnswer| -> Vec<(i64, u64)> {
            a.series.iter().flat_map(|s| s.floats.iter().map(|p| (p.t_ms.get(), p.value.to_bits()))).collect()
        };
        prop_assert_eq!(bits(&read), bits(&written));
        prop_assert_eq!(&read.series[1].histograms.len(), &written.series[1].histograms.len());
        for (a, b) in read.series[1].histograms.iter().zip(&written.series[1].histograms) {
            prop_assert_eq!((a.t_ms, a.value.count, a.value.sum), (b.t_ms, b.value.count, b.value.sum));
        }
        prop_assert_eq!(&read.series[0].labels, &written.series[0].labels);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = splitter().decode(&bytes);
    }
}
