//! Who asks.

use axum::http::HeaderMap;
use lgtm_core::model::TenantId;

use super::error::ApiError;

/// The header that names the tenant.
const HEADER: &str = "x-scope-orgid";

/// The tenant of a request: the header's when multi-tenancy is on, `anonymous` otherwise.
pub(super) fn tenant(headers: &HeaderMap, multitenancy: bool) -> Result<TenantId, ApiError> {
    if !multitenancy {
        return Ok(TenantId::anonymous());
    }
    let Some(id) = headers.get(HEADER) else {
        return Err(ApiError::unauthorized("no org id"));
    };
    let id = id
        .to_str()
        .map_err(|_| ApiError::bad_data("tenant ID is not ASCII"))?;
    // `a|a` is one tenant said twice; several tenants are a matter of federation.
    let mut parts = id.split('|');
    let first = parts.next().unwrap_or_default();
    if parts.any(|p| p != first) {
        return Err(ApiError::bad_data("multiple org IDs present"));
    }
    Ok(TenantId::new(first)?)
}
