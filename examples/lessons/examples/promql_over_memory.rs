//! PromQL over data of your own: the engine asks one trait, [`Select`], and whoever answers it can be queried.
//!
//! A holder hands out series in label order, in batches, each with its samples as encoded chunks. It knows nothing of queries.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::exec::Executor;
use lgtm_core::model::{Labels, TenantId, TextSet};
use lgtm_tsdb::chunk::{SampleValue, encode_run};
use lgtm_tsdb::promql::{Engine, Query, QueryValue};
use lgtm_tsdb::select::{Listed, ReadyBatches, Select, SelectRequest, SeriesBatches, SeriesChunks};

/// A list of series, sorted by labels.
#[derive(Debug)]
struct Memory(Vec<SeriesChunks>);

impl Memory {
    fn matching(&self, request: &SelectRequest) -> Vec<SeriesChunks> {
        let all = self.0.iter().filter(|s| {
            let fits =
                |m: &lgtm_core::model::Matcher| m.matches(s.labels.get(m.name()).unwrap_or(""));
            request.matchers.iter().all(fits)
        });
        all.cloned().collect()
    }
}

#[async_trait]
impl Select for Memory {
    async fn select(
        &self,
        _: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        Ok(Box::new(ReadyBatches::new(vec![self.matching(request)])))
    }

    async fn series(&self, _: &TenantId, request: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        let all = self.matching(request).into_iter().map(|s| s.labels);
        Ok(Listed::first(all.collect(), request.limit))
    }

    async fn label_names(&self, _: &TenantId, request: &SelectRequest) -> Result<Listed<TextSet>> {
        let all = self.matching(request);
        let names = all.iter().flat_map(|s| s.labels.iter().map(|(n, _)| n));
        Ok(Listed::first(names.collect(), request.limit))
    }

    async fn label_values(
        &self,
        _: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        let all = self.matching(request);
        let values = all.iter().filter_map(|s| s.labels.get(name));
        Ok(Listed::first(values.collect(), request.limit))
    }
}

/// A counter that grows by `per_second`, a sample every 15 seconds for ten minutes, as one chunk.
fn counter(job: &str, pod: &str, per_second: f64) -> Result<SeriesChunks> {
    let labels = Labels::from_pairs([("__name__", "requests_total"), ("job", job), ("pod", pod)])?;
    let samples = (0..=40i64).map(|n| {
        let t_ms = n * 15_000;
        let value = per_second * t_ms as f64 / 1000.0;
        (t_ms, SampleValue::Float(value))
    });
    let chunks = encode_run(samples).into_iter();
    Ok(SeriesChunks {
        labels,
        chunks: chunks.collect(),
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let memory = Memory(vec![
        counter("api", "1", 2.0)?,
        counter("api", "2", 3.0)?,
        counter("web", "1", 7.0)?,
    ]);
    // The executor has the threads on which queries are computed; `inline` computes where it is awaited.
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let engine = Engine::builder(Arc::new(memory), executor).build()?;
    let tenant = TenantId::anonymous();

    // At one time: the sum of both pods.
    let parser = &engine.settings().parser;
    let text = r#"sum(rate(requests_total{job="api"}[5m]))"#;
    let query = Query::instant(text, 600_000, parser)?;
    let answer = engine.query(&tenant, &query).await?;
    let QueryValue::Vector(series) = answer.value else {
        unreachable!("a sum is a vector")
    };
    assert!((series[0].floats[0].value - 5.0).abs() < 1e-9);

    // Over a range: one series for each group, a point for each step, sorted by labels.
    let text = "sum by (job) (rate(requests_total[5m])) > 6";
    let query = Query::range(text, 300_000..=600_000, 60_000, parser)?;
    let answer = engine.query(&tenant, &query).await?;
    let QueryValue::Matrix(series) = answer.value else {
        unreachable!("a range query gives a matrix")
    };
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].labels.get("job"), Some("web"));
    assert_eq!(series[0].floats.len(), 6);
    // Three series, six windows of twenty samples each.
    assert_eq!(answer.stats.samples_read, 360);

    // What does not parse is told with its place.
    let Err(error) = Query::instant("sum(rate(requests_total))", 0, parser) else {
        unreachable!("rate wants a range")
    };
    assert!(
        error.to_string().starts_with("1:10: parse error"),
        "{error}"
    );
    Ok(())
}
