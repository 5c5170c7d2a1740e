//! The file in which operators write what differs for a tenant.
//!
//! ```yaml
//! overrides:
//!   team-a: &big
//!     metrics: {ingestion_rate: 50000}
//!   team-b:
//!     <<: *big
//!     metrics: {max_label_names_per_series: 60}
//! ```
//!
//! Limits stand below their signal. An entry starts from the configured defaults, not from zero: its keys are laid over them, nested
//! groups key by key. YAML's merge key `<<` works as in the peers' files, beneath the keys of the entry and of each of its signals.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::model::TenantId;
use crate::nearest::{did_you_mean, did_you_mean_path};

/// Merge keys inside of merge keys; anchors cannot be circular, so this only stops absurd files.
const MAX_MERGE_DEPTH: usize = 16;

/// What an overrides file says: for each tenant, by signal, the limits that differ, as they stand there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OverridesFile {
    tenants: BTreeMap<TenantId, Map<String, Value>>,
    /// What whoever wrote the file is to be told once it is in force.
    remarks: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    overrides: Option<Entries>,
}

impl OverridesFile {
    /// Reads a whole file with the one key `overrides`, from any self-describing serde format.
    ///
    /// # Errors
    /// `InvalidInput`: the file does not parse, a tenant stands twice or has an invalid id, an entry is no map. Names and values of signals
    /// and limits are looked at by [`OverridesFile::check_signals`] and [`OverridesFile::limits`].
    pub fn read<'de, D: Deserializer<'de>>(file: D) -> Result<Self> {
        let raw = Option::<Raw>::deserialize(file)
            .map_err(|e| Error::InvalidInput(format!("overrides file: {e}")))?;
        let entries = raw.unwrap_or_default().overrides.unwrap_or_default();
        Self::from_entries(entries.0)
    }

    /// As [`OverridesFile::read`], for a file that has other sections too: the tenants and their values, read by the caller.
    ///
    /// # Errors
    /// As [`OverridesFile::read`].
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Value)>) -> Result<Self> {
        let mut tenants = BTreeMap::new();
        for (name, entry) in entries {
            let tenant = TenantId::new(&name)?;
            let mut signals = Map::new();
            let entry = merged(entry, 1, MAX_MERGE_DEPTH);
            for (signal, limits) in entry.map_err(|e| faulty(&tenant, &e))? {
                // Whether it is a signal at all is not known here; what is no map waits until it is.
                let limits = if limits.is_object() || limits.is_null() {
                    let limits = merged(limits, 0, MAX_MERGE_DEPTH);
                    Value::Object(limits.map_err(|e| faulty(&tenant, &format!("{signal}: {e}")))?)
                } else {
                    limits
                };
                signals.insert(signal, limits);
            }
            if tenants.insert(tenant.clone(), signals).is_some() {
                return Err(faulty(&tenant, "tenant stands twice"));
            }
        }
        Ok(Self {
            tenants,
            remarks: Vec::new(),
        })
    }

    /// The same, with something to tell whoever wrote the file: it is logged when the file comes into force.
    #[must_use]
    pub fn remark(mut self, remark: impl Into<String>) -> Self {
        self.remarks.push(remark.into());
        self
    }

    /// What is to be told.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// This file with `over` laid over it: what both say of a tenant is as `over` says, limit by limit.
    #[must_use]
    pub fn overlaid(mut self, over: &Self) -> Self {
        self.remarks.extend(over.remarks.iter().cloned());
        for (tenant, signals) in &over.tenants {
            let mine = self.tenants.entry(tenant.clone()).or_default();
            for (signal, limits) in signals {
                match (mine.get_mut(signal), limits) {
                    (Some(Value::Object(mine)), Value::Object(limits)) => {
                        mine.extend(limits.clone());
                    }
                    _ => drop(mine.insert(signal.clone(), limits.clone())),
                }
            }
        }
        self
    }

    /// The whole limits of one signal, for each tenant of the file.
    ///
    /// `L` must serialize every field (no `skip_serializing_if`): that is how unknown keys are told.
    ///
    /// # Errors
    /// `InvalidInput`: a limit is unknown (names the nearest), a value does not fit. Nothing of a bad file is used.
    pub fn limits<L>(&self, signal: &str, default: &L) -> Result<HashMap<TenantId, L>>
    where
        L: Serialize + DeserializeOwned,
    {
        let default = as_json(default)?;
        let mut found = HashMap::new();
        for (tenant, signals) in &self.tenants {
            let mut value = default.clone();
            match signals.get(signal) {
                Some(Value::Object(limits)) => {
                    lay_over(&mut value, limits.clone(), &format!("{signal}."))
                        .map_err(|e| faulty(tenant, &e))?;
                }
                Some(other) => {
                    let why = format!("{signal}: expected a map of limits, got {other}");
                    return Err(faulty(tenant, &why));
                }
                None => {}
            }
            let limits = serde_json::from_value(value)
                .map_err(|e| faulty(tenant, &format!("{signal}: {e}")))?;
            found.insert(tenant.clone(), limits);
        }
        Ok(found)
    }

    /// Checks that every entry speaks of known signals only: the keys of `defaults`, each with the limits that it has.
    ///
    /// # Errors
    /// `InvalidInput`, naming the tenant and the nearest signal or limit.
    pub fn check_signals(&self, defaults: &Map<String, Value>) -> Result<()> {
        for (tenant, entry) in &self.tenants {
            if let Some(name) = entry.keys().find(|name| !defaults.contains_key(*name)) {
                let limits = defaults
                    .iter()
                    .filter_map(|(s, l)| Some((s, l.as_object()?)));
                let limits = limits.flat_map(|(s, l)| l.keys().map(move |l| format!("{s}.{l}")));
                let paths: Vec<String> = defaults.keys().cloned().chain(limits).collect();
                let near = did_you_mean_path(name, paths.iter().map(String::as_str));
                return Err(faulty(tenant, &format!("unknown signal {name}{near}")));
            }
        }
        Ok(())
    }
}

pub(super) fn as_json<L: Serialize>(limits: &L) -> Result<Value> {
    serde_json::to_value(limits)
        .map_err(|e| Error::Internal(format!("limits do not serialize: {e}")))
}

fn faulty(tenant: &TenantId, why: &str) -> Error {
    Error::InvalidInput(format!("overrides of tenant {tenant}: {why}"))
}

/// `entry` with its merge keys resolved; null is an empty map. Groups down to `groups` levels are merged key by key.
fn merged(entry: Value, groups: usize, depth: usize) -> Result<Map<String, Value>, String> {
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
        lay_beneath(&mut keys, merged(base, groups, depth - 1)?, groups);
    }
    Ok(keys)
}

fn lay_beneath(keys: &mut Map<String, Value>, base: Map<String, Value>, groups: usize) {
    for (key, value) in base {
        match (keys.get_mut(&key), value) {
            (None, value) => drop(keys.insert(key, value)),
            (Some(Value::Object(mine)), Value::Object(value)) if groups > 0 => {
                lay_beneath(mine, value, groups - 1);
            }
            (Some(_), _) => {}
        }
    }
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

    fn file(text: &str) -> Result<OverridesFile> {
        OverridesFile::read(serde_norway::Deserializer::from_str(text))
    }

    fn yaml(text: &str) -> Result<HashMap<TenantId, Limits>> {
        let file = file(text)?;
        let defaults = serde_json::json!({"m": configured(), "l": {}});
        file.check_signals(defaults.as_object().unwrap())?;
        file.limits("m", &configured())
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    #[test]
    fn an_entry_starts_from_the_configured_defaults() {
        let found = yaml(
            "overrides:\n  a:\n    m:\n      size: 2MiB\n      read: {max_series: 1}\n      labels: {x: y}\n  b:\n  c: {l: {x: 1}}\n",
        )
        .unwrap();
        let a = &found[&tenant("a")];
        assert_eq!((a.rate, a.size), (9.0, ByteSize::mib(2)));
        assert_eq!((a.read.max_blocks, a.read.max_series), (7, 1));
        assert_eq!(a.labels["x"], "y");
        assert_eq!(found[&tenant("b")], configured());
        assert_eq!(found[&tenant("c")], configured());
        assert_eq!(yaml("").unwrap().len(), 0);
        assert_eq!(yaml("overrides:").unwrap().len(), 0);
    }

    #[test]
    fn merge_keys_stand_beneath_the_entry() {
        let text = concat!(
            "overrides:\n  a: &big\n    m: &m {rate: 5, size: 1GB}\n",
            "  b:\n    <<: *big\n    m: {rate: 6}\n  c:\n    <<: [*big]\n  d: {m: {<<: *m, rate: 7}}\n",
        );
        let found = yaml(text).unwrap();
        for (name, rate) in [("a", 5.0), ("b", 6.0), ("c", 5.0), ("d", 7.0)] {
            let limits = &found[&tenant(name)];
            let wanted = (rate, ByteSize::bytes(1_000_000_000));
            assert_eq!((limits.rate, limits.size), wanted, "{name}");
        }
    }

    #[test]
    fn a_file_laid_over_another_changes_what_it_names() {
        let under = file("overrides: {a: {m: {rate: 1, size: 3KiB}}, b: {m: {rate: 2}}}").unwrap();
        let over = file("overrides: {a: {m: {rate: 4}, l: {x: 1}}, c: {m: {rate: 5}}}").unwrap();
        let found = under.overlaid(&over).limits("m", &configured()).unwrap();
        let a = &found[&tenant("a")];
        assert_eq!((a.rate, a.size), (4.0, ByteSize::kib(3)));
        assert_eq!(
            (found[&tenant("b")].rate, found[&tenant("c")].rate),
            (2.0, 5.0)
        );
    }

    #[test]
    fn faults_name_tenant_key_and_the_nearest() {
        for (text, wanted) in [
            (
                "overrides: {a: {m: {rat: 1}}}",
                "overrides of tenant a: unknown limit m.rat (did you mean \"rate\"?)",
            ),
            (
                "overrides: {a: {m: {read: {max_serie: 1}}}}",
                "unknown limit m.read.max_serie (did you mean \"max_series\"?)",
            ),
            (
                "overrides: {a: {mm: {rate: 1}}}",
                "tenant a: unknown signal mm (did you mean \"m\"?)",
            ),
            (
                "overrides: {a: {rte: 1}}",
                "tenant a: unknown signal rte (did you mean \"m.rate\"?)",
            ),
            (
                "overrides: {a: {m: {size: 5XB}}}",
                "tenant a: m: byte size \"5XB\" has an unknown unit",
            ),
            ("overrides: {a: 5}", "expected a map of limits, got 5"),
            (
                "overrides: {a: {m: 5}}",
                "m: expected a map of limits, got 5",
            ),
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
    fn json_is_read_too() {
        let mut json =
            serde_json::Deserializer::from_str(r#"{"overrides":{"a":{"m":{"rate":2}}}}"#);
        let found = OverridesFile::read(&mut json).unwrap();
        let found = found.limits("m", &configured()).unwrap();
        assert_eq!(found[&tenant("a")].rate, 2.0);
    }
}
