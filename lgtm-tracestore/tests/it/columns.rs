//! Columns straight out of Parquet answer what decoded traces answer: random traces in blocks of small row groups and pages, and the blocks of the
//! golden set, of every version.

use crate::blocks;
use crate::shared;

use std::sync::Arc;

use crate::otlp_json::protobuf;
use crate::random_traces::{random_query, trace};
use futures::FutureExt;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::testing::Dice;
use lgtm_tracestore::scan::{BlockColumns, ColumnCache, GroupScan, ScanBlock, ScanStep};
use lgtm_tracestore::schema::{BlockVersion, BlockWriterSettings, FetchedRanges};
use lgtm_tracestore::select::{
    BatchFiller, Field, Intrinsic, ReadyBatches, SelectEnd, SpanBatch, SpanBatches, SpanRequest,
    WantedColumns, WantedRows,
};
use lgtm_tracestore::trace::{
    ColumnKind, ColumnScope, DedicatedColumn, DedicatedColumns, Trace, TraceId,
};
use lgtm_tracestore::traceql::{
    IntervalGrid, Metrics, MetricsAnswer, MetricsSettings, Query, Search, SearchSettings, TraceHit,
    parse,
};
use proptest::prelude::*;

/// A block in memory.
struct Stored {
    bytes: Vec<u8>,
    version: BlockVersion,
    dedicated: DedicatedColumns,
    block: Arc<ScanBlock>,
    /// Where scans share what they decode.
    columns: Option<Arc<BlockColumns>>,
    /// Whether few rows are taken out of pages, however small these are.
    by_pages: bool,
}

impl Stored {
    fn new(bytes: Vec<u8>, version: BlockVersion, dedicated: DedicatedColumns) -> Self {
        let file = Arc::new(blocks::open(&bytes));
        let block = Arc::new(ScanBlock::new(file, version, dedicated.clone()));
        Self {
            bytes,
            version,
            dedicated,
            block,
            columns: None,
            by_pages: false,
        }
    }

    /// The same block, whose scans share what they decode in so many bytes.
    fn sharing(&self, max_bytes: usize) -> Self {
        Self {
            bytes: self.bytes.clone(),
            version: self.version,
            dedicated: self.dedicated.clone(),
            block: Arc::clone(&self.block),
            columns: Some(ColumnCache::new(max_bytes, Arc::default()).block()),
            by_pages: self.by_pages,
        }
    }

    /// Drives a scan; it sees nothing but what it asked for.
    fn drive(&self, mut scan: GroupScan) -> Option<SpanBatch> {
        if let Some(columns) = &self.columns {
            scan = scan.sharing(Arc::clone(columns));
        }
        if self.by_pages {
            scan = scan.small_bytes(0);
        }
        let mut fetched = FetchedRanges::default();
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        loop {
            match scan.step(&fetched, &mut allowance).unwrap() {
                ScanStep::Done(batch) => return batch,
                ScanStep::Read(ranges) => {
                    for range in ranges {
                        let bytes = &self.bytes[range.start as usize..range.end as usize];
                        fetched.insert(range.start, bytes.to_vec().into());
                    }
                }
            }
        }
    }

    fn groups(&self) -> usize {
        self.block.file().row_groups.len()
    }

    fn first_row(group: usize) -> u64 {
        (group as u64) << 32
    }

    fn scan(&self, group: usize, request: &SpanRequest) -> Option<SpanBatch> {
        let request = Arc::new(request.clone());
        let block = Arc::clone(&self.block);
        self.drive(GroupScan::new(
            block,
            group,
            request,
            Self::first_row(group),
        ))
    }

    /// The second pass.
    fn rows(&self, group: usize, wanted: &WantedRows) -> SpanBatch {
        let mut spans: Vec<u32> = wanted.row_ids.iter().map(|id| *id as u32).collect();
        spans.sort_unstable();
        spans.dedup();
        let (block, columns) = (Arc::clone(&self.block), wanted.columns.clone());
        let scan = GroupScan::of_spans(block, group, columns, spans, Self::first_row(group));
        let batches = self.drive(scan).into_iter().collect();
        let mut ready = ReadyBatches::new(batches, SelectEnd::default());
        ready.rows(wanted).now_or_never().unwrap().unwrap()
    }

    /// All spans, out of decoded rows.
    fn decoded(&self, columns: &WantedColumns) -> SpanBatch {
        let mut filler = BatchFiller::new(columns.clone());
        for (id, bytes) in blocks::read_all(&self.bytes, self.version, &self.dedicated) {
            let trace = blocks::allowed(0, |a| Trace::decode(&bytes, a)).unwrap();
            let row = filler.len() as u64;
            filler.push(id, &trace, row).unwrap();
        }
        filler.finish()
    }

    fn search(&self, query: &Query, settings: SearchSettings) -> Vec<TraceHit> {
        let mut search = Search::new(query, settings);
        let request = search.request().clone();
        for group in 0..self.groups() {
            let Some(batch) = self.scan(group, &request) else {
                continue;
            };
            let matches = search.matches(&batch);
            let row_ids = matches.rows().map(|row| batch.row_ids[row]).collect();
            let columns = search.details().clone();
            let details = self.rows(group, &WantedRows { row_ids, columns });
            search.add(&batch, matches, &details).unwrap();
        }
        search.finish()
    }

    fn search_decoded(&self, query: &Query, settings: SearchSettings) -> Vec<TraceHit> {
        let mut search = Search::new(query, settings);
        let columns = search.whole_request().columns;
        search.fold(&self.decoded(&columns)).unwrap();
        search.finish()
    }

    /// What a query for series gives by columns, and by decoded rows.
    fn metrics(&self, query: &Query, settings: &MetricsSettings) -> Option<[String; 2]> {
        let mut by_columns = Metrics::new(query, settings).ok()?;
        let mut by_rows = Metrics::new(query, settings).ok()?;
        let request = by_columns.request().clone();
        for group in 0..self.groups() {
            if let Some(batch) = self.scan(group, &request) {
                by_columns.fold(&batch).unwrap();
            }
        }
        by_rows.fold(&self.decoded(&request.columns)).unwrap();
        Some([by_columns, by_rows].map(|metrics| {
            let answer = MetricsAnswer::of(query, settings, metrics.finish());
            format!("{answer:?}")
        }))
    }
}

fn dedicated(dice: &mut Dice, version: BlockVersion) -> DedicatedColumns {
    let mut columns = Vec::new();
    for scope in [ColumnScope::Resource, ColumnScope::Span, ColumnScope::Event] {
        for name in ["a", "b", "c"] {
            if dice.once_in(2) {
                let kind = if version == BlockVersion::V5 && dice.once_in(2) {
                    ColumnKind::Int
                } else {
                    ColumnKind::String
                };
                columns.push(DedicatedColumn {
                    scope,
                    name: name.to_owned(),
                    kind,
                    options: Default::default(),
                });
            }
        }
    }
    DedicatedColumns::new(columns)
}

fn random_block(dice: &mut Dice, count: u64) -> Stored {
    let version = if dice.once_in(2) {
        BlockVersion::V4
    } else {
        BlockVersion::V5
    };
    let dedicated = dedicated(dice, version);
    let mut traces = Vec::new();
    for n in 0..count {
        let bytes = protobuf(&trace(dice, n));
        let mut id = [0; 16];
        id[14..].copy_from_slice(&(n as u16 + 1).to_be_bytes());
        let parsed = blocks::allowed(0, |a| Trace::decode(&bytes, a)).unwrap();
        let mut parsed = parsed.without_copies();
        parsed.rebatch();
        let mut out = Vec::new();
        parsed.encode(&mut out);
        traces.push((TraceId::from_short(&id).unwrap(), out));
    }
    let settings = BlockWriterSettings {
        version,
        dedicated: dedicated.clone(),
        row_group_bytes: 2_000 + dice.below(200_000) as usize,
        page_bytes: 32 + dice.below(2_000) as usize,
    };
    let (bytes, _) = blocks::write(&traces, settings);
    Stored {
        by_pages: dice.once_in(2),
        ..Stored::new(bytes, version, dedicated)
    }
}

const ALL: SearchSettings = SearchSettings {
    limit: 100_000,
    spans_per_set: 1_000,
    range: None,
    max_bytes: 1 << 30,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 2_000 }))]

    #[test]
    fn columns_answer_what_decoded_rows_answer(seed in any::<u64>()) {
        let mut dice = Dice::seeded(seed);
        let count = 1 + dice.below(60);
        let stored = random_block(&mut dice, count);
        for _ in 0..8 {
            let query = random_query(&mut dice, 2);
            let expected = stored.search_decoded(&query, ALL);
            prop_assert_eq!(stored.search(&query, ALL), expected, "{}", query);
            let text = format!("{query} | count_over_time() by (name, span.a, resource.b)");
            if let Ok(query) = parse(&text) {
                let start = 999_000_000_000 + dice.below(3_000_000_000);
                let grid = IntervalGrid::range(start, start + 4_000_000_000, 1_000_000_000);
                let settings = MetricsSettings { grid: grid.unwrap(), exemplars: 0, max_series: 0, max_bytes: 1 << 30 };
                let [columns, rows] = stored.metrics(&query, &settings).unwrap();
                prop_assert_eq!(columns, rows, "{}", text);
            }
        }
    }

    #[test]
    fn what_scans_share_changes_no_answer(seed in any::<u64>()) {
        let mut dice = Dice::seeded(seed);
        let count = 1 + dice.below(60);
        let alone = random_block(&mut dice, count);
        let room = [400, 20_000, 1 << 30][dice.below(3) as usize];
        let sharing = alone.sharing(room + dice.below(room as u64) as usize);
        let queries: Vec<Query> = (0..6).map(|_| random_query(&mut dice, 2)).collect();
        for _ in 0..24 {
            let query = &queries[dice.below(6) as usize];
            prop_assert_eq!(sharing.search(query, ALL), alone.search(query, ALL), "{}", query);
            let request = Search::new(query, ALL).request().clone();
            for group in 0..alone.groups() {
                let (shared, own) = (sharing.scan(group, &request), alone.scan(group, &request));
                prop_assert_eq!(shared, own, "{}", query);
            }
        }
    }

    #[test]
    fn every_column_of_a_row_comes_in_both_passes(seed in any::<u64>()) {
        let mut dice = Dice::seeded(seed);
        let count = 40 + dice.below(60);
        let stored = random_block(&mut dice, count);
        let mut columns = WantedColumns::default();
        for intrinsic in Intrinsic::ALL {
            columns.add(&Field::Intrinsic(intrinsic));
        }
        for scope in lgtm_tracestore::select::AttributeScope::ALL {
            for name in ["a", "b", "c", "service.name"] {
                columns.add(&Field::attribute(scope, name));
            }
        }
        for group in 0..stored.groups() {
            let request = SpanRequest { columns: columns.clone(), ..SpanRequest::default() };
            let batch = stored.scan(group, &request).unwrap();
            let mut some: Vec<u64> = batch.row_ids.iter().copied().filter(|_| dice.once_in(9)).collect();
            some.extend(batch.row_ids.last());
            some.dedup();
            let places = |all: &SpanBatch| some.iter().map(|id| all.row_ids.iter().position(|r| r == id).unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(places(&batch).len(), some.len());
            let mut whole = ReadyBatches::new(vec![batch], SelectEnd::default());
            for all_attributes in [false, true] {
                let columns = WantedColumns { all_attributes, ..columns.clone() };
                let wanted = WantedRows { row_ids: some.clone(), columns };
                let again = stored.rows(group, &wanted);
                let mut expected = whole.rows(&wanted).now_or_never().unwrap().unwrap();
                let mut again = again;
                again.columns.retain(|(field, _)| expected.column(field).is_some());
                for batch in [&mut expected, &mut again] {
                    // Of rows taken out of batches these are told of rows that have nothing too.
                    batch.columns.iter_mut().for_each(|(_, c)| c.unseen.clear());
                    batch.columns.retain(|(_, c)| !c.is_absent());
                }
                expected.columns.sort_by(|a, b| a.0.cmp(&b.0));
                again.columns.sort_by(|a, b| a.0.cmp(&b.0));
                for (a, b) in again.columns.iter().zip(&expected.columns) {
                    prop_assert_eq!(a, b, "all attributes: {}", all_attributes);
                }
                prop_assert_eq!(again, expected);
            }
        }
    }
}

#[test]
fn columns_that_others_decoded_count_as_those_of_the_scan() {
    let stored = random_block(&mut Dice::seeded(7), 600);
    let cache = ColumnCache::new(1 << 30, Arc::default());
    let columns = cache.block();
    let query = parse("{ kind = server && kind = client }").unwrap();
    let request = Arc::new(Search::new(&query, ALL).request().clone());
    let scan_within = |max_bytes: usize| {
        let block = Arc::clone(&stored.block);
        let scan = GroupScan::new(block, 0, Arc::clone(&request), 0);
        let mut scan = scan.sharing(Arc::clone(&columns));
        let mut fetched = FetchedRanges::default();
        loop {
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(max_bytes, &mut grow);
            match scan.step(&fetched, &mut allowance)? {
                ScanStep::Done(batch) => return Ok::<_, DecodeFail>(batch),
                ScanStep::Read(ranges) => {
                    for range in ranges {
                        let bytes = &stored.bytes[range.start as usize..range.end as usize];
                        fetched.insert(range.start, bytes.to_vec().into());
                    }
                }
            }
        }
    };
    assert!(scan_within(1 << 30).unwrap().is_none());
    let kept = cache.size_bytes();
    assert!(kept > 20_000, "{kept}");
    assert!(scan_within(kept / 2).is_err(), "it holds {kept} bytes");
    assert!(scan_within(kept * 2).unwrap().is_none());
}

/// Queries of the conformance sets, each once.
fn queries() -> Vec<Query> {
    let mut texts = std::collections::BTreeSet::new();
    let Some(folder) = shared::folder("conformance") else {
        return Vec::new();
    };
    for set in shared::folders(&folder) {
        let name = set.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("traceql") {
            for case in shared::json_lines(&set.join("cases.jsonl")) {
                texts.extend(case["query"].as_str().map(str::to_owned));
            }
        }
    }
    texts.iter().filter_map(|text| parse(text).ok()).collect()
}

fn compare_golden(one_of: usize) {
    let Some(folder) = shared::folder("golden") else {
        return;
    };
    let queries = queries();
    let (mut searches, mut series) = (0, 0);
    for (n, golden) in blocks::golden(&folder.join("tempo"))
        .into_iter()
        .enumerate()
    {
        let stored = Stored::new(golden.bytes, golden.version, golden.dedicated);
        for query in queries.iter().skip(n % one_of).step_by(one_of) {
            let expected = stored.search_decoded(query, ALL);
            let found = stored.search(query, ALL);
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected, "{}: {query}", golden.name);
            }
            assert_eq!(found.len(), expected.len(), "{}: {query}", golden.name);
            searches += 1;
            let all = stored.decoded(&WantedColumns::default());
            let first = all.traces.iter().map(|t| t.start_ns).min().unwrap_or(0);
            let settings = MetricsSettings {
                grid: IntervalGrid::range(first, first + 600_000_000_000, 60_000_000_000).unwrap(),
                exemplars: 0,
                max_series: 0,
                max_bytes: 1 << 30,
            };
            if let Some([columns, rows]) = stored.metrics(query, &settings) {
                assert_eq!(columns, rows, "{}: {query}", golden.name);
                series += 1;
            }
        }
    }
    println!("{searches} searches, {series} queries for series");
    assert!(searches > 0);
}

#[test]
fn blocks_of_tempo_answer_by_columns_what_their_rows_answer() {
    compare_golden(if cfg!(debug_assertions) { 40 } else { 4 });
}

#[test]
#[ignore = "takes minutes"]
fn blocks_of_tempo_answer_every_query_by_columns_long() {
    compare_golden(1);
}
