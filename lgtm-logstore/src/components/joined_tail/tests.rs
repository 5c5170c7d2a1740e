use lgtm_core::model::Labels;
use tokio::sync::mpsc;

use super::*;
use crate::logql::{AnswerEntry, QueryTime};

/// A holder that brings what a test sends.
#[derive(Debug)]
struct Channel(mpsc::Receiver<TailFrame>);

#[async_trait]
impl TailFeed for Channel {
    async fn next_frame(&mut self) -> Result<Option<TailFrame>> {
        Ok(self.0.recv().await)
    }
}

fn holder() -> (mpsc::Sender<TailFrame>, Box<dyn TailFeed>) {
    let (to, from) = mpsc::channel(100);
    (to, Box::new(Channel(from)))
}

fn entry(t_ns: i64, line: &str) -> AnswerStream {
    AnswerStream {
        stream: Labels::from_pairs([("app", "x")]).unwrap(),
        metadata: Labels::empty(),
        parsed: Labels::empty(),
        entries: vec![AnswerEntry {
            t_ns,
            line: line.to_owned().into(),
        }],
    }
}

fn frame(entries: &[(i64, &str)]) -> TailFrame {
    TailFrame {
        streams: entries.iter().map(|(t, line)| entry(*t, line)).collect(),
        dropped: Vec::new(),
    }
}

fn request(delay_s: i64) -> TailRequest {
    TailRequest {
        query: r#"{app="x"}"#.into(),
        start_ns: 0,
        limit: 100,
        delay_ns: delay_s * 1_000_000_000,
    }
}

fn lines(frame: &TailFrame) -> Vec<&str> {
    let entries = frame.streams.iter().flat_map(|s| &s.entries);
    entries
        .map(|e| std::str::from_utf8(&e.line).unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_past_comes_first_and_nothing_twice() {
    let ((a, feed_a), (b, feed_b)) = (holder(), holder());
    let mut history = entry(3, "three");
    history.entries.push(entry(1, "one").entries.remove(0));
    let settings = TailSettings::default();
    let mut tail = JoinedTail::new(vec![feed_a, feed_b], vec![history], &request(0), &settings);
    let past = tail.next_frame().await.unwrap().unwrap();
    assert_eq!(lines(&past), ["one", "three"]);
    a.send(frame(&[(3, "three"), (5, "five")])).await.unwrap();
    assert_eq!(lines(&tail.next_frame().await.unwrap().unwrap()), ["five"]);
    b.send(frame(&[(5, "five"), (5, "six")])).await.unwrap();
    assert_eq!(lines(&tail.next_frame().await.unwrap().unwrap()), ["six"]);
}

#[tokio::test(start_paused = true)]
async fn entries_wait_for_late_ones_and_come_in_order() {
    let ((a, feed_a), (b, feed_b)) = (holder(), holder());
    let feeds = vec![feed_a, feed_b];
    let mut tail = JoinedTail::new(feeds, Vec::new(), &request(5), &TailSettings::default());
    let begin = Instant::now();
    a.send(frame(&[(9, "nine"), (7, "seven")])).await.unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        b.send(frame(&[(8, "eight")])).await.unwrap();
    };
    let (frame, ()) = tokio::join!(tail.next_frame(), later);
    assert_eq!(lines(&frame.unwrap().unwrap()), ["seven", "eight", "nine"]);
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn many_entries_do_not_wait_and_come_in_small_frames() {
    let (a, feed) = holder();
    let mut tail = JoinedTail::new(
        vec![feed],
        Vec::new(),
        &request(5),
        &TailSettings::default(),
    );
    let begin = Instant::now();
    let texts: Vec<String> = (0..1050).map(|n| n.to_string()).collect();
    for (n, some) in texts.chunks(50).enumerate() {
        let entries = some.iter().map(|t| (n as i64, &**t)).collect::<Vec<_>>();
        a.send(frame(&entries)).await.unwrap();
    }
    let told = TailFrame {
        streams: Vec::new(),
        dropped: vec![(7, Labels::empty()); 700],
    };
    let first = tail.next_frame().await.unwrap().unwrap();
    assert_eq!((first.streams.len(), begin.elapsed().as_secs()), (100, 0));
    a.send(told.clone()).await.unwrap();
    a.send(told).await.unwrap();
    let (mut count, mut dropped) = (0, 0);
    while count < 950 {
        let frame = tail.next_frame().await.unwrap().unwrap();
        assert!(frame.streams.len() <= 100);
        count += frame.streams.len();
        dropped += frame.dropped.len();
    }
    assert_eq!((count, dropped), (950, 1000));
}

#[tokio::test(start_paused = true)]
async fn a_tail_ends_with_the_reason_that_clients_know() {
    let (to, feed) = holder();
    let settings = TailSettings::default();
    let mut tail = JoinedTail::new(vec![feed], Vec::new(), &request(0), &settings);
    let begin = Instant::now();
    let end = tail.next_frame().await.unwrap_err();
    assert_eq!(end.to_string(), "reached tail max duration limit");
    assert_eq!(begin.elapsed(), Duration::from_secs(3600));
    let (other, feed) = holder();
    let mut tail = JoinedTail::new(vec![feed], Vec::new(), &request(0), &settings);
    other.send(frame(&[(1, "last")])).await.unwrap();
    drop((other, to));
    assert_eq!(lines(&tail.next_frame().await.unwrap().unwrap()), ["last"]);
    let end = tail.next_frame().await.unwrap_err();
    assert_eq!(end.to_string(), "all ingesters closed the connection");
}

#[test]
fn the_past_is_asked_for_as_a_log_query() {
    let query = tail_history(&request(0), 7, &ParserSettings::default()).unwrap();
    let wanted = QueryRange {
        limit: 100,
        ..QueryRange::new(0, 8)
    };
    assert_eq!(query.time(), QueryTime::Range(wanted));
    assert!(query.is_log());
}
