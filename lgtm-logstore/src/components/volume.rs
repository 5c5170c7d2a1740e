//! Answers about how much there is, made of what holders know of each stream: `index/volume`, `index/volume_range` and `index/stats`.

use lgtm_core::Error;
use lgtm_core::model::{
    Labels, Listed, Matcher, TENANT_LABEL, TenantId, TimeRangeNs, TimestampMs, TimestampNs,
};
use std::collections::{BTreeMap, BTreeSet};

use super::clients::Inspect;
use crate::logql::{Point, QueryError, QueryValue, Series};
use crate::select::{FetchBounds, SelectRequest, StreamVolume};

/// Volumes of an answer where the request does not say. Loki's number.
const DEFAULT_LIMIT: usize = 100;
/// Steps that a range may have, as for queries.
const MAX_STEPS: i64 = 11_000;

/// What volumes are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VolumeAggregation {
    /// By the values of some labels.
    #[default]
    Series,
    /// By the names of labels.
    Labels,
}

/// Which volumes are wanted.
#[derive(Debug, Clone)]
pub struct VolumeRequest {
    /// Which streams; all must pass. None: all streams.
    pub matchers: Vec<Matcher>,
    /// The time that counts.
    pub range: TimeRangeNs,
    /// The labels that count; streams that lack one of them are left out. None: those that the matchers name, or all where there is no
    /// matcher.
    pub target_labels: Vec<String>,
    /// By what.
    pub aggregate_by: VolumeAggregation,
    /// Volumes that are wanted, the largest; 0: 100, as in Loki.
    pub limit: usize,
    /// Volumes that there may be before the largest are chosen; 0: any number.
    pub max_series: usize,
    /// What one holder may look at.
    pub bounds: FetchBounds,
}

/// What the streams of a selector have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SelectorStats {
    /// Streams.
    pub streams: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of lines and structured metadata, as far as the index knows.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// What matches has together in the range of a request.
///
/// # Errors
/// As [`Inspect::volumes`].
pub async fn selector_stats(
    holders: &dyn Inspect,
    tenant: &TenantId,
    request: &SelectRequest,
) -> lgtm_core::Result<Listed<SelectorStats>> {
    let volumes = holders.volumes(tenant, request).await?;
    Ok(volumes.map(|streams| {
        let mut all = SelectorStats::default();
        for stream in &streams {
            all.streams += 1;
            all.chunks += stream.chunks;
            all.bytes += stream.bytes;
            all.entries += stream.entries;
        }
        all
    }))
}

/// Volumes over the whole range, as a vector at its end: the largest first, equal ones by name.
///
/// # Errors
/// `Limit` for more volumes than `max_series`; as [`Inspect::volumes`].
pub async fn volume(
    holders: &dyn Inspect,
    tenant: &TenantId,
    request: &VolumeRequest,
) -> Result<Listed<QueryValue>, QueryError> {
    let listed = request.counted(holders, tenant, request.range).await?;
    let t_ms = request.range.max_ns.to_ms();
    Ok(listed.map(|counted| {
        let largest = request.largest(counted).into_iter();
        let series = largest.map(|(name, bytes)| Series {
            labels: name.labels,
            points: vec![point(t_ms, bytes)],
        });
        QueryValue::Vector(series.collect())
    }))
}

/// Volumes of steps that end at multiples of `step_ns`: a matrix, whose points stand a millisecond before the ends of their steps, the last at
/// the end of the range; a vector if no series has more than one point. Steps in which a series has nothing have no point.
///
/// Those that are largest over the whole range are counted by steps. Costs a look at the index for each step.
///
/// # Errors
/// As [`volume`]; `Invalid` for a step below 1, `Limit` for more than 11,000 steps.
pub async fn volume_range(
    holders: &dyn Inspect,
    tenant: &TenantId,
    request: &VolumeRequest,
    step_ns: i64,
) -> Result<Listed<QueryValue>, QueryError> {
    let range = request.range;
    if step_ns <= 0 {
        return Err(QueryError::Invalid("zero or negative query resolution step widths are not accepted. Try a positive integer".into()));
    }
    let span = i128::from(range.max_ns) - i128::from(range.min_ns);
    if span / i128::from(step_ns) > i128::from(MAX_STEPS) {
        return Err(QueryError::Limit("exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter".into()));
    }
    let whole = request.counted(holders, tenant, range).await?;
    let mut listed = Listed::whole(());
    listed.warn(whole.warnings);
    let largest = request.largest(whole.items);
    let names: BTreeSet<&VolumeName> = largest.iter().map(|(name, _)| name).collect();
    let mut points: BTreeMap<&VolumeName, Vec<Point>> = BTreeMap::new();
    let mut begin = range.min_ns;
    while begin < range.max_ns && !names.is_empty() {
        let end = step_end(begin, step_ns).min(range.max_ns);
        let t_ms = if end < range.max_ns {
            end.to_ms() - 1
        } else {
            end.to_ms()
        };
        let step = request
            .counted(holders, tenant, TimeRangeNs::new(begin, end))
            .await?;
        listed.warn(step.warnings);
        for (name, bytes) in &step.items {
            if let Some(&name) = names.get(name)
                && *bytes > 0
            {
                points.entry(name).or_default().push(point(t_ms, *bytes));
            }
        }
        begin = end;
    }
    let is_matrix = points.values().any(|p| p.len() > 1);
    let mut series: Vec<(&VolumeName, Vec<Point>)> = points.into_iter().collect();
    let first = |points: &[Point]| points.first().map_or(0.0, |p| p.value);
    series.sort_by(|(a, p), (b, q)| first(q).total_cmp(&first(p)).then_with(|| a.cmp(b)));
    let t_ms = range.max_ns.to_ms();
    let series = series.into_iter().map(|(name, mut points)| {
        if !is_matrix {
            points.iter_mut().for_each(|p| p.t_ms = t_ms);
        }
        let labels = name.labels.clone();
        Series { labels, points }
    });
    let series = series.collect();
    Ok(listed.map(|()| {
        if is_matrix {
            QueryValue::Matrix(series)
        } else {
            QueryValue::Vector(series)
        }
    }))
}

fn point(t_ms: TimestampMs, bytes: u64) -> Point {
    Point {
        t_ms,
        value: bytes as f64,
    }
}

/// The first multiple of a step behind a time.
fn step_end(t_ns: TimestampNs, step_ns: i64) -> TimestampNs {
    t_ns.floor(step_ns).saturating_add(step_ns)
}

/// What a volume is of, in the order of equal volumes: as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct VolumeName {
    text: String,
    labels: Labels,
}

impl VolumeRequest {
    /// The matchers, and those that follow from the target labels.
    fn all_matchers(&self) -> Result<Vec<Matcher>, Error> {
        let mut all = self.matchers.clone();
        for name in &self.target_labels {
            if !self.matchers.iter().any(|m| m.name() == name) {
                all.push(Matcher::regex(name, ".+")?);
            }
        }
        Ok(all)
    }

    /// Bytes by name.
    async fn counted(
        &self,
        holders: &dyn Inspect,
        tenant: &TenantId,
        range: TimeRangeNs,
    ) -> Result<Listed<BTreeMap<VolumeName, u64>>, QueryError> {
        let request = SelectRequest::new(self.all_matchers()?, range).bounds(self.bounds);
        let streams = holders.volumes(tenant, &request).await?;
        let mut listed = Listed::whole(BTreeMap::new());
        listed.warn(streams.warnings);
        // Volumes of several tenants are added, unless they are asked for apart.
        let is_apart = request.matchers.iter().any(|m| m.name() == TENANT_LABEL);
        for mut stream in streams.items {
            if tenant.is_joined() && !is_apart {
                let others = stream.labels.iter().filter(|(n, _)| *n != TENANT_LABEL);
                stream.labels = Labels::from_sorted(others)?;
            }
            self.count(&stream, &mut listed.items)?;
        }
        Ok(listed)
    }

    fn count(
        &self,
        stream: &StreamVolume,
        into: &mut BTreeMap<VolumeName, u64>,
    ) -> Result<(), QueryError> {
        let is_target = |name: &str| self.target_labels.iter().any(|t| t == name);
        let names: Vec<VolumeName> = match self.aggregate_by {
            VolumeAggregation::Labels => {
                let names = stream.labels.iter().map(|(name, _)| name);
                let names = names.filter(|n| self.target_labels.is_empty() || is_target(n));
                let name = |name: &str| VolumeName {
                    text: name.to_owned(),
                    labels: Labels::from_sorted_keeping_empty([(name, "")]).unwrap_or_default(),
                };
                names.map(name).collect()
            }
            VolumeAggregation::Series => {
                let is_named = |name: &str| match self.target_labels.is_empty() {
                    true => {
                        self.matchers.is_empty() || self.matchers.iter().any(|m| m.name() == name)
                    }
                    false => is_target(name),
                };
                let labels = stream.labels.iter().filter(|(name, _)| is_named(name));
                let labels = Labels::from_sorted(labels)?;
                let text = labels.to_string();
                vec![VolumeName { text, labels }]
            }
        };
        for name in names {
            *into.entry(name).or_default() += stream.bytes;
            if self.max_series > 0 && into.len() > self.max_series {
                return Err(QueryError::Limit(format!(
                    "the query hit the max number of series limit (limit: {} series)",
                    self.max_series
                )));
            }
        }
        Ok(())
    }

    /// The largest, in order.
    fn largest(&self, counted: BTreeMap<VolumeName, u64>) -> Vec<(VolumeName, u64)> {
        let mut all: Vec<_> = counted.into_iter().collect();
        all.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        all.truncate(match self.limit {
            0 => DEFAULT_LIMIT,
            limit => limit,
        });
        all
    }
}
