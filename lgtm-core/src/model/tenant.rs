//! Tenant identity.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The most bytes that a tenant id may have.
const MAX_LEN: usize = 150;
/// What folders begin with that are beside the tenants' in a bucket.
const MARKERS: &str = "__";
/// What stands between the ids of several tenants; no id holds it.
const SEPARATOR: char = '|';

/// A valid tenant id: 1 to 150 bytes of `a-z A-Z 0-9 ! - _ . * ' ( )`, neither `.` nor `..`, and not beginning with `__`.
///
/// The rules are Mimir's, so that an id is always usable as one segment of an object path, but for the last one. Folders of a bucket
/// that begin with `__` hold markers (`__mimir_cluster`, `__markers__`); whoever lists the tenants of a bucket takes each folder
/// whose name passes here for a tenant and no other, so that what may be pushed is found again. Cloning is cheap.
///
/// Queries may name several tenants by one id ([`TenantId::joined`]). Nothing is stored for such an id, and no folder is named by it: who holds
/// data is asked for each of its [parts](TenantId::parts).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl std::str::FromStr for TenantId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        Self::new(id)
    }
}

impl TenantId {
    /// Checks `id`.
    ///
    /// # Errors
    /// `InvalidInput`, naming the id and the rule it breaks.
    pub fn new(id: &str) -> Result<Self> {
        if id.is_empty() {
            return Err(Error::InvalidInput("tenant ID is empty".into()));
        }
        if id.len() > MAX_LEN {
            return Err(Error::InvalidInput(format!(
                "tenant ID is too long: max {MAX_LEN} characters, got {}",
                id.len()
            )));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
        if let Some(c) = id.chars().find(|&c| !allowed(c)) {
            return Err(Error::InvalidInput(format!(
                "tenant ID '{id}' contains unsupported character '{c}'"
            )));
        }
        if matches!(id, "." | "..") {
            return Err(Error::InvalidInput(format!("tenant ID '{id}' is reserved")));
        }
        if id.starts_with(MARKERS) {
            return Err(Error::InvalidInput(format!(
                "tenant ID '{id}' begins with '{MARKERS}', which is reserved for markers in buckets"
            )));
        }
        Ok(Self(id.into()))
    }

    /// The tenant of everything when multi-tenancy is off: `anonymous`.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }

    /// Several tenants, each once and in order, so that those who name the same tenants have the same id. One tenant is itself.
    ///
    /// # Errors
    /// `InvalidInput` for none.
    pub fn joined(tenants: impl IntoIterator<Item = Self>) -> Result<Self> {
        let mut tenants: Vec<Self> = tenants.into_iter().collect();
        tenants.sort();
        tenants.dedup();
        match &tenants[..] {
            [] => Err(Error::InvalidInput("no tenant is named".into())),
            [one] => Ok(one.clone()),
            several => {
                let ids: Vec<&str> = several.iter().map(Self::as_str).collect();
                Ok(Self(ids.join(&SEPARATOR.to_string()).into()))
            }
        }
    }

    /// Whether it names several tenants.
    pub fn is_joined(&self) -> bool {
        self.0.contains(SEPARATOR)
    }

    /// The tenants that it names: itself, or those that were joined.
    pub fn parts(&self) -> impl Iterator<Item = Self> {
        self.0.split(SEPARATOR).map(|id| Self(id.into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_tenants_are_one_id_whatever_their_order() {
        let joined = |ids: &[&str]| {
            TenantId::joined(ids.iter().map(|id| TenantId::new(id).unwrap())).unwrap()
        };
        let both = joined(&["b", "a", "b"]);
        assert_eq!((both.as_str(), both.is_joined()), ("a|b", true));
        let parts: Vec<TenantId> = both.parts().collect();
        assert_eq!(parts, [joined(&["a"]), joined(&["b"])]);
        let one = joined(&["a", "a"]);
        assert_eq!((one.as_str(), one.is_joined()), ("a", false));
        assert_eq!(one.parts().collect::<Vec<_>>(), [one]);
        assert!(TenantId::joined([]).is_err());
    }

    #[test]
    fn ids_can_be_folders_beside_markers() {
        for good in [
            "a",
            "team-1",
            "A!b_c.d*e'(f)",
            &"x".repeat(150),
            "...",
            "_a__",
        ] {
            assert_eq!(TenantId::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "ä",
            "a|b",
            "__mimir_cluster",
            "__markers__",
            "__",
            "__a",
            &"x".repeat(151),
        ] {
            assert!(TenantId::new(bad).is_err(), "{bad:?}");
        }
    }
}
