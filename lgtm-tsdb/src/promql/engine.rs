//! Running queries: parse, select, evaluate.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::model::{TenantId, TimeRange};
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::ast::{Expr, VectorSelector};
use super::eval::{Point, Series, Steps, matrix, vector};
use super::parser::parse;
use crate::select::{QueryBudget, Select, SelectRequest, SeriesChunks};

/// How queries run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How far back an instant looks for a sample. Prometheus' default.
    #[serde(with = "lgtm_core::units::duration")]
    pub lookback_delta: Duration,
    /// A query that takes longer is ended. Prometheus' default.
    #[serde(with = "lgtm_core::units::duration")]
    pub timeout: Duration,
    /// Points that one query may hold in memory. Prometheus' default.
    pub max_samples: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            lookback_delta: Duration::from_secs(300),
            timeout: Duration::from_secs(120),
            max_samples: 50_000_000,
        }
    }
}

/// A query at one time.
#[derive(Debug, Clone)]
pub struct InstantQuery {
    /// Text.
    pub query: String,
    /// When, milliseconds.
    pub t_ms: i64,
    /// Another lookback than the engine's, milliseconds.
    pub lookback_ms: Option<i64>,
    /// What it may fetch.
    pub budget: Arc<QueryBudget>,
}

/// A query at many times.
#[derive(Debug, Clone)]
pub struct RangeQuery {
    /// Text.
    pub query: String,
    /// First time, milliseconds.
    pub start_ms: i64,
    /// Last time, milliseconds.
    pub end_ms: i64,
    /// Distance of two times, milliseconds, more than 0.
    pub step_ms: i64,
    /// Another lookback than the engine's, milliseconds.
    pub lookback_ms: Option<i64>,
    /// What it may fetch.
    pub budget: Arc<QueryBudget>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// One point a series.
    Vector(Vec<Series>),
    /// Many points a series.
    Matrix(Vec<Series>),
    /// A number.
    Scalar(Point<f64>),
    /// A string.
    Text(Point<String>),
}

/// Runs queries over a holder of metrics.
#[derive(Debug, Clone)]
pub struct Engine {
    source: Arc<dyn Select>,
    settings: EngineSettings,
}

impl Engine {
    /// An engine over `source`.
    pub fn new(source: Arc<dyn Select>, settings: EngineSettings) -> Self {
        Self { source, settings }
    }

    /// Answers at one time.
    ///
    /// # Errors
    /// `InvalidInput` when the query does not parse, `LimitExceeded` when it is too large, `Timeout`, and those of the source.
    pub async fn instant(&self, tenant: &TenantId, q: &InstantQuery) -> Result<QueryValue> {
        let steps = Steps {
            start_ms: q.t_ms,
            end_ms: q.t_ms,
            step_ms: 0,
        };
        match parsed(&q.query)? {
            Expr::Number(n) => Ok(QueryValue::Scalar(Point {
                t_ms: q.t_ms,
                value: n.value,
            })),
            Expr::Text(text) => Ok(QueryValue::Text(Point {
                t_ms: q.t_ms,
                value: text.value,
            })),
            Expr::Vector(s) => Ok(QueryValue::Vector(
                self.vector(tenant, &s, steps, q.lookback_ms, &q.budget)
                    .await?,
            )),
            Expr::Matrix(m) => {
                let (t_ms, s) = (q.t_ms, m.vector);
                let (offset_ms, range_ms) = (offset_ms(&s)?, m.range.ms().ok_or_else(unsupported)?);
                let eval = move |series: &SeriesChunks| matrix(series, t_ms, offset_ms, range_ms);
                Ok(QueryValue::Matrix(
                    self.run(tenant, &s, steps, range_ms, &q.budget, eval)
                        .await?,
                ))
            }
            _ => Err(unsupported()),
        }
    }

    /// Answers at many times.
    ///
    /// # Errors
    /// As [`Engine::instant`]; `InvalidInput` too for an expression that has no value at an instant.
    pub async fn range(&self, tenant: &TenantId, q: &RangeQuery) -> Result<QueryValue> {
        let steps = Steps {
            start_ms: q.start_ms,
            end_ms: q.end_ms,
            step_ms: q.step_ms,
        };
        match parsed(&q.query)? {
            Expr::Vector(s) => Ok(QueryValue::Matrix(
                self.vector(tenant, &s, steps, q.lookback_ms, &q.budget)
                    .await?,
            )),
            Expr::Number(n) => {
                let value = n.value;
                let times =
                    (q.start_ms..=q.end_ms).step_by(usize::try_from(q.step_ms).unwrap_or(1).max(1));
                let floats = times.map(|t_ms| Point { t_ms, value }).collect();
                Ok(QueryValue::Matrix(vec![Series {
                    floats,
                    ..Series::default()
                }]))
            }
            Expr::Text(_) => Err(wrong_type("string")),
            Expr::Matrix(_) => Err(wrong_type("range vector")),
            _ => Err(unsupported()),
        }
    }

    async fn vector(
        &self,
        tenant: &TenantId,
        s: &VectorSelector,
        steps: Steps,
        lookback_ms: Option<i64>,
        budget: &Arc<QueryBudget>,
    ) -> Result<Vec<Series>> {
        let default_ms =
            i64::try_from(self.settings.lookback_delta.as_millis()).unwrap_or(i64::MAX);
        let lookback_ms = lookback_ms.unwrap_or(default_ms);
        let offset_ms = offset_ms(s)?;
        let eval = move |series: &SeriesChunks| vector(series, steps, offset_ms, lookback_ms);
        self.run(tenant, s, steps, lookback_ms, budget, eval).await
    }

    /// Selects, evaluates series by series as they stream by, and keeps what is not empty.
    async fn run(
        &self,
        tenant: &TenantId,
        s: &VectorSelector,
        steps: Steps,
        back_ms: i64,
        budget: &Arc<QueryBudget>,
        eval: impl Fn(&SeriesChunks) -> Result<Series, lgtm_core::DecodeError>,
    ) -> Result<Vec<Series>> {
        let offset_ms = offset_ms(s)?;
        let first = steps
            .start_ms
            .saturating_sub(offset_ms)
            .saturating_sub(back_ms)
            .saturating_add(1);
        let range = TimeRange::inclusive(first, steps.end_ms.saturating_sub(offset_ms));
        let request = SelectRequest {
            matchers: s.matchers.clone(),
            range,
            budget: Arc::clone(budget),
        };
        let work = async {
            let mut batches = self.source.select(tenant, &request).await?;
            let (mut out, mut points) = (Vec::new(), 0u64);
            while let Some(batch) = batches.next_batch().await? {
                for series in &batch {
                    let place = || format!("tenant {tenant}, series {}", series.labels);
                    let answer = eval(series).map_err(|e| Error::corrupt(place(), e))?;
                    points += answer.len() as u64;
                    if points > self.settings.max_samples {
                        return Err(Error::LimitExceeded(format!(
                            "query processing would load too many samples into memory: more than {} (max_samples)",
                            self.settings.max_samples
                        )));
                    }
                    if !answer.is_empty() {
                        out.push(answer);
                    }
                }
                tokio::task::yield_now().await;
            }
            Ok(out)
        };
        let after = self.settings.timeout;
        tokio::time::timeout(after, work).await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                what: "query".into(),
                after,
            })
        })
    }
}

fn parsed(query: &str) -> Result<Expr> {
    parse(query).map_err(|e| Error::InvalidInput(format!("invalid parameter \"query\": {e}")))
}

/// The evaluator knows plain selectors so far.
fn unsupported() -> Error {
    Error::InvalidInput(
        "invalid parameter \"query\": only plain selectors, numbers and strings are evaluated so far"
            .into(),
    )
}

fn offset_ms(s: &VectorSelector) -> Result<i64> {
    match (&s.at, s.offset.ms()) {
        (None, Some(ms)) => Ok(ms),
        _ => Err(unsupported()),
    }
}

fn wrong_type(got: &str) -> Error {
    Error::InvalidInput(format!(
        "invalid parameter \"query\": invalid expression type \"{got}\" for range query, must be Scalar or instant Vector"
    ))
}
