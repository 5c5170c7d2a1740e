//! Tenant identity.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The most bytes that a tenant id may have.
const MAX_LEN: usize = 150;
/// What folders begin with that are beside the tenants' in a bucket.
const MARKERS: &str = "__";

/// A valid tenant id: 1 to 150 bytes of `a-z A-Z 0-9 ! - _ . * ' ( )`, neither `.` nor `..`, and not beginning with `__`.
///
/// The rules are Mimir's, so that an id is always usable as one segment of an object path, but for the last one. Folders of a bucket
/// that begin with `__` hold markers (`__mimir_cluster`, `__markers__`); whoever lists the tenants of a bucket takes each folder
/// whose name passes here for a tenant and no other, so that what may be pushed is found again. Cloning is cheap.
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
