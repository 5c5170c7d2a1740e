//! Which index files of a table are joined.

use std::collections::{BTreeMap, BTreeSet};

use lgtm_core::model::TenantId;

/// An index file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFile {
    /// In the bucket.
    pub path: String,
    /// Whose it is; `None`: of several tenants.
    pub tenant: Option<TenantId>,
    /// Bytes as it is stored.
    pub size_bytes: u64,
}

/// When files are joined, and how many at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactRules {
    /// Files that a table of several tenants, or of one, must have grown by before it is looked at while its day lasts.
    pub min_files: usize,
    /// Files that are joined at once.
    pub max_files: usize,
    /// Bytes of files, as they are stored, that are joined at once; two are always.
    pub max_bytes: u64,
}

/// What is to be joined in a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TablePlan {
    /// Files of several tenants, all of whose tenants are part of it.
    pub shared: Vec<String>,
    /// Files of one tenant: joined with what the shared ones have of it, or, of tenants that are not in these, with each other.
    pub own: BTreeMap<TenantId, Vec<String>>,
}

/// Whether the day of a table may still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableAge {
    /// It is today's, or late data may still come.
    Growing,
    /// It is over.
    Settled,
}

/// Plans a table. `superseded` are files that others hold the contents of already. `None`: there is nothing to do.
pub fn plan(
    files: &[TableFile],
    superseded: &BTreeSet<String>,
    age: TableAge,
    rules: &CompactRules,
) -> Option<TablePlan> {
    let live = || files.iter().filter(|f| !superseded.contains(&f.path));
    let shared: Vec<&TableFile> = live().filter(|f| f.tenant.is_none()).collect();
    let mut own: BTreeMap<&TenantId, Vec<&TableFile>> = BTreeMap::new();
    for file in live() {
        if let Some(tenant) = &file.tenant {
            own.entry(tenant).or_default().push(file);
        }
    }
    let min = match age {
        TableAge::Growing => rules.min_files.max(1),
        TableAge::Settled => 1,
    };
    let joins_shared = shared.len() >= min;
    let mut plan = TablePlan::default();
    if joins_shared {
        plan.shared = some_of(shared, rules, 1);
    }
    for (tenant, files) in own {
        // Beside a shared file one's own is joined anyhow, if the tenant is in it.
        if joins_shared || files.len() > min {
            let some = some_of(files, rules, 2);
            plan.own.insert(tenant.clone(), some);
        }
    }
    if plan.shared.is_empty() {
        plan.own.retain(|_, files| files.len() > 1);
    }
    (!plan.shared.is_empty() || !plan.own.is_empty()).then_some(plan)
}

/// The first files, as many as may be joined at once, but `least`.
fn some_of(files: Vec<&TableFile>, rules: &CompactRules, least: usize) -> Vec<String> {
    let (mut bytes, mut out) = (0, Vec::new());
    for file in files {
        bytes += file.size_bytes;
        let is_too_much = out.len() >= rules.max_files || bytes > rules.max_bytes;
        if is_too_much && out.len() >= least {
            break;
        }
        out.push(file.path.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CompactRules = CompactRules {
        min_files: 3,
        max_files: 4,
        max_bytes: 1000,
    };

    fn file(path: &str, size_bytes: u64) -> TableFile {
        let tenant = path.split_once('/').map(|(t, _)| TenantId::new(t).unwrap());
        TableFile {
            path: path.into(),
            tenant,
            size_bytes,
        }
    }

    fn planned(paths: &[&str], superseded: &[&str], age: TableAge) -> String {
        let files: Vec<_> = paths.iter().map(|p| file(p, 10)).collect();
        let superseded = superseded.iter().map(|p| (*p).to_owned()).collect();
        match plan(&files, &superseded, age, &RULES) {
            None => "-".into(),
            Some(plan) => {
                let own: Vec<String> = plan.own.values().map(|f| f.join(" ")).collect();
                format!("{} | {}", plan.shared.join(" "), own.join(", "))
            }
        }
    }

    #[test]
    fn a_table_is_joined_when_it_has_grown_or_is_over() {
        use TableAge::{Growing, Settled};
        for (paths, age, wanted) in [
            (&["1", "2"][..], Growing, "-"),
            (&["1", "2", "3"], Growing, "1 2 3 | "),
            (&["1"], Settled, "1 | "),
            (&["a/1"], Settled, "-"),
            (&["a/1", "b/1"], Settled, "-"),
            (&["a/1", "a/2", "b/1"], Settled, " | a/1 a/2"),
            (&["a/1", "a/2", "a/3"], Growing, "-"),
            (&["a/1", "a/2", "a/3", "a/4"], Growing, " | a/1 a/2 a/3 a/4"),
            (&["1", "2", "3", "a/1", "b/1"], Growing, "1 2 3 | a/1, b/1"),
            (&["1", "a/1", "a/2"], Growing, "-"),
            (&["1", "2", "3", "4", "5"], Settled, "1 2 3 4 | "),
            (&[], Settled, "-"),
        ] {
            assert_eq!(planned(paths, &[], age), wanted, "{paths:?}");
        }
    }

    #[test]
    fn what_is_superseded_is_left_alone() {
        let paths = ["1", "2", "3", "a/1"];
        assert_eq!(planned(&paths, &["1", "2", "3"], TableAge::Settled), "-");
        let paths = ["1", "2", "a/1", "a/2"];
        assert_eq!(planned(&paths, &["1", "a/1"], TableAge::Settled), "2 | a/2");
    }

    #[test]
    fn large_files_are_joined_by_twos() {
        let files = [file("a/1", 900), file("a/2", 900), file("a/3", 900)];
        let plan = plan(&files, &BTreeSet::new(), TableAge::Settled, &RULES).unwrap();
        assert_eq!(plan.own.values().next().unwrap().len(), 2);
        let files = [file("1", 5000), file("2", 1)];
        let plan = super::plan(&files, &BTreeSet::new(), TableAge::Settled, &RULES).unwrap();
        assert_eq!(plan.shared, ["1"]);
    }
}
