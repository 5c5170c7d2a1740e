//! The file in which operators write what differs for a tenant.
//!
//! ```yaml
//! overrides:
//!   team-a: &big
//!     ingestion_rate: 50000
//!   team-b:
//!     <<: *big
//!     max_label_names_per_series: 60
//! ```
//!
//! An entry starts from the configured defaults, not from zero: its keys are laid over them, nested groups key by key. YAML's merge key
//! `<<` works as in the peers' files, beneath the keys of the entry.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::limits::overrides::Overrides;
use crate::model::TenantId;
use crate::nearest::did_you_mean;

/// Merge keys inside of merge keys; anchors cannot be circular, so this only stops absurd files.
const MAX_MERGE_DEPTH: usize = 16;

/// What an overrides file says, every entry complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverridesFile<L> {
    /// The limits of each tenant that the file names.
    pub overrides: HashMap<TenantId, L>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    overrides: Option<Entries>,
}

impl<L: Serialize + DeserializeOwned> OverridesFile<L> {
    /// Reads a whole file with the one key `overrides`, from any self-describing serde format.
    ///
    /// `L` must serialize every field (no `skip_serializing_if`): that is how unknown keys are told.
    ///
    /// # Errors
    /// `InvalidInput`: the file does not parse, a tenant stands twice or has an invalid id, a key is unknown (names the nearest),
    /// a value does not fit. Nothing of a bad file is used.
    pub fn read<'de, D: Deserializer<'de>>(file: D, default: &L) -> Result<Self> {
        let raw = Option::<Raw>::deserialize(file)
            .map_err(|e| Error::InvalidInput(format!("overrides file: {e}")))?;
        let entries = raw.unwrap_or_default().overrides.unwrap_or_default();
        Self::from_entries(entries.0, default)
    }

    /// As [`OverridesFile::read`], for a file that has other sections too: the tenants and their values, read by the caller.
    ///
    /// # Errors
    /// As [`OverridesFile::read`].
    pub fn from_entries(
        entries: impl IntoIterator<Item = (String, Value)>,
        default: &L,
    ) -> Result<Self> {
        let default = serde_json::to_value(default)
            .map_err(|e| Error::Internal(format!("default limits do not serialize: {e}")))?;
        let mut overrides = HashMap::new();
        for (name, entry) in entries {
            let tenant = TenantId::new(&name)?;
            let faulty =
                |why: String| Error::InvalidInput(format!("overrides of tenant {tenant}: {why}"));
            let entry = merged(entry, MAX_MERGE_DEPTH).map_err(faulty)?;
            let mut value = default.clone();
            lay_over(&mut value, entry, "").map_err(faulty)?;
            let limits = serde_json::from_value(value).map_err(|e| faulty(e.to_string()))?;
            if overrides.insert(tenant.clone(), limits).is_some() {
                return Err(faulty("tenant stands twice".into()));
            }
        }
        Ok(Self { overrides })
    }

    /// Puts what the file says, and `default`, in the place of what `overrides` holds.
    pub fn apply(self, default: L, overrides: &Overrides<L>) {
        overrides.replace(default, self.overrides);
    }
}

/// `entry` with its merge keys resolved; null is an empty map.
fn merged(entry: Value, depth: usize) -> Result<Map<String, Value>, String> {
    let mut keys = match entry {
        Value::Object(keys) => keys,
        Value::Null => Map::new(),
        other => return Err(format!("expected a map of limits, got {other}")),
    };
    let bases = match keys.remove("<<") {
        None => return Ok(keys),
        Some(Value::Array(bases)) => bases,
        Some(base) => vec![base],
    };
    if depth == 0 {
        return Err(format!("merge keys nest deeper than {MAX_MERGE_DEPTH}"));
    }
    for base in bases {
        for (key, value) in merged(base, depth - 1)? {
            keys.entry(key).or_insert(value);
        }
    }
    Ok(keys)
}

fn lay_over(base: &mut Value, over: Map<String, Value>, path: &str) -> Result<(), String> {
    let Value::Object(base) = base else {
        return Err("limits are no map".into());
    };
    for (key, value) in over {
        let Some(slot) = base.get_mut(&key) else {
            let near = did_you_mean(&key, base.keys().map(String::as_str));
            return Err(format!("unknown limit {path}{key}{near}"));
        };
        match (slot, value) {
            // An empty map is a limit whose keys are the operator's, such as custom labels.
            (slot @ Value::Object(_), Value::Object(value))
                if slot.as_object().is_some_and(|map| !map.is_empty()) =>
            {
                lay_over(slot, value, &format!("{path}{key}."))?;
            }
            (slot, value) => *slot = value,
        }
    }
    Ok(())
}

/// Tenants and their values; a name that stands twice is an error, where a map would keep the last.
#[derive(Default)]
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tenants to limits")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut pairs: Vec<(String, Value)> = Vec::new();
                while let Some(pair) = map
                    .next_entry()
                    .map_err(|e| A::Error::custom(format!("overrides: {e}")))?
                {
                    pairs.push(pair);
                }
                Ok(Entries(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteSize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        rate: f64,
        size: ByteSize,
        labels: HashMap<String, String>,
        read: Read,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Read {
        max_blocks: u64,
        max_series: u64,
    }

    impl Default for Limits {
        fn default() -> Self {
            Self {
                rate: 1.0,
                size: ByteSize::kib(1),
                labels: HashMap::new(),
                read: Read::default(),
            }
        }
    }

    /// The configured default, which is not the type's.
    fn configured() -> Limits {
        Limits {
            rate: 9.0,
            read: Read {
                max_blocks: 7,
                max_series: 8,
            },
            ..Limits::default()
        }
    }

    fn yaml(text: &str) -> Result<OverridesFile<Limits>> {
        OverridesFile::read(serde_norway::Deserializer::from_str(text), &configured())
    }

    #[test]
    fn an_entry_starts_from_the_configured_defaults() {
        let file = yaml(
            "overrides:\n  a:\n    size: 2MiB\n    read:\n      max_series: 1\n    labels: {x: y}\n  b:\n",
        )
        .unwrap();
        let a = &file.overrides[&TenantId::new("a").unwrap()];
        assert_eq!((a.rate, a.size), (9.0, ByteSize::mib(2)));
        assert_eq!((a.read.max_blocks, a.read.max_series), (7, 1));
        assert_eq!(a.labels["x"], "y");
        assert_eq!(file.overrides[&TenantId::new("b").unwrap()], configured());
        assert_eq!(yaml("").unwrap().overrides.len(), 0);
        assert_eq!(yaml("overrides:").unwrap().overrides.len(), 0);
    }

    #[test]
    fn merge_keys_stand_beneath_the_entry() {
        let text = "overrides:\n  a: &big\n    rate: 5\n    size: 1GB\n  b:\n    <<: *big\n    rate: 6\n  c:\n    <<: [*big]\n";
        let file = yaml(text).unwrap();
        let b = &file.overrides[&TenantId::new("b").unwrap()];
        assert_eq!((b.rate, b.size), (6.0, ByteSize::bytes(1_000_000_000)));
        assert_eq!(file.overrides[&TenantId::new("c").unwrap()].rate, 5.0);
    }

    #[test]
    fn faults_name_tenant_key_and_the_nearest() {
        for (text, wanted) in [
            (
                "overrides: {a: {rat: 1}}",
                "overrides of tenant a: unknown limit rat (did you mean \"rate\"?)",
            ),
            (
                "overrides: {a: {read: {max_serie: 1}}}",
                "unknown limit read.max_serie (did you mean \"max_series\"?)",
            ),
            (
                "overrides: {a: {size: 5XB}}",
                "tenant a: byte size \"5XB\" has an unknown unit",
            ),
            ("overrides: {a: 5}", "expected a map of limits, got 5"),
            ("overrides: {'a/b': {}}", "unsupported character"),
            ("overrides:\n  a: {}\n  a: {}\n", "twice"),
            ("overides: {}", "unknown field"),
            ("overrides: [", "overrides file"),
        ] {
            let error = yaml(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn json_is_read_too_and_applies_at_once() {
        let mut json = serde_json::Deserializer::from_str(r#"{"overrides":{"a":{"rate":2}}}"#);
        let file = OverridesFile::read(&mut json, &configured()).unwrap();
        let overrides = Overrides::fixed(Limits::default());
        file.apply(configured(), &overrides);
        assert_eq!(overrides.for_tenant(&TenantId::new("a").unwrap()).rate, 2.0);
        assert_eq!(overrides.for_tenant(&TenantId::new("b").unwrap()).rate, 9.0);
    }
}
