//! The JSON in front of a chunk in its object (docs/format/chunk_object.md).

use std::collections::BTreeMap;
use std::fmt::Write;

use lgtm_core::DecodeError;
use lgtm_core::go::json;
use lgtm_core::model::{Labels, METRIC_NAME, TimestampMs, TimestampNs};
use serde::Deserialize;

use crate::chunk::key::ChunkKey;

const WHAT: &str = "chunk metadata";
/// What `__name__` says in the metadata of every log chunk. It is no label of the stream.
const METRIC_NAME_VALUE: &str = "logs";
/// The number of the encoding of log chunks, and an older one for the same.
const LOG_CHUNK: u64 = 129;
const OLD_LOG_CHUNK: u64 = 128;

/// What an object says about the chunk in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The fingerprint of its stream. Not always what the labels hash to: streams whose hashes collide have small numbers.
    pub fingerprint: u64,
    /// The tenant.
    pub tenant: String,
    /// Time of the first entry, milliseconds, rounded down.
    pub from_ms: TimestampMs,
    /// Time of the last entry, milliseconds, rounded up.
    pub through_ms: TimestampMs,
    /// The labels of the stream.
    pub labels: Labels,
    /// When a back-filled stream was ingested, milliseconds; else 0.
    pub ingested_at_ms: TimestampMs,
}

#[derive(Deserialize)]
struct MetaJson {
    fingerprint: u64,
    #[serde(rename = "userID")]
    user_id: String,
    from: f64,
    through: f64,
    metric: BTreeMap<String, String>,
    #[serde(rename = "ingestedAt", default)]
    ingested_at: f64,
    encoding: u64,
}

impl ObjectMeta {
    /// The metadata of a chunk with entries from `min_ns` to `max_ns`, both inclusive.
    pub fn new(
        tenant: impl Into<String>,
        fingerprint: u64,
        labels: Labels,
        min_ns: impl Into<TimestampNs>,
        max_ns: impl Into<TimestampNs>,
    ) -> Self {
        Self {
            fingerprint,
            tenant: tenant.into(),
            from_ms: min_ns.into().to_ms(),
            through_ms: max_ns.into().to_ms_up(),
            labels,
            ingested_at_ms: TimestampMs::EPOCH,
        }
    }

    /// The key of an object with this metadata and checksum.
    pub fn key(&self, checksum: u32) -> ChunkKey {
        ChunkKey {
            tenant: self.tenant.clone(),
            fingerprint: self.fingerprint,
            from_ms: self.from_ms,
            through_ms: self.through_ms,
            checksum,
        }
    }

    /// That these are the metadata of the object that `key` names.
    ///
    /// # Errors
    /// The first field that differs.
    pub fn check(&self, key: &ChunkKey) -> Result<(), DecodeError> {
        let fail = |field: &str, here: String, there: String| {
            let reason = format!("{field} {here}, its key says {there}");
            Err(DecodeError::new(WHAT, 0, reason))
        };
        if self.tenant != key.tenant {
            return fail("userID", self.tenant.clone(), key.tenant.clone());
        }
        let numbers = |m: u64, k: u64| (format!("{m:x}"), format!("{k:x}"));
        if self.fingerprint != key.fingerprint {
            let (here, there) = numbers(self.fingerprint, key.fingerprint);
            return fail("fingerprint", here, there);
        }
        for (field, here, there) in [
            ("from", self.from_ms, key.from_ms),
            ("through", self.through_ms, key.through_ms),
        ] {
            if here != there {
                return fail(field, here.to_string(), there.to_string());
            }
        }
        Ok(())
    }

    /// The JSON as Loki writes it, a line feed at its end.
    pub fn to_json(&self) -> String {
        let mut out = format!("{{\"fingerprint\":{},\"userID\":", self.fingerprint);
        json::push_quoted(&mut out, &self.tenant);
        let _ = write!(
            out,
            ",\"from\":{},\"through\":{},\"metric\":{{",
            seconds(self.from_ms),
            seconds(self.through_ms)
        );
        let mut name_is_due = true;
        let mut first = true;
        let mut put = |out: &mut String, name: &str, value: &str| {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            json::push_quoted(out, name);
            out.push(':');
            json::push_quoted(out, value);
        };
        for (name, value) in self.labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            if name_is_due && name > METRIC_NAME {
                put(&mut out, METRIC_NAME, METRIC_NAME_VALUE);
                name_is_due = false;
            }
            put(&mut out, name, value);
        }
        if name_is_due {
            put(&mut out, METRIC_NAME, METRIC_NAME_VALUE);
        }
        let _ = writeln!(
            out,
            "}},\"ingestedAt\":{},\"encoding\":{LOG_CHUNK}}}",
            seconds(self.ingested_at_ms)
        );
        out
    }

    /// Reads the JSON. Fields that are not known are skipped.
    ///
    /// # Errors
    /// For what is no such JSON, for times that are no milliseconds, for an encoding other than that of log chunks.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read: MetaJson = json::decode(WHAT, bytes)?;
        if read.encoding != LOG_CHUNK && read.encoding != OLD_LOG_CHUNK {
            let reason = format!("encoding {} is none of log chunks", read.encoding);
            return Err(DecodeError::new(WHAT, 0, reason));
        }
        let labels = read.metric.iter().filter(|(name, _)| *name != METRIC_NAME);
        let labels = labels.map(|(name, value)| (name.as_str(), value.as_str()));
        Ok(Self {
            fingerprint: read.fingerprint,
            tenant: read.user_id,
            from_ms: milliseconds(read.from)?,
            through_ms: milliseconds(read.through)?,
            labels: Labels::from_sorted(labels)
                .map_err(|e| DecodeError::new(WHAT, 0, e.to_string()))?,
            ingested_at_ms: milliseconds(read.ingested_at)?,
        })
    }
}

/// Seconds, with three digits behind the point when there is a remainder.
fn seconds(ms: TimestampMs) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.get().unsigned_abs();
    match (ms / 1000, ms % 1000) {
        (seconds, 0) => format!("{sign}{seconds}"),
        (seconds, rest) => format!("{sign}{seconds}.{rest:03}"),
    }
}

fn milliseconds(seconds: f64) -> Result<TimestampMs, DecodeError> {
    let ms = (seconds * 1000.0).round();
    // Beyond this a double does not tell one millisecond from the next.
    if ms.abs() <= (1i64 << 53) as f64 {
        return Ok(TimestampMs::new(ms as i64));
    }
    let reason = format!("a time of {seconds} seconds");
    Err(DecodeError::new(WHAT, 0, reason))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn metadata_come_back(
            fingerprint: u64, tenant in ".{1,10}", from_ms in -(1i64 << 45)..1i64 << 45, len in 0i64..1 << 40,
            labels in proptest::collection::btree_map("[A-Za-z_]{1,5}", ".{1,5}", 0..6), ingested_at_ms in 0i64..1 << 45,
        ) {
            let labels = labels.iter().filter(|(n, _)| *n != METRIC_NAME);
            let meta = ObjectMeta {
                fingerprint, tenant, from_ms: TimestampMs::new(from_ms), through_ms: TimestampMs::new(from_ms + len),
                labels: Labels::from_pairs(labels).unwrap(), ingested_at_ms: TimestampMs::new(ingested_at_ms),
            };
            let json = meta.to_json();
            let names: serde_json::Value = serde_json::from_str(&json).unwrap();
            let names: Vec<_> = names["metric"].as_object().unwrap().keys().cloned().collect();
            prop_assert!(names.is_sorted() && names.contains(&METRIC_NAME.to_owned()));
            prop_assert_eq!(&ObjectMeta::from_json(json.as_bytes()).unwrap(), &meta);
            let mut key = meta.key(7);
            prop_assert!(meta.check(&key).is_ok());
            key.through_ms += 1;
            prop_assert!(meta.check(&key).unwrap_err().to_string().contains("through"));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, at: prop::sample::Index, with: u8) {
            let _ = ObjectMeta::from_json(&bytes);
            let meta = ObjectMeta::new("t", 1, Labels::empty(), 5, 6);
            let mut json = meta.to_json().into_bytes();
            let at = at.index(json.len());
            json[at] = with;
            let _ = ObjectMeta::from_json(&json);
        }
    }

    #[test]
    fn times_are_written_as_seconds() {
        for (ms, text) in [
            (0, "0"),
            (1500, "1.500"),
            (1050, "1.050"),
            (1, "0.001"),
            (-1, "-0.001"),
        ] {
            assert_eq!(seconds(TimestampMs::new(ms)), text);
            assert_eq!(milliseconds(text.parse().unwrap()).unwrap(), ms);
        }
        let meta = ObjectMeta::new("t", 1, Labels::empty(), -1, 1);
        assert_eq!((meta.from_ms.get(), meta.through_ms.get()), (-1, 1));
    }
}
