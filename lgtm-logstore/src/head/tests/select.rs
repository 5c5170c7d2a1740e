//! What selects answer: everything that was acknowledged, each entry once, in the order asked for.

use lgtm_core::model::{MatchOp, Matcher, TimeRangeNs, TimestampNs};
use proptest::prelude::*;

use super::*;
use crate::head::HeadSelect;
use crate::select::{EntryBatches, Select, SelectEnd, SelectOrder, SelectRequest};

impl Store {
    fn select(&self) -> HeadSelect {
        HeadSelect::new(Arc::clone(&self.heads))
    }
}

fn request(matcher: Matcher, range: TimeRangeNs) -> SelectRequest {
    SelectRequest::new(vec![matcher], range)
}

fn everything() -> SelectRequest {
    let any = Matcher::new(MatchOp::Regex, "app", ".+").unwrap();
    request(any, TimeRangeNs::ALL)
}

/// Reads an answer to its end, and checks what the order promises.
async fn read(mut batches: Box<dyn EntryBatches>, order: SelectOrder) -> (Vec<Row>, SelectEnd) {
    let mut out: Vec<Row> = Vec::new();
    let mut horizon = None;
    let mut last_stream: Option<(String, TimestampNs)> = None;
    while let Some(batch) = batches.next_batch().await.unwrap() {
        for block in &batch.blocks {
            let stream = block.labels.get("app").unwrap().to_owned();
            let (min, max) = (block.block.min_ns().unwrap(), block.block.max_ns().unwrap());
            match order {
                SelectOrder::Streams => {
                    let is_next = last_stream
                        .as_ref()
                        .is_none_or(|(s, t)| (s, t) < (&stream, &min));
                    assert!(is_next, "{last_stream:?} before {stream} {min}");
                    last_stream = Some((stream.clone(), max));
                }
                SelectOrder::OldestFirst => assert!(horizon.is_none_or(|h| h <= min)),
                SelectOrder::NewestFirst => assert!(horizon.is_none_or(|h| max < h)),
            }
            for e in block.block.iter() {
                let line = String::from_utf8(e.line.to_vec()).unwrap();
                let m = e.metadata().next().map_or("", |(_, value)| value);
                out.push((stream.clone(), e.t_ns.get(), line, m.to_owned()));
            }
        }
        horizon = Some(batch.horizon_ns);
    }
    out.sort();
    (out, batches.end())
}

const ORDERS: [SelectOrder; 3] = [
    SelectOrder::Streams,
    SelectOrder::OldestFirst,
    SelectOrder::NewestFirst,
];

async fn run(pushes: &[Vec<(u8, i64, u8)>], finish_at: usize, range: (i64, i64)) {
    let s = Store::new(small_settings(), limits());
    let mut all = BTreeSet::new();
    for (n, entries) in pushes.iter().enumerate() {
        let rows: Vec<(String, i64, String)> = entries
            .iter()
            .map(|(stream, t, line)| {
                let line = "xy".repeat(usize::from(*line) * 4);
                (format!("s{stream}"), NOW + t * SECOND, line)
            })
            .collect();
        let rows: Vec<(&str, i64, &str, &str)> = rows
            .iter()
            .map(|(s, t, l)| (s.as_str(), *t, l.as_str(), "m"))
            .collect();
        s.put(&rows).await;
        all.extend(sorted(&rows));
        if n == finish_at {
            s.heads.finish_all().await.unwrap();
        }
    }
    let (min, max) = (NOW + range.0 * SECOND, NOW + range.1 * SECOND);
    for (min, max) in [(min, max), (i64::MIN, i64::MAX)] {
        let range = TimeRangeNs::new(min, max);
        let wanted: Vec<Row> = all
            .iter()
            .filter(|r| range.contains(TimestampNs::new(r.1)))
            .cloned()
            .collect();
        for order in ORDERS {
            let request = SelectRequest {
                range,
                ..everything()
            };
            let answer = s
                .select()
                .select(&tenant(), &request.clone().order(order))
                .await;
            // What comes now is not in the answer.
            let answer = answer.unwrap();
            let (rows, end) = read(answer, order).await;
            let first = rows.iter().zip(&wanted).find(|(a, b)| a != b);
            assert_eq!((first, rows.len()), (None, wanted.len()), "{order:?}");
            assert_eq!(
                (end.warnings.len(), end.stats.lines()),
                (0, rows.len() as u64)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_entry_comes_once_and_in_order(
        pushes in prop::collection::vec(prop::collection::vec((0u8..3, 0i64..60, 0u8..20), 1..30), 1..10),
        finish_at in 0usize..10,
        range in (0i64..60, 0i64..70),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&pushes, finish_at, range));
    }
}

#[tokio::test]
async fn an_answer_stays_what_it_was_while_chunks_move() {
    let s = Store::new(small_settings(), limits());
    let line = "words ".repeat(30);
    let rows: Vec<(&str, i64, &str, &str)> =
        (0..50).map(|n| ("a", NOW + n, line.as_str(), "")).collect();
    s.put(&rows).await;
    let answer = s.select().select(&tenant(), &everything()).await.unwrap();
    s.put(&[("a", NOW + 10, "later", ""), ("b", NOW, "later", "")])
        .await;
    s.heads.finish_all().await.unwrap();
    s.heads.checkpoint().await.unwrap();
    let (seen, _) = read(answer, SelectOrder::Streams).await;
    assert_eq!(seen, sorted(&rows));
}

#[tokio::test]
async fn streams_and_their_labels_are_listed_by_what_they_hold_in_the_range() {
    let s = Store::new(small_settings(), limits());
    s.put(&[
        ("a", NOW, "1", ""),
        ("b", NOW + 5, "2", ""),
        ("c", NOW + 9, "3", ""),
    ])
    .await;
    s.heads.finish_all().await.unwrap();
    s.put(&[("d", NOW + 5, "4", "")]).await;
    let range = TimeRangeNs::new(NOW + 1, NOW + 9);
    let request = SelectRequest {
        range,
        ..everything()
    };
    let select = s.select();
    let series = select.series(&tenant(), &request).await.unwrap();
    let names: Vec<_> = series.items.iter().map(|l| l.get("app").unwrap()).collect();
    assert_eq!((names, series.is_cut), (vec!["b", "d"], false));
    let cut = select
        .series(&tenant(), &request.clone().limit(1))
        .await
        .unwrap();
    assert!(cut.items.len() == 1 && cut.is_cut);
    let values = select
        .label_values(&tenant(), "app", &request)
        .await
        .unwrap();
    assert_eq!(values.items.iter().collect::<Vec<_>>(), ["b", "d"]);
    let names = select.label_names(&tenant(), &request).await.unwrap();
    assert_eq!(names.items.iter().collect::<Vec<_>>(), ["app"]);
    let nobody = TenantId::new("nobody").unwrap();
    assert!(
        select
            .series(&nobody, &request)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(s.heads.get(&nobody).is_none(), "a question makes no head");
}

#[tokio::test]
async fn a_damaged_chunk_costs_itself_and_is_told() {
    let mut s = Store::new(small_settings(), limits());
    s.put(&[("a", NOW, "one", ""), ("b", NOW, "two", "")]).await;
    s.heads.finish_all().await.unwrap();
    s.heads.checkpoint().await.unwrap();
    let path = "logs/chunks_head/00000001";
    let mut bytes = s.disk.read(path).unwrap();
    bytes[60] ^= 1;
    let disk = s.disk.crash(Crash::Process);
    disk.write(path, &bytes);
    s.disk = disk;
    let opened = open(&s.disk, &s.settings, &s.limits, &s.clock);
    (s.heads, s.report) = opened.unwrap();
    for _ in 0..2 {
        let answer = s.select().select(&tenant(), &everything()).await.unwrap();
        let (rows, end) = read(answer, SelectOrder::Streams).await;
        assert_eq!(rows.len(), 1);
        assert!(
            end.warnings.len() == 1 && end.warnings[0].contains("cannot be read"),
            "{:?}",
            end.warnings
        );
    }
    assert_eq!(s.heads.damaged_chunks(), 1);
}

#[tokio::test]
async fn what_is_more_than_the_bounds_is_refused() {
    let s = Store::new(small_settings(), limits());
    s.put(&[("a", NOW, "one", ""), ("b", NOW, "two", "")]).await;
    let bounds = crate::select::FetchBounds {
        max_streams: 1,
        ..crate::select::FetchBounds::default()
    };
    let refused = s
        .select()
        .select(&tenant(), &everything().bounds(bounds))
        .await;
    let error = refused.err().unwrap();
    assert_eq!(error.kind(), lgtm_core::ErrorKind::LimitExceeded);
}
