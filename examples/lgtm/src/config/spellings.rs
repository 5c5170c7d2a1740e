//! Settings as they were spelled before they stood below their signal: they are taken as those of metrics.
//!
//! `limits.max_x` is `limits.metrics.max_x`, in the overrides of tenants likewise, and `querier` is `metrics.querier`. A name is old when
//! nothing has it any more where it stands and metrics have it one step below.

use lgtm_core::{Error, Result};
use serde_norway::{Mapping, Value};

use super::config::Config;

const SIGNAL: &str = "metrics";

/// Finds old spellings, and remembers which.
pub(super) struct OldSpellings {
    /// Sections of the top, and those of the signal.
    sections: [Mapping; 2],
    /// Signals that have limits, and the limits of the signal.
    limits: [Mapping; 2],
    /// Old paths with their new ones.
    found: Vec<(String, String)>,
}

impl OldSpellings {
    pub(super) fn new() -> Result<Self> {
        let known = Config::known()?;
        let below = |path: &[&str]| {
            let mut at = Some(&known);
            for name in path {
                at = at.and_then(|v| v.get(*name));
            }
            at.and_then(Value::as_mapping).cloned().unwrap_or_default()
        };
        Ok(Self {
            sections: [below(&[]), below(&[SIGNAL])],
            limits: [below(&["limits"]), below(&["limits", SIGNAL])],
            found: Vec::new(),
        })
    }

    /// The path of a flag as it is spelled now.
    pub(super) fn path(&mut self, path: &str) -> String {
        let parts: Vec<&str> = path.split('.').collect();
        let (depth, known) = match parts[..] {
            ["limits", _, ..] => (1, &self.limits),
            ["overrides", _, _, ..] => (2, &self.limits),
            _ => (0, &self.sections),
        };
        if !is_old(parts[depth], known) {
            return path.to_owned();
        }
        let (before, after) = parts.split_at(depth);
        let new = [before, &[SIGNAL], after].concat().join(".");
        self.found.push((path.to_owned(), new.clone()));
        new
    }

    /// Moves what is spelled as it was below its signal.
    ///
    /// # Errors
    /// `InvalidInput` for a setting that stands twice, in both spellings.
    pub(super) fn nest(&mut self, asked: &mut Value) -> Result<()> {
        let known = self.sections.clone();
        self.nest_names(asked, &known, "")?;
        if let Some(limits) = asked.get_mut("limits") {
            let known = self.limits.clone();
            self.nest_names(limits, &known, "limits.")?;
        }
        self.nest_overrides(asked)
    }

    /// As [`OldSpellings::nest`], for the section `overrides` alone.
    ///
    /// # Errors
    /// As [`OldSpellings::nest`].
    pub(super) fn nest_overrides(&mut self, asked: &mut Value) -> Result<()> {
        let Some(Value::Mapping(tenants)) = asked.get_mut("overrides") else {
            return Ok(());
        };
        for (tenant, entry) in tenants.iter_mut() {
            let at = format!("overrides.{}.", tenant.as_str().unwrap_or_default());
            self.nest_entry(entry, &at)?;
        }
        Ok(())
    }

    /// One line that names the new spellings of all that were found.
    pub(super) fn warning(self) -> Option<String> {
        if self.found.is_empty() {
            return None;
        }
        /// Files of overrides may have thousands.
        const NAMED: usize = 20;
        let named = self.found.iter().take(NAMED);
        let named: Vec<_> = named
            .map(|(old, new)| format!("{old} is now {new}"))
            .collect();
        let more = match self.found.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        Some(format!(
            "settings stand below their signal, and the old spellings will go: {}{more}",
            named.join(", ")
        ))
    }

    /// An entry and the bases that its merge key names.
    fn nest_entry(&mut self, entry: &mut Value, at: &str) -> Result<()> {
        match entry.get_mut("<<") {
            Some(Value::Sequence(bases)) => {
                for base in bases {
                    self.nest_entry(base, at)?;
                }
            }
            Some(base) => self.nest_entry(base, at)?,
            None => {}
        }
        let known = self.limits.clone();
        self.nest_names(entry, &known, at)
    }

    fn nest_names(&mut self, section: &mut Value, known: &[Mapping; 2], at: &str) -> Result<()> {
        let Value::Mapping(section) = section else {
            return Ok(());
        };
        let names = section.keys().filter_map(Value::as_str);
        let old: Vec<String> = names
            .filter(|n| is_old(n, known))
            .map(str::to_owned)
            .collect();
        for name in old {
            let Some(value) = section.remove(&name) else {
                continue;
            };
            let new = format!("{at}{SIGNAL}.{name}");
            let below = section
                .entry(SIGNAL.into())
                .or_insert_with(|| Value::Mapping(Mapping::new()));
            if below.is_null() {
                *below = Value::Mapping(Mapping::new());
            }
            let Value::Mapping(below) = below else {
                return Err(Error::InvalidInput(format!("{at}{SIGNAL} is no section")));
            };
            join(below, name.clone().into(), value, &new)?;
            self.found.push((format!("{at}{name}"), new));
        }
        Ok(())
    }
}

/// Whether `name` stands nowhere but one step below.
fn is_old(name: &str, [here, below]: &[Mapping; 2]) -> bool {
    !here.contains_key(name) && below.contains_key(name)
}

/// Puts a value beside those that are there, section by section.
fn join(into: &mut Mapping, name: Value, value: Value, path: &str) -> Result<()> {
    match (into.get_mut(&name), value) {
        (None, value) => drop(into.insert(name, value)),
        (Some(Value::Mapping(into)), Value::Mapping(values)) => {
            for (name, value) in values {
                let path = format!("{path}.{}", name.as_str().unwrap_or_default());
                join(into, name, value, &path)?;
            }
        }
        (Some(_), _) => {
            return Err(Error::InvalidInput(format!(
                "setting {path} stands twice, once in its old spelling"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(text: &str) -> Result<(Value, Option<String>)> {
        let mut asked = serde_norway::from_str(text).unwrap();
        let mut old = OldSpellings::new()?;
        old.nest(&mut asked)?;
        Ok((asked, old.warning()))
    }

    #[test]
    fn old_spellings_of_files_are_those_of_metrics() {
        let old = "querier: {timeout: 1s}\nlimits: {ingestion_rate: 5}\noverrides: {a: {ingestion_rate: 6}}\ningester: {flush_on_shutdown: true}";
        let new = "metrics: {querier: {timeout: 1s}, ingester: {flush_on_shutdown: true}}\nlimits: {metrics: {ingestion_rate: 5}}\noverrides: {a: {metrics: {ingestion_rate: 6}}}";
        let (found, warning) = nested(old).unwrap();
        let (wanted, none) = nested(new).unwrap();
        assert_eq!(found, wanted);
        assert_eq!(none, None);
        let warning = warning.unwrap();
        for part in [
            "querier is now metrics.querier",
            "limits.ingestion_rate is now limits.metrics.ingestion_rate",
            "overrides.a.ingestion_rate is now overrides.a.metrics.ingestion_rate",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(warning.lines().count(), 1);
    }

    #[test]
    fn both_spellings_may_stand_in_one_file_but_not_of_one_setting() {
        let text = "ingester: {head: {max_series: 1}}\nmetrics: {ingester: {head: {flush_concurrency: 3}}}";
        let (found, _) = nested(text).unwrap();
        let head = &found["metrics"]["ingester"]["head"];
        assert_eq!(
            (
                head["max_series"].as_u64(),
                head["flush_concurrency"].as_u64()
            ),
            (Some(1), Some(3))
        );
        let error = nested("limits: {ingestion_rate: 1, metrics: {ingestion_rate: 1}}");
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("limits.metrics.ingestion_rate stands twice"),
            "{error}"
        );
    }

    #[test]
    fn old_paths_of_flags_get_their_signal() {
        let mut old = OldSpellings::new().unwrap();
        for (path, wanted) in [
            ("limits.ingestion_rate", "limits.metrics.ingestion_rate"),
            (
                "overrides.a.ingestion_rate",
                "overrides.a.metrics.ingestion_rate",
            ),
            (
                "ingester.head.max_series",
                "metrics.ingester.head.max_series",
            ),
            (
                "limits.metrics.ingestion_rate",
                "limits.metrics.ingestion_rate",
            ),
            ("metrics.querier.timeout", "metrics.querier.timeout"),
            ("server.http_listen_port", "server.http_listen_port"),
            ("limits.nothing", "limits.nothing"),
            ("limits", "limits"),
        ] {
            assert_eq!(old.path(path), wanted);
        }
        assert_eq!(old.found.len(), 3);
    }
}
