//! Limits of a query that names several tenants.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;

use super::limits::Limits;
use super::request_limits::{RequestLimits, tighter};

/// What a query of a tenant may do: of [several](TenantId::joined), what each of them may.
pub fn query_limits(limits: &Overrides<Limits>, tenant: &TenantId) -> Arc<Limits> {
    if !tenant.is_joined() {
        return limits.for_tenant(tenant);
    }
    let all = tenant.parts().map(|t| limits.for_tenant(&t));
    let all = all.reduce(|all, more| Arc::new(strictest(&all, &more)));
    all.unwrap_or_else(|| limits.default_limits())
}

/// Of each limit on queries the tighter one; the cache keeps what both allow.
fn strictest(all: &Limits, more: &Limits) -> Limits {
    let tightened = RequestLimits {
        max_query_length: Some(more.max_query_length),
        max_query_range: Some(more.max_query_range),
        max_query_lookback: Some(more.max_query_lookback),
        query_timeout: Some(more.query_timeout),
        max_entries_limit_per_query: Some(more.max_entries_limit_per_query),
        max_query_bytes_read: Some(more.max_query_bytes_read),
        required_labels: more.required_labels.clone(),
        minimum_labels_number: Some(more.minimum_labels_number),
    };
    let number = |more, all| tighter(Some(more), all, 0);
    let shorter = |more, all| tighter(Some(more), all, Duration::ZERO);
    Limits {
        max_query_series: number(more.max_query_series, all.max_query_series),
        max_streams_matchers_per_query: number(
            more.max_streams_matchers_per_query,
            all.max_streams_matchers_per_query,
        ),
        max_chunks_per_query: number(more.max_chunks_per_query, all.max_chunks_per_query),
        // 0 is none at all.
        tsdb_max_query_parallelism: all
            .tsdb_max_query_parallelism
            .min(more.tsdb_max_query_parallelism),
        split_queries_by_interval: shorter(
            more.split_queries_by_interval,
            all.split_queries_by_interval,
        ),
        max_cache_freshness_per_query: all
            .max_cache_freshness_per_query
            .max(more.max_cache_freshness_per_query),
        volume_enabled: all.volume_enabled && more.volume_enabled,
        volume_max_series: tighter(Some(more.volume_max_series), all.volume_max_series, 0),
        ..tightened.tighten(all)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_query_of_several_tenants_may_what_each_of_them_may() {
        let [a, b] = ["a", "b"].map(|id| TenantId::new(id).unwrap());
        let of_a = Limits {
            max_query_series: 0,
            max_query_length: Duration::from_secs(50),
            max_cache_freshness_per_query: Duration::from_secs(1),
            required_labels: vec!["app".into()],
            ..Limits::default()
        };
        let of_b = Limits {
            max_query_series: 7,
            max_query_length: Duration::ZERO,
            max_cache_freshness_per_query: Duration::from_secs(9),
            volume_enabled: false,
            ..Limits::default()
        };
        let tenants = HashMap::from([(a.clone(), of_a.clone()), (b.clone(), of_b)]);
        let limits = Overrides::new(Limits::default(), tenants);
        assert_eq!(*query_limits(&limits, &a), of_a);
        let both = query_limits(&limits, &TenantId::joined([a, b]).unwrap());
        assert_eq!(both.max_query_series, 7);
        assert_eq!(both.max_query_length, Duration::from_secs(50));
        assert_eq!(both.max_cache_freshness_per_query, Duration::from_secs(9));
        assert_eq!(both.required_labels, ["app"]);
        assert!(!both.volume_enabled);
    }
}
