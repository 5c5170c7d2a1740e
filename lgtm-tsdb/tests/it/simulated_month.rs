//! A month of a store that keeps a week, on a clock that is moved by hand: what the bucket holds and is asked for levels off, and the week is whole.

use std::time::Duration;

use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::testing::{BucketDiary, FaultyStore};
use lgtm_tsdb::prelude::*;

const BEGIN_MS: i64 = 1_700_006_400_000;
const QUARTER: Duration = Duration::from_secs(15 * 60);
const DAYS: usize = 30;
const KEPT: u32 = 7;
const SERIES: usize = 20;

#[tokio::test]
async fn a_month_levels_off_and_the_week_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Backend::memory();
    let store = FaultyStore::new(Arc::clone(memory.store()), 7);
    let mut diary = BucketDiary::new(store.clone(), Arc::clone(memory.store()));
    let backend = memory.wrapped(|_| Arc::new(store.clone()));
    let clock = Arc::new(ManualClock::at_ms(BEGIN_MS));
    let limits = Limits {
        compactor_blocks_retention_period: Duration::from_secs(u64::from(KEPT) * 86_400),
        ..Limits::default()
    };
    let db = Tsdb::builder(folder.path(), backend)
        .limits(Overrides::fixed(limits))
        .clock(clock.clone())
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let tenant = TenantId::anonymous();
    for _ in 0..DAYS {
        for quarter in 0..96 {
            let sample = Sample {
                t_ms: clock.now_ms(),
                value: f64::from(quarter),
            };
            let series = |n: usize| {
                let labels = [("__name__", "m".to_owned()), ("n", n.to_string())];
                (Labels::from_pairs(labels).unwrap(), vec![sample])
            };
            let series: Vec<_> = (0..SERIES).map(series).collect();
            let report = db.append(&tenant, &series).await.unwrap();
            assert_eq!(report.samples, SERIES as u64);
            clock.advance(QUARTER);
            db.maintain().await.unwrap();
            if quarter % 4 == 3 {
                db.compact().await.unwrap();
            }
        }
        diary.day_ends().await.unwrap();
    }
    println!("{diary}");
    // A block of a day goes when all of it is over, and a while later from the bucket.
    diary.has_levelled_off(KEPT as usize + 3).unwrap();
    let days = KEPT - 1;
    let query = format!("sum(count_over_time(m[{days}d]))");
    let answer = db.query(&tenant, &query, clock.now_ms()).await.unwrap();
    assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    let QueryValue::Vector(found) = answer.value else {
        panic!("no vector");
    };
    let wanted = f64::from(days) * 96.0 * SERIES as f64;
    // What is asked for is open at its begin and closed at its end, where nothing was sent yet.
    let one = SERIES as f64;
    let got = found[0].floats[0].value;
    assert!((got - wanted).abs() <= one, "{got} of {wanted}");
    db.close().await.unwrap();
}
