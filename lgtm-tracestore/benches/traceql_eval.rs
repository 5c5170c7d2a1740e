//! How many spans a second does a query look at, once they lie in a batch? Goal: 20 M spans/s and more on one core.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_tracestore::select::{
    AttributeScope, Column, Field, Intrinsic, NumberColumn, SpanBatch, TextColumn, TextDictionary,
    TraceRow,
};
use lgtm_tracestore::trace::TraceId;
use lgtm_tracestore::traceql::{
    IntervalGrid, Metrics, MetricsSettings, Search, SearchSettings, parse,
};

const TRACES: u32 = 50_000;
const SPANS_PER_TRACE: u32 = 20;

fn ints(values: Vec<i64>) -> Column {
    Column {
        ints: Some(NumberColumn {
            values,
            present: None,
        }),
        ..Column::default()
    }
}

fn texts(names: impl IntoIterator<Item = String>, codes: Vec<u32>) -> Column {
    let mut dictionary = TextDictionary::default();
    for name in names {
        dictionary.push(name.as_bytes()).unwrap();
    }
    Column {
        texts: Some(TextColumn { dictionary, codes }),
        ..Column::default()
    }
}

/// A million spans: traces of a root and children two levels deep.
fn batch() -> SpanBatch {
    let rows = TRACES * SPANS_PER_TRACE;
    let mut seed = 1u32;
    let mut dice = move |end: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % end
    };
    // The newest trace first, as holders bring them.
    let start = |row: u32| 1_750_000_000_000_000_000 + i64::from(rows - row) * 1_000_000;
    let traces = (0..TRACES).map(|n| TraceRow {
        id: TraceId::new((u128::from(n) << 64 | 1).to_be_bytes()),
        end_row: (n + 1) * SPANS_PER_TRACE,
        start_ns: start(n * SPANS_PER_TRACE) as u64,
        duration_ns: 1_000_000_000,
        ..TraceRow::default()
    });
    // Depth first: a root, then children, each with one child of its own.
    let place = |row: u32| row % SPANS_PER_TRACE;
    let left = |row: u32| match i64::from(place(row)) {
        0 => 1,
        n if n % 2 == 1 => 2 * n,
        n => 2 * n - 1,
    };
    let right = |row: u32| match i64::from(place(row)) {
        0 => 2 * i64::from(SPANS_PER_TRACE),
        n if n % 2 == 1 && n + 1 < i64::from(SPANS_PER_TRACE) => 2 * n + 3,
        n if n % 2 == 1 => 2 * n + 1,
        n => 2 * n,
    };
    let parent = |row: u32| match i64::from(place(row)) {
        0 => -1,
        n if n % 2 == 1 => 1,
        n => 2 * (n - 1),
    };
    let span_ids = (0..rows).map(|row| row.to_string());
    let mut columns = vec![
        (
            Intrinsic::StartTime.into(),
            ints((0..rows).map(start).collect()),
        ),
        (
            Intrinsic::NestedSetLeft.into(),
            ints((0..rows).map(left).collect()),
        ),
        (
            Intrinsic::NestedSetRight.into(),
            ints((0..rows).map(right).collect()),
        ),
        (
            Intrinsic::NestedSetParent.into(),
            ints((0..rows).map(parent).collect()),
        ),
        (
            Intrinsic::SpanId.into(),
            texts(span_ids, (0..rows).collect()),
        ),
    ];
    let durations = (0..rows)
        .map(|_| i64::from(dice(1_000_000)) * 1_000)
        .collect();
    columns.push((Intrinsic::Duration.into(), ints(durations)));
    let codes = (0..rows).map(|_| i64::from(dice(50) / 49 * 2)).collect();
    columns.push((Intrinsic::Status.into(), ints(codes)));
    let services = (0..rows).map(|_| dice(20)).collect();
    columns.push((
        Field::attribute(AttributeScope::Resource, "service.name"),
        texts((0..20).map(|n| format!("service-{n}")), services),
    ));
    let values = (0..rows).map(|_| dice(10_000)).collect();
    columns.push((
        Field::attribute(AttributeScope::Span, "user"),
        texts((0..10_000).map(|n| format!("user-{n}")), values),
    ));
    SpanBatch {
        traces: traces.collect(),
        row_ids: Vec::new(),
        event_ends: Vec::new(),
        link_ends: Vec::new(),
        columns,
    }
}

fn traceql_eval(c: &mut Criterion) {
    let batch = batch();
    let mut group = c.benchmark_group("traceql_eval");
    group.throughput(Throughput::Elements(batch.len() as u64));
    for (name, text) in [
        ("attribute_equality", "{ span.user = \"user-77\" }"),
        ("attribute_absent", "{ span.user = \"nobody\" }"),
        (
            "duration_and_status",
            "{ duration > 999ms && status = error }",
        ),
        ("descendant", "{ status = error } >> { duration > 900ms }"),
        ("descendant_of_any", "{ } >> { status = error }"),
    ] {
        let query = parse(text).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut search = Search::new(&query, SearchSettings::default());
                search.fold(black_box(&batch)).unwrap();
                search.finish().len()
            });
        });
    }
    let settings = MetricsSettings {
        grid: IntervalGrid::range(
            1_750_000_000_000_000_000,
            1_750_001_000_000_000_000,
            10_000_000_000,
        )
        .unwrap(),
        exemplars: 0,
        max_series: 0,
        max_bytes: 1 << 30,
    };
    for (name, text) in [
        ("rate_by_service", "{ } | rate() by (resource.service.name)"),
        ("quantile", "{ } | quantile_over_time(duration, .99)"),
    ] {
        let query = parse(text).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut metrics = Metrics::new(&query, &settings).unwrap();
                metrics.fold(black_box(&batch)).unwrap();
                metrics.finish().legs.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, traceql_eval);
criterion_main!(benches);
