//! From what `-target` names to the modules that are made.

use lgtm_core::service::Targets;
use lgtm_core::{Error, Result};

use super::module::{Module, Signal};
use super::{logs, metrics, traces};

/// Every signal of this version.
const SIGNALS: [&Signal; 3] = [&metrics::SIGNAL, &logs::SIGNAL, &traces::SIGNAL];

/// The modules of a target (several, comma separated), those that others need first.
///
/// # Errors
/// `InvalidInput` for a name that nothing bears (names the nearest), and for a module that asks one that is not among them.
pub(crate) fn selected(target: &str) -> Result<Vec<&'static Module>> {
    let targets = catalog();
    let names = targets.resolve(target)?;
    let chosen = modules().filter(|m| names.contains(&m.name));
    let chosen: Vec<&Module> = chosen.collect();
    let Some((module, need)) = first_gap(&chosen) else {
        return Ok(chosen);
    };
    let missing = missing(&chosen);
    Err(Error::InvalidInput(format!(
        "target {target}: {module} asks {need}, which would not run here, and this version reaches no other process; run together what belongs together: -target={target},{}",
        missing.join(",")
    )))
}

fn modules() -> impl Iterator<Item = &'static Module> {
    SIGNALS.iter().flat_map(|signal| signal.modules)
}

/// Single modules, the groups of each signal, each signal, and the groups of all signals together.
fn catalog() -> Targets {
    let mut targets = Targets::new();
    for module in modules() {
        targets = targets.module(module.name, []);
    }
    for signal in SIGNALS {
        let mut own = Vec::new();
        for (group, members) in signal.groups {
            let name = format!("{}-{group}", signal.name);
            targets = targets.group(&name, members.iter().copied());
            own.push(name);
        }
        targets = targets.group(signal.name, own.iter().map(String::as_str));
    }
    for group in ["read", "write", "backend"] {
        let of_signals = SIGNALS.map(|signal| format!("{}-{group}", signal.name));
        targets = targets.group(group, of_signals.iter().map(String::as_str));
    }
    targets.group("all", SIGNALS.map(|signal| signal.name))
}

fn first_gap(chosen: &[&Module]) -> Option<(&'static str, &'static str)> {
    let is_here = |name: &str| chosen.iter().any(|m| m.name == name);
    chosen.iter().find_map(|module| {
        let need = module.needs.iter().find(|need| !is_here(need))?;
        Some((module.name, *need))
    })
}

/// All that would have to be named too.
fn missing(chosen: &[&Module]) -> Vec<&'static str> {
    let mut names: Vec<&str> = chosen.iter().map(|m| m.name).collect();
    let mut at = 0;
    while let Some(name) = names.get(at).copied() {
        let needs = modules().filter(|m| m.name == name).flat_map(|m| m.needs);
        for need in needs {
            if !names.contains(need) {
                names.push(need);
            }
        }
        at += 1;
    }
    names.split_off(chosen.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(target: &str) -> Vec<&'static str> {
        let modules = selected(target).unwrap_or_else(|e| panic!("{target}: {e}"));
        modules.iter().map(|m| m.name).collect()
    }

    #[test]
    fn a_module_stands_below_those_that_it_needs_and_in_a_group() {
        let all: Vec<&Module> = modules().collect();
        for (at, module) in all.iter().enumerate() {
            for need in module.needs {
                let above = all[..at].iter().any(|m| m.name == *need);
                assert!(above, "{} needs {need}", module.name);
            }
        }
        assert_eq!(names("all").len(), all.len(), "each is in a group");
        for signal in SIGNALS {
            let own = signal.modules.iter();
            let prefix = format!("{}-", signal.name);
            assert!(own.clone().all(|m| m.name.starts_with(&prefix)));
            assert_eq!(names(signal.name).len(), own.count());
        }
    }

    #[test]
    fn groups_and_lists_are_the_modules_that_they_name() {
        assert_eq!(
            names("metrics-write"),
            ["metrics-ingester", "metrics-distributor"]
        );
        assert_eq!(names("logs-write"), ["logs-ingester", "logs-distributor"]);
        let traces_write = ["traces-ingester", "traces-distributor"];
        assert_eq!(names("traces-write"), traces_write);
        let all_writes = "metrics-write,logs-write,traces-write";
        assert_eq!(names("write"), names(all_writes));
        assert_eq!(
            names("backend"),
            [
                "metrics-store-gateway",
                "metrics-compactor",
                "logs-index-gateway",
                "logs-compactor",
                "traces-store-gateway",
                "traces-compactor"
            ]
        );
        for signal in ["metrics", "logs", "traces"] {
            let groups = format!("{signal}-read,{signal}-write,{signal}-backend");
            assert_eq!(names(&groups), names(signal));
        }
        assert_eq!(names("metrics,logs,traces"), names("all"));
        assert_eq!(names("metrics-ingester"), ["metrics-ingester"]);
    }

    #[test]
    fn what_is_missing_is_told() {
        for (target, wanted) in [
            (
                "metrics-querier",
                "metrics-querier asks metrics-store-gateway, which would not run here",
            ),
            (
                "metrics-querier",
                "-target=metrics-querier,metrics-store-gateway,metrics-ingester",
            ),
            (
                "metrics-query-frontend",
                "-target=metrics-query-frontend,metrics-querier,metrics-store-gateway,metrics-ingester",
            ),
            ("metrics-distributor", "asks metrics-ingester"),
            (
                "read",
                "-target=read,metrics-store-gateway,metrics-ingester,logs-index-gateway,logs-ingester,traces-store-gateway,traces-ingester",
            ),
            (
                "logs-query-frontend",
                "-target=logs-query-frontend,logs-querier,logs-index-gateway,logs-ingester",
            ),
            ("metrics-ingestr", "did you mean \"metrics-ingester\"?"),
            ("everything", "unknown target"),
            ("", "names no module"),
        ] {
            let error = selected(target).unwrap_err().to_string();
            assert!(error.contains(wanted), "{target}: {error}");
        }
        let told = names("metrics-read,metrics-store-gateway,metrics-ingester");
        assert_eq!(told.len(), 4);
    }
}
