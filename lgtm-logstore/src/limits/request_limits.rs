//! Limits that come with a request.

use std::time::Duration;

use lgtm_core::units::ByteSize;

use super::limits::Limits;

/// What a request allows itself. Nothing in it can loosen what its tenant may do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RequestLimits {
    /// See [`Limits::max_query_length`].
    pub max_query_length: Option<Duration>,
    /// See [`Limits::max_query_range`].
    pub max_query_range: Option<Duration>,
    /// See [`Limits::max_query_lookback`].
    pub max_query_lookback: Option<Duration>,
    /// See [`Limits::query_timeout`].
    pub query_timeout: Option<Duration>,
    /// See [`Limits::max_entries_limit_per_query`].
    pub max_entries_limit_per_query: Option<u64>,
    /// See [`Limits::max_query_bytes_read`].
    pub max_query_bytes_read: Option<ByteSize>,
    /// Labels that each stream selector must name, besides [`Limits::required_labels`].
    pub required_labels: Vec<String>,
    /// See [`Limits::minimum_labels_number`].
    pub minimum_labels_number: Option<u64>,
}

impl RequestLimits {
    /// The limits of a tenant, tightened.
    pub fn tighten(&self, limits: &Limits) -> Limits {
        let shorter = |own: Option<Duration>, all: Duration| tighter(own, all, Duration::ZERO);
        let mut out = limits.clone();
        out.max_query_length = shorter(self.max_query_length, limits.max_query_length);
        out.max_query_range = shorter(self.max_query_range, limits.max_query_range);
        out.max_query_lookback = shorter(self.max_query_lookback, limits.max_query_lookback);
        out.query_timeout = shorter(self.query_timeout, limits.query_timeout);
        out.max_entries_limit_per_query = tighter(
            self.max_entries_limit_per_query,
            limits.max_entries_limit_per_query,
            0,
        );
        out.max_query_bytes_read = tighter(
            self.max_query_bytes_read,
            limits.max_query_bytes_read,
            ByteSize::bytes(0),
        );
        for label in &self.required_labels {
            if !out.required_labels.contains(label) {
                out.required_labels.push(label.clone());
            }
        }
        let labels = self.minimum_labels_number.unwrap_or(0);
        out.minimum_labels_number = labels.max(limits.minimum_labels_number);
        out
    }
}

/// The smaller of two bounds, where `none` is no bound.
pub(super) fn tighter<T: PartialOrd + Copy>(own: Option<T>, all: T, none: T) -> T {
    match own {
        Some(own) if own > none && (all == none || own < all) => own,
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_can_only_tighten() {
        let limits = Limits {
            max_query_length: Duration::from_secs(100),
            max_query_range: Duration::ZERO,
            required_labels: vec!["app".into()],
            minimum_labels_number: 2,
            ..Limits::default()
        };
        let request = RequestLimits {
            max_query_length: Some(Duration::from_secs(200)),
            max_query_range: Some(Duration::from_secs(5)),
            max_query_lookback: Some(Duration::ZERO),
            max_entries_limit_per_query: Some(7),
            required_labels: vec!["app".into(), "pod".into()],
            minimum_labels_number: Some(1),
            ..RequestLimits::default()
        };
        let both = request.tighten(&limits);
        assert_eq!(both.max_query_length, Duration::from_secs(100));
        assert_eq!(both.max_query_range, Duration::from_secs(5));
        assert_eq!(both.max_query_lookback, Duration::ZERO);
        assert_eq!(both.max_entries_limit_per_query, 7);
        assert_eq!(both.required_labels, ["app", "pod"]);
        assert_eq!(both.minimum_labels_number, 2);
        assert_eq!(RequestLimits::default().tighten(&limits), limits);
    }
}
