//! A query-frontend over an engine over a holder of logs in memory, which knows what it was asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, TenantId};
use lgtm_logstore::components::clients::Queries;
use lgtm_logstore::components::{QueryFrontend, QueryFrontendSettings};
use lgtm_logstore::entry::{EntryBlockBuilder, SymbolListBuilder, SymbolPair};
use lgtm_logstore::limits::Limits;
use lgtm_logstore::logql::{
    Answer, Engine, EngineSettings, ParserSettings, Query, QueryError, QueryRange,
};
use lgtm_logstore::select::{MemorySelect, Select};

use crate::over_engine::OverEngine;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// Where the data begins: not on a boundary of anything.
pub(crate) const START: i64 = 1_700_000_007 * SECOND + 123_456_789;
/// How long it is.
pub(crate) const LENGTH: i64 = 3 * HOUR;

pub(crate) fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

/// A stream, its time after the start, the kind of its line and a value in it.
pub(crate) type Entry = (u8, i64, u8, i64);

pub(crate) fn labels(stream: u8) -> Labels {
    let app = ["a", "b"][usize::from(stream % 2)];
    let level = ["info", "warn", "error"][usize::from(stream % 3)];
    Labels::from_pairs([
        ("app", app),
        ("level", level),
        ("pod", &format!("p{stream}")),
    ])
    .unwrap()
}

pub(crate) fn line(kind: u8, value: i64) -> String {
    match kind {
        0 => format!("v={value} user=u{} msg=\"took a while\"", value % 3),
        1 => format!(r#"{{"v":{value},"user":"u{}","level":"debug"}}"#, value % 3),
        2 => "no fields at all".to_owned(),
        3 => format!("v=oops{value} user=u1"),
        _ => String::new(),
    }
}

pub(crate) fn memory(entries: &[Entry]) -> MemorySelect {
    let mut streams: BTreeMap<u8, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        streams.entry(entry.0).or_default().push(entry);
    }
    let source = MemorySelect::default();
    for (stream, mut entries) in streams {
        entries.sort_by_key(|e| e.1);
        for part in entries.chunks(5) {
            let mut block = EntryBlockBuilder::copying(0);
            let mut symbols = SymbolListBuilder::default();
            for (_, t, kind, value) in part {
                block
                    .push_copy(START + t, line(*kind, *value).as_bytes())
                    .unwrap();
                if value % 2 == 0 {
                    let name = symbols.intern("trace").unwrap();
                    let value = symbols.intern(&format!("t{}", value % 4)).unwrap();
                    block.push_metadata(SymbolPair { name, value });
                }
            }
            let block = block.finish(Arc::new(symbols.finish()));
            source.push(&tenant(), &labels(stream), block).unwrap();
        }
    }
    source
}

pub(crate) fn engine(
    source: Arc<dyn Select>,
    clock: &Arc<ManualClock>,
    settings: EngineSettings,
) -> Engine {
    let runtime = tokio::runtime::Handle::current();
    let executor = Executor::new(&ExecutorSettings::default(), runtime).unwrap();
    Engine::new(source, executor, Arc::clone(clock) as _, settings).unwrap()
}

/// A frontend over an engine over a holder, and what it asked.
pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) querier: Arc<OverEngine>,
    pub(crate) frontend: Arc<QueryFrontend>,
}

impl House {
    pub(crate) fn new(
        source: impl Select,
        settings: QueryFrontendSettings,
        limits: Limits,
    ) -> Self {
        let engine_settings = EngineSettings {
            max_series: 0,
            ..EngineSettings::default()
        };
        Self::with(source, settings, limits, engine_settings, 0)
    }

    pub(crate) fn with(
        source: impl Select,
        settings: QueryFrontendSettings,
        limits: Limits,
        engine_settings: EngineSettings,
        stream_bytes: u64,
    ) -> Self {
        // Hours after the data: all of it may be kept.
        let clock = Arc::new(ManualClock::at_ms((START + LENGTH + 5 * HOUR) / 1_000_000));
        let source: Arc<dyn Select> = Arc::new(source);
        let engine = engine(Arc::clone(&source), &clock, engine_settings);
        let querier = Arc::new(OverEngine {
            engine: engine.clone(),
            source,
            asked: parking_lot::Mutex::default(),
            stream_bytes,
        });
        let frontend =
            QueryFrontend::builder(Arc::clone(&querier) as _, engine, Overrides::fixed(limits))
                .settings(settings)
                .clock(Arc::clone(&clock) as _)
                .build()
                .unwrap();
        Self {
            clock,
            querier,
            frontend,
        }
    }

    pub(crate) async fn ask(&self, query: &Query) -> Result<Answer, QueryError> {
        self.frontend.query(&tenant(), query).await
    }
}

pub(crate) fn split(minutes: u64) -> Limits {
    Limits {
        split_queries_by_interval: Duration::from_secs(60 * minutes),
        ..Limits::default()
    }
}

pub(crate) fn over(text: &str, from: i64, to: i64) -> Query {
    in_range(text, QueryRange::new(START + from, START + to))
}

pub(crate) fn in_range(text: &str, range: QueryRange) -> Query {
    Query::range(text, range, &ParserSettings::default()).unwrap()
}
