use lgtm_core::clock::ManualClock;
use tokio::runtime::Handle;

use super::*;
use crate::components::sample_pushes::pushed;

const NOW_MS: i64 = 1_700_000_000_000;

fn followers(settings: FollowSettings) -> (Arc<Followers>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at_ms(NOW_MS));
    let executor = Executor::inline(Handle::current());
    (Followers::new(settings, clock.clone(), executor), clock)
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn request(query: &str) -> TailRequest {
    TailRequest {
        query: query.into(),
        start_ns: 0,
        limit: 10,
        delay_ns: 0,
    }
}

async fn follow(followers: &Arc<Followers>, query: &str) -> Box<dyn TailFeed> {
    let feed = followers.tail(&tenant("a"), &request(query), 10).await;
    feed.unwrap()
}

async fn push(followers: &Followers, of: &str, app: &str, lines: &[(i64, &str)]) {
    let lines = lines.iter();
    let batch = pushed(app, lines.map(|(t, line)| (*t, *line, [("trace", "t1")])));
    let taken = Accepted::all(&batch);
    followers.publish(&tenant(of), &batch, &taken).await;
}

fn lines(frame: &TailFrame) -> Vec<String> {
    let streams = frame.streams.iter();
    let entries = streams.flat_map(|s| &s.entries);
    entries
        .map(|e| String::from_utf8(e.line.to_vec()).unwrap())
        .collect()
}

/// The next frame, if one is ready.
async fn ready(feed: &mut Box<dyn TailFeed>) -> Option<TailFrame> {
    tokio::select! {
        biased;
        frame = feed.next_frame() => frame.unwrap(),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn a_push_reaches_those_that_follow_its_streams() {
    let (followers, _) = followers(FollowSettings::default());
    push(&followers, "a", "x", &[(1, "before anybody follows")]).await;
    let mut x = follow(&followers, r#"{app="x"} |= "b" | logfmt"#).await;
    let mut any = follow(&followers, r#"{app=~".+"} | trace="t1""#).await;
    let mut none = follow(&followers, r#"{app="x"} | trace="t2""#).await;
    push(&followers, "a", "x", &[(5, "a=b"), (6, "a=c"), (7, "d=b")]).await;
    push(&followers, "a", "y", &[(8, "b")]).await;
    push(&followers, "b", "x", &[(9, "b")]).await;
    let frame = ready(&mut x).await.unwrap();
    assert_eq!(lines(&frame), ["a=b", "d=b"]);
    let first = &frame.streams[0];
    assert_eq!(first.stream.to_string(), r#"{app="x"}"#);
    assert_eq!(first.metadata.to_string(), r#"{trace="t1"}"#);
    assert_eq!(first.parsed.to_string(), r#"{a="b"}"#);
    assert!(ready(&mut x).await.is_none());
    assert_eq!(
        lines(&ready(&mut any).await.unwrap()),
        ["a=b", "a=c", "d=b"]
    );
    assert_eq!(lines(&ready(&mut any).await.unwrap()), ["b"]);
    assert!(ready(&mut none).await.is_none());
    assert_eq!(followers.queued_bytes(), 0);
}

#[tokio::test]
async fn what_was_not_taken_or_is_older_than_asked_is_not_handed_on() {
    let (followers, clock) = followers(FollowSettings::default());
    let late = TailRequest {
        start_ns: 6,
        ..request(r#"{app="x"}"#)
    };
    let mut feed = followers.tail(&tenant("a"), &late, 0).await.unwrap();
    push(&followers, "a", "x", &[(5, "early"), (6, "late")]).await;
    assert_eq!(lines(&ready(&mut feed).await.unwrap()), ["late"]);
    let batch = pushed("x", [(7, "refused", [("trace", "t1")])]);
    let blocked = crate::limits::Limits {
        block_ingestion_until: Some("2100-01-01T00:00:00Z".into()),
        ..Default::default()
    };
    let mut report = crate::limits::PushReport::default();
    let admission = crate::limits::Admission::new(clock);
    let refused = admission.admit(&tenant("a"), &batch, &blocked, &mut report);
    followers.publish(&tenant("a"), &batch, &refused).await;
    assert!(ready(&mut feed).await.is_none());
}

#[tokio::test]
async fn frames_are_small_and_nothing_is_lost_when_a_fetch_is_given_up() {
    let (followers, _) = followers(FollowSettings::default());
    let mut feed = follow(&followers, r#"{app="x"}"#).await;
    let all: Vec<String> = (0..250).map(|n| format!("line {n}")).collect();
    let entries: Vec<_> = all.iter().zip(1..).map(|(l, t)| (t, &**l)).collect();
    assert!(ready(&mut feed).await.is_none());
    push(&followers, "a", "x", &entries).await;
    let mut seen = Vec::new();
    for count in [100, 100, 50] {
        let frame = ready(&mut feed).await.unwrap();
        assert_eq!(frame.streams.len(), count);
        seen.extend(lines(&frame));
    }
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_slow_follower_loses_entries_and_is_told_which() {
    let settings = FollowSettings {
        max_queued: ByteSize::kib(1),
        ..FollowSettings::default()
    };
    let (followers, clock) = followers(settings);
    let mut slow = follow(&followers, r#"{app="x"}"#).await;
    let line = "x".repeat(300);
    for t in 1..=1500 {
        push(&followers, "a", "x", &[(t, &line)]).await;
    }
    assert!(followers.queued_bytes() <= 1024);
    assert_eq!(followers.dropped(), 1498);
    let frame = ready(&mut slow).await.unwrap();
    assert_eq!(frame.streams.len(), 1);
    assert_eq!(frame.dropped.len(), 1000);
    assert_eq!(frame.dropped[0].0, 3);
    assert_eq!(frame.dropped[0].1.get("app"), Some("x"));
    assert!(ready(&mut slow).await.unwrap().dropped.is_empty());
    // Who fetches is not given up, however much is left out; who does not is.
    for t in (2000..2060).step_by(3) {
        let three = [(t, &*line), (t + 1, &line), (t + 2, &line)];
        push(&followers, "a", "x", &three).await;
        clock.advance(Duration::from_secs(10));
        assert!(ready(&mut slow).await.is_some());
    }
    let three = [(3000, &*line), (3001, &line), (3002, &line)];
    push(&followers, "a", "x", &three).await;
    clock.advance(Duration::from_secs(16));
    push(&followers, "a", "x", &[(3003, &line)]).await;
    let mut left = 0;
    while let Some(frame) = slow.next_frame().await.unwrap() {
        left += frame.streams.len();
    }
    assert_eq!(left, 2);
    drop(slow);
    assert_eq!((followers.count(), followers.queued_bytes()), (0, 0));
}

#[tokio::test]
async fn tails_of_a_tenant_are_counted_and_wrong_queries_refused() {
    let (followers, _) = followers(FollowSettings::default());
    let follow =
        async |of: &str, query: &str| followers.tail(&tenant(of), &request(query), 2).await;
    let one = follow("a", r#"{app="x"}"#).await.unwrap();
    let _two = follow("a", r#"{app="x"}"#).await.unwrap();
    let refused = follow("a", r#"{app="x"}"#).await.unwrap_err();
    assert!(matches!(refused, QueryError::Limit(_)));
    let text = "max concurrent tail requests limit exceeded, count > limit (3 > 2)";
    assert_eq!(refused.to_string(), text);
    assert!(follow("b", r#"{app="x"}"#).await.is_ok());
    drop(one);
    assert!(follow("a", r#"{app="x"}"#).await.is_ok());
    let metric = follow("b", r#"rate({app="x"}[1m])"#).await.unwrap_err();
    assert!(matches!(&metric, QueryError::Invalid(t) if t == "only log selector is supported"));
    for bad in [
        r#"{app="x""#,
        r#"{app="x"} |~ "(""#,
        r#"{app="x"} | line_format "{{""#,
    ] {
        let refused = follow("b", bad).await.unwrap_err();
        assert!(matches!(refused, QueryError::Parse(_)), "{bad}: {refused}");
    }
    assert_eq!(followers.count(), 1);
}
