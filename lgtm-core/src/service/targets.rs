//! From the names that an operator gives to the modules that a process starts.
//!
//! A module is a name with dependencies; a target is a module, a group of targets, or several of them, comma separated. Nothing here
//! knows any module: the host fills the catalog, this file only computes.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::service::graph::Graph;

/// The modules and groups of a host.
///
/// ```
/// use lgtm_core::service::Targets;
///
/// let targets = Targets::new()
///     .module("ring", [])
///     .module("metrics-ingester", ["ring"])
///     .module("metrics-querier", ["ring"])
///     .group("metrics-write", ["metrics-ingester"])
///     .group("all", ["metrics-write", "metrics-querier"]);
/// assert_eq!(targets.resolve("metrics-write")?, ["ring", "metrics-ingester"]);
/// assert_eq!(targets.resolve("all")?.len(), 3);
/// # Ok::<(), lgtm_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Targets {
    modules: Graph,
    groups: BTreeMap<String, Vec<String>>,
    faults: Vec<String>,
}

impl Targets {
    /// An empty catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a module and the modules that it needs.
    #[must_use]
    pub fn module<'a>(mut self, name: &str, depends_on: impl IntoIterator<Item = &'a str>) -> Self {
        let depends_on = depends_on.into_iter().map(str::to_owned).collect();
        let taken = self.groups.contains_key(name);
        if taken || !self.modules.add(name.to_owned(), depends_on) {
            self.faults.push(format!("target {name} is defined twice"));
        }
        self
    }

    /// Adds a group of modules or of other groups.
    #[must_use]
    pub fn group<'a>(mut self, name: &str, members: impl IntoIterator<Item = &'a str>) -> Self {
        let members = members.into_iter().map(str::to_owned).collect();
        let taken = self.modules.contains(name);
        if taken || self.groups.insert(name.to_owned(), members).is_some() {
            self.faults.push(format!("target {name} is defined twice"));
        }
        self
    }

    /// All names that may be given: modules and groups.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.modules
            .names()
            .chain(self.groups.keys().map(String::as_str))
    }

    /// The modules to start for `targets` (comma separated), dependencies first.
    ///
    /// # Errors
    /// `InvalidInput` for a name that does not exist (the message says the nearest), an empty list, a cycle, a name defined twice.
    pub fn resolve(&self, targets: &str) -> Result<Vec<&str>> {
        if let Some(fault) = self.faults.first() {
            return Err(Error::InvalidInput(fault.clone()));
        }
        let mut wanted = Vec::new();
        for name in targets.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            self.expand(name, &mut Vec::new(), &mut wanted)?;
        }
        if wanted.is_empty() {
            return Err(Error::InvalidInput(format!(
                "target list {targets:?} names no module"
            )));
        }
        self.modules.order(wanted.into_iter())
    }

    fn expand<'a>(
        &'a self,
        name: &str,
        path: &mut Vec<&'a str>,
        wanted: &mut Vec<&'a str>,
    ) -> Result<()> {
        if let Some(module) = self.modules.names().find(|&module| module == name) {
            wanted.push(module);
            return Ok(());
        }
        let Some((group, members)) = self.groups.get_key_value(name) else {
            return Err(Error::InvalidInput(format!(
                "unknown target {name:?}{}",
                did_you_mean(name, self.names())
            )));
        };
        // The path cannot grow past the number of groups.
        if path.contains(&group.as_str()) {
            return Err(Error::InvalidInput(format!(
                "target group {group} holds itself"
            )));
        }
        path.push(group);
        for member in members {
            self.expand(member, path, wanted)?;
        }
        path.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Targets {
        Targets::new()
            .module("server", [])
            .module("ring", ["server"])
            .module("metrics-distributor", ["ring"])
            .module("metrics-ingester", ["ring"])
            .module("metrics-querier", ["ring"])
            .module("logs-ingester", ["ring"])
            .group("metrics-write", ["metrics-distributor", "metrics-ingester"])
            .group("metrics-read", ["metrics-querier"])
            .group("write", ["metrics-write", "logs-ingester"])
            .group("metrics", ["metrics-read", "metrics-write"])
            .group("all", ["metrics", "write"])
    }

    #[test]
    fn groups_expand_with_their_dependencies_first() {
        let c = catalog();
        assert_eq!(
            c.resolve("metrics-write").unwrap(),
            ["server", "ring", "metrics-distributor", "metrics-ingester"]
        );
        assert_eq!(c.resolve("all").unwrap().len(), 6);
        assert_eq!(
            c.resolve(" metrics-read , logs-ingester,logs-ingester")
                .unwrap(),
            ["server", "ring", "metrics-querier", "logs-ingester"]
        );
    }

    #[test]
    fn an_unknown_target_names_the_nearest() {
        let error = catalog().resolve("metrics-ingestor").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown target \"metrics-ingestor\" (did you mean \"metrics-ingester\"?)"
        );
        assert!(catalog().resolve(" , ").is_err());
    }

    #[test]
    fn faults_of_the_catalog_are_errors() {
        let twice = catalog().module("ring", []);
        assert!(twice.resolve("all").is_err());
        let shadow = catalog().group("ring", []);
        assert!(shadow.resolve("all").is_err());
        let circle = catalog().group("a", ["b"]).group("b", ["a"]);
        let error = circle.resolve("a").unwrap_err().to_string();
        assert_eq!(error, "target group a holds itself");
        let stray = catalog().module("x", ["rong"]);
        assert!(stray.resolve("x").unwrap_err().to_string().contains("ring"));
    }
}
