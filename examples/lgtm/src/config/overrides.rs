//! Limits of single tenants: those that stand in the settings, and those of the file that is read again while the process runs.

use std::collections::BTreeMap;

use lgtm_core::limits::OverridesFile;
use lgtm_core::{Error, Result};
use serde_norway::Value;

use super::spellings::OldSpellings;
use super::yaml;

/// What the section `overrides` of the settings says.
///
/// # Errors
/// `InvalidInput` for an entry that is no map of signals.
pub(super) fn from_settings(entries: &BTreeMap<String, Value>) -> Result<OverridesFile> {
    let json = |(tenant, entry): (&String, &Value)| {
        let entry = serde_norway::from_value(entry.clone());
        let bad = |e| Error::InvalidInput(format!("overrides of tenant {tenant}: {e}"));
        Ok((tenant.clone(), entry.map_err(bad)?))
    };
    OverridesFile::from_entries(entries.iter().map(json).collect::<Result<Vec<_>>>()?)
}

/// Reads the text of an overrides file.
///
/// # Errors
/// `InvalidInput` for what is no YAML and no overrides.
pub(super) fn read(text: &str) -> Result<OverridesFile> {
    let mut file = yaml::parse("overrides file", text)?;
    let mut old = OldSpellings::new()?;
    old.nest_overrides(&mut file)?;
    let file = OverridesFile::read(file)?;
    Ok(match old.warning() {
        Some(warning) => file.remark(warning),
        None => file,
    })
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::TenantId;
    use lgtm_tsdb::limits::Limits;

    use super::*;

    fn limits_of_a(text: &str) -> Result<Limits> {
        let default = Limits {
            max_label_names_per_series: 5,
            ..Limits::default()
        };
        let mut found = read(text)?.limits("metrics", &default)?;
        Ok(found.remove(&TenantId::new("a").unwrap()).unwrap())
    }

    #[test]
    fn a_tenants_limits_begin_with_the_defaults() {
        for text in [
            "overrides: {a: {metrics: {max_label_value_length: 7}}}",
            // As they were spelled before they stood below their signal.
            "overrides: {a: {max_label_value_length: 7}}",
            "overrides: {b: &b {max_label_value_length: 7}, a: {<<: *b}}",
            "overrides: {b: &b {max_label_value_length: 7}, a: {<<: [*b], metrics: {ingestion_rate: 1}}}",
        ] {
            let limits = limits_of_a(text).unwrap();
            let found = (
                limits.max_label_names_per_series,
                limits.max_label_value_length,
            );
            assert_eq!(found, (5, 7), "{text}");
        }
        let twice = "overrides: {a: {ingestion_rate: 1, metrics: {ingestion_rate: 2}}}";
        let error = limits_of_a(twice).unwrap_err().to_string();
        assert!(
            error.contains("overrides.a.metrics.ingestion_rate"),
            "{error}"
        );
        assert!(read("overrides: 5").is_err() && read("[").is_err() && read("x: {}").is_err());
    }
}
