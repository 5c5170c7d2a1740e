//! Random traces are written and read back, whole and by parts of columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use lgtm_core::codec::protobuf::put_message;
use lgtm_tracestore::schema::{
    BlockVersion, BlockWriterSettings, ColumnDecoder, ColumnPlan, ColumnValues, FetchedRanges,
    KeyedAttributes, Levels, LookupStep, OffsetIndex, PageBounds, Physical, RowPlan, RowReader,
    SpanRows, TraceLookup, decode_column_index,
};
use lgtm_tracestore::trace::{
    Attribute, DedicatedColumns, Event, Link, ResourceSpans, ScopeSpans, Span, Trace, TraceId,
    Value,
};
use proptest::prelude::*;

use crate::blocks::{allowed, column, open, read_all, write};

/// A value that owns its bytes.
#[derive(Debug, Clone)]
enum Owned {
    Empty,
    Text(Vec<u8>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    List(Vec<Owned>),
    Map(Vec<(String, Owned)>),
}

impl Owned {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Empty => Value::Empty.encode(&mut out),
            Self::Text(text) => Value::Text(text).encode(&mut out),
            Self::Bool(v) => Value::Bool(*v).encode(&mut out),
            Self::Int(v) => Value::Int(*v).encode(&mut out),
            Self::Double(v) => Value::Double(*v).encode(&mut out),
            Self::Bytes(bytes) => Value::Bytes(bytes).encode(&mut out),
            Self::List(values) => {
                let mut list = Vec::new();
                for value in values {
                    put_message(&mut list, 1, |out| out.extend(value.encode()));
                }
                Value::List(&list).encode(&mut out);
            }
            Self::Map(entries) => {
                let mut map = Vec::new();
                for (key, value) in entries {
                    put_message(&mut map, 1, |out| {
                        if !key.is_empty() {
                            lgtm_core::codec::protobuf::put_bytes_field(out, 1, key.as_bytes());
                        }
                        put_message(out, 2, |out| out.extend(value.encode()));
                    });
                }
                Value::Map(&map).encode(&mut out);
            }
        }
        out
    }
}

fn flat() -> impl Strategy<Value = Owned> {
    prop_oneof![
        Just(Owned::Empty),
        "[a-c]{0,3}".prop_map(|t| Owned::Text(t.into_bytes())),
        any::<bool>().prop_map(Owned::Bool),
        any::<i64>().prop_map(Owned::Int),
        (-1e9f64..1e9).prop_map(Owned::Double),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(Owned::Bytes),
    ]
}

fn value() -> impl Strategy<Value = Owned> {
    let texts = prop::collection::vec("[a-c]{0,3}", 0..4);
    let ints = prop::collection::vec(any::<i64>(), 0..4);
    prop_oneof![
        4 => flat(),
        // Outside lists texts may be any bytes.
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Owned::Text),
        1 => texts.prop_map(|t| Owned::List(t.into_iter().map(|t| Owned::Text(t.into())).collect())),
        1 => ints.prop_map(|v| Owned::List(v.into_iter().map(Owned::Int).collect())),
        1 => prop::collection::vec(any::<bool>(), 0..3).prop_map(|v| Owned::List(v.into_iter().map(Owned::Bool).collect())),
        1 => prop::collection::vec(flat(), 0..4).prop_map(Owned::List),
        1 => prop::collection::vec(("[a-c]{0,2}", flat()), 0..3).prop_map(Owned::Map),
    ]
}

/// Keys with columns of their own in one version or the other, and others.
const KEYS: [&str; 12] = [
    "d.text",
    "d.int",
    "r.text",
    "e.text",
    "e.int",
    "http.method",
    "http.url",
    "http.status_code",
    "k8s.pod.name",
    "cluster",
    "other",
    "",
];

type Attributes = Vec<(usize, Owned)>;

fn attributes() -> impl Strategy<Value = Attributes> {
    prop::collection::vec((0..KEYS.len(), value()), 0..4)
}

#[derive(Debug, Clone)]
struct OwnedSpan {
    ids: ([u8; 8], Option<[u8; 8]>),
    name: String,
    numbers: (i32, u64, u64, i32, u32),
    attributes: Attributes,
    events: Vec<(u64, String, Attributes)>,
    links: Vec<(Vec<u8>, Vec<u8>, Attributes)>,
}

fn span() -> impl Strategy<Value = OwnedSpan> {
    (
        (any::<[u8; 8]>(), any::<Option<[u8; 8]>>()),
        "[a-d]{0,2}",
        (0i32..7, any::<u64>(), any::<u64>(), 0i32..4, any::<u32>()),
        attributes(),
        prop::collection::vec((any::<u64>(), "[ef]{0,2}", attributes()), 0..3),
        prop::collection::vec(
            (
                prop::collection::vec(any::<u8>(), 0..17),
                prop::collection::vec(any::<u8>(), 0..9),
                attributes(),
            ),
            0..2,
        ),
    )
        .prop_map(
            |(ids, name, numbers, attributes, events, links)| OwnedSpan {
                ids,
                name,
                numbers,
                attributes,
                events,
                links,
            },
        )
}

type OwnedScope = (String, Attributes, Vec<OwnedSpan>);
type OwnedTrace = Vec<(Option<String>, Attributes, Vec<OwnedScope>)>;

fn trace() -> impl Strategy<Value = OwnedTrace> {
    let scope = (
        "[st]{0,2}",
        attributes(),
        prop::collection::vec(span(), 0..4),
    );
    let resource = (
        prop::option::of("[uv]{1,2}"),
        attributes(),
        prop::collection::vec(scope, 0..3),
    );
    prop::collection::vec(resource, 0..3)
}

fn encoded_values(attributes: &Attributes) -> Vec<Vec<u8>> {
    attributes.iter().map(|(_, value)| value.encode()).collect()
}

fn borrowed<'a>(attributes: &'a Attributes, values: &'a [Vec<u8>]) -> Vec<Attribute<'a>> {
    let pairs = attributes.iter().zip(values);
    let one = |((key, _), value): (&'a (usize, Owned), &'a Vec<u8>)| Attribute {
        key: KEYS[*key].as_bytes(),
        value: Value::decode(value).unwrap(),
    };
    pairs.map(one).collect()
}

/// As protobuf, which owns everything.
fn encode(id: TraceId, trace: &OwnedTrace) -> Vec<u8> {
    let mut out = Vec::new();
    for (service, attributes, scopes) in trace {
        let values = encoded_values(attributes);
        let mut resource = ResourceSpans {
            attributes: borrowed(attributes, &values),
            ..ResourceSpans::default()
        };
        if let Some(service) = service {
            resource.attributes.push(Attribute {
                key: b"service.name",
                value: Value::Text(service.as_bytes()),
            });
        }
        let mut bytes = Vec::new();
        resource.encode(&mut bytes);
        for (name, attributes, spans) in scopes {
            let values = encoded_values(attributes);
            let scope = ScopeSpans {
                name: name.as_bytes(),
                attributes: borrowed(attributes, &values),
                dropped_attributes_count: 1,
                ..ScopeSpans::default()
            };
            put_message(&mut bytes, 2, |out| {
                scope.encode(out);
                for span in spans {
                    put_message(out, 2, |out| encode_span(id, span, out));
                }
            });
        }
        put_message(&mut out, 1, |out| out.extend(bytes));
    }
    out
}

fn encode_span(id: TraceId, span: &OwnedSpan, out: &mut Vec<u8>) {
    let values = encoded_values(&span.attributes);
    let of_events: Vec<_> = span.events.iter().map(|e| encoded_values(&e.2)).collect();
    let of_links: Vec<_> = span.links.iter().map(|l| encoded_values(&l.2)).collect();
    let (kind, start_ns, end_ns, status_code, dropped) = span.numbers;
    let events = span.events.iter().zip(&of_events);
    let links = span.links.iter().zip(&of_links);
    Span {
        trace_id: id.as_bytes(),
        span_id: &span.ids.0,
        parent_span_id: span.ids.1.as_ref().map_or(&[], |p| p.as_slice()),
        trace_state: span.name.as_bytes(),
        name: span.name.as_bytes(),
        kind,
        start_ns,
        end_ns,
        attributes: borrowed(&span.attributes, &values),
        dropped_attributes_count: dropped,
        events: events
            .map(|((time_ns, name, attributes), values)| Event {
                time_ns: *time_ns,
                name: name.as_bytes(),
                attributes: borrowed(attributes, values),
                dropped_attributes_count: dropped,
            })
            .collect(),
        dropped_events_count: dropped,
        links: links
            .map(|((trace_id, span_id, attributes), values)| Link {
                trace_id,
                span_id,
                trace_state: b"",
                attributes: borrowed(attributes, values),
                dropped_attributes_count: 0,
            })
            .collect(),
        dropped_links_count: 0,
        status_code,
        status_message: b"",
    }
    .encode(out);
}

/// Attributes in an order of their own, and lists of one value in columns of their own as that value.
fn normal(bytes: &[u8], dedicated: bool) -> Vec<u8> {
    allowed(0, |a| {
        let mut trace = Trace::decode(bytes, a).unwrap();
        let sort = |attributes: &mut Vec<Attribute<'_>>| {
            attributes.sort_by_key(|attribute| {
                let mut bytes = Vec::new();
                attribute.encode(&mut bytes);
                bytes
            });
            for attribute in attributes.iter_mut() {
                if let Value::List(list) = attribute.value
                    && dedicated
                    && [&b"d.text"[..], b"d.int", b"r.text", b"e.text", b"e.int"]
                        .contains(&attribute.key)
                {
                    let mut values = lgtm_tracestore::trace::Values::new(list);
                    if let (Some(Ok(only @ (Value::Text(_) | Value::Int(_)))), None) =
                        (values.next(), values.next())
                    {
                        attribute.value = only;
                    }
                }
            }
            attributes.sort_by_key(|attribute| {
                let mut bytes = Vec::new();
                attribute.encode(&mut bytes);
                bytes
            });
        };
        for resource in &mut trace.resources {
            sort(&mut resource.attributes);
            for scope in &mut resource.scopes {
                sort(&mut scope.attributes);
                for span in &mut scope.spans {
                    sort(&mut span.attributes);
                    span.events.iter_mut().for_each(|e| sort(&mut e.attributes));
                    span.links.iter_mut().for_each(|l| sort(&mut l.attributes));
                }
            }
        }
        let mut out = Vec::new();
        trace.encode(&mut out);
        out
    })
}

fn dedicated() -> DedicatedColumns {
    serde_json::from_str(
        r#"[{"n":"d.text"},{"s":"resource","n":"r.text"},{"n":"d.int","t":"int"},{"s":"event","n":"e.text","o":["blob"]},{"s":"event","n":"e.int","t":"int"}]"#,
    )
    .unwrap()
}

fn settings(version: BlockVersion, row_group_bytes: usize) -> BlockWriterSettings {
    BlockWriterSettings {
        version,
        dedicated: dedicated(),
        row_group_bytes,
        // Pages of a few rows, so that their borders are met.
        page_bytes: 64,
    }
}

fn find(bytes: &[u8], version: BlockVersion, id: TraceId) -> Option<Vec<u8>> {
    let file = open(bytes);
    let dedicated = dedicated();
    let mut lookup = TraceLookup::new(Arc::new(file.clone()), version, dedicated.clone(), id, None);
    let mut fetched = FetchedRanges::default();
    allowed(0, |a| {
        loop {
            match lookup.step(&fetched, a).unwrap() {
                LookupStep::Read(ranges) => {
                    for range in ranges {
                        let piece = &bytes[range.start as usize..range.end as usize];
                        fetched.insert(range.start, piece.to_vec().into());
                    }
                }
                LookupStep::Found(trace) => return Some(trace),
                LookupStep::Absent => return None,
            }
        }
    })
}

/// Every row by itself: pages are skipped, rows within a page too.
fn check_single_rows(bytes: &[u8], version: BlockVersion, all: &[(TraceId, Vec<u8>)]) {
    let file = open(bytes);
    let dedicated = dedicated();
    let mut all = all.iter();
    for group in 0..file.row_groups.len() {
        for row in 0..file.row_groups[group].rows {
            allowed(0, |a| {
                let plan = RowPlan::rows(&file, group, row..row + 1, bytes, a).unwrap();
                let mut rows =
                    RowReader::open(&file, &plan, version, &dedicated, bytes, a).unwrap();
                let mut out = Vec::new();
                let id = rows.next(&mut out, a).unwrap().unwrap();
                assert_eq!((&id, &out), all.next().map(|(id, t)| (id, t)).unwrap());
                assert!(rows.next(&mut out, a).unwrap().is_none());
            });
        }
    }
}

/// What the index says of pages is true of what is in them, and no page is called empty that is not.
fn check_page_bounds(bytes: &[u8]) {
    let file = open(bytes);
    for group in 0..file.row_groups.len() {
        let rows = file.row_groups[group].rows;
        for n in 0..file.leaves.len() {
            let (leaf, chunk) = file.chunk(group, n).unwrap();
            let slice = |r: &std::ops::Range<u64>| &bytes[r.start as usize..r.end as usize];
            let index = slice(chunk.offset_index.as_ref().unwrap());
            let index = allowed(0, |a| OffsetIndex::decode(index, a)).unwrap();
            let Some(bounds) = &chunk.column_index else {
                assert_eq!(leaf.physical, Physical::Double, "{}", leaf.path);
                continue;
            };
            let bounds = allowed(0, |a| decode_column_index(slice(bounds), a)).unwrap();
            assert_eq!(bounds.len(), index.pages.len(), "{}", leaf.path);
            for (page, bounds) in bounds.iter().enumerate() {
                let first = index.pages[page].first_row;
                let wanted = first..first + 1;
                let plan = ColumnPlan::pages(chunk, &index, std::slice::from_ref(&wanted), rows);
                let mut decoder = ColumnDecoder::new(leaf, chunk, Levels::All);
                for range in &plan.ranges {
                    allowed(0, |a| decoder.pages(slice(range), a)).unwrap();
                }
                let column = decoder.finish();
                check_bounds(&leaf.path, bounds, &column);
            }
        }
    }
}

fn check_bounds(path: &str, bounds: &PageBounds, column: &lgtm_tracestore::schema::Column) {
    let values = &column.values;
    assert_eq!(bounds.is_null, values.is_empty(), "{path}");
    assert_eq!(
        bounds.nulls,
        Some((column.entries - values.len()) as u64),
        "{path}"
    );
    if let ColumnValues::Texts(_) | ColumnValues::Indices { .. } = values {
        let is_blob = path.ends_with("Events.DedicatedAttributes.String01");
        for n in 0..values.len() {
            let text = values.text(n);
            assert!(
                bounds.min.as_slice() <= text,
                "{path}: {:?} {text:?}",
                bounds.min
            );
            assert!(
                is_blob || text <= bounds.max.as_slice(),
                "{path}: {:?} {text:?}",
                bounds.max
            );
            assert!(bounds.min.len() <= 16, "{path}");
        }
    }
}

/// Attributes and spans by columns against the traces themselves.
fn check_columns(bytes: &[u8], version: BlockVersion, all: &[(TraceId, Vec<u8>)]) {
    let file = open(bytes);
    let positions = &file.positions;
    let mut row = 0;
    for group in 0..file.row_groups.len() {
        let ids = column(&file, bytes, group, positions.span.span_id.unwrap());
        let spans = allowed(0, |a| SpanRows::new(&ids, a)).unwrap();
        let list = &positions.span.attributes;
        let keys = column(&file, bytes, group, list.key.unwrap());
        let ints = column(&file, bytes, group, list.int.unwrap());
        let others = allowed(0, |a| KeyedAttributes::find(&keys, b"other", a)).unwrap();
        let places = allowed(0, |a| others.places(&ints, &keys, a)).unwrap();
        let mut found = BTreeMap::<usize, Vec<i64>>::new();
        for ((_, owner), place) in others.iter().zip(places) {
            let ints = place.map(|n| ints.values.int(n as usize));
            found.entry(owner).or_default().extend(ints);
        }
        let mut span_number = 0;
        for in_group in 0..spans.rows() {
            let (_, trace) = &all[row];
            row += 1;
            let trace = allowed(0, |a| Trace::decode(trace, a)).unwrap();
            assert_eq!(
                spans.spans_of_row(in_group).len(),
                trace.span_count(),
                "{version:?}"
            );
            for (_, _, span) in trace.spans() {
                assert_eq!(ids.values.text(span_number), span.span_id);
                assert_eq!(spans.row_of_span(span_number), in_group);
                let mut wanted = Vec::new();
                let mut is_there = false;
                for attribute in span.attributes.iter().filter(|a| a.key == b"other") {
                    is_there = true;
                    match attribute.value {
                        Value::Int(v) => wanted.push(v),
                        Value::List(list) => {
                            let all: Vec<_> = lgtm_tracestore::trace::Values::new(list)
                                .map(|v| v.unwrap())
                                .collect();
                            if all.iter().all(|v| matches!(v, Value::Int(_))) {
                                wanted.extend(all.iter().map(|v| match v {
                                    Value::Int(v) => *v,
                                    _ => 0,
                                }));
                            }
                        }
                        _ => {}
                    }
                }
                assert_eq!(found.get(&span_number), is_there.then_some(&wanted));
                span_number += 1;
            }
        }
        assert_eq!(span_number, spans.len());
    }
    assert_eq!(row, all.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(
        traces in prop::collection::vec((any::<[u8; 16]>(), trace()), 0..12),
        row_group_bytes in 1usize..4000,
        is_v5 in any::<bool>(),
    ) {
        let version = if is_v5 { BlockVersion::V5 } else { BlockVersion::V4 };
        let by_id: BTreeMap<_, _> = traces.into_iter().collect();
        let traces: Vec<_> = by_id
            .iter()
            .map(|(id, trace)| (TraceId::new(*id), encode(TraceId::new(*id), trace)))
            .collect();
        let (bytes, written) = write(&traces, settings(version, row_group_bytes));
        let read = read_all(&bytes, version, &dedicated());
        prop_assert_eq!(read.len(), traces.len());
        prop_assert_eq!(written.row_group_last_ids.len(), open(&bytes).row_groups.len());
        for ((id, trace), (read_id, read)) in traces.iter().zip(&read) {
            prop_assert_eq!(id, read_id);
            prop_assert_eq!(normal(trace, is_v5), normal(read, is_v5), "trace {}", id);
            let found = find(&bytes, version, *id);
            prop_assert_eq!(found.as_ref(), Some(read));
        }
        check_single_rows(&bytes, version, &read);
        check_page_bounds(&bytes);
        check_columns(&bytes, version, &read);
    }
}

#[test]
fn traces_out_of_order_and_version_3_are_refused() {
    use lgtm_core::ErrorKind;
    use lgtm_tracestore::schema::BlockWriter;
    let mut writer = BlockWriter::new(Vec::new(), settings(BlockVersion::V4, 1000)).unwrap();
    let (one, two) = (TraceId::new([1; 16]), TraceId::new([2; 16]));
    writer.append(two, &Trace::default()).unwrap();
    for id in [two, one] {
        let e = writer.append(id, &Trace::default()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
    }
    let e = BlockWriter::new(Vec::new(), settings(BlockVersion::V3, 1000)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_sink_that_fails_ends_the_block() {
    #[derive(Debug)]
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no room"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    use lgtm_tracestore::schema::BlockWriter;
    let failed = match BlockWriter::new(Full, settings(BlockVersion::V4, 1000)) {
        Err(e) => e,
        Ok(writer) => writer.finish().map(|_| ()).unwrap_err(),
    };
    assert!(failed.to_string().contains("no room"), "{failed}");
}

/// A row group of more than a MiB is not read whole: indexes, a page of ids, then the pages with the row.
#[test]
fn a_trace_of_a_large_row_group_is_found_by_its_pages() {
    let mut state = 1u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()
    };
    let encode = |n: u128, text: &[u8]| {
        let id = TraceId::new((2 * n + 2).to_be_bytes());
        let span = Span {
            trace_id: id.as_bytes(),
            span_id: &[1; 8],
            status_message: text,
            ..Span::default()
        };
        let scopes = vec![ScopeSpans {
            spans: vec![span],
            ..ScopeSpans::default()
        }];
        let resources = vec![ResourceSpans {
            scopes,
            ..ResourceSpans::default()
        }];
        let mut out = Vec::new();
        Trace { resources }.encode(&mut out);
        (id, out)
    };
    let texts: Vec<Vec<u8>> = (0..2000)
        .map(|_| (0..100).flat_map(|_| noise()).collect())
        .collect();
    let numbered = texts.iter().enumerate();
    let traces: Vec<_> = numbered.map(|(n, text)| encode(n as u128, text)).collect();
    let settings = BlockWriterSettings {
        page_bytes: 4096,
        ..BlockWriterSettings::default()
    };
    let (bytes, _) = write(&traces, settings);
    let file = open(&bytes);
    assert_eq!(file.row_groups.len(), 1);
    let dedicated = DedicatedColumns::default();
    let (mut most, mut steps) = (0, 0);
    let mut find = |id: TraceId| {
        let mut lookup = TraceLookup::new(
            Arc::new(file.clone()),
            BlockVersion::V4,
            dedicated.clone(),
            id,
            None,
        );
        let mut fetched = FetchedRanges::default();
        let (mut read, mut reads) = (0, 0);
        let found = allowed(0, |a| {
            loop {
                match lookup.step(&fetched, a).unwrap() {
                    LookupStep::Read(ranges) => {
                        reads += 1;
                        for range in ranges {
                            let piece = &bytes[range.start as usize..range.end as usize];
                            read += piece.len();
                            fetched.insert(range.start, piece.to_vec().into());
                        }
                    }
                    LookupStep::Found(trace) => return Some(trace),
                    LookupStep::Absent => return None,
                }
            }
        });
        (most, steps) = (most.max(read), steps.max(reads));
        found
    };
    for (id, trace) in traces.iter().step_by(37).chain(traces.last()) {
        assert_eq!(find(*id).as_ref(), Some(trace), "{id}");
        let absent = TraceId::new((u128::from_be_bytes(*id.as_bytes()) - 1).to_be_bytes());
        assert_eq!(find(absent), None);
    }
    assert_eq!(steps, 3);
    assert!(most < bytes.len() / 10, "{most} of {} bytes", bytes.len());
}
