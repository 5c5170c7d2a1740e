use bytes::Bytes;
use lgtm_core::frontend::SweepStep;
use proptest::prelude::*;

use super::*;
use crate::logql::{AnswerEntry, ParserSettings};

fn splitter() -> LogqlSplitter {
    LogqlSplitter {
        long_range_ns: 0,
        max_stored_bytes: 1 << 20,
        engine_switches: String::new(),
    }
}

fn query(text: &str, range: QueryRange) -> Query {
    Query::range(text, range, &ParserSettings::default()).unwrap()
}

fn stream(label: &str, entries: &[(i64, &str)]) -> AnswerStream {
    let entry = |(t_ns, line): &(i64, &str)| AnswerEntry {
        t_ns: *t_ns,
        line: Bytes::copy_from_slice(line.as_bytes()),
    };
    AnswerStream {
        stream: Labels::from_pairs([("a", label)]).unwrap(),
        metadata: Labels::empty(),
        parsed: Labels::empty(),
        entries: entries.iter().map(entry).collect(),
    }
}

fn answer(streams: Vec<AnswerStream>) -> Arc<Answer> {
    Arc::new(Answer {
        value: QueryValue::Streams(streams),
        ..Answer::default()
    })
}

#[test]
fn what_is_no_chain_of_steps_is_not_cut_in_time() {
    let range = QueryRange::new(0, 3_600_000_000_000);
    for (text, wanted) in [
        (r#"rate({a="b"}[5m])"#, true),
        (r#"{a="b"}"#, false),
        (
            r#"label_replace(rate({a="b"}[5m]), "x", "y", "a", ".*")"#,
            false,
        ),
        (
            r#"topk(2, label_replace(rate({a="b"}[5m]), "x", "y", "a", ".*"))"#,
            false,
        ),
        (
            r#"sum(label_replace(rate({a="b"}[5m]), "x", "y", "a", ".*"))"#,
            true,
        ),
    ] {
        let steps = splitter().steps(&query(text, range));
        assert_eq!(steps.is_some(), wanted, "{text}");
    }
}

#[test]
fn what_looks_ahead_or_prints_the_time_is_not_kept() {
    let range = QueryRange::new(0, 3_600_000_000_000);
    for (text, wanted) in [
        (r#"rate({a="b"}[5m] offset 1m)"#, true),
        (
            r#"1 + rate({a="b"}[5m]) / rate({a="b"}[5m] offset -1m)"#,
            false,
        ),
        (
            r#"sum(bytes_rate({a="b"} | line_format "{{ now }}" [5m]))"#,
            false,
        ),
        (r#"{a="b"} | label_format x="{{ unixEpoch now }}""#, false),
        (r#"{a="b"} | label_format x="{{ .y }}""#, true),
    ] {
        let cacheable = splitter().is_cacheable(&query(text, range), 0);
        assert_eq!(cacheable, wanted, "{text}");
    }
}

#[test]
fn the_key_does_not_know_how_a_query_was_written() {
    let range = QueryRange::new(0, 1);
    let key = |text| splitter().key(&query(text, range));
    assert_eq!(
        key("sum  by(x)(\n rate( {a=`b`}[300s] ) )"),
        key(r#"sum(rate({a="b"}[5m])) by (x)"#)
    );
    assert_ne!(key(r#"rate({a="b"}[5m])"#), key(r#"rate({a="b"}[6m])"#));
}

#[test]
fn parts_ask_for_what_is_still_wanted() {
    let part = |start_ns, end_ns| SweepRange {
        start_ns,
        end_ns,
        newest_first: true,
    };
    let range = QueryRange {
        limit: 3,
        ..QueryRange::new(0, 100)
    };
    let found = [answer(vec![
        stream("x", &[(90, "1")]),
        stream("y", &[(80, "2")]),
    ])];
    let asked = |range: QueryRange, piece| {
        let text = r#"{a=~".+"}"#;
        match splitter().sweep_part(&query(text, range), piece, &found) {
            SweepStep::Ask(q) => match q.time() {
                QueryTime::Range(r) => Some((r.start_ns, r.end_ns, r.limit)),
                QueryTime::Instant(_) => None,
            },
            SweepStep::Skip => Some((0, 0, 0)),
            SweepStep::Enough => None,
        }
    };
    assert_eq!(asked(range, part(50, 80)), Some((50, 80, 1)));
    assert_eq!(asked(QueryRange { limit: 2, ..range }, part(50, 80)), None);
    let spaced = QueryRange {
        interval_ns: 20,
        ..range
    };
    assert_eq!(asked(spaced, part(50, 80)), Some((50, 61, 1)));
    assert_eq!(asked(spaced, part(70, 80)), Some((0, 0, 0)));
}

#[test]
fn an_answer_is_cut_where_its_order_is_known() {
    let narrowed = |limit, direction, streams: Vec<AnswerStream>| {
        let range = QueryRange {
            limit,
            direction,
            ..QueryRange::new(0, 100)
        };
        let cut = splitter().narrowed(answer(streams), &query(r#"{a=~".+"}"#, range))?;
        let QueryValue::Streams(streams) = &cut.value else {
            unreachable!()
        };
        let lines = streams.iter().flat_map(|s| &s.entries);
        let lines: Vec<String> = lines
            .map(|e| String::from_utf8_lossy(&e.line).into_owned())
            .collect();
        Some(lines.join(""))
    };
    let newest = vec![
        stream("x", &[(9, "a"), (7, "b"), (7, "c"), (7, "d"), (1, "e")]),
        stream("y", &[(8, "f"), (6, "g")]),
    ];
    let cut = |limit| narrowed(limit, Direction::Backward, newest.clone());
    assert_eq!(cut(1).unwrap(), "a");
    assert_eq!(cut(3).unwrap(), "abf");
    assert_eq!(cut(4).unwrap(), "abcf");
    assert_eq!(cut(6).unwrap(), "abcdfg");
    assert_eq!(cut(50).unwrap(), "abcdefg");
    let oldest = vec![
        stream("x", &[(1, "a"), (2, "b")]),
        stream("y", &[(2, "c"), (3, "d")]),
    ];
    let cut = |limit| narrowed(limit, Direction::Forward, oldest.clone());
    assert_eq!(cut(1).unwrap(), "a");
    assert_eq!(cut(2), None, "b or c");
    assert_eq!(cut(3).unwrap(), "abc");
}

#[test]
fn pieces_of_streams_become_one() {
    let parts = vec![
        answer(vec![stream("y", &[(9, "1")])]),
        answer(vec![stream("x", &[(8, "2")]), stream("y", &[(7, "3")])]),
    ];
    let whole = splitter().merge(parts).unwrap();
    let wanted = vec![stream("x", &[(8, "2")]), stream("y", &[(9, "1"), (7, "3")])];
    assert_eq!(whole.value, QueryValue::Streams(wanted));
}

fn matrices() -> impl Strategy<Value = Vec<Series>> {
    let points = prop::collection::vec((any::<i32>(), any::<f64>()), 0..20);
    let one = (prop::collection::vec("[a-c]{0,2}", 0..3), points);
    let one = one.prop_map(|(values, points)| {
        let names = ["a", "b", "c"];
        let pairs = names.iter().zip(&values).map(|(n, v)| (*n, v.as_str()));
        Series {
            labels: Labels::from_sorted_keeping_empty(pairs).unwrap(),
            points: points
                .into_iter()
                .map(|(t, value)| Point {
                    t_ms: i64::from(t),
                    value,
                })
                .collect(),
        }
    });
    prop::collection::vec(one, 0..6)
}

proptest! {
    #[test]
    fn answers_read_as_they_were_written(series in matrices()) {
        let whole = Arc::new(Answer { value: QueryValue::Matrix(series), ..Answer::default() });
        let bytes = splitter().encode(&whole);
        let read = splitter().decode(&bytes).unwrap();
        prop_assert_eq!(format!("{:?}", read.value), format!("{:?}", whole.value));
        for end in 0..bytes.len() {
            prop_assert!(splitter().decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = splitter().decode(&bytes);
    }
}
