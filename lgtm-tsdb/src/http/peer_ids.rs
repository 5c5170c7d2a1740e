//! The ids by which Mimir's runbooks know errors. Components name the rule or the setting; the ids are added at the door.

use crate::head::Rejection;

/// Settings whose bound a message names, longer names before those that they contain, and the peers' ids of the errors.
const IDS_OF_SETTINGS: [(&str, &str); 11] = [
    (
        "max_inflight_push_requests_bytes",
        "distributor-max-inflight-push-requests-bytes",
    ),
    (
        "max_inflight_push_requests",
        "distributor-max-inflight-push-requests",
    ),
    ("max_recv_msg_size", "distributor-max-write-message-size"),
    ("max_decoded_bytes", "distributor-max-write-message-size"),
    ("ingestion_rate", "tenant-max-ingestion-rate"),
    ("max_fetched_series_per_query", "max-series-per-query"),
    ("max_fetched_chunks_per_query", "max-chunks-per-query"),
    (
        "max_fetched_chunk_bytes_per_query",
        "max-chunks-bytes-per-query",
    ),
    (
        "max_query_expression_size_bytes",
        "max-query-expression-size-bytes",
    ),
    ("max_total_query_length", "max-total-query-length"),
    (
        "max_estimated_memory_consumption_per_query",
        "max-estimated-memory-consumption-per-query",
    ),
];

/// What stands in the place of the tenant's limit where the engine's is the lower one.
const ENGINE_MEMORY: &str = "querier.max_memory";

/// A message about a limit, with the id that its setting has.
pub(super) fn with_peer_id(mut message: String) -> String {
    let named = IDS_OF_SETTINGS.iter().find(|(s, _)| message.contains(s));
    let memory = || message.ends_with(ENGINE_MEMORY);
    let memory = || memory().then_some("max-estimated-memory-consumption-per-query");
    if let Some(id) = named.map(|(_, id)| *id).or_else(memory) {
        message.push_str(&format!(" (err-mimir-{id})"));
    }
    message
}

/// A fault of a push in words, with the id of its reason, which is the peers' where they have the rule.
pub(super) fn rejection(fault: &Rejection) -> String {
    format!("{} (err-mimir-{})", fault.message, fault.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_of_a_setting_tells_the_id() {
        for (message, id) in [
            (
                "9 bytes would be in flight (server.max_inflight_push_requests_bytes)",
                "distributor-max-inflight-push-requests-bytes",
            ),
            (
                "5 others are in flight (server.max_inflight_push_requests)",
                "distributor-max-inflight-push-requests",
            ),
            (
                "limit: 7 bytes. To adjust it, configure querier.max_memory",
                "max-estimated-memory-consumption-per-query",
            ),
        ] {
            let told = with_peer_id(message.to_owned());
            assert_eq!(told, format!("{message} (err-mimir-{id})"));
        }
        // The memory of all queries together is another bound.
        for other in ["more than 5 (querier.max_memory_total)", "no limit at all"] {
            assert_eq!(with_peer_id(other.to_owned()), other);
        }
        for (n, (longer, _)) in IDS_OF_SETTINGS.iter().enumerate() {
            let before = IDS_OF_SETTINGS[..n].iter();
            assert!(before.clone().all(|(s, _)| !longer.contains(s)), "{longer}");
        }
    }
}
