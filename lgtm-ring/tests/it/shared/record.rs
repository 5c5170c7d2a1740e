//! Instances as the golden documents write them.

use lgtm_ring::instance::{Instance, RingDesc};
use lgtm_ring::token::Token;
use serde_json::Value;

/// The time that the word `NOW` stands for.
pub(crate) const NOW_S: i64 = 1_900_000_000;

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_owned()
}

fn time(v: &Value) -> i64 {
    if v == "NOW" {
        return NOW_S;
    }
    v.as_i64().unwrap_or(0)
}

/// A list of tokens.
pub(crate) fn tokens(v: &Value) -> Vec<Token> {
    let tokens = v.as_array().unwrap().iter();
    tokens.map(|t| Token(t.as_u64().unwrap() as u32)).collect()
}

/// One instance; what the document leaves out has its zero value.
pub(crate) fn instance(v: &Value) -> Instance {
    Instance {
        id: text(&v["id"]),
        addr: text(&v["addr"]),
        zone: text(&v["zone"]),
        state: v["state"].as_str().unwrap().parse().unwrap(),
        timestamp_s: time(&v["timestamp"]),
        registered_timestamp_s: time(&v["registered_timestamp"]),
        read_only: v["read_only"].as_bool().unwrap_or(false),
        read_only_updated_timestamp_s: time(&v["read_only_updated_timestamp"]),
        tokens: tokens(&v["tokens"]).into(),
        ..Instance::default()
    }
}

/// A ring from a list of instances.
pub(crate) fn ring(v: &Value) -> RingDesc {
    v.as_array().unwrap().iter().map(instance).collect()
}
