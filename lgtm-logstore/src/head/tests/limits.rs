//! What streams take and what they refuse.

use std::time::Duration;

use super::*;
use crate::limits::PushRule;

const MINUTE: i64 = 60 * SECOND;

#[tokio::test]
async fn entries_come_in_any_order_within_the_window_and_are_refused_beyond_it() {
    let s = Store::new(HeadSettings::default(), limits());
    let taken = [
        ("a", NOW, "new", ""),
        ("a", NOW - 30 * MINUTE, "older", ""),
        ("a", NOW - 60 * MINUTE, "at the edge", ""),
    ];
    assert_eq!(s.push(&taken).await.unwrap().refusal("t"), None);
    let late = [
        ("a", NOW - 61 * MINUTE, "x", ""),
        ("a", NOW - MINUTE, "good", ""),
        ("a", NOW - 120 * MINUTE, "y", ""),
        ("b", NOW - 120 * MINUTE, "another stream", ""),
    ];
    let report = s.push(&late).await.unwrap();
    let refusal = report.refusal("t").unwrap();
    assert_eq!(
        (refusal.status, refusal.message.as_str()),
        (
            400,
            "entry with timestamp 2026-11-22 13:16:26 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: 2026-11-22T13:16:26Z, oldest acceptable timestamp is: 2026-11-22T13:17:26Z',\n\
             entry with timestamp 2026-11-22 12:17:26 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: 2026-11-22T12:17:26Z, oldest acceptable timestamp is: 2026-11-22T13:17:26Z',\n\
             user 't', total ignored: 2 out of 3 for stream: {app=\"a\"}"
        )
    );
    assert_eq!((report.entries, report.refused_entries()), (2, 2));
    assert_eq!(s.all(), sorted(&[&taken[..], &[late[1], late[3]]].concat()));
}

#[tokio::test]
async fn late_entries_have_a_chunk_of_their_own_where_they_are_accepted() {
    let limits = Limits {
        accept_late_entries: true,
        ..limits()
    };
    let mut s = Store::new(HeadSettings::default(), limits);
    let rows = [("a", NOW, "new", ""), ("a", NOW - 200 * MINUTE, "late", "")];
    assert_eq!(s.push(&rows).await.unwrap().refusal("t"), None);
    assert_eq!(s.all(), sorted(&rows));
    s.heads.checkpoint().await.unwrap();
    s.reopen(Crash::Process);
    assert_eq!(s.all(), sorted(&rows));
    s.heads.finish_all().await.unwrap();
    let head = s.heads.get(&tenant()).unwrap();
    let (_, stream) = head.streams().remove(0);
    assert_eq!(stream.lock().finished.len(), 2);
    assert_eq!(s.all(), sorted(&rows));
}

#[tokio::test]
async fn equal_entries_count_once_and_are_answered_when_the_first_is_logged() {
    let mut s = Store::new(small_settings(), limits());
    let long = "x".repeat(200);
    let rows: Vec<(&str, i64, &str, &str)> =
        (0..20).map(|n| ("a", NOW + n, long.as_str(), "")).collect();
    let first = s.push(&rows).await.unwrap();
    assert_eq!((first.entries, first.duplicates), (20, 0));
    // Some of them are in blocks by now: those are told apart when they are read.
    let again = s.push(&rows).await.unwrap();
    assert_eq!(again.entries + again.duplicates, 20);
    assert_eq!(again.refusal("t"), None);
    assert_eq!(s.all(), sorted(&rows));
    let other = [("a", NOW, long.as_str(), "m"), ("a", NOW, "other", "")];
    assert_eq!(s.push(&other).await.unwrap().entries, 2);
    s.heads.finish_all().await.unwrap();
    let all = sorted(&[&rows[..], &other].concat());
    assert_eq!(s.all(), all);
    s.reopen(Crash::Process);
    assert_eq!(s.all(), all);
}

#[tokio::test]
async fn bounds_of_streams_are_told_and_known_streams_go_on() {
    let limits = Limits {
        max_global_streams_per_user: 2,
        ..limits()
    };
    let s = Store::new(HeadSettings::default(), limits);
    let rows = [
        ("a", NOW, "1", ""),
        ("b", NOW, "2", ""),
        ("c", NOW, "3", ""),
    ];
    let report = s.push(&rows).await.unwrap();
    let refusal = report.refusal("t").unwrap();
    assert_eq!(
        (refusal.status, refusal.message.as_str()),
        (
            429,
            "maximum active stream limit exceeded when trying to create stream {app=\"c\"}, reduce the number of active streams (reduce labels or reduce label values), or contact your Loki administrator to see if the limit can be increased, user: 't'"
        )
    );
    assert_eq!(s.push(&[("a", NOW + 1, "4", "")]).await.unwrap().entries, 1);
    assert_eq!(s.all().len(), 3);
    let settings = HeadSettings {
        max_streams: 4,
        max_streams_per_tenant_share: 0.5,
        ..HeadSettings::default()
    };
    let s = Store::new(settings, super::limits());
    let report = s.push(&rows).await.unwrap();
    assert_eq!(report.refusal("t").unwrap().status, 503);
    assert_eq!(report.refused[&PushRule::StreamCapacity].entries, 1);
}

#[tokio::test]
async fn a_stream_beyond_its_rate_loses_the_lines_that_are_too_many() {
    let limits = Limits {
        per_stream_rate_limit: ByteSize::kib(9),
        per_stream_rate_limit_burst: ByteSize::kib(9),
        ..limits()
    };
    let s = Store::new(HeadSettings::default(), limits);
    let line = "x".repeat(1000);
    let rows: Vec<(&str, i64, &str, &str)> =
        (0..12).map(|n| ("a", NOW + n, line.as_str(), "")).collect();
    let report = s.push(&rows).await.unwrap();
    let refusal = report.refusal("t").unwrap();
    let first = refusal.message.lines().next().unwrap();
    assert_eq!(
        (refusal.status, first),
        (
            429,
            "entry with timestamp 2026-11-22 14:17:26.000000009 +0000 UTC ignored, reason: 'Per stream rate limit exceeded (limit: 9KB/sec) while attempting to ingest for stream '{app=\"a\"}' totaling 1000B, consider splitting a stream via additional labels or contact your Loki administrator to see if the limit can be increased',"
        )
    );
    assert!(
        refusal
            .message
            .ends_with("total ignored: 3 out of 12 for stream: {app=\"a\"}")
    );
    s.clock.advance(Duration::from_secs(1));
    assert_eq!(
        s.push(&[("a", NOW + 20, &line, "")]).await.unwrap().entries,
        1
    );
}

#[tokio::test]
async fn chunks_are_finished_by_size_age_and_silence() {
    let s = Store::new(small_settings(), limits());
    let line = "some words of a line, ".repeat(10);
    let rows: Vec<(&str, i64, String, &str)> = (0..100)
        .map(|n| ("a", NOW + n, format!("{line}{}", n * n * 7919), ""))
        .collect();
    let rows: Vec<(&str, i64, &str, &str)> = rows
        .iter()
        .map(|(s, t, l, m)| (*s, *t, l.as_str(), *m))
        .collect();
    s.put(&rows).await;
    let finished = || {
        let head = s.heads.get(&tenant()).unwrap();
        let (_, stream) = head.streams().remove(0);
        let state = stream.lock();
        let in_files = |c: &HeadChunk| matches!(c.bytes, ChunkBytes::File(_));
        assert!(state.finished.iter().all(in_files));
        (state.finished.len(), state.open.is_some())
    };
    let (by_size, is_open) = finished();
    assert!(by_size > 1 && is_open, "{by_size}");
    s.heads.maintain().await.unwrap();
    assert_eq!(finished(), (by_size, true), "nothing is due");
    s.put(&[("a", NOW + 9 * 60 * SECOND, "x", "")]).await;
    s.clock.advance(Duration::from_secs(3 * 3600));
    s.put(&[("a", NOW + 3 * 3600 * SECOND, "y", "")]).await;
    s.heads.maintain().await.unwrap();
    assert_eq!(finished(), (by_size + 1, false), "too old");
    s.put(&[("a", NOW + 3 * 3600 * SECOND + 1, "z", "")]).await;
    s.clock.advance(Duration::from_secs(31 * 60));
    s.heads.maintain().await.unwrap();
    assert_eq!(finished(), (by_size + 2, false), "idle");
    assert_eq!(s.all().len(), 103);
    // What is finished is not forgotten, however quiet the stream is.
    s.clock.advance(Duration::from_secs(24 * 3600));
    s.heads.maintain().await.unwrap();
    assert_eq!(s.heads.stream_count(), 1);
}

#[tokio::test]
async fn chunks_end_at_the_phase_of_the_period() {
    let settings = HeadSettings {
        sync_period: Duration::from_secs(3600),
        sync_min_utilization: 0.001,
        max_chunk_age: Duration::from_secs(24 * 3600),
        ..HeadSettings::default()
    };
    let ends = |from: i64| {
        let settings = settings.clone();
        async move {
            let s = Store::new(settings, limits());
            let line = "x".repeat(300);
            let times: Vec<i64> = (from..300)
                .map(|n| NOW - 5 * 3600 * SECOND + n * MINUTE)
                .collect();
            for t in times {
                s.put(&[("a", t, &line, "")]).await;
            }
            let head = s.heads.get(&tenant()).unwrap();
            let (_, stream) = head.streams().remove(0);
            let state = stream.lock();
            state.finished.iter().map(|c| c.max_ns).collect::<Vec<_>>()
        }
    };
    let (whole, later) = (ends(0).await, ends(90).await);
    assert!(whole.len() >= 4, "{whole:?}");
    assert_eq!(whole[whole.len() - 3..], later[later.len() - 3..]);
}

#[tokio::test]
async fn open_chunks_stay_within_their_bound_whatever_comes() {
    let settings = HeadSettings {
        max_open_chunk_bytes: ByteSize::mib(1),
        ..HeadSettings::default()
    };
    let mut s = Store::new(settings, limits());
    let line = "a line that compresses well enough ".repeat(100);
    let names: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
    for t in 0..40 {
        let rows: Vec<(&str, i64, &str, &str)> = names
            .iter()
            .map(|n| (n.as_str(), NOW + t, line.as_str(), ""))
            .collect();
        s.put(&rows).await;
        assert!(
            s.heads.open_chunk_bytes() < 1200 << 10,
            "{}",
            s.heads.open_chunk_bytes()
        );
    }
    assert_eq!(s.all().len(), 2000);
    s.reopen(Crash::Process);
    assert!(s.heads.open_chunk_bytes() < 1200 << 10);
    assert_eq!(s.all().len(), 2000);
}

#[tokio::test]
async fn a_line_that_the_log_cannot_take_is_refused_and_the_rest_is_stored() {
    let mut settings = HeadSettings::default();
    settings.wal.max_buffered = ByteSize::kib(64);
    let limits = Limits {
        max_line_size: ByteSize::bytes(0),
        ..limits()
    };
    let mut s = Store::new(settings, limits);
    let (huge, large) = ("h".repeat(40 << 10), "l".repeat(30 << 10));
    let rows = [
        ("a", NOW, "1", ""),
        ("a", NOW + 1, huge.as_str(), ""),
        ("a", NOW + 2, large.as_str(), ""),
        ("a", NOW + 3, large.as_str(), ""),
        ("b", NOW, large.as_str(), ""),
    ];
    let report = s.push(&rows).await.unwrap();
    let refusal = report.refusal("t").unwrap();
    assert!(
        refusal
            .message
            .starts_with("max entry size '32768' bytes exceeded"),
        "{refusal:?}"
    );
    assert_eq!((refusal.status, report.entries), (400, 4));
    s.reopen(Crash::Process);
    let stored = [rows[0], rows[2], rows[3], rows[4]];
    assert_eq!(s.all(), sorted(&stored));
}
