//! Pushes for tests.

use lgtm_core::codec::Allowance;

use crate::limits::Limits;
use crate::wire::{PushBatch, decode_json};

/// A push of entries of the stream `{app=".."}`: time, line, metadata.
pub(super) fn pushed<'a, M>(
    app: &str,
    entries: impl IntoIterator<Item = (i64, &'a str, M)>,
) -> PushBatch
where
    M: IntoIterator<Item = (&'a str, &'a str)>,
{
    let values = entries.into_iter().map(|(t_ns, line, metadata)| {
        let metadata: serde_json::Map<String, serde_json::Value> = metadata
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v.into()))
            .collect();
        serde_json::json!([t_ns.to_string(), line, metadata])
    });
    let values: Vec<_> = values.collect();
    let body = serde_json::json!({"streams": [{"stream": {"app": app}, "values": values}]});
    let body = body.to_string();
    let mut batch = PushBatch::default();
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(0, &mut grow);
    let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
        out.extend_from_slice(body.as_bytes());
        Ok(())
    };
    let limits = Limits {
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    };
    decode_json(&mut batch, &limits.push_options(), &mut allowance, fill).unwrap();
    batch
}
