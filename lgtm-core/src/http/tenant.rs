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
    /// Who is named cannot be one, or there are too many.
    #[error(transparent)]
    Invalid(#[from] Error),
}

/// The tenant of a request: the header's when multi-tenancy is on, `anonymous` otherwise.
///
/// # Errors
/// [`TenantError::Missing`] without the header; `InvalidInput` for an id that is none, and for several.
pub fn tenant(headers: &HeaderMap, multitenancy_enabled: bool) -> Result<TenantId, TenantError> {
    let tenant = tenants(headers, multitenancy_enabled, 0)?;
    if tenant.is_joined() {
        return Err(Error::InvalidInput("multiple org IDs present".into()).into());
    }
    Ok(tenant)
}

/// The same for a request that may name several tenants as `a|b`, at most `max` (0: any number): [joined](TenantId::joined) to one id.
///
/// # Errors
/// As [`tenant`]; `LimitExceeded` for too many.
pub fn tenants(
    headers: &HeaderMap,
    multitenancy_enabled: bool,
    max: usize,
) -> Result<TenantId, TenantError> {
    if !multitenancy_enabled {
        return Ok(TenantId::anonymous());
    }
    let ids = headers.get(HEADER).ok_or(TenantError::Missing)?;
    let ids = ids
        .to_str()
        .map_err(|_| Error::InvalidInput("tenant ID is not ASCII".into()))?;
    let tenants = ids.split('|').map(TenantId::new);
    let joined = TenantId::joined(tenants.collect::<Result<Vec<_>, _>>()?)?;
    let count = joined.parts().count();
    if max > 0 && count > max {
        let text = format!("too many tenant IDs present: {count}, the maximum is {max}");
        return Err(Error::LimitExceeded(text).into());
    }
    Ok(joined)
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
        let several = |ids: &str, max| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, ids.parse().unwrap());
            tenants(&headers, true, max).map(|t| t.to_string())
        };
        assert_eq!(several("b|a|b", 2).unwrap(), "a|b");
        assert_eq!(several("a", 1).unwrap(), "a");
        for bad in ["a||b", "a|", "a|b/c"] {
            assert!(several(bad, 0).is_err(), "{bad}");
        }
        let too_many = several("a|b|c", 2).unwrap_err().to_string();
        assert!(too_many.contains("3, the maximum is 2"), "{too_many}");
        let none = HeaderMap::new();
        assert!(matches!(tenant(&none, true), Err(TenantError::Missing)));
        assert_eq!(tenant(&none, false).unwrap(), TenantId::anonymous());
    }
}
