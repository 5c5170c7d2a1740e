//! From what `-target` names to the modules that are made.

use lgtm_core::service::Targets;
use lgtm_core::{Error, Result};

use super::module::{Module, Signal};
use super::{logs, metrics, traces};

/// Every signal of this version.
const SIGNALS: [&Signal; 3] = [&metrics::SIGNAL, &logs::SIGNAL, &traces::SIGNAL];

/// Whether there may be other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// This process is all there is.
    Alone,
    /// Others are found by rings.
    Cluster,
}

/// The modules of a target (several, comma separated). In a cluster, what a ring finds elsewhere need not be made here, and what it does not find is
/// made beside who asks it.
///
/// # Errors
/// `InvalidInput` for a name that nothing bears (names the nearest), and for a module that asks one that is not among them.
pub(crate) fn selected(target: &str, spread: Spread) -> Result<Vec<&'static Module>> {
    let targets = catalog();
    let names = targets.resolve(target)?;
    if spread == Spread::Cluster {
        return Ok(in_cluster(&names));
    }
    let chosen = modules().filter(|m| names.contains(&m.name));
    let chosen: Vec<&Module> = chosen.collect();
    let Some((module, need)) = first_gap(&chosen) else {
        return Ok(chosen);
    };
    let missing = missing(&chosen);
    Err(Error::InvalidInput(format!(
        "target {target}: {module} asks {need}, which would not run here, and without a ring (-ring.kvstore) no other process is reached; run together what belongs together: -target={target},{}",
        missing.join(",")
    )))
}

fn in_cluster(names: &[&str]) -> Vec<&'static Module> {
    let named = modules().map(|m| m.name).filter(|n| names.contains(n));
    let mut wanted: Vec<&str> = named.collect();
    let mut at = 0;
    while let Some(name) = wanted.get(at).copied() {
        at += 1;
        let needs = modules().filter(|m| m.name == name).flat_map(|m| m.needs);
        for need in needs {
            let by_ring = modules().any(|m| m.name == *need && m.by_ring);
            if !by_ring && !wanted.contains(need) {
                wanted.push(need);
            }
        }
    }
    modules().filter(|m| wanted.contains(&m.name)).collect()
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
        let all = selected(target, Spread::Alone).unwrap_or_else(|e| panic!("{target}: {e}"));
        all.iter().map(|m| m.name).collect()
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
    fn in_a_cluster_what_a_ring_finds_is_not_made_beside_who_asks_it() {
        let names = |target: &str| -> Vec<&str> {
            let all = selected(target, Spread::Cluster).unwrap();
            all.iter().map(|m| m.name).collect()
        };
        let read = ["metrics-querier", "metrics-query-frontend"];
        for target in ["metrics-read", "metrics-query-frontend"] {
            assert_eq!(names(target), read, "{target}");
        }
        let logs = ["logs-querier", "logs-query-frontend"];
        assert_eq!(names("logs-read"), logs);
        // Whoever asks blocks of traces reads them.
        let traces = [
            "traces-store-gateway",
            "traces-querier",
            "traces-query-frontend",
        ];
        for target in ["traces-read", "traces-query-frontend"] {
            assert_eq!(names(target), traces, "{target}");
        }
        assert_eq!(names("traces-querier"), traces[..2]);
        assert_eq!(names("read"), [&read[..], &logs, &traces].concat());
        for target in [
            "metrics-distributor",
            "metrics-ingester",
            "metrics-querier",
            "metrics-store-gateway",
            "metrics-compactor",
            "logs-distributor",
            "logs-ingester",
            "logs-querier",
            "logs-index-gateway",
            "logs-compactor",
            "traces-distributor",
            "traces-ingester",
            "traces-compactor",
        ] {
            assert_eq!(names(target), [target]);
        }
        assert_eq!(names("all").len(), 18);
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
                "-target=read,metrics-store-gateway,metrics-ingester,logs-index-gateway,logs-ingester,traces-ingester",
            ),
            (
                "logs-query-frontend",
                "-target=logs-query-frontend,logs-querier,logs-index-gateway,logs-ingester",
            ),
            ("metrics-ingestr", "did you mean \"metrics-ingester\"?"),
            ("everything", "unknown target"),
            ("", "names no module"),
        ] {
            let error = selected(target, Spread::Alone).unwrap_err().to_string();
            assert!(error.contains(wanted), "{target}: {error}");
        }
        let told = names("metrics-read,metrics-store-gateway,metrics-ingester");
        assert_eq!(told.len(), 4);
    }
}
