//! A month of a store that keeps a week, on a clock that is moved by hand: what the bucket holds and is asked for levels off, and the week is whole.

use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::testing::{BucketDiary, FaultyStore};
use lgtm_logstore::prelude::*;

const BEGIN_MS: i64 = 1_700_006_400_000;
const QUARTER: Duration = Duration::from_secs(15 * 60);
const DAYS: usize = 30;
const KEPT: u32 = 7;
const STREAMS: usize = 5;

#[tokio::test]
async fn a_month_levels_off_and_the_week_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Backend::memory();
    let store = FaultyStore::new(Arc::clone(memory.store()), 7);
    let mut diary = BucketDiary::new(store.clone(), Arc::clone(memory.store()));
    let backend = memory.wrapped(|_| Arc::new(store.clone()));
    let clock = Arc::new(ManualClock::at_ms(BEGIN_MS));
    let limits = Limits {
        retention_period: Duration::from_secs(u64::from(KEPT) * 86_400),
        ..Limits::default()
    };
    let db = LogStore::builder(folder.path(), backend)
        .limits(Overrides::fixed(limits))
        .clock(clock.clone())
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let tenant = TenantId::anonymous();
    for _ in 0..DAYS {
        for quarter in 0..96 {
            let t_ns = clock.now_ms().to_ns();
            let stream = |n: usize| {
                let labels = Labels::from_pairs([("n", n.to_string())]).unwrap();
                (labels, vec![LogEntry::new(t_ns, format!("line {quarter}"))])
            };
            let streams: Vec<_> = (0..STREAMS).map(stream).collect();
            let report = db.append(&tenant, &streams).await.unwrap();
            assert_eq!(report.entries, STREAMS as u64);
            clock.advance(QUARTER);
            db.maintain().await.unwrap();
            if quarter % 4 == 3 {
                db.compact().await.unwrap();
            }
        }
        diary.day_ends().await.unwrap();
    }
    println!("{diary}");
    diary.has_levelled_off(KEPT as usize + 3).unwrap();
    let days = i64::from(KEPT - 1);
    let end_ns = clock.now_ms().to_ns();
    let begin_ns = end_ns.saturating_sub(days * 86_400_000_000_000);
    let range = TimeRangeNs::new(begin_ns, end_ns);
    let found = db.lines(&tenant, r#"{n=~".+"}"#, range, 5000).await;
    let found = found.unwrap();
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    assert_eq!(found.items.len(), days as usize * 96 * STREAMS);
    db.close().await.unwrap();
}
