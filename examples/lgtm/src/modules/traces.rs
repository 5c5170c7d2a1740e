//! The modules of the trace store.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::disk::LocalDisk;
use lgtm_core::storage::DataKind;
use lgtm_tracestore::bucket::{BlockCaches, BlockList, BucketSelect};
use lgtm_tracestore::components::clients::Queries;
use lgtm_tracestore::components::{Compactor, Distributor, Ingester, Querier, QueryFrontend};
use lgtm_tracestore::head::FlushScope;
use lgtm_tracestore::http::{PushApi, QueryApi, RedactionApi};

use super::module::{Module, Signal};
use super::parts::{Flush, Flushed, Parts};

pub(super) const SIGNAL: Signal = Signal {
    name: "traces",
    knows_ring: false,
    modules: &[
        Module {
            name: "traces-store-gateway",
            by_ring: false,
            needs: &[],
            make: store_gateway,
        },
        Module {
            name: "traces-ingester",
            by_ring: false,
            needs: &[],
            make: ingester,
        },
        Module {
            name: "traces-compactor",
            by_ring: false,
            needs: &[],
            make: compactor,
        },
        Module {
            name: "traces-distributor",
            by_ring: false,
            needs: &["traces-ingester"],
            make: distributor,
        },
        Module {
            name: "traces-querier",
            by_ring: false,
            needs: &["traces-store-gateway", "traces-ingester"],
            make: querier,
        },
        Module {
            name: "traces-query-frontend",
            by_ring: false,
            needs: &["traces-querier"],
            make: query_frontend,
        },
    ],
    groups: &[
        ("read", &["traces-querier", "traces-query-frontend"]),
        ("write", &["traces-ingester", "traces-distributor"]),
        ("backend", &["traces-store-gateway", "traces-compactor"]),
    ],
};

/// What modules of traces take from each other.
#[derive(Debug, Default)]
pub(crate) struct TracesParts {
    blocks: Option<Arc<BlockList>>,
    stored: Option<Arc<BucketSelect>>,
    ingester: Option<Arc<Ingester>>,
    /// Where the process stores its own spans.
    pub(crate) distributor: Option<Arc<Distributor>>,
    querier: Option<Arc<Querier>>,
}

/// Of parts of blocks in caches, which are bytes of files that never change.
const BLOCKS_VERSION: u32 = 1;
/// Of answers in caches; raised whenever queries are answered otherwise.
const ANSWERS_VERSION: u32 = 1;

/// A part that the table says is made before.
fn made<T: Clone>(part: &Option<T>) -> T {
    part.clone().expect("a module is made after those it needs")
}

fn store_gateway(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::Traces);
    let settings = &parts.config.traces.store_gateway;
    settings.validate()?;
    let (executor, clock) = (parts.executor.clone(), Arc::clone(&parts.clock));
    let poll = settings.blocklist_poll;
    let blocks = BlockList::new(bucket.clone(), executor.clone(), clock, poll);
    let blocks = Arc::new(blocks);
    let names = &parts.config.traces.caches;
    let layer = |layer, name| parts.caches.layer(layer, BLOCKS_VERSION, name);
    let caches = BlockCaches {
        blooms: layer("traces.blooms", &names.blooms)?,
        footers: layer("traces.footers", &names.footers)?,
        pages: layer("traces.pages", &names.pages)?,
    };
    let stored = BucketSelect::new(bucket, executor, Arc::clone(&blocks), settings).caches(caches);
    let stored = Arc::new(stored);
    stored.register_metrics(&parts.registry);
    parts.traces.blocks = Some(blocks);
    parts.traces.stored = Some(stored);
    Ok(())
}

fn compactor(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::Traces);
    let (limits, executor) = (parts.limits.traces.clone(), parts.executor.clone());
    let mut compactor = Compactor::builder(bucket, limits, executor)
        .settings(parts.config.traces.compactor.clone())
        .block_settings(parts.config.traces.store_gateway.clone())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    // A reader of the same process hears of joined blocks at once.
    if let Some(blocks) = &parts.traces.blocks {
        compactor = compactor.blocks(Arc::clone(blocks));
    }
    // What it redacts is to be in blocks.
    if let Some(ingester) = &parts.traces.ingester {
        compactor = compactor.ingester(Arc::clone(ingester));
    }
    let compactor = compactor.build()?;
    let progress = Arc::clone(compactor.progress());
    parts.compactions.push(("traces", progress));
    let multitenancy = parts.config.traces_api_settings().multitenancy_enabled;
    parts.route(RedactionApi::new(Arc::clone(&compactor), multitenancy).router());
    parts.run(compactor);
    Ok(())
}

fn ingester(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::Traces);
    let disk = Arc::new(LocalDisk::new(format!("{}/traces", parts.config.data.dir)));
    let limits = parts.limits.traces.clone();
    let mut ingester = Ingester::builder(bucket, disk, limits, parts.executor.clone())
        .settings(parts.config.traces.ingester.clone())
        .block_settings(parts.config.traces.store_gateway.clone())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    // A reader of the same process hears of new blocks at once.
    if let Some(blocks) = &parts.traces.blocks {
        ingester = ingester.blocks(Arc::clone(blocks));
    }
    let ingester = ingester.build()?;
    parts.flushes.push(Arc::clone(&ingester) as _);
    parts.traces.ingester = Some(Arc::clone(&ingester));
    parts.run(ingester);
    Ok(())
}

#[async_trait]
impl Flush for Ingester {
    async fn flush(&self) -> Result<Flushed> {
        let report = Ingester::flush(self, FlushScope::All).await?;
        Ok(Flushed {
            count: usize::try_from(report.blocks).unwrap_or(usize::MAX),
            what: "trace blocks",
        })
    }
}

fn distributor(parts: &mut Parts) -> Result<()> {
    let ingester = made(&parts.traces.ingester);
    let distributor = Distributor::builder(ingester, parts.limits.traces.clone())
        .settings(parts.config.traces_distributor_settings())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry)
        .build();
    let api = PushApi::builder(Arc::clone(&distributor), parts.executor.clone())
        .settings(parts.config.traces_api_settings())
        .build();
    parts.route(api.router());
    parts.route_otlp(api.otlp_router());
    parts.route_otlp_grpc(api.otlp_grpc_router());
    parts.traces.distributor = Some(distributor);
    Ok(())
}

fn querier(parts: &mut Parts) -> Result<()> {
    let (ingester, stored) = (made(&parts.traces.ingester), made(&parts.traces.stored));
    let limits = parts.limits.traces.clone();
    let executor = parts.executor.clone();
    let querier = Querier::builder(vec![ingester], vec![stored], limits, executor)
        .settings(parts.config.traces.querier.clone())
        .metrics(&parts.registry)
        .build()?;
    parts.traces.querier = Some(Arc::clone(&querier));
    if !parts.is_made("traces-query-frontend") {
        query_api(parts, querier)?;
    }
    Ok(())
}

fn query_frontend(parts: &mut Parts) -> Result<()> {
    let querier = made(&parts.traces.querier);
    let mut frontend = QueryFrontend::builder(querier, parts.executor.clone())
        .settings(parts.config.traces.query_frontend.clone())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    let name = &parts.config.traces.caches.results;
    if let Some(cache) = parts
        .caches
        .layer("traces.results", ANSWERS_VERSION, name)?
    {
        frontend = frontend.results_cache(cache);
    }
    let frontend = frontend.build()?;
    query_api(parts, frontend)
}

/// The routes of queries, whoever answers them here.
fn query_api(parts: &mut Parts, queries: Arc<dyn Queries>) -> Result<()> {
    let limits = parts.limits.traces.clone();
    let api = QueryApi::builder(queries, limits, parts.executor.clone())
        .settings(parts.config.traces_api_settings())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry)
        .build()?;
    parts.route(api.router());
    Ok(())
}
