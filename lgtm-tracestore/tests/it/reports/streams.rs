//! H: what Grafana and others need of streams, and of the rest of the door.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, Version};
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Reader;
use lgtm_core::codec::protobuf::{bytes_tag, put_bytes_field, put_varint_field, skip};
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};
use lgtm_tracestore::components::clients::{
    FindTrace, Heard, MetricsWindow, Queries, SearchListener,
};
use lgtm_tracestore::components::{
    Answered, FoundTrace, MetricsRequest, QueryEnd, SearchRequest, TagNamesAnswer, TagNamesRequest,
    TagValuesAnswer, TagValuesRequest, TraceRequest,
};
use lgtm_tracestore::http::{ApiSettings, QueryApi, QueryRules};
use lgtm_tracestore::limits::Limits;
use lgtm_tracestore::select::AttributeScope;
use lgtm_tracestore::traceql::{
    AnswerValue, Cells, IntervalGrid, LegPartial, MetricsPartial, SeriesKey, TagValue,
    TagValueType, TraceHit,
};
use tower::ServiceExt;

use super::house::{House, otlp, span};
use crate::door::{Answer, Door, DoorParts, NOW_S, SECOND};

#[tokio::test]
async fn h07_traces_can_be_chosen_by_what_their_spans_add_up_to() {
    let house = House::of(&[
        span(1, "a").trace(1).status(2).at(60_000, 100),
        span(2, "b").trace(1).status(2).under(1).at(60_000, 3000),
        span(3, "c").trace(2).status(2).at(60_000, 100),
        span(4, "d").trace(2).under(3).at(60_000, 200),
    ])
    .await;
    for (query, traces) in [
        ("{ status = error } | count() > 1", &[1][..]),
        ("{ } | count() = 2", &[1, 2]),
        ("{ } | avg(duration) > 1s", &[1]),
        ("{ } | max(duration) <= 200ms", &[2]),
        ("{ } | sum(duration) > 3s", &[1]),
        ("{ status = error } | count() > 3", &[]),
    ] {
        let found = house.search(query).await;
        assert_eq!(found.into_keys().collect::<Vec<_>>(), traces, "{query}");
    }
}

/// The values of a field that holds bytes.
fn fields(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    let mut r = Reader::new("answer", message);
    let mut out = Vec::new();
    while !r.is_empty() {
        let tag = r.uvarint().unwrap();
        if tag == bytes_tag(field) {
            out.push(r.bytes().unwrap().to_vec());
        } else {
            skip(&mut r, tag).unwrap();
        }
    }
    out
}

fn texts(message: &[u8], field: u64) -> Vec<String> {
    let all = fields(message, field).into_iter();
    all.map(|v| String::from_utf8(v).unwrap()).collect()
}

#[tokio::test]
async fn what_a_streamed_search_tells_first_of_a_trace_is_never_less_than_what_comes_later() {
    let settings = ApiSettings {
        queries: QueryRules {
            streaming_interval: Duration::from_millis(10),
            ..QueryRules::default()
        },
        ..ApiSettings::default()
    };
    let door = Door::with(DoorParts {
        settings,
        ..DoorParts::default()
    })
    .await;
    // Each trace has a part in each of three blocks, and one that is live.
    for part in 0..4 {
        let spans: Vec<_> = (1..=300)
            .map(|n| {
                let span = span(part + 1, "a")
                    .trace(n)
                    .at(60_000 + n * 100 - part * 10, 5);
                if part == 0 { span } else { span.under(1) }
            })
            .collect();
        door.push(&otlp(&spans)).await;
        if part < 3 {
            door.store.flush().await.unwrap();
        }
    }
    let mut request = Vec::new();
    put_varint_field(&mut request, 4, 200);
    put_varint_field(&mut request, 5, NOW_S - 900);
    put_varint_field(&mut request, 6, NOW_S);
    put_bytes_field(&mut request, 8, b"{ }");
    put_varint_field(&mut request, 9, 10);
    for query in 0..3 {
        let answer = door
            .call("/tempopb.StreamingQuerier/Search", &request)
            .await;
        assert_eq!(answer.grpc_status().0, 0);
        let mut first: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let messages = answer.messages();
        for message in &messages {
            for trace in fields(message, 1) {
                let id = texts(&trace, 1).remove(0);
                let known = first.entry(id.clone()).or_insert_with(|| trace.clone());
                assert_eq!(*known, trace, "{query}: {id}");
            }
        }
        assert_eq!(first.len(), 200);
        for trace in first.values() {
            let set = fields(trace, 7).remove(0);
            assert_eq!(fields(&set, 1).len(), 4, "spans of all parts");
        }
        // The last message counts all jobs as done.
        let metrics = fields(messages.last().unwrap(), 2).remove(0);
        let mut r = Reader::new("metrics", &metrics);
        let mut jobs = BTreeMap::new();
        while !r.is_empty() {
            let tag = r.uvarint().unwrap();
            if tag & 7 == 0 {
                jobs.insert(tag >> 3, r.uvarint().unwrap());
            } else {
                skip(&mut r, tag).unwrap();
            }
        }
        assert!(jobs[&4] == jobs[&5] && jobs[&5] > 0, "{jobs:?}");
    }
}

/// Answers in three steps, a second apart, and tells each.
#[derive(Debug)]
struct Slow;

const STEPS: u64 = 3;

/// What two of the intervals of a query count.
fn window(request: &MetricsRequest, step: u64) -> MetricsWindow {
    let grid = request.settings.grid;
    let part = IntervalGrid {
        after_ns: grid.after_ns + step * 2 * grid.step_ns,
        len: 2,
        ..grid
    };
    let key = SeriesKey {
        labels: vec![("name".into(), AnswerValue::Text("a".into()))],
        bucket: None,
    };
    let leg = LegPartial {
        series: BTreeMap::from([(key, Cells::Counts(vec![step + 1; 2]))]),
        exemplars: Vec::new(),
    };
    Arc::new(Answered {
        value: MetricsPartial {
            grid: part,
            legs: vec![leg],
        },
        end: QueryEnd::default(),
    })
}

async fn a_second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[async_trait]
impl FindTrace for Slow {
    async fn find_trace(&self, _: &TenantId, _: &TraceRequest) -> Result<FoundTrace> {
        Err(Error::InvalidInput("nobody asks".into()))
    }
}

#[async_trait]
impl Queries for Slow {
    async fn search(
        &self,
        _: &TenantId,
        _: &SearchRequest,
        _: Option<&dyn SearchListener>,
    ) -> Result<Answered<Vec<TraceHit>>> {
        Err(Error::InvalidInput("nobody asks".into()))
    }

    async fn metrics_part(
        &self,
        _: &TenantId,
        request: &MetricsRequest,
        listener: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsPartial>> {
        let mut whole: Option<Answered<MetricsPartial>> = None;
        for step in 0..STEPS {
            a_second().await;
            let part = window(request, step);
            if let Some(listener) = &listener {
                listener.hear(&part);
            }
            match &mut whole {
                None => whole = Some((*part).clone()),
                Some(whole) => whole.value.merge(part.value.clone()).unwrap(),
            }
        }
        Ok(whole.unwrap())
    }

    async fn tag_names(
        &self,
        _: &TenantId,
        _: &TagNamesRequest,
        listener: Heard<TagNamesAnswer>,
    ) -> Result<Answered<TagNamesAnswer>> {
        let mut all = BTreeSet::new();
        for step in 0..STEPS {
            a_second().await;
            let new = BTreeSet::from([format!("name{step}")]);
            listener
                .iter()
                .for_each(|l| l.hear(&BTreeMap::from([(AttributeScope::Span, new.clone())])));
            all.extend(new);
        }
        Ok(Answered {
            value: BTreeMap::from([(AttributeScope::Span, all)]),
            end: QueryEnd::default(),
        })
    }

    async fn tag_values(
        &self,
        _: &TenantId,
        _: &TagValuesRequest,
        listener: Heard<TagValuesAnswer>,
    ) -> Result<Answered<TagValuesAnswer>> {
        let mut all = BTreeSet::new();
        for step in 0..STEPS {
            a_second().await;
            let value = TagValue {
                kind: TagValueType::Text,
                text: format!("value{step}"),
            };
            let new = BTreeSet::from([value]);
            listener.iter().for_each(|l| l.hear(&new));
            all.extend(new);
        }
        Ok(Answered {
            value: all,
            end: QueryEnd::default(),
        })
    }
}

/// The messages of a call of somebody slow.
async fn slow(method: &str, message: &[u8]) -> Vec<Vec<u8>> {
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let api = QueryApi::builder(
        Arc::new(Slow),
        Overrides::fixed(Limits::default()),
        executor,
    )
    .clock(Arc::new(ManualClock::at_ms(NOW_S as i64 * 1000)))
    .build()
    .unwrap();
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    let request = Request::builder()
        .method("POST")
        .uri(format!("/tempopb.StreamingQuerier/{method}"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc");
    let answer = api
        .router()
        .oneshot(request.body(Body::from(body)).unwrap());
    let (parts, body) = answer.await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap()
        .to_vec();
    let answer = Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        trailers: Default::default(),
    };
    answer.messages()
}

#[tokio::test(start_paused = true)]
async fn b15_windows_are_told_as_they_are_known_and_the_last_message_has_all() {
    let mut request = Vec::new();
    put_bytes_field(&mut request, 1, b"{ } | count_over_time() by (name)");
    put_varint_field(&mut request, 2, (NOW_S - 240) * SECOND);
    put_varint_field(&mut request, 3, NOW_S * SECOND);
    put_varint_field(&mut request, 4, 60 * SECOND);
    let messages = slow("MetricsQueryRange", &request).await;
    assert_eq!(messages.len(), 3, "two windows, then all of it");
    let samples = |message: &[u8]| -> usize {
        let series = fields(message, 1);
        series.iter().map(|s| fields(s, 2).len()).sum()
    };
    let counts: Vec<usize> = messages.iter().map(|m| samples(m)).collect();
    assert_eq!(counts, [2, 2, 6]);
    // What a window says is what the whole answer says of it.
    let all = fields(&fields(messages.last().unwrap(), 1)[0], 2);
    for window in &messages[..2] {
        for sample in fields(&fields(window, 1)[0], 2) {
            assert!(all.contains(&sample));
        }
    }
    // Of what depends on the whole range nothing is told before.
    let mut request = Vec::new();
    put_bytes_field(&mut request, 1, b"{ } | compare({ status = error })");
    put_varint_field(&mut request, 4, 60 * SECOND);
    assert_eq!(slow("MetricsQueryRange", &request).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn names_and_values_are_told_as_they_are_found_and_the_last_message_has_all() {
    let names = slow("SearchTags", b"").await;
    let told: Vec<_> = names.iter().map(|m| texts(m, 1)).collect();
    assert_eq!(
        told,
        [
            vec!["name0"],
            vec!["name1"],
            vec!["name0", "name1", "name2"]
        ]
    );
    let names = slow("SearchTagsV2", b"").await;
    let of_span = |message: &Vec<u8>| -> Vec<String> {
        let scopes = fields(message, 1).into_iter();
        let scopes = scopes.filter(|s| texts(s, 1) == ["span"]);
        scopes.flat_map(|s| texts(&s, 2)).collect()
    };
    let told: Vec<_> = names.iter().map(of_span).collect();
    assert_eq!(
        told,
        [
            vec!["name0"],
            vec!["name1"],
            vec!["name0", "name1", "name2"]
        ]
    );
    let mut request = Vec::new();
    put_bytes_field(&mut request, 1, b"span.k");
    let values = slow("SearchTagValuesV2", &request).await;
    let of = |message: &Vec<u8>| -> Vec<String> {
        fields(message, 1)
            .iter()
            .flat_map(|v| texts(v, 2))
            .collect()
    };
    let told: Vec<_> = values.iter().map(of).collect();
    assert_eq!(
        told,
        [
            vec!["value0"],
            vec!["value1"],
            vec!["value0", "value1", "value2"]
        ]
    );
    let mut request = Vec::new();
    put_bytes_field(&mut request, 1, b"k");
    let values = slow("SearchTagValues", &request).await;
    assert_eq!(
        values.iter().map(|m| texts(m, 1).len()).collect::<Vec<_>>(),
        [1, 1, 3]
    );
}
