//! Tenant identity.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The most bytes that a tenant id may have.
const MAX_LEN: usize = 150;

/// A valid tenant id: 1 to 150 bytes of `a-z A-Z 0-9 ! - _ . * ' ( )`, neither `.` nor `..` nor `__mimir_cluster`.
///
/// The rules are Mimir's, so that an id is always usable as one segment of an object path. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

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
        if matches!(id, "." | ".." | "__mimir_cluster") {
            return Err(Error::InvalidInput(format!("tenant ID '{id}' is reserved")));
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
    fn ids_follow_the_rules_of_mimir() {
        for good in ["a", "team-1", "A!b_c.d*e'(f)", &"x".repeat(150), "..."] {
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
            &"x".repeat(151),
        ] {
            assert!(TenantId::new(bad).is_err(), "{bad:?}");
        }
    }
}
