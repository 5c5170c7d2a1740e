//! The modules of the metrics store.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::disk::LocalDisk;
use lgtm_core::storage::DataKind;
use lgtm_tsdb::bucket::BucketBlocks;
use lgtm_tsdb::components::clients::Queries;
use lgtm_tsdb::components::{BlocksCleaner, Distributor, Ingester, Querier, QueryFrontend};
use lgtm_tsdb::head::FlushScope;
use lgtm_tsdb::http::{PushApi, QueryApi};

use super::module::{Module, Signal};
use super::parts::{Flush, Flushed, Parts};

pub(super) const SIGNAL: Signal = Signal {
    name: "metrics",
    modules: &[
        Module {
            name: "metrics-store-gateway",
            needs: &[],
            make: store_gateway,
        },
        Module {
            name: "metrics-blocks-cleaner",
            needs: &[],
            make: blocks_cleaner,
        },
        Module {
            name: "metrics-ingester",
            needs: &[],
            make: ingester,
        },
        Module {
            name: "metrics-distributor",
            needs: &["metrics-ingester"],
            make: distributor,
        },
        Module {
            name: "metrics-querier",
            needs: &["metrics-store-gateway", "metrics-ingester"],
            make: querier,
        },
        Module {
            name: "metrics-query-frontend",
            needs: &["metrics-querier"],
            make: query_frontend,
        },
    ],
    groups: &[
        ("read", &["metrics-querier", "metrics-query-frontend"]),
        ("write", &["metrics-ingester", "metrics-distributor"]),
        (
            "backend",
            &["metrics-store-gateway", "metrics-blocks-cleaner"],
        ),
    ],
};

/// What modules of metrics take from each other.
#[derive(Debug, Default)]
pub(crate) struct MetricsParts {
    blocks: Option<Arc<BucketBlocks>>,
    ingester: Option<Arc<Ingester>>,
    querier: Option<Arc<Querier>>,
}

/// A part that the table says is made before.
fn made<T: Clone>(part: &Option<T>) -> T {
    part.clone().expect("a module is made after those it needs")
}

fn store_gateway(parts: &mut Parts) -> Result<()> {
    let blocks = BucketBlocks::builder(parts.layout.bucket(DataKind::MetricBlocks))
        .settings(parts.config.metrics.store_gateway.clone())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry)
        .build()?;
    parts.metrics.blocks = Some(Arc::clone(&blocks));
    parts.run(blocks);
    Ok(())
}

fn blocks_cleaner(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::MetricBlocks);
    let cleaner = BlocksCleaner::builder(bucket, parts.limits.metrics.clone())
        .settings(parts.config.metrics.blocks_cleaner.clone())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry)
        .build()?;
    parts.run(cleaner);
    Ok(())
}

fn ingester(parts: &mut Parts) -> Result<()> {
    let bucket = parts.layout.bucket(DataKind::MetricBlocks);
    let disk = Arc::new(LocalDisk::new(format!("{}/metrics", parts.config.data.dir)));
    let mut ingester = Ingester::builder(bucket, disk, parts.limits.metrics.clone())
        .settings(parts.config.metrics.ingester.clone())
        .clock(Arc::clone(&parts.clock))
        .executor(parts.executor.clone())
        .metrics(&parts.registry);
    // A store-gateway of the same process hears of new blocks at once.
    if let Some(blocks) = &parts.metrics.blocks {
        ingester = ingester.blocks(Arc::clone(blocks));
    }
    let ingester = ingester.build()?;
    parts.flushes.push(Arc::clone(&ingester) as _);
    parts.metrics.ingester = Some(Arc::clone(&ingester));
    parts.run(ingester);
    Ok(())
}

#[async_trait]
impl Flush for Ingester {
    async fn flush(&self) -> Result<Flushed> {
        let blocks = Ingester::flush(self, FlushScope::All).await?;
        Ok(Flushed {
            count: blocks.len(),
            what: "blocks",
        })
    }
}

fn distributor(parts: &mut Parts) -> Result<()> {
    let ingester = made(&parts.metrics.ingester);
    let distributor = Distributor::builder(ingester, parts.limits.metrics.clone())
        .settings(parts.config.distributor_settings())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry)
        .build();
    let api = PushApi::builder(Arc::clone(&distributor), parts.executor.clone())
        .settings(parts.config.api_settings())
        .build();
    parts.route(api.router());
    parts.route_otlp(api.otlp_router());
    parts.sink = Some(distributor);
    Ok(())
}

fn querier(parts: &mut Parts) -> Result<()> {
    let (ingester, blocks) = (made(&parts.metrics.ingester), made(&parts.metrics.blocks));
    let limits = parts.limits.metrics.clone();
    let executor = parts.executor.clone();
    let querier = Querier::builder(vec![ingester], vec![blocks], limits, executor)
        .settings(parts.config.metrics.querier.clone())
        .metrics(&parts.registry)
        .build()?;
    parts.metrics.querier = Some(Arc::clone(&querier));
    if !parts.is_made("metrics-query-frontend") {
        query_api(parts, querier)?;
    }
    Ok(())
}

fn query_frontend(parts: &mut Parts) -> Result<()> {
    let querier = made(&parts.metrics.querier);
    let engine = querier.engine().clone();
    let frontend = QueryFrontend::builder(querier, engine, parts.limits.metrics.clone())
        .settings(parts.config.metrics.query_frontend.clone())
        .clock(Arc::clone(&parts.clock))
        .metrics(&parts.registry)
        .build()?;
    query_api(parts, frontend)
}

/// The routes of queries, whoever answers them here.
fn query_api(parts: &mut Parts, queries: Arc<dyn Queries>) -> Result<()> {
    let limits = parts.limits.metrics.clone();
    let api = QueryApi::builder(queries, limits, parts.executor.clone())
        .settings(parts.config.api_settings())
        .clock(Arc::clone(&parts.clock))
        .parser(parts.config.metrics.querier.parser.clone())
        .metrics(&parts.registry)
        .build()?;
    parts.route(api.router());
    Ok(())
}
