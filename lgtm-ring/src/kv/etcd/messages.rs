//! The gateway's JSON: bytes are base64, 64-bit integers are strings, what has its zero value is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lgtm_core::{DecodeError, Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    revision: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    key: String,
    value: String,
    mod_revision: String,
}

/// A key, its value, and the revision of the store at which it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EtcdRecord {
    pub(super) key: String,
    pub(super) value: Bytes,
    pub(super) revision: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RangeAnswer {
    header: Header,
    kvs: Vec<KeyValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TxnAnswer {
    pub(super) succeeded: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorAnswer {
    error: Value,
    message: String,
    code: i64,
}

/// One line of a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WatchLine {
    result: WatchResult,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WatchResult {
    canceled: bool,
    cancel_reason: String,
    compact_revision: String,
    events: Vec<EtcdEvent>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EtcdEvent {
    r#type: String,
    kv: KeyValue,
}

/// What a watch says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    /// `None` once deleted.
    pub(super) value: Option<Bytes>,
    pub(super) revision: i64,
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn decode(what: &'static str, text: &str) -> Result<Vec<u8>> {
    let decoded = STANDARD.decode(text);
    decoded.map_err(|e| corrupt(what, e.to_string()))
}

fn corrupt(what: &'static str, reason: String) -> Error {
    Error::corrupt("etcd", DecodeError::new(what, 0, reason))
}

fn number(text: &str) -> Result<i64> {
    if text.is_empty() {
        Ok(0)
    } else {
        text.parse()
            .map_err(|_| corrupt("revision", format!("{text:?} is no number")))
    }
}

impl KeyValue {
    fn key(&self) -> Result<String> {
        let key = decode("key", &self.key)?;
        String::from_utf8(key).map_err(|e| corrupt("key", e.to_string()))
    }

    fn record(&self) -> Result<EtcdRecord> {
        Ok(EtcdRecord {
            key: self.key()?,
            value: decode("value", &self.value)?.into(),
            revision: number(&self.mod_revision)?,
        })
    }
}

impl RangeAnswer {
    /// The records, and the revision of the store at which they were all so.
    pub(super) fn records(&self) -> Result<(Vec<EtcdRecord>, i64)> {
        let records: Result<_> = self.kvs.iter().map(KeyValue::record).collect();
        Ok((records?, number(&self.header.revision)?))
    }
}

impl WatchLine {
    /// What changed.
    ///
    /// # Errors
    /// `Unavailable` when the server ended the watch, because what it asked for was compacted or for another reason.
    pub(super) fn changes(&self) -> Result<Vec<Change>> {
        if let Some(error) = &self.error {
            return Err(Error::Unavailable(format!("etcd ended the watch: {error}")));
        }
        let result = &self.result;
        if result.canceled {
            return Err(Error::Unavailable(format!(
                "etcd cancelled the watch: {} (compacted up to {})",
                result.cancel_reason, result.compact_revision
            )));
        }
        let change = |event: &EtcdEvent| {
            let record = event.kv.record()?;
            Ok(Change {
                value: (event.r#type != "DELETE").then_some(record.value),
                key: record.key,
                revision: record.revision,
            })
        };
        result.events.iter().map(change).collect()
    }
}

/// Reads an answer of status `status`.
pub(super) fn read<'a, T: Deserialize<'a>>(path: &str, status: u16, body: &'a [u8]) -> Result<T> {
    if status == 200 {
        return serde_json::from_slice(body).map_err(|e| corrupt("answer", format!("{path}: {e}")));
    }
    let answer: ErrorAnswer = serde_json::from_slice(body).unwrap_or_default();
    let text = match (answer.message.is_empty(), &answer.error) {
        (false, _) => answer.message,
        (true, Value::String(text)) => text.clone(),
        (true, other) => other.to_string(),
    };
    let text = format!("etcd {path}: status {status}: {text}");
    // Codes of gRPC.
    Err(match answer.code {
        8 => Error::LimitExceeded(text),
        3 if text.contains("too large") => Error::LimitExceeded(text),
        3 | 7 | 16 => Error::InvalidInput(text),
        _ => Error::Unavailable(text),
    })
}

/// The end of the range of all keys that begin with `prefix`: the prefix with its last byte that can grow grown. A zero byte stands for
/// "to the end".
pub(super) fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// The fields that name one key, or with `prefix` all that begin so.
pub(super) fn range(key: &str, prefix: bool) -> Value {
    if !prefix {
        return json!({ "key": encode(key.as_bytes()) });
    }
    // An empty key is not one; all keys begin at the zero byte.
    let first: &[u8] = if key.is_empty() { &[0] } else { key.as_bytes() };
    json!({ "key": encode(first), "range_end": encode(&range_end(key.as_bytes())) })
}

/// "If the key still has this revision, put."
pub(super) fn put_if(key: &str, revision: i64, value: &[u8]) -> Value {
    let key = encode(key.as_bytes());
    json!({
        "compare": [{
            "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision.to_string(),
        }],
        "success": [{ "request_put": { "key": key, "value": encode(value) } }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_after_the_last_key_of_the_prefix() {
        assert_eq!(range_end(b"ring/"), b"ring0");
        assert_eq!(range_end(b"a\xff\xff"), b"b");
        assert_eq!(range_end(b"\xff"), b"\0");
        assert_eq!(range_end(b""), b"\0");
    }

    #[test]
    fn answers_with_and_without_their_zero_values_are_read() {
        let body = br#"{"header":{"revision":"7"},"kvs":[{"key":"YQ==","mod_revision":"5"}]}"#;
        let answer: RangeAnswer = read("/v3/kv/range", 200, body).unwrap();
        let (records, revision) = answer.records().unwrap();
        assert_eq!((records[0].revision, revision), (5, 7));
        assert_eq!((records[0].key.as_str(), records[0].value.len()), ("a", 0));
        let answer: TxnAnswer = read("/v3/kv/txn", 200, b"{}").unwrap();
        assert!(!answer.succeeded);
        let line =
            br#"{"result":{"events":[{"kv":{"key":"YQ==","value":"eA==","mod_revision":"8"}},
            {"type":"DELETE","kv":{"key":"YQ==","mod_revision":"9"}}]}}"#;
        let line: WatchLine = serde_json::from_slice(line).unwrap();
        let changes = line.changes().unwrap();
        assert_eq!(changes[0].value.as_deref(), Some(&b"x"[..]));
        assert_eq!((&changes[1].value, changes[1].revision), (&None, 9));
    }

    #[test]
    fn damaged_answers_and_errors_are_told_apart() {
        use lgtm_core::ErrorKind;
        let kind = |status, body: &[u8]| {
            let answer: Result<RangeAnswer> = read("/x", status, body);
            answer.and_then(|a| a.records()).unwrap_err().kind()
        };
        assert_eq!(kind(200, b"<html>"), ErrorKind::Corrupt);
        assert_eq!(kind(200, br#"{"kvs":[{"key":"!"}]}"#), ErrorKind::Corrupt);
        assert_eq!(
            kind(
                400,
                br#"{"error":"etcdserver: request is too large","code":3}"#
            ),
            ErrorKind::LimitExceeded
        );
        assert_eq!(kind(503, b""), ErrorKind::Unavailable);
        let cancelled = br#"{"result":{"canceled":true,"compact_revision":"4"}}"#;
        let line: WatchLine = serde_json::from_slice(cancelled).unwrap();
        assert_eq!(line.changes().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
