//! What each kind of key hashes.

use crate::hash::fnv::{Fnv1, Fnv1a};
use crate::token::Token;

/// The token of a metric series: tenant, then each label's name and value.
///
/// Labels must come sorted by name (`__name__` is one of them); another order is another token.
pub fn series_token<'a>(
    tenant: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Token {
    let mut hash = Fnv1::new();
    hash.write(tenant.as_bytes());
    for (name, value) in labels {
        hash.write(name.as_bytes());
        hash.write(value.as_bytes());
    }
    hash.token()
}

/// The token of a metric's metadata.
pub fn metadata_token(tenant: &str, metric_name: &str) -> Token {
    fnv1(&[tenant.as_bytes(), metric_name.as_bytes()])
}

/// The token of a log stream; `labels` is its canonical text, `{a="b", c="d"}`.
pub fn stream_token(tenant: &str, labels: &str) -> Token {
    fnv1(&[tenant.as_bytes(), labels.as_bytes()])
}

/// The token of a trace. An id shorter than 16 bytes is padded by the receiver, not here.
pub fn trace_token(tenant: &str, trace_id: &[u8]) -> Token {
    fnv1(&[tenant.as_bytes(), trace_id])
}

/// The hash by which Tempo picks the shard of a trace-id bloom filter: the id alone.
pub fn bloom_token(trace_id: &[u8]) -> Token {
    fnv1(&[trace_id])
}

/// The token of a metrics block in the store-gateways' ring: the 16 bytes of its ULID.
pub fn block_token(ulid: &[u8; 16]) -> Token {
    fnv1(&[ulid])
}

/// The token of a rule group in the rulers' ring.
pub fn rule_group_token(tenant: &str, namespace: &str, group: &str) -> Token {
    let parts = [tenant, "/", namespace, "/", group];
    fnv1a(&parts.map(str::as_bytes))
}

/// The token of a compaction job; `sharding_key` is `<tenant>-<stage>-<range start>-<range end>-<shard>`, times in ms.
pub fn compaction_job_token(sharding_key: &str) -> Token {
    fnv1a(&[sharding_key.as_bytes()])
}

/// The token of a tenant in rings that own whole tenants (compactor's cleaner, alertmanager).
pub fn tenant_token(tenant: &str) -> Token {
    fnv1a(&[tenant.as_bytes()])
}

fn fnv1(parts: &[&[u8]]) -> Token {
    let mut hash = Fnv1::new();
    parts.iter().for_each(|part| hash.write(part));
    hash.token()
}

fn fnv1a(parts: &[&[u8]]) -> Token {
    let mut hash = Fnv1a::new();
    parts.iter().for_each(|part| hash.write(part));
    hash.token()
}
