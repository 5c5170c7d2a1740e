use lgtm_core::clock::ManualClock;
use lgtm_core::model::{Matcher, TimeRangeNs, TimestampNs};

use super::*;
use crate::components::sample_pushes::pushed;
use crate::limits::Limits;

const NOW_MS: i64 = 1_700_000_000_000;
const SECOND: i64 = 1_000_000_000;

fn batch(app: &str, lines: &[(i64, String, &str)]) -> PushBatch {
    let lines = lines.iter();
    let entries = lines.map(|(t_ns, line, level)| (*t_ns, &**line, [("detected_level", *level)]));
    pushed(app, entries)
}

fn holder(settings: PatternSettings) -> (Arc<RecentPatterns>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at_ms(NOW_MS));
    (
        Arc::new(RecentPatterns::new(settings, clock.clone()).unwrap()),
        clock,
    )
}

fn every_line() -> PatternSettings {
    PatternSettings {
        sample_every: 1,
        ..PatternSettings::default()
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn request(app: &str, step_s: i64) -> PatternsRequest {
    PatternsRequest {
        matchers: vec![Matcher::equal("app", app)],
        range: TimeRangeNs::ALL,
        step_ns: step_s * SECOND,
        by_stream: false,
    }
}

async fn push(holder: &RecentPatterns, of: &str, app: &str, lines: &[(i64, String, &str)]) {
    let batch = batch(app, lines);
    let taken = Accepted::all(&batch);
    holder.observe(&tenant(of), &batch, &taken).await;
}

fn found(holder: &RecentPatterns, of: &str, request: &PatternsRequest) -> Vec<PatternCounts> {
    let cancel = CancelToken::new();
    holder.found(&tenant(of), request, &cancel).unwrap()
}

/// So many lines of one pattern, a second apart, ending now.
fn lines(count: i64, level: &'static str) -> Vec<(i64, String, &'static str)> {
    let line = |n: i64| {
        let t_ns = NOW_MS * 1_000_000 - (count - n) * SECOND;
        (
            t_ns,
            format!("request {n} took {n}ms on path /p/{n}"),
            level,
        )
    };
    (0..count).map(line).collect()
}

#[tokio::test]
async fn patterns_are_counted_by_stream_level_and_step() {
    let (holder, _) = holder(every_line());
    push(&holder, "a", "x", &lines(40, "info")).await;
    push(&holder, "a", "x", &lines(20, "error")).await;
    push(&holder, "a", "y", &lines(5, "info")).await;
    push(&holder, "b", "x", &lines(7, "info")).await;
    let all = found(&holder, "a", &request("x", 10));
    let seen: Vec<_> = all
        .iter()
        .map(|p| (&*p.level, p.counts.iter().map(|c| c.1).sum::<u64>()))
        .collect();
    assert_eq!(seen, [("info", 40), ("error", 20)]);
    assert_eq!(all[0].pattern, "request <_> took <_> on path <_>");
    assert_eq!(all[0].counts.len(), 4);
    let coarse = found(&holder, "a", &request("x", 60));
    assert!(
        coarse[0]
            .counts
            .iter()
            .all(|(t, _)| *t == t.floor(60 * SECOND))
    );
    let fine = found(&holder, "a", &request("x", 1));
    assert_eq!(fine, all);
    assert!(found(&holder, "c", &request("x", 10)).is_empty());
}

#[tokio::test]
async fn only_frequent_patterns_are_answered_the_most_frequent_first() {
    let (holder, _) = holder(every_line());
    push(&holder, "a", "x", &lines(29, "debug")).await;
    push(&holder, "a", "x", &lines(30, "info")).await;
    push(&holder, "a", "x", &lines(45, "error")).await;
    let request = request("x", 10);
    let parts = || Listed::whole(found(&holder, "a", &request));
    let answer = joined_patterns(&request, vec![parts()], 1);
    let levels: Vec<&str> = answer.items.iter().map(|p| &*p.level).collect();
    assert_eq!(levels, ["error", "info"]);
    let twice = joined_patterns(&request, vec![parts(), parts()], 2);
    assert_eq!(twice, answer);
    let many = (0..400).map(|n| PatternCounts {
        pattern: format!("p {n}"),
        level: "info".into(),
        counts: vec![(TimestampNs::EPOCH, 100 + n)],
        stream: None,
    });
    let answer = joined_patterns(&request, vec![Listed::whole(many.collect())], 1);
    assert_eq!(
        (answer.items.len(), answer.items[0].counts[0].1),
        (300, 499)
    );
}

#[tokio::test]
async fn counts_of_busy_streams_are_near_the_truth() {
    let (holder, _) = holder(PatternSettings::default());
    // As they come when nobody else sends.
    let t_ns = NOW_MS * 1_000_000 - SECOND;
    // Two kinds in strict turns: a sample in step with them would see one only.
    let line = |n: i64| match n % 2 {
        0 => (t_ns, format!("request {n} begins on a worker"), "info"),
        _ => (t_ns, format!("request {n} has ended well"), "info"),
    };
    let lines: Vec<_> = (0..20_000).map(line).collect();
    push(&holder, "a", "x", &lines).await;
    let all = found(&holder, "a", &request("x", 10));
    assert_eq!(all.len(), 2);
    for pattern in all {
        let count = pattern.counts[0].1;
        assert!((8_500..11_500).contains(&count), "{count} of 10000");
    }
}

#[tokio::test]
async fn lines_of_a_second_are_bounded_and_all_of_them_count() {
    let settings = PatternSettings {
        max_lines_per_second: 30,
        ..every_line()
    };
    let (holder, clock) = holder(settings);
    push(&holder, "a", "x", &lines(100, "info")).await;
    let count = |found: Vec<PatternCounts>| -> u64 {
        let counts = found.iter().flat_map(|p| &p.counts);
        counts.map(|c| c.1).sum()
    };
    assert_eq!(count(found(&holder, "a", &request("x", 10))), 30);
    push(&holder, "a", "y", &lines(10, "info")).await;
    assert!(found(&holder, "a", &request("y", 10)).is_empty());
    clock.advance(Duration::from_secs(1));
    push(&holder, "a", "x", &lines(1, "info")).await;
    assert_eq!(count(found(&holder, "a", &request("x", 10))), 101);
}

#[tokio::test]
async fn what_is_old_or_not_taken_does_not_count() {
    let (holder, clock) = holder(PatternSettings::default());
    let batch = batch("x", &lines(40, "info"));
    let none = crate::limits::Admission::new(clock.clone());
    let blocked = Limits {
        block_ingestion_until: Some("2100-01-01T00:00:00Z".into()),
        ..Limits::default()
    };
    let mut report = crate::limits::PushReport::default();
    let refused = none.admit(&tenant("a"), &batch, &blocked, &mut report);
    holder.observe(&tenant("a"), &batch, &refused).await;
    assert!(found(&holder, "a", &request("x", 10)).is_empty());
    push(&holder, "a", "x", &lines(40, "info")).await;
    let old = lines(40, "error").into_iter();
    let old: Vec<_> = old.map(|(t, l, v)| (t - 4 * 3600 * SECOND, l, v)).collect();
    push(&holder, "a", "x", &old).await;
    assert_eq!(found(&holder, "a", &request("x", 10)).len(), 1);
    clock.advance(Duration::from_secs(4 * 3600));
    let executor = Executor::inline(tokio::runtime::Handle::current());
    holder.maintain(&executor).await.unwrap();
    assert!(found(&holder, "a", &request("x", 10)).is_empty());
    assert_eq!(holder.memory_bytes(), 0);
}

#[tokio::test]
async fn memory_is_bounded_and_the_silent_streams_go_first() {
    let settings = PatternSettings {
        max_memory: ByteSize::mib(1),
        max_lines_per_second: 1_000_000,
        ..PatternSettings::default()
    };
    let (holder, clock) = holder(settings);
    for n in 0..3000 {
        clock.advance(Duration::from_millis(1));
        push(&holder, "a", &format!("x{n}"), &lines(2, "info")).await;
        assert!(holder.memory_bytes() <= 1 << 20);
    }
    assert!(holder.forgotten() > 100, "{}", holder.forgotten());
    assert_eq!(found(&holder, "a", &request("x2999", 10)).len(), 1);
    assert!(found(&holder, "a", &request("x0", 10)).is_empty());
}

#[test]
fn faults_of_the_settings_are_named() {
    let bad = PatternSettings {
        sample_every: 0,
        drain: DrainSettings {
            similarity: f64::NAN,
            max_templates: 0,
            max_words: 5000,
            ..DrainSettings::default()
        },
        ..PatternSettings::default()
    };
    let error = bad.validate().unwrap_err().to_string();
    for part in [
        "sample_every",
        "similarity NaN",
        "max_templates 0",
        "max_words",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
