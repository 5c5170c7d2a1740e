//! What a query of several tenants asks each of them, and how their answers are told apart.

use super::labels::{LabelBuilder, Labels};
use super::matcher::Matcher;
use super::tenant::TenantId;
use crate::error::Result;

/// The label that names the tenant of a series or stream in the answer to a query of several.
pub const TENANT_LABEL: &str = "__tenant_id__";
/// What a label of that name is called there.
const ORIGINAL_LABEL: &str = "original___tenant_id__";

/// The tenants of an id that pass the matchers on [`TENANT_LABEL`], and the other matchers, as the tenants' own data know their labels.
pub fn tenants_asked(tenant: &TenantId, matchers: &[Matcher]) -> (Vec<TenantId>, Vec<Matcher>) {
    let (chosen, asked): (Vec<&Matcher>, Vec<&Matcher>) =
        matchers.iter().partition(|m| m.name() == TENANT_LABEL);
    let passes = |t: &TenantId| chosen.iter().all(|m| m.matches(t.as_str()));
    let tenants = tenant.parts().filter(passes).collect();
    let asked = asked.into_iter().map(|m| match m.name() {
        ORIGINAL_LABEL => m.renamed(TENANT_LABEL),
        _ => m.clone(),
    });
    (tenants, asked.collect())
}

/// The labels of a series or stream with its tenant's name.
///
/// # Errors
/// `InvalidInput` if the labels become too large.
pub fn labels_with_tenant(labels: &Labels, tenant: &TenantId) -> Result<Labels> {
    let mut out = LabelBuilder::from_labels(labels);
    if let Some(original) = labels.get(TENANT_LABEL) {
        out.set(ORIGINAL_LABEL, original);
    }
    out.set(TENANT_LABEL, tenant.as_str()).build()
}

/// The name that a label of a tenant's data has in the answer to a query of several.
pub fn federated_name(name: &str) -> &str {
    if name == TENANT_LABEL {
        ORIGINAL_LABEL
    } else {
        name
    }
}

/// The name that a label of such an answer has in a tenant's data; `None` for [`TENANT_LABEL`], which is in nobody's.
pub fn tenants_name(name: &str) -> Option<&str> {
    match name {
        TENANT_LABEL => None,
        ORIGINAL_LABEL => Some(TENANT_LABEL),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(id: &str) -> TenantId {
        TenantId::new(id).unwrap()
    }

    #[test]
    fn matchers_on_the_tenant_choose_whom_to_ask() {
        let all = TenantId::joined(["a", "b", "c"].map(tenant)).unwrap();
        let app = Matcher::equal("app", "x");
        let own = Matcher::equal(ORIGINAL_LABEL, "y");
        let not_b = Matcher::new(crate::model::MatchOp::NotEqual, TENANT_LABEL, "b").unwrap();
        let (tenants, asked) = tenants_asked(&all, &[app.clone(), not_b, own]);
        assert_eq!(tenants, ["a", "c"].map(tenant));
        assert_eq!(asked, [app, Matcher::equal(TENANT_LABEL, "y")]);
        let (tenants, _) = tenants_asked(&all, &[Matcher::equal(TENANT_LABEL, "d")]);
        assert!(tenants.is_empty());
    }

    #[test]
    fn series_are_told_apart_by_tenant_and_keep_what_they_had() {
        let labels = Labels::from_pairs([("app", "x"), (TENANT_LABEL, "mine")]).unwrap();
        let seen = labels_with_tenant(&labels, &tenant("a")).unwrap();
        let wanted = [(TENANT_LABEL, "a"), ("app", "x"), (ORIGINAL_LABEL, "mine")];
        assert_eq!(seen, Labels::from_pairs(wanted).unwrap());
        for name in ["app", TENANT_LABEL] {
            assert_eq!(tenants_name(federated_name(name)), Some(name));
        }
        assert_eq!(tenants_name(TENANT_LABEL), None);
    }
}
