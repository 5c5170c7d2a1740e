//! Who asks.

use axum::http::HeaderMap;

use crate::error::Error;
use crate::model::TenantId;

/// The header that names the tenant.
const HEADER: &str = "x-scope-orgid";

/// Why a request has no tenant. The words are the peers'.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// Nobody is named: 401.
    #[error("no org id")]
    Missing,
    /// Who is named cannot be one.
    #[error(transparent)]
    Invalid(#[from] Error),
}

/// The tenant of a request: the header's when multi-tenancy is on, `anonymous` otherwise.
///
/// # Errors
/// [`TenantError::Missing`] without the header; `InvalidInput` for an id that is none, and for several.
pub fn tenant(headers: &HeaderMap, multitenancy_enabled: bool) -> Result<TenantId, TenantError> {
    if !multitenancy_enabled {
        return Ok(TenantId::anonymous());
    }
    let id = headers.get(HEADER).ok_or(TenantError::Missing)?;
    let id = id
        .to_str()
        .map_err(|_| Error::InvalidInput("tenant ID is not ASCII".into()))?;
    // `a|a` is one tenant said twice; several tenants are a matter of federation.
    let mut parts = id.split('|');
    let first = parts.next().unwrap_or_default();
    if parts.any(|p| p != first) {
        return Err(Error::InvalidInput("multiple org IDs present".into()).into());
    }
    Ok(TenantId::new(first)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_is_named_once_or_several_times() {
        let named = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, id.parse().unwrap());
            tenant(&headers, true)
        };
        assert_eq!(named("a").unwrap().as_str(), "a");
        assert_eq!(named("a|a").unwrap().as_str(), "a");
        for bad in ["a|b", "", "a/b", "ä"] {
            assert!(matches!(named(bad), Err(TenantError::Invalid(_))), "{bad}");
        }
        let none = HeaderMap::new();
        assert!(matches!(tenant(&none, true), Err(TenantError::Missing)));
        assert_eq!(tenant(&none, false).unwrap(), TenantId::anonymous());
    }
}
