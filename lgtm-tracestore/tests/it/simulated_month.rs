//! A month of a store that keeps a week, on a clock that is moved by hand: what the bucket holds and is asked for levels off, and the week is whole.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::testing::{BucketDiary, FaultyStore};
use lgtm_tracestore::limits::CompactionLimits;
use lgtm_tracestore::prelude::*;

const BEGIN_MS: i64 = 1_700_006_400_000;
const QUARTER: Duration = Duration::from_secs(15 * 60);
const DAYS: u32 = 30;
const KEPT: u32 = 7;

/// The id of the only trace of a quarter of an hour.
fn id(number: u32) -> TraceId {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    TraceId::new(id)
}

#[tokio::test]
async fn a_month_levels_off_and_the_week_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Backend::memory();
    let store = FaultyStore::new(Arc::clone(memory.store()), 7);
    let mut diary = BucketDiary::new(store.clone(), Arc::clone(memory.store()));
    let backend = memory.wrapped(|_| Arc::new(store.clone()));
    let clock = Arc::new(ManualClock::at_ms(BEGIN_MS));
    let limits = Limits {
        compaction: CompactionLimits {
            block_retention: Duration::from_secs(u64::from(KEPT) * 86_400),
            ..CompactionLimits::default()
        },
        ..Limits::default()
    };
    let db = TraceStore::builder(folder.path(), backend)
        .limits(Overrides::fixed(limits))
        .clock(clock.clone())
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let tenant = TenantId::anonymous();
    for number in 0..DAYS * 96 {
        let (trace, start_ns) = (id(number), clock.now_ms().get() as u64 * 1_000_000);
        let span = Span {
            trace_id: trace.as_bytes(),
            span_id: &[1; 8],
            name: b"GET",
            start_ns,
            end_ns: start_ns + 1_000_000,
            ..Span::default()
        };
        let spans = Trace {
            resources: vec![ResourceSpans {
                scopes: vec![ScopeSpans {
                    spans: vec![span],
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        let report = db.append(&tenant, &spans).await.unwrap();
        assert_eq!(report.spans, 1);
        clock.advance(QUARTER);
        db.maintain().await.unwrap();
        if number % 4 == 3 {
            db.compact().await.unwrap();
        }
        if number % 96 == 95 {
            diary.day_ends().await.unwrap();
        }
    }
    println!("{diary}");
    diary.has_levelled_off(KEPT as usize + 3).unwrap();
    for number in (DAYS - KEPT + 1) * 96..DAYS * 96 {
        let found = db.find_trace(&tenant, id(number)).await.unwrap();
        assert!(!found.bytes.is_empty(), "trace {number} is gone");
    }
    let old = db.find_trace(&tenant, id(0)).await.unwrap();
    assert!(old.bytes.is_empty());
    db.close().await.unwrap();
}
