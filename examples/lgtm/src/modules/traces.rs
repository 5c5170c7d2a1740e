//! The modules of the trace store.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::CancelToken;
use lgtm_core::storage::DataKind;
use lgtm_tracestore::bucket::{BlockCaches, BlockList, BucketSelect};
use lgtm_tracestore::components::clients::{IngesterClient, Queries};
use lgtm_tracestore::components::ring::RingIngesters;
use lgtm_tracestore::components::{Compactor, Distributor, Ingester, Querier, QueryFrontend};
use lgtm_tracestore::head::FlushScope;
use lgtm_tracestore::http::{PushApi, QueryApi, RedactionApi};
use lgtm_tracestore::rpc::{RemoteIngester, ingester_routes};

use super::cluster::{TRACES_COMPACTORS, TRACES_DISTRIBUTORS, TRACES_INGESTERS};
use super::module::{Module, Signal};
use super::parts::{Compact, Compaction, Flush, Flushed, Parts};
use super::ring_parts::{Clients, JoiningIngester};

pub(super) const SIGNAL: Signal = Signal {
    name: "traces",
    modules: &[
        Module {
            name: "traces-store-gateway",
            by_ring: false,
            needs: &[],
            make: store_gateway,
        },
        Module {
            name: "traces-ingester",
            by_ring: true,
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
        // Whoever asks blocks reads them, as in Tempo.
        (
            "read",
            &[
                "traces-store-gateway",
                "traces-querier",
                "traces-query-frontend",
            ],
        ),
        ("write", &["traces-ingester", "traces-distributor"]),
        ("backend", &["traces-compactor"]),
    ],
};

/// What modules of traces take from each other.
#[derive(Debug, Default)]
pub(crate) struct TracesParts {
    blocks: Option<Arc<BlockList>>,
    stored: Option<Arc<BucketSelect>>,
    ingester: Option<Arc<Ingester>>,
    /// All ingesters, where there may be others.
    ingesters: Option<Arc<RingIngesters>>,
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
    let stored = BucketSelect::new(bucket, executor, Arc::clone(&blocks), settings);
    let mut stored = stored.caches(caches);
    if let Some(departures) = parts.departures(TRACES_INGESTERS)? {
        stored = stored.departures(departures);
    }
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
    if let Some(owned) = parts.shared_jobs(TRACES_COMPACTORS, "traces-compactor")? {
        compactor = compactor.owns(owned);
    }
    let compactor = compactor.build()?;
    let progress = Arc::clone(compactor.progress());
    parts.compactions.push(Compaction {
        signal: "traces",
        compactor: Arc::clone(&compactor) as _,
        progress,
    });
    let multitenancy = parts.config.traces_api_settings().multitenancy_enabled;
    parts.route(RedactionApi::new(Arc::clone(&compactor), multitenancy).router());
    parts.run(compactor);
    Ok(())
}

fn ingester(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::Traces);
    let disk = Arc::new(LocalDisk::new(format!("{}/traces", parts.config.data.dir)));
    let limits = parts.limits.traces.clone();
    let mut settings = parts.config.traces.ingester.clone();
    if parts.cluster.is_some() && settings.head.retain_flushed.is_zero() {
        // By then readers of blocks elsewhere know a new one: their list may come of an index that is two polls old, and serves for another one.
        settings.head.retain_flushed = 4 * parts.config.traces.store_gateway.blocklist_poll;
    }
    let mut ingester = Ingester::builder(bucket, disk, limits, parts.executor.clone())
        .settings(settings)
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
    parts.run(Arc::clone(&ingester));
    if parts.cluster.is_some() {
        let routes = ingester_routes(&parts.rpc, Arc::clone(&ingester) as _, &parts.executor);
        parts.route_rpc(routes);
    }
    let flushes = parts.config.traces.ingester.flush_on_shutdown;
    parts.join_ingester(JoiningIngester {
        kind: TRACES_INGESTERS,
        replayed: "traces-ingester-replayed",
        flush: Arc::clone(&ingester) as _,
        flushes,
        is_back: Box::new(move || ingester.replay_report().is_some()),
    })
}

/// Who takes spans and answers for recent ones: the ingester of this process, or all those of the ring.
fn ingesters(parts: &mut Parts) -> Result<Arc<dyn IngesterClient>> {
    let Some(ring) = parts.follow(TRACES_INGESTERS)? else {
        let here: Arc<Ingester> = made(&parts.traces.ingester);
        return Ok(here);
    };
    if let Some(known) = &parts.traces.ingesters {
        return Ok(Arc::clone(known) as _);
    }
    let (service, remote) = (
        "traces-ingester-clients",
        parts.config.traces.remote.clone(),
    );
    let clients: Clients<RemoteIngester> =
        parts.clients(TRACES_INGESTERS, ring.clone(), service, remote)?;
    let here = parts.traces.ingester.clone().map(|i| i as _);
    let pool = parts.instances::<dyn IngesterClient, _>(clients, here);
    let (limits, executor) = (parts.limits.traces.clone(), parts.executor.clone());
    let all = RingIngesters::builder(ring, pool, limits, executor)
        .settings(parts.replication(&parts.config.traces.replication))
        .clock(Arc::clone(&parts.clock))
        .build()?;
    parts.run_beside("traces-ring-ingesters", Arc::clone(&all));
    parts.traces.ingesters = Some(Arc::clone(&all));
    Ok(all)
}

#[async_trait]
impl Compact for Compactor {
    async fn run_round(&self) -> Result<()> {
        self.compact(&CancelToken::new()).await
    }
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
    let ingester = ingesters(parts)?;
    let mut distributor = Distributor::builder(ingester, parts.limits.traces.clone())
        .settings(parts.config.traces_distributor_settings())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry);
    if let Some(share) = parts.shared_rates(TRACES_DISTRIBUTORS)? {
        distributor = distributor.rate_share(share);
    }
    let distributor = distributor.build();
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
    let (ingester, stored) = (ingesters(parts)?, made(&parts.traces.stored));
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
