//! Dependencies between named things.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::nearest::did_you_mean;

/// Names and what each depends on. Pure; used for services and for modules.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    edges: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Open,
    Done,
}

impl Graph {
    /// Adds a name; false if it is already there.
    pub(super) fn add(&mut self, name: String, depends_on: Vec<String>) -> bool {
        if self.edges.contains_key(&name) {
            return false;
        }
        self.edges.insert(name, depends_on);
        true
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.edges.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.edges.keys().map(String::as_str)
    }

    /// `roots` and all they depend on, dependencies first; otherwise by name, so that the order is always the same.
    ///
    /// # Errors
    /// `InvalidInput` for a dependency that does not exist and for a cycle, which is spelled out.
    pub(super) fn order<'a>(
        &'a self,
        roots: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<&'a str>> {
        let mut marks = BTreeMap::new();
        let mut order = Vec::new();
        for root in roots {
            self.visit(root, &mut marks, &mut order)?;
        }
        Ok(order)
    }

    /// Depth first, with its own stack: names come from outside.
    fn visit<'a>(
        &'a self,
        root: &'a str,
        marks: &mut BTreeMap<&'a str, Mark>,
        order: &mut Vec<&'a str>,
    ) -> Result<()> {
        if marks.contains_key(root) {
            return Ok(());
        }
        let mut path = vec![(root, self.edges[root].iter())];
        marks.insert(root, Mark::Open);
        while let Some((name, rest)) = path.last_mut() {
            let Some(next) = rest.next() else {
                marks.insert(name, Mark::Done);
                order.push(*name);
                path.pop();
                continue;
            };
            let Some(edges) = self.edges.get(next) else {
                return Err(Error::InvalidInput(format!(
                    "{name} depends on {next}, which does not exist{}",
                    did_you_mean(next, self.names())
                )));
            };
            match marks.get(next.as_str()) {
                Some(Mark::Done) => {}
                Some(Mark::Open) => return Err(cycle(path.iter().map(|(name, _)| *name), next)),
                None => {
                    marks.insert(next, Mark::Open);
                    path.push((next, edges.iter()));
                }
            }
        }
        Ok(())
    }
}

fn cycle<'a>(path: impl Iterator<Item = &'a str>, back_to: &str) -> Error {
    let mut names: Vec<_> = path.skip_while(|&name| name != back_to).collect();
    names.push(back_to);
    Error::InvalidInput(format!("dependencies form a cycle: {}", names.join(" -> ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let mut graph = Graph::default();
        for (name, deps) in edges {
            assert!(graph.add((*name).into(), deps.iter().map(|d| (*d).into()).collect()));
        }
        graph
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let g = graph(&[
            ("a", &["c", "b"]),
            ("b", &["d"]),
            ("c", &["d"]),
            ("d", &[]),
            ("e", &[]),
        ]);
        assert_eq!(g.order(["a"].into_iter()).unwrap(), ["d", "c", "b", "a"]);
        assert_eq!(g.order(g.names()).unwrap().len(), 5);
    }

    #[test]
    fn a_cycle_is_spelled_out() {
        let g = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]);
        let error = g.order(["a"].into_iter()).unwrap_err().to_string();
        assert_eq!(error, "dependencies form a cycle: b -> c -> b");
        let g = graph(&[("a", &["a"])]);
        assert!(g.order(["a"].into_iter()).is_err());
    }

    #[test]
    fn an_unknown_dependency_names_the_nearest() {
        let g = graph(&[("querier", &["ingestr"]), ("ingester", &[])]);
        let error = g.order(g.names()).unwrap_err().to_string();
        assert_eq!(
            error,
            "querier depends on ingestr, which does not exist (did you mean \"ingester\"?)"
        );
    }
}
